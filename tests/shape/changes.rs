//! Changes while frames wait: another rate, a class that goes, a root that is replaced or removed, a link that goes down. Frames
//! leave or are counted as dropped, and none is held at the end (`finish` asks).

use crate::judge::mbit;
use crate::net::{Demand, Flow, Shaped};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(500);
const TBF: &str = "tc qdisc add dev d1 root handle 1: tbf rate 64kbit burst 1200 limit 20000";
/// Frames of 500 bytes leave by it at once (two), after 0.3 s, after 0.8 s: where what waits is gone with a change, the change is
/// in force in both labs between the same two of them.
const SLOW: &str = "tc qdisc add dev d1 root handle 1: tbf rate 8kbit burst 1200 limit 20000";
const BETWEEN_FRAMES: Duration = Duration::from_millis(400);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// What waits stays, and goes on at the new rate.
#[test]
fn another_rate_while_frames_wait() {
    let mut shaped = Shaped::start("change_rate", 2, &[TBF]);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.wait(seconds(0.5));
    shaped.change(&["tc qdisc change dev d1 root handle 1: tbf rate 256kbit burst 1200 limit 20000"]);
    shaped.rest(QUIET);
    assert_eq!(shaped.came(0), 30);
    shaped.same_order();
    shaped.same_times();
    shaped.finish(1.0);
}

/// Up and down under a steady demand.
#[test]
fn rates_one_after_another() {
    let tbf = |rate: &str| format!("tc qdisc replace dev d1 root handle 1: tbf rate {rate} burst 20000 limit 300000");
    let mut shaped = Shaped::start("change_rates", 2, &[&tbf("4mbit")]);
    let began = std::time::Instant::now();
    let demand = [Demand::new(Flow::new(0, 1000), 12_000_000)];
    let mut windows = Vec::new();
    for rate in ["4mbit", "8mbit", "1mbit", "6mbit"] {
        shaped.change_now(&[&tbf(rate)]);
        let from = began.elapsed() + seconds(0.6);
        shaped.offer(&demand, seconds(2.2));
        windows.push((rate, from, began.elapsed()));
    }
    shaped.rest(QUIET);
    for (rate, from, until) in windows {
        let rate = mbit(rate.trim_end_matches("mbit").parse().unwrap_or(0.0));
        shaped.shares(&[(0, rate)], from, until - seconds(0.1), 3000.0);
    }
    shaped.finish(0.99);
}

/// A lower limit holds for what comes.
#[test]
fn another_limit() {
    let mut shaped = Shaped::start("change_limit", 2, &[TBF]);
    // What waits is above the new limit for seconds.
    shaped.burst(&[(Flow::new(0, 500), 40)]);
    shaped.change(&["tc qdisc change dev d1 root handle 1: tbf rate 64kbit burst 1200 limit 3000"]);
    shaped.burst(&[(Flow::new(1, 500), 20)]);
    shaped.rest(QUIET);
    shaped.burst(&[(Flow::new(2, 500), 20)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.finish(1.0);
}

/// A root in the place of another: what waited is gone.
#[test]
fn root_replaced() {
    let mut shaped = Shaped::start("change_root", 2, &[SLOW]);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.wait(BETWEEN_FRAMES);
    shaped.change(&["tc qdisc replace dev d1 root handle 2: tbf rate 64kbit burst 2200 limit 3000"]);
    shaped.burst(&[(Flow::new(1, 500), 30)]);
    shaped.rest(QUIET);
    assert_eq!(shaped.came(1), 10);
    shaped.same_order();
    shaped.finish(1.0);
}

/// A root of another kind.
#[test]
fn tbf_becomes_htb() {
    let mut shaped = Shaped::start("change_kind", 2, &[SLOW]);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.wait(BETWEEN_FRAMES);
    shaped.change(&[
        "tc qdisc replace dev d1 root handle 2: htb default 10",
        "tc class add dev d1 parent 2: classid 2:10 htb rate 64kbit burst 2200 cburst 2200",
        "tc qdisc add dev d1 parent 2:10 handle 20: pfifo limit 4",
    ]);
    shaped.burst(&[(Flow::new(1, 500), 30)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.finish(1.0);
}

/// None at all: what waited is gone, and nothing waits any more.
#[test]
fn root_removed() {
    let mut shaped = Shaped::start("change_removed", 2, &[SLOW]);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.wait(BETWEEN_FRAMES);
    shaped.change(&["tc qdisc del dev d1 root"]);
    shaped.burst(&[(Flow::new(1, 500), 50)]);
    shaped.rest(QUIET);
    assert_eq!(shaped.came(1), 50);
    shaped.same_order();
    shaped.finish(1.0);
}

/// One that is deleted and made anew at once, with the same handle, as scripts do that set all up again: what waited is gone, buckets
/// are full, and it counts from 0.
#[test]
fn root_made_anew() {
    let tree = [
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:10 htb rate 8kbit burst 1200 cburst 1200",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 100",
    ];
    let mut shaped = Shaped::start("change_anew", 2, &tree);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.wait(BETWEEN_FRAMES);
    shaped.change(&[&["tc qdisc del dev d1 root"], &tree[..]].concat());
    shaped.burst(&[(Flow::new(1, 500), 5)]);
    shaped.rest(seconds(1.0));
    assert_eq!(shaped.came(1), 5);
    shaped.same_order();
    shaped.finish_exact();
}

/// One where there was none, under load, and away again; several times.
#[test]
fn comes_and_goes_under_load() {
    let mut shaped = Shaped::start("change_load", 2, &[]);
    let demand = [
        Demand::new(Flow::new(0, 1000), 8_000_000),
        Demand::new(Flow::new(1, 200), 800_000),
    ];
    for _ in 0..3 {
        shaped.offer(&demand, seconds(1.0));
        shaped.change_now(&["tc qdisc add dev d1 root handle 1: tbf rate 1mbit burst 3000 limit 30000"]);
        shaped.offer(&demand, seconds(1.2));
        shaped.change_now(&["tc qdisc del dev d1 root"]);
    }
    shaped.wait(seconds(0.2));
    shaped.burst(&[(Flow::new(2, 500), 50)]);
    shaped.rest(QUIET);
    assert_eq!(shaped.came(2), 50);
    let [kernel, tested] = shaped.sides().map(|side| side.came.len() as f64);
    assert!(
        (kernel - tested).abs() < kernel * 0.1,
        "{tested} frames came, of the kernel {kernel}"
    );
    shaped.finish(0.9);
}

const TREE: [&str; 5] = [
    "tc qdisc add dev d1 root handle 1: htb default 20",
    "tc class add dev d1 parent 1: classid 1:10 htb rate 64kbit burst 1200 cburst 1200",
    "tc class add dev d1 parent 1: classid 1:20 htb rate 64kbit burst 1200 cburst 1200",
    "tc qdisc add dev d1 parent 1:20 handle 20: pfifo limit 100",
    "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5000 0xffff flowid 1:10",
];

/// A part that is not carried, at a root that stays: what waited leaves by the tree as it was.
#[test]
fn left_while_frames_wait() {
    let mut shaped = Shaped::start("change_left", 2, &TREE);
    shaped.burst(&[(Flow::new(0, 500), 15), (Flow::new(1, 500), 15)]);
    shaped.wait(seconds(0.2));
    shaped.change(&["tc filter add dev d1 parent 1: prio 9 bpf bytecode '1,6 0 0 0' classid 1:20"]);
    shaped.rest(QUIET);
    assert_eq!((shaped.came(0), shaped.came(1)), (15, 15));
    shaped.same_order();
    shaped.same_times();
    shaped.stays("d1");
    shaped.finish(1.0);
}

/// Of a class that goes, what waited is gone; the other's goes on. (Its filter must go before it may.)
#[test]
fn class_removed() {
    let mut tree = TREE;
    tree[1] = "tc class add dev d1 parent 1: classid 1:10 htb rate 8kbit burst 1200 cburst 1200";
    let mut shaped = Shaped::start("change_class", 2, &tree);
    shaped.burst(&[(Flow::new(0, 500), 15), (Flow::new(1, 500), 15)]);
    shaped.wait(BETWEEN_FRAMES);
    shaped.change(&[
        "tc filter del dev d1 parent 1: prio 1",
        "tc class del dev d1 classid 1:10",
    ]);
    shaped.burst(&[(Flow::new(0, 500), 5)]);
    shaped.rest(QUIET);
    shaped.same_frames();
    shaped.finish(1.0);
}

/// A class with another rate; what waits stays.
#[test]
fn class_changed() {
    let mut shaped = Shaped::start("change_class_rate", 2, &TREE);
    shaped.burst(&[(Flow::new(0, 500), 15), (Flow::new(1, 500), 25)]);
    shaped.wait(seconds(0.3));
    shaped.change(&["tc class change dev d1 parent 1: classid 1:20 htb rate 256kbit burst 1200 cburst 1200"]);
    shaped.rest(QUIET);
    assert_eq!((shaped.came(0), shaped.came(1)), (15, 25));
    shaped.same_times();
    shaped.finish(1.0);
}

/// A class and its filter that come while others are in use.
#[test]
fn class_added() {
    let mut shaped = Shaped::start("change_class_new", 2, &TREE);
    shaped.burst(&[(Flow::new(0, 500), 6), (Flow::new(1, 500), 10)]);
    shaped.wait(seconds(0.2));
    shaped.change(&[
        "tc class add dev d1 parent 1: classid 1:30 htb rate 64kbit burst 2200 cburst 2200",
        "tc qdisc add dev d1 parent 1:30 handle 30: pfifo limit 3",
        "tc filter add dev d1 parent 1: protocol ip prio 2 u32 match ip dport 5002 0xffff flowid 1:30",
    ]);
    shaped.burst(&[(Flow::new(2, 500), 15)]);
    shaped.rest(QUIET);
    shaped.same_frames();
    shaped.finish(1.0);
}

/// Takes the link of `d1` down, and up again after a time, with what goes with it.
fn down_and_up(shaped: &mut Shaped, time: Duration) {
    shaped.change(&["ip link set d1 down"]);
    shaped.wait(time);
    let back: Vec<String> = std::iter::once("ip link set d1 up".to_string())
        .chain(crate::lab::plan::neighbours(1))
        .chain(crate::lab::plan::routes(1))
        .filter(|line| !line.contains("fd00"))
        .collect();
    let back: Vec<&str> = back.iter().map(String::as_str).collect();
    shaped.change(&back);
}

/// The link goes down: what waited is gone. It comes back with full buckets.
#[test]
fn link_down() {
    // Eight more frames at once, of which the old tokens and those of 2 s would let go half.
    let line = "tc qdisc add dev d1 root handle 1: tbf rate 8kbit burst 5200 limit 20000";
    let mut shaped = Shaped::start("change_link", 2, &[line]);
    shaped.burst(&[(Flow::new(0, 500), 20)]);
    shaped.wait(BETWEEN_FRAMES);
    down_and_up(&mut shaped, seconds(1.0));
    shaped.wait(seconds(1.0));
    shaped.burst(&[(Flow::new(1, 500), 8)]);
    shaped.rest(QUIET);
    assert_eq!(shaped.came(1), 8);
    shaped.same_frames();
    shaped.finish(0.9);
}

/// The same with an htb: a class that owes sends a frame when the link is back, and waits then for what it owes for both.
#[test]
fn link_down_below_an_htb() {
    // Two frames leave at once, the second by debt, for more than 3 s.
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:10 htb rate 1kbit burst 600 cburst 600",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 100",
    ];
    let mut shaped = Shaped::start("change_link_htb", 2, &lines);
    shaped.burst(&[(Flow::new(0, 500), 5)]);
    shaped.wait(BETWEEN_FRAMES);
    assert_eq!(shaped.came(0), 2);
    down_and_up(&mut shaped, Duration::ZERO);
    shaped.burst(&[(Flow::new(1, 500), 3)]);
    shaped.rest(QUIET);
    assert_eq!(shaped.came(1), 1);
    shaped.change(&["tc qdisc del dev d1 root"]);
    shaped.finish(0.9);
}

/// bypath ends while frames wait: they leave or are dropped, and it ends cleanly.
#[test]
fn stopped_while_frames_wait() {
    let mut shaped = Shaped::start("change_stop", 2, &[TBF]);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.wait(seconds(0.2));
    shaped.stop();
    // A second before its end the kernel gets frames again, by a qdisc that knows of none.
    shaped.wait(seconds(1.0));
    shaped.burst(&[(Flow::new(1, 500), 2)]);
    shaped.rest(QUIET);
    let [_, tested] = shaped.sides().map(|side| side.of(1).len());
    assert_eq!(tested, 2);
}
