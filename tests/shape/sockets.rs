//! Real sockets through tbf and htb, by iperf3: goodput of TCP, loss of UDP, and how long a ping waits behind them.
//!
//! Two hosts and a router each, one with bypath and one without, run at the same time. Offloads are off, so that both shape
//! frames and not what is cut to frames later.

use crate::judge::quantile;
use crate::lab::setup::Mode;
use crate::net::alone;
use crate::router::Net;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SECONDS: u32 = 5;

fn net(lines: &[&str]) -> Net {
    let net = Net::new(2);
    for (place, name) in [
        (&net.router, "d0"),
        (&net.router, "d1"),
        (&net.hosts[0], "e0"),
        (&net.hosts[1], "e0"),
    ] {
        place.run(&format!("ethtool -K {name} tso off gso off gro off"));
    }
    let lines: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
    net.router.apply(&lines);
    net
}

/// What `run` finds in both labs at once: the kernel's, the tested.
fn both<T: Send>(lines: &[&str], run: impl Fn(&Net) -> T + Sync) -> [T; 2] {
    let _alone = alone();
    let (kernel, tested) = (net(lines), net(lines));
    let bypath = (Mode::from_env() == Mode::Bypath).then(|| tested.bypath(""));
    // An XDP program on a port brings GRO back.
    for name in ["d0", "d1"] {
        tested.router.run(&format!("ethtool -K {name} gro off"));
    }
    let found = std::thread::scope(|scope| {
        let threads = [&kernel, &tested].map(|net| scope.spawn(|| run(net)));
        threads.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    if let Some(bypath) = bypath {
        let totals = bypath.totals_at_rest();
        totals.assert_balanced();
        println!("twin sockets: {totals:?}");
        bypath.stop();
    }
    found
}

/// A server in host 1 and a client in host 0; what the client's JSON says.
fn iperf3(net: &Net, port: u16, arguments: &str) -> Value {
    let mut server = Command::new("iperf3");
    server
        .args(["-s", "-1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut server = net.hosts[1].spawn(&mut server).expect("iperf3");
    let listens = || !net.hosts[1].run(&format!("ss -Hltn sport = :{port}")).is_empty();
    let until = Instant::now() + Duration::from_secs(5);
    while !listens() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = net.hosts[0].run(&format!("iperf3 -J -c 10.0.1.2 -p {port} -t {SECONDS} {arguments}"));
    let _ = server.wait();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("iperf3: {error}: {said}"))
}

fn goodput_mbit(result: &Value) -> f64 {
    result["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .expect("bits per second")
        / 1e6
}

/// Times of pings in milliseconds, sorted.
fn pings(net: &Net, count: u32) -> Vec<f64> {
    let output = net.hosts[0].output(&format!("ping -n -i 0.02 -c {count} -W 2 10.0.1.2"), "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let time = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse().ok();
    let mut times: Vec<f64> = text.lines().filter_map(time).collect();
    times.sort_by(f64::total_cmp);
    times
}

#[track_caller]
fn near(what: &str, [kernel, tested]: [f64; 2], within: f64) {
    println!("twin sockets: {what}: {tested:.3}, of the kernel {kernel:.3}");
    assert!(
        (kernel - tested).abs() <= within,
        "{what}: {tested}, of the kernel {kernel}"
    );
}

#[test]
fn tcp_through_tbf() {
    let found = both(
        &["tc qdisc add dev d1 root handle 1: tbf rate 20mbit burst 30000 latency 50ms"],
        |net| {
            std::thread::scope(|scope| {
                let pings = scope.spawn(|| {
                    std::thread::sleep(Duration::from_secs(1));
                    pings(net, 150)
                });
                (goodput_mbit(&iperf3(net, 5201, "")), pings.join().expect("pings"))
            })
        },
    );
    let [kernel, tested] = &found;
    near("TCP through 20 Mbit/s, Mbit/s", [kernel.0, tested.0], 0.6);
    // TCP's own sawtooth decides how full the queue is; its bound is the limit's.
    let [wanted, longest] = [kernel, tested].map(|found| quantile(&found.1, 0.99));
    println!("twin sockets: 99 % of pings beside it took {longest:.1} ms, of the kernel {wanted:.1} ms");
    assert!(longest < 80.0, "{:?}", tested.1);
}

#[test]
fn udp_through_tbf() {
    let found = both(
        &["tc qdisc add dev d1 root handle 1: tbf rate 20mbit burst 30000 limit 400000"],
        |net| {
            let result = iperf3(net, 5202, "-u -b 30M -l 1200");
            (
                goodput_mbit(&result),
                result["end"]["sum"]["lost_percent"].as_f64().expect("lost"),
            )
        },
    );
    let [kernel, tested] = found;
    near("UDP through 20 Mbit/s, Mbit/s", [kernel.0, tested.0], 0.3);
    near("UDP through 20 Mbit/s, lost %", [kernel.1, tested.1], 2.0);
}

/// More than a class may have, of which a part is borrowed.
#[test]
fn udp_through_htb() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 20",
        "tc class add dev d1 parent 1: classid 1:1 htb rate 20mbit burst 30000 cburst 30000",
        "tc class add dev d1 parent 1:1 classid 1:10 htb rate 15mbit ceil 20mbit burst 30000 cburst 30000",
        "tc class add dev d1 parent 1:1 classid 1:20 htb rate 5mbit ceil 20mbit",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 320",
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip protocol 17 0xff flowid 1:10",
    ];
    let [kernel, tested] = both(&lines, |net| {
        let result = iperf3(net, 5205, "-u -b 30M -l 1200");
        let end = &result["end"];
        let bytes = |of: &str| end[of]["bytes"].as_f64().expect("bytes");
        let lost = end["sum"]["lost_percent"].as_f64().expect("lost");
        (goodput_mbit(&result), lost, [bytes("sum_sent"), bytes("sum_received")])
    });
    near("UDP through a class, Mbit/s", [kernel.0, tested.0], 0.3);
    near("UDP through a class, lost %", [kernel.1, tested.1], 2.0);
    // Some 19 of 30 Mbit/s of payload pass: a class that let all pass, or none, in both would say nothing. On a machine with other work
    // less may be sent, and less is lost then: the loss is what lacks of what was sent. What waits in the queue at the end, and what was
    // dropped behind it, is not counted as lost: a sixth of a second of five.
    let [sent, received] = tested.2;
    let lacks = (1.0 - received / sent) * 100.0;
    assert!(received > 0.0 && tested.0 < 20.0, "{tested:?}");
    assert!(
        lacks > 5.0 && (-1.0..4.0).contains(&(lacks - tested.1)),
        "lacks {lacks} %: {tested:?}"
    );
}

/// Two classes of 3 to 1, both full of TCP: the goodputs stand as the rates.
#[test]
fn tcp_through_htb() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:1 htb rate 20mbit",
        "tc class add dev d1 parent 1:1 classid 1:10 htb rate 15mbit ceil 20mbit",
        "tc class add dev d1 parent 1:1 classid 1:20 htb rate 5mbit ceil 20mbit",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 60",
        "tc qdisc add dev d1 parent 1:20 handle 20: pfifo limit 60",
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5204 0xffff flowid 1:20",
    ];
    let [kernel, tested] = both(&lines, |net| {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| goodput_mbit(&iperf3(net, 5204, "")));
            [goodput_mbit(&iperf3(net, 5203, "")), other.join().expect("iperf3")]
        })
    });
    for (class, what) in [
        (0, "TCP of the class of 15 Mbit/s"),
        (1, "TCP of the class of 5 Mbit/s"),
    ] {
        near(what, [kernel[class], tested[class]], 1.0);
    }
}
