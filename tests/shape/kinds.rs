//! Kinds of qdiscs and filters that not every kernel has: prio, fq_codel and sfq; fw, flower and matchall. `scripts/test vm` runs
//! these where they are. There a burst takes some 50 ms on its way, so the rates are lower than elsewhere: a byte a millisecond.

use crate::lab::namespace::Namespace;
use crate::net::{Flow, Shaped, behind};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(1500);

/// Whether this kernel knows what the lines need; says so where it does not, since the scenario is then left out.
fn knows(what: &str, lines: &[&str]) -> bool {
    let place = Namespace::new();
    place.run("ip link add d1 type veth peer name w1");
    let lines = lines.iter().filter(|line| line.starts_with("tc "));
    let fails = |line: &&&str| !place.output(line, "").status.success();
    let refused: Vec<_> = lines.filter(fails).collect();
    if !refused.is_empty() {
        println!(
            "SKIPPED traffic control with {what}: this kernel refuses `{}`",
            refused[0]
        );
    }
    refused.is_empty()
}

/// As in `choice`: 2 and 5 frames wait.
const TREE: [&str; 5] = [
    "tc qdisc add dev d1 root handle 1: htb default 20",
    "tc class add dev d1 parent 1: classid 1:10 htb rate 8kbit burst 1200 cburst 1200",
    "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 2",
    "tc class add dev d1 parent 1: classid 1:20 htb rate 8kbit burst 1200 cburst 1200",
    "tc qdisc add dev d1 parent 1:20 handle 20: pfifo limit 5",
];

/// Bursts of 12 of each flow, alone; all is carried.
fn bursts(name: &str, what: &str, lines: &[&str], flows: &[Flow]) {
    bursts_of(name, what, lines, flows, 1.0);
}

/// At least this part is carried.
fn bursts_of(name: &str, what: &str, lines: &[&str], flows: &[Flow], least: f64) {
    if !knows(what, lines) {
        return;
    }
    let mut shaped = Shaped::start(name, 2, lines);
    for flow in flows {
        shaped.burst(&[(*flow, 12)]);
        shaped.rest(QUIET);
        shaped.same_frames();
    }
    shaped.same_counters();
    shaped.finish(least);
}

fn tree_with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    TREE.iter().chain(more).copied().collect()
}

#[test]
fn fw() {
    let rules = "ruleset table ip t { chain c { type filter hook forward priority 0; udp dport 5000 meta mark set 5; \
                 udp dport 5001 meta mark set 0x105; udp dport 5002 meta mark set 6; }; }";
    let lines = tree_with(&[
        rules,
        "tc filter add dev d1 parent 1: protocol ip prio 1 handle 5 fw flowid 1:10",
    ]);
    let flows = [0, 1, 2, 3].map(|id| Flow::new(id, 500));
    bursts("kinds_fw", "fw", &lines, &flows);
    let masked = tree_with(&[
        rules,
        "tc filter add dev d1 parent 1: protocol ip prio 1 handle 0x5/0xff fw flowid 1:10",
    ]);
    bursts("kinds_fw_mask", "fw", &masked, &flows);
}

/// Without a handle and a class: the mark itself names the class. Not carried.
#[test]
fn fw_by_the_mark_alone() {
    let rules = "ruleset table ip t { chain c { type filter hook forward priority 0; udp dport 5000 meta mark set 0x10010; \
                 udp dport 5001 meta mark set 0x10077; udp dport 5002 meta mark set 0x10; }; }";
    let lines = tree_with(&[rules, "tc filter add dev d1 parent 1: protocol ip prio 1 fw"]);
    bursts_of(
        "kinds_fw_alone",
        "fw",
        &lines,
        &[0, 1, 2, 3].map(|id| Flow::new(id, 500)),
        0.0,
    );
}

#[test]
fn flower() {
    let destination = format!(
        "tc filter add dev d1 parent 1: protocol ip prio 2 flower dst_ip {}/32 flowid 1:10",
        behind(1, 7)
    );
    let lines = tree_with(&[
        "tc filter add dev d1 parent 1: protocol ip prio 1 flower ip_proto udp dst_port 5000 flowid 1:10",
        &destination,
        "tc filter add dev d1 parent 1: protocol ip prio 3 flower ip_tos 0x10/0xfc flowid 1:10",
        "tc filter add dev d1 parent 1: protocol ip prio 4 flower ip_proto udp dst_port 5010-5019 flowid 1:10",
        "tc filter add dev d1 parent 1: protocol ip prio 5 flower ip_proto tcp flowid 1:10",
    ]);
    let flows = [
        Flow::new(0, 500),
        Flow::new(1, 500),
        Flow::new(2, 500).host(7),
        Flow::new(3, 500).tos(0x10),
        Flow::new(4, 500).tos(0x13),
        Flow::new(12, 500),
        Flow::new(20, 500),
    ];
    bursts("kinds_flower", "flower", &lines, &flows);
}

#[test]
fn matchall() {
    let lines = tree_with(&[
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5001 0xffff flowid 1:20",
        "tc filter add dev d1 parent 1: protocol ip prio 2 matchall flowid 1:10",
    ]);
    bursts(
        "kinds_matchall",
        "matchall",
        &lines,
        &[Flow::new(0, 500), Flow::new(1, 500)],
    );
}

const TBF: &str = "tc qdisc add dev d1 root handle 1: tbf rate 8kbit burst 1200 limit 30000";

/// Bands below a token bucket, by TOS and by a filter.
#[test]
fn prio() {
    let lines = [
        TBF,
        "tc qdisc add dev d1 parent 1:1 handle 10: prio bands 4 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1",
        "tc filter add dev d1 parent 10: protocol ip prio 1 u32 match ip dport 5005 0xffff flowid 10:4",
    ];
    if !knows("prio", &lines) {
        return;
    }
    let mut shaped = Shaped::start("kinds_prio", 2, &lines);
    shaped.burst(&[(Flow::new(9, 500), 3)]);
    let tos = [0x00, 0x10, 0x08, 0x02, 0x18, 0x00];
    let flows: Vec<_> = (0..)
        .zip(tos)
        .map(|(id, tos)| (Flow::new(id, 300).tos(tos), 2))
        .collect();
    shaped.burst(&flows);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.finish_exact();
}

/// Not carried: the kernel does it, by both. One flow, so that hashes, which are seeded, do not matter: within the limit in its order.
#[test]
fn sfq() {
    let lines = [TBF, "tc qdisc add dev d1 parent 1:1 handle 10: sfq limit 20 depth 6"];
    if !knows("sfq", &lines) {
        return;
    }
    let mut shaped = Shaped::start("kinds_sfq", 2, &lines);
    shaped.burst(&[(Flow::new(0, 500), 20)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_counters();
    shaped.finish(0.0);
}

/// Not carried either. One flow that fits: in its order, and nothing is dropped that waits less than the target.
#[test]
fn fq_codel() {
    let lines = [
        "tc qdisc add dev d1 root handle 1: htb default 10",
        "tc class add dev d1 parent 1: classid 1:10 htb rate 32kbit burst 1200 cburst 1200",
        "tc qdisc add dev d1 parent 1:10 handle 10: fq_codel target 5s interval 9s limit 12",
    ];
    if !knows("fq_codel", &lines) {
        return;
    }
    let mut shaped = Shaped::start("kinds_fq_codel", 2, &lines);
    shaped.burst(&[(Flow::new(0, 500), 12)]);
    shaped.rest(QUIET);
    assert_eq!(shaped.came(0), 12);
    shaped.same_order();
    shaped.same_counters();
    shaped.finish(0.0);
}
