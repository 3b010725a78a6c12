//! The queues below: pfifo, bfifo, pfifo_head_drop and pfifo_fast as children of tbf and as leaves of htb.

use crate::net::{Flow, Shaped};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(500);
const TBF: &str = "tc qdisc add dev d1 root handle 1: tbf rate 64kbit burst 1200 limit 6000";

fn below_tbf(name: &str, child: &str) -> Shaped {
    let child = format!("tc qdisc add dev d1 parent 1:1 handle 10: {child}");
    Shaped::start(name, 2, &[TBF, &child])
}

/// Bounded in packets, short or long.
#[test]
fn pfifo() {
    let mut shaped = below_tbf("leaf_pfifo", "pfifo limit 5");
    shaped.burst(&[(Flow::new(0, 500), 4), (Flow::new(1, 100), 10)]);
    shaped.rest(QUIET);
    shaped.burst(&[(Flow::new(1, 100), 20)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// Bounded in bytes.
#[test]
fn bfifo() {
    let mut shaped = below_tbf("leaf_bfifo", "bfifo limit 1150");
    shaped.burst(&[(Flow::new(0, 500), 6), (Flow::new(1, 100), 10)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// The oldest goes where the newest finds no room.
#[test]
fn pfifo_head_drop() {
    let mut shaped = below_tbf("leaf_head_drop", "pfifo_head_drop limit 5");
    shaped.burst(&[(Flow::new(0, 500), 20)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// A queue that holds none: whatever has no token is dropped.
#[test]
fn pfifo_of_one() {
    let mut shaped = below_tbf("leaf_one", "pfifo limit 1");
    shaped.burst(&[(Flow::new(0, 500), 20)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// What a packet's TOS asks for decides its band, where it is forwarded by IPv4 (ip_forward_update_priority).
#[test]
fn bands_by_tos() {
    let mut shaped = below_tbf("leaf_bands", "pfifo_fast");
    let tos = [0x00, 0x10, 0x08, 0x02, 0x18, 0xb8, 0x20, 0x04];
    let flows: Vec<(Flow, u64)> = (0..)
        .zip(tos)
        .map(|(id, tos)| (Flow::new(id, 300).tos(tos), 2))
        .collect();
    // The first bunch takes the tokens.
    shaped.burst(&[(Flow::new(9, 500), 3)]);
    shaped.burst(&flows);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.finish_exact();
}

/// ... and not where that is switched off.
#[test]
fn no_bands_by_tos() {
    let child = "tc qdisc add dev d1 parent 1:1 handle 10: pfifo_fast";
    let off = "sysctl net.ipv4.ip_forward_update_priority=0";
    let mut shaped = Shaped::start("leaf_no_bands", 2, &[off, TBF, child]);
    shaped.burst(&[
        (Flow::new(9, 500), 3),
        (Flow::new(0, 300), 2),
        (Flow::new(1, 300).tos(0x10), 2),
    ]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.finish_exact();
}

/// What a rule sets decides over the TOS.
#[test]
fn bands_by_rule() {
    let rules = "ruleset table ip t { chain c { type filter hook forward priority 0; \
                 udp dport 5000 meta priority set 0x6; udp dport 5001 meta priority set 0x2; }; }";
    let child = "tc qdisc add dev d1 parent 1:1 handle 10: pfifo_fast";
    let mut shaped = Shaped::start("leaf_rule", 2, &[rules, TBF, child]);
    shaped.burst(&[
        (Flow::new(9, 500), 3),
        (Flow::new(1, 300).tos(0x10), 3),
        (Flow::new(2, 300), 2),
        (Flow::new(0, 300), 3),
    ]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.finish_exact();
}

/// A leaf of htb with its own bound.
#[test]
fn below_htb() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:10 htb rate 64kbit burst 1200 cburst 1200",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 4",
    ];
    let mut shaped = Shaped::start("leaf_htb", 2, &lines);
    shaped.burst(&[(Flow::new(0, 500), 20)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// A token bucket as the leaf of a class.
#[test]
fn tbf_below_htb() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:10 htb rate 256kbit burst 2000 cburst 2000",
        "tc qdisc add dev d1 parent 1:10 handle 10: tbf rate 64kbit burst 1200 limit 3000",
    ];
    let mut shaped = Shaped::start("leaf_tbf", 2, &lines);
    shaped.burst(&[(Flow::new(0, 500), 20)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}
