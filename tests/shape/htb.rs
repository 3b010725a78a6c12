//! htb: how classes share, borrow, are capped, and what becomes of the shares when some go idle and come back.
//!
//! Amounts are over windows of seconds, with all queues full; what a class borrows comes in quanta, so a window may begin or
//! end within some of them (`GRAIN`). Buckets hold some 25 ms or more, as long as a busy machine may keep a process waiting.

use crate::judge::mbit;
use crate::net::{Demand, Flow, Shaped};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(700);
const GRAIN: f64 = 6000.0;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A root class 1:1 of `rate`, and leaves 1:10, 1:11, ... below it for flows 0, 1, ...
fn tree(name: &str, rate: &str, leaves: &[&str]) -> Shaped {
    let mut lines = vec![
        "tc qdisc add dev d1 root handle 1: htb default 10".to_string(),
        format!("tc class add dev d1 parent 1: classid 1:1 htb rate {rate} burst 40000 cburst 40000"),
    ];
    for (flow, leaf) in leaves.iter().enumerate() {
        let port = 5000 + flow;
        lines.push(format!(
            "tc class add dev d1 parent 1:1 classid 1:1{flow} htb burst 25000 cburst 25000 {leaf}"
        ));
        lines.push(format!(
            "tc qdisc add dev d1 parent 1:1{flow} handle 1{flow}: pfifo limit 250"
        ));
        lines.push(format!(
            "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport {port} 0xffff flowid 1:1{flow}"
        ));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Shaped::start(name, 2, &lines)
}

fn full(flow: u16) -> Demand {
    Demand::new(Flow::new(flow, 1000), 10_000_000)
}

/// Each has its rate; what is left is shared by quantum.
#[test]
fn what_is_left_is_shared_by_quantum() {
    let leaves = [
        "rate 3mbit ceil 8mbit quantum 4000",
        "rate 1mbit ceil 8mbit quantum 2000",
        "rate 1mbit ceil 8mbit quantum 2000",
    ];
    let mut shaped = tree("htb_quantum", "8mbit", &leaves);
    shaped.offer(&[full(0), full(1), full(2)], seconds(4.5));
    shaped.rest(QUIET);
    let wanted = [(0, mbit(4.5)), (1, mbit(1.75)), (2, mbit(1.75))];
    shaped.shares(&wanted, seconds(0.5), seconds(4.4), GRAIN);
    shaped.finish(0.99);
}

/// Who is of a lower number borrows first.
#[test]
fn prio_borrows_first() {
    let leaves = [
        "rate 2mbit ceil 8mbit prio 0 quantum 2000",
        "rate 2mbit ceil 8mbit prio 1 quantum 2000",
        "rate 1mbit ceil 8mbit prio 2 quantum 2000",
    ];
    let mut shaped = tree("htb_prio", "8mbit", &leaves);
    shaped.offer(&[full(0), full(1), full(2)], seconds(3.5));
    shaped.rest(QUIET);
    let wanted = [(0, mbit(5.0)), (1, mbit(2.0)), (2, mbit(1.0))];
    shaped.shares(&wanted, seconds(0.5), seconds(3.4), GRAIN);
    shaped.finish(0.99);
}

/// Nobody has more than its ceil, whatever is left.
#[test]
fn ceil_caps() {
    let leaves = [
        "rate 1mbit ceil 2mbit quantum 2000",
        "rate 1mbit ceil 3mbit quantum 2000",
    ];
    let mut shaped = tree("htb_ceil", "8mbit", &leaves);
    shaped.offer(&[full(0), full(1)], seconds(3.5));
    shaped.rest(QUIET);
    shaped.shares(&[(0, mbit(2.0)), (1, mbit(3.0))], seconds(0.5), seconds(3.4), GRAIN);
    shaped.finish(0.99);
}

/// Classes go idle and come back: what they leave is the others' meanwhile.
#[test]
fn idle_and_back() {
    let leaves = [
        "rate 4mbit ceil 8mbit quantum 2000",
        "rate 3mbit ceil 8mbit quantum 2000",
        "rate 1mbit ceil 8mbit quantum 2000",
    ];
    let mut shaped = tree("htb_idle", "8mbit", &leaves);
    let between = |flow, from: f64, until: f64| full(flow).between(seconds(from), seconds(until));
    let demands = [full(0), between(1, 2.0, 6.0), between(2, 4.0, 8.0)];
    shaped.offer(&demands, seconds(8.0));
    shaped.rest(QUIET);
    // A class that ends has a queue of 250 frames, which takes some time.
    let (m0, m1, m2) = (|rate| (0, mbit(rate)), |rate| (1, mbit(rate)), |rate| (2, mbit(rate)));
    shaped.shares(&[m0(8.0), m1(0.0), m2(0.0)], seconds(0.3), seconds(1.9), GRAIN);
    shaped.shares(&[m0(4.5), m1(3.5), m2(0.0)], seconds(2.3), seconds(3.9), GRAIN);
    shaped.shares(&[m0(4.0), m1(3.0), m2(1.0)], seconds(4.3), seconds(5.9), GRAIN);
    shaped.shares(&[m0(5.5), m1(0.0), m2(2.5)], seconds(6.9), seconds(7.9), GRAIN);
    shaped.finish(0.99);
}

/// Inner classes share before their leaves do.
#[test]
fn three_levels() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 99",
        "tc class add dev d1 parent 1: classid 1:1 htb rate 8mbit burst 40000 cburst 40000",
        "tc class add dev d1 parent 1:1 classid 1:2 htb rate 6mbit ceil 8mbit burst 40000 cburst 40000",
        "tc class add dev d1 parent 1:1 classid 1:3 htb rate 2mbit ceil 2mbit burst 40000 cburst 40000",
        "tc class add dev d1 parent 1:2 classid 1:20 htb rate 1mbit ceil 8mbit burst 25000 cburst 25000 quantum 2000",
        "tc class add dev d1 parent 1:2 classid 1:21 htb rate 1mbit ceil 8mbit burst 25000 cburst 25000 quantum 6000",
        "tc class add dev d1 parent 1:3 classid 1:30 htb rate 1mbit ceil 8mbit burst 25000 cburst 25000 quantum 2000",
        "tc class add dev d1 parent 1:3 classid 1:31 htb rate 500kbit ceil 1mbit burst 25000 cburst 25000 quantum 2000",
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5000 0xffff flowid 1:20",
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5001 0xffff flowid 1:21",
        "tc filter add dev d1 parent 1: protocol ip prio 2 u32 match ip dport 5002 0xffff flowid 1:30",
        "tc filter add dev d1 parent 1: protocol ip prio 2 u32 match ip dport 5003 0xffff flowid 1:31",
    ];
    let mut shaped = Shaped::start("htb_levels", 2, &lines);
    shaped.offer(&[full(0), full(1), full(2), full(3)], seconds(4.5));
    shaped.rest(Duration::from_secs(2));
    let [kernel, tested] = shaped.amounts(&[0, 1, 2, 3], seconds(0.5), seconds(4.4));
    println!("twin htb_levels: bytes {tested:?}, of the kernel {kernel:?}");
    for (wanted, found) in kernel.iter().zip(&tested) {
        assert!(
            (wanted - found).abs() < (wanted * 0.02).max(GRAIN),
            "{tested:?}, of the kernel {kernel:?}"
        );
    }
    shaped.finish(0.99);
}

/// A burst into a full bucket, frame by frame: a class goes into debt by one frame, and its leaf holds what it has room for.
#[test]
fn a_burst_frame_by_frame() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:1 htb rate 128kbit burst 8000 cburst 8000",
        "tc class add dev d1 parent 1:1 classid 1:10 htb rate 64kbit ceil 128kbit burst 2200 cburst 4300",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 6",
        "tc class add dev d1 parent 1:1 classid 1:11 htb rate 32kbit burst 2200 cburst 2200 overhead 40 mpu 300",
        "tc qdisc add dev d1 parent 1:11 handle 11: pfifo limit 6",
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5001 0xffff flowid 1:11",
    ];
    let mut shaped = Shaped::start("htb_frames", 2, &lines);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.rest(QUIET);
    shaped.burst(&[(Flow::new(1, 500), 10), (Flow::new(1, 100), 10)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}
