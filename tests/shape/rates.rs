//! Rates over seconds: by what left until when, from 64 kbit/s up. Higher rates than the lab's source gives are of `bench/e2e
//! shape`.

use crate::judge::{Bucket, mbit, quantile};
use crate::net::{Demand, Flow, Shaped};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(700);

/// Seven rates at once, each of a port of its own, for five seconds.
#[test]
fn tbf_over_seconds() {
    // Rate as tc says it, in Mbit/s, burst in bytes, length of frames.
    const RATES: [(&str, f64, f64, usize); 7] = [
        ("64kbit", 0.064, 3000.0, 500),
        ("256kbit", 0.256, 3000.0, 1400),
        ("1mbit", 1.0, 6000.0, 1000),
        ("3333kbit", 3.333, 20_000.0, 777),
        ("10mbit", 10.0, 62_000.0, 1500),
        ("20mbit", 20.0, 125_000.0, 1000),
        ("50mbit", 50.0, 312_000.0, 1514),
    ];
    let lasts = Duration::from_secs(5);
    let lines: Vec<String> = (1..)
        .zip(RATES)
        .map(|(port, (rate, _, burst, _))| {
            format!("tc qdisc add dev d{port} root handle 1: tbf rate {rate} burst {burst} latency 400ms")
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut shaped = Shaped::start("tbf_rates", RATES.len() + 1, &lines);
    let demand = |(port, &(_, rate, _, bytes)): (usize, &(&str, f64, f64, usize))| {
        Demand::new(Flow::new(port as u16, bytes).ports(0, port), (rate * 1.4e6) as u64)
    };
    let demands: Vec<Demand> = (1..).zip(&RATES).map(demand).collect();
    shaped.offer(&demands, lasts);
    shaped.rest(QUIET);
    for (port, (name, rate, burst, _)) in (1..).zip(RATES) {
        let rate = mbit(rate);
        let limit = rate * 0.4 + burst;
        shaped.keeps_rate(name, Bucket { rate, burst, limit }, &[port as u16], lasts);
    }
    shaped.finish(0.99);
}

/// A class of htb alone with its rate.
#[test]
fn htb_over_seconds() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:10 htb rate 8mbit burst 50000 cburst 50000",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 300",
    ];
    let lasts = Duration::from_secs(4);
    let mut shaped = Shaped::start("htb_rate", 2, &lines);
    shaped.offer(&[Demand::new(Flow::new(0, 1000), 11_000_000)], lasts);
    shaped.rest(QUIET);
    // A class may send as long as it is not in debt, so it goes into debt by a frame.
    let bucket = Bucket {
        rate: mbit(8.0),
        burst: 51_000.0,
        limit: 300_000.0,
    };
    shaped.keeps_rate("8mbit", bucket, &[0], lasts);
    shaped.finish(0.99);
}

/// How long a frame waits in a full queue, and that it is dropped where there is no room: the tail's time is the limit's.
#[test]
fn delay_of_a_full_queue() {
    let line = "tc qdisc add dev d1 root handle 1: tbf rate 8mbit burst 20000 limit 50000";
    let mut shaped = Shaped::start("tbf_delay", 2, &[line]);
    shaped.offer(&[Demand::new(Flow::new(0, 1000), 12_000_000)], Duration::from_secs(3));
    shaped.rest(QUIET);
    let [kernel, tested] = shaped.delays(0);
    for part in [0.5, 0.9] {
        let (wanted, found) = (quantile(&kernel, part), quantile(&tested, part));
        println!("twin tbf_delay: quantile {part}: {found:.2} ms, of the kernel {wanted:.2} ms");
        assert!(
            (found - wanted).abs() < 5.0,
            "quantile {part}: {found:.2} ms, of the kernel {wanted:.2} ms"
        );
    }
    shaped.finish(0.99);
}

/// A sparse class beside one that is always full: its frames do not wait for the other's.
#[test]
fn delay_of_a_sparse_class() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 20",
        "tc class add dev d1 parent 1: classid 1:1 htb rate 8mbit ceil 8mbit",
        "tc class add dev d1 parent 1:1 classid 1:10 htb rate 2mbit ceil 8mbit prio 0",
        "tc class add dev d1 parent 1:1 classid 1:20 htb rate 6mbit ceil 8mbit prio 1",
        "tc qdisc add dev d1 parent 1:20 handle 20: pfifo limit 100",
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5001 0xffff flowid 1:10",
    ];
    let mut shaped = Shaped::start("htb_delay", 2, &lines);
    let sparse = Demand::new(Flow::new(1, 200), 80_000);
    shaped.offer(
        &[Demand::new(Flow::new(0, 1000), 12_000_000), sparse],
        Duration::from_secs(4),
    );
    shaped.rest(QUIET);
    let [kernel, tested] = shaped.delays(1);
    assert_eq!(kernel.len(), tested.len());
    let [wanted, found] = [&kernel, &tested].map(|delays| [0.5, 0.99].map(|part| quantile(delays, part)));
    println!(
        "twin htb_delay: median {:.2} ms, 99 % {:.2} ms; of the kernel {:.2}, {:.2}",
        found[0], found[1], wanted[0], wanted[1]
    );
    // A frame of the other class takes 1 ms on its way; the rest is the machine's.
    assert!(
        found[0] < wanted[0] + 1.5 && found[1] < wanted[1] + 15.0,
        "delays {found:?} ms, of the kernel {wanted:?} ms"
    );
    shaped.finish(0.99);
}
