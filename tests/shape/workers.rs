//! Several workers: frames of one port come by many, and each queue of a port may have a qdisc of its own (mq).

use crate::judge::{Bucket, mbit};
use crate::lab::plan;
use crate::lab::router::Layout;
use crate::net::{Demand, Flow, Shaped};
use std::collections::BTreeSet;
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(500);

fn bucket(rate: f64, burst: f64, limit: f64) -> Bucket {
    Bucket {
        rate: mbit(rate),
        burst,
        limit,
    }
}

/// Only IPv4, so that nothing else takes tokens.
fn config(ports: usize, more: &[&str]) -> Vec<String> {
    let off = (0..ports).map(|port| format!("sysctl net.ipv6.conf.d{port}.disable_ipv6=1"));
    let plan = plan::config(ports).into_iter();
    let plan = plan.filter(|line| !line.contains("fd00:") && !line.contains("fe80:"));
    plan.chain(off)
        .chain(more.iter().map(|line| line.to_string()))
        .collect()
}

/// Three ports of different workers send to a fourth.
#[test]
fn three_ports_into_one() {
    let lines = ["tc qdisc add dev d1 root handle 1: tbf rate 6mbit burst 60000 limit 300000"];
    let mut shaped = Shaped::with("workers_tbf", Layout::ports(4), config(4, &lines), "--workers 3");
    let demand = |id, from| Demand::new(Flow::new(id, 1000).ports(from, 1), 4_000_000);
    let lasts = Duration::from_secs(3);
    shaped.offer(&[demand(0, 0), demand(1, 2), demand(2, 3)], lasts);
    shaped.rest(QUIET);
    shaped.keeps_rate("6mbit", bucket(6.0, 60_000.0, 300_000.0), &[0, 1, 2], lasts);
    shaped.finish(0.99);
}

/// Two ports, each shaped, each sends to the other and to a third, of three workers.
#[test]
fn all_ways_at_once() {
    let lines = [
        "tc qdisc add dev d0 root handle 1: tbf rate 2mbit burst 25000 limit 100000",
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:10 htb rate 3mbit burst 37000 cburst 37000",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 150",
    ];
    let mut shaped = Shaped::with("workers_all", Layout::ports(3), config(3, &lines), "--workers 3");
    let demand = |id, from, to| Demand::new(Flow::new(id, 1000).ports(from, to), 2_500_000);
    let lasts = Duration::from_secs(3);
    let demands = [
        demand(0, 0, 1),
        demand(1, 2, 1),
        demand(2, 1, 0),
        demand(3, 2, 0),
        demand(4, 0, 2),
        demand(5, 1, 2),
    ];
    shaped.offer(&demands, lasts);
    shaped.rest(QUIET);
    shaped.keeps_rate("2mbit", bucket(2.0, 25_000.0, 100_000.0), &[2, 3], lasts);
    shaped.keeps_rate("3mbit", bucket(3.0, 38_000.0, 150_000.0), &[0, 1], lasts);
    let [kernel, tested] = shaped
        .sides()
        .map(|side| side.came.iter().filter(|arrival| arrival.port == 2).count());
    assert_eq!(kernel, tested, "frames that left by the port that is not shaped");
    shaped.finish(0.99);
}

/// Below mq each queue has its own bucket. By which queue a flow leaves is a free choice (the kernel takes the one that its frames
/// came by, or a hash); that it meets the bucket there is not.
#[test]
fn a_bucket_for_each_queue() {
    let lines = [
        "tc qdisc replace dev d1 root handle 1: mq",
        "tc qdisc replace dev d1 parent 1:1 handle 11: tbf rate 64kbit burst 4200 limit 3000",
        "tc qdisc replace dev d1 parent 1:2 handle 12: tbf rate 64kbit burst 2200 limit 1600",
    ];
    let layout = Layout {
        queues: 2,
        ..Layout::ports(2)
    };
    let mut shaped = Shaped::with("workers_mq", layout, config(2, &lines), "--workers 2");
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    for id in 0..8 {
        shaped.burst_on(usize::from(id % 2), Flow::new(id, 500), 30);
        shaped.rest(QUIET);
        for (found, side) in found.iter_mut().zip(shaped.sides()) {
            found.insert(side.of(id).len());
        }
    }
    let [kernel, tested] = found;
    println!("twin workers_mq: of bursts came {tested:?}, of the kernel {kernel:?}");
    assert!(kernel.union(&tested).all(|came| [7, 14].contains(came)));
    assert!(
        !shaped.is_carried() || tested.len() == 2,
        "bursts by two queues met one bucket"
    );
    shaped.finish(1.0);
}
