//! More frames wait than there is memory for: classes that came after the start are full, and hold more together than may wait. One
//! that is not full loses nothing by that, as in the kernel, and those that are count what they lose.

use crate::lab::setup::Mode;
use crate::net::{Demand, Flow, Shaped};
use std::time::Duration;

/// Classes that are full: with a thousand frames each, more than the 4096 for which there is room.
const FULL: u16 = 6;
const IDLE: u16 = FULL;

fn tree() -> Vec<String> {
    let mut lines = vec![
        "tc qdisc add dev d1 root handle 1: htb default 99".to_string(),
        "tc class add dev d1 parent 1: classid 1:1 htb rate 10mbit".to_string(),
    ];
    for flow in 0..=IDLE {
        let (id, port) = (10 + flow, 5000 + flow);
        let rate = if flow == IDLE { "2mbit" } else { "64kbit" };
        lines.push(format!(
            "tc class add dev d1 parent 1:1 classid 1:{id} htb rate {rate} ceil {rate}"
        ));
        lines.push(format!(
            "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport {port} 0xffff flowid 1:{id}"
        ));
    }
    lines
}

#[test]
fn an_idle_class_loses_nothing_beside_full_ones() {
    let mut shaped = Shaped::start("memory", 2, &[]);
    let lines = tree();
    shaped.change(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    // 430 frames a second for each of the full ones, which send 16; the idle one has 50, when all is full.
    let seconds = Duration::from_secs;
    let mut demands: Vec<Demand> = (0..FULL)
        .map(|flow| Demand::new(Flow::new(flow, 500), 1_720_000))
        .collect();
    demands.push(Demand::new(Flow::new(IDLE, 500), 200_000).between(seconds(3), seconds(5)));
    shaped.offer(&demands, seconds(5));
    shaped.wait(Duration::from_millis(300));
    let sent = shaped.tested.sent.iter().filter(|sent| sent.flow == IDLE).count();
    assert_eq!((shaped.came(IDLE), sent), (sent, 100));
    let [kernel, tested] = shaped.drops();
    println!("twin memory: dropped {tested:?}, of the kernel {kernel:?}");
    for counts in [kernel, tested] {
        let of = |minor: u16| counts[&format!("d1 class 1:{minor}")];
        assert!(
            (0..FULL).all(|flow| of(10 + flow) > 0) && of(10 + IDLE) == 0,
            "{counts:?}"
        );
        let all: u64 = (0..FULL).map(|flow| of(10 + flow)).sum();
        assert_eq!(counts["d1 qdisc 1:"], all);
    }
    // What waits would take a minute to leave.
    shaped.change(&["tc qdisc del dev d1 root"]);
    let totals = shaped.finish(0.99);
    if Mode::from_env() == Mode::Bypath {
        assert!(totals.dropped["qdisc_memory"] > 500, "{totals:?}");
    }
}
