//! Kinds of qdiscs and filters that not every kernel has: prio, fq_codel, sfq and fq; fw, flower and matchall; police at ingress. `scripts/test vm` runs
//! these where they are. There a burst takes some 50 ms on its way, so the rates are lower than elsewhere: a byte a millisecond.

use crate::lab::namespace::Namespace;
use crate::net::{Flow, Shaped, behind};
use crate::random::seeds;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::time::Duration;

#[path = "police.rs"]
mod police;

/// A bucket that owes a frame is full again.
const QUIET: Duration = Duration::from_millis(2200);

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

/// So many hashes that flows, whose hashes are seeded, do not meet: who has which turn, and who is dropped, is then determined.
fn exact(name: &str, lines: &[&str], bursts: &[&[(Flow, u64)]]) {
    let mut shaped = Shaped::start(name, 2, lines);
    for burst in bursts {
        shaped.burst(burst);
        shaped.rest(QUIET);
    }
    shaped.same_order();
    shaped.finish_exact();
}

/// No two are of one length: else which is the longest queue may be a matter of hashes.
fn flow(id: u16) -> Flow {
    Flow::new(id, 500 + 10 * usize::from(id))
}

/// One flow: up to its depth, in its order.
#[test]
fn sfq() {
    let depth = [TBF, "tc qdisc add dev d1 parent 1:1 handle 10: sfq limit 20 depth 6"];
    if !knows("sfq", &depth) {
        return;
    }
    exact("kinds_sfq", &depth, &[&[(flow(0), 20)], &[(flow(0), 3)]]);
    let head = [
        TBF,
        "tc qdisc add dev d1 parent 1:1 handle 10: sfq limit 20 depth 6 headdrop",
    ];
    exact("kinds_sfq_head", &head, &[&[(flow(0), 20)]]);
}

/// Filters say which queue, and what none matches is dropped.
#[test]
fn sfq_with_filters() {
    let lines = [
        TBF,
        "tc qdisc add dev d1 parent 1:1 handle 10: sfq limit 20 depth 6 quantum 1514",
        "tc filter add dev d1 parent 10: protocol ip prio 1 u32 match ip dport 5000 0xfffe flowid 10:1",
        "tc filter add dev d1 parent 10: protocol ip prio 1 u32 match ip dport 5002 0xffff flowid 10:2",
    ];
    if !knows("sfq", &lines) {
        return;
    }
    let burst = [(flow(0), 6), (flow(1), 4), (flow(2), 3), (flow(3), 2)];
    exact("kinds_sfq_filters", &lines, &[&burst]);
}

/// Flows in turn, by quantum; when all is full, the longest loses, or whoever has the turn.
#[test]
fn sfq_of_several_flows() {
    let line = |more: &str| format!("tc qdisc add dev d1 parent 1:1 handle 10: sfq divisor 65536 {more}");
    let burst = [(flow(0), 6), (flow(1), 2), (flow(2).tos(0x10), 3), (flow(3), 1)];
    let longer = [(flow(0), 9), (flow(4), 4), (flow(1), 1), (flow(2), 5)];
    if !knows("sfq", &[TBF, &line("limit 60")]) {
        return;
    }
    for (name, more) in [
        ("turns", "limit 60 quantum 1514"),
        ("small", "limit 60 quantum 300"),
        ("full", "limit 8 quantum 500"),
        ("head", "limit 7 quantum 500 headdrop"),
        ("flows", "limit 60 flows 3"),
        ("one", "limit 4 quantum 500"),
    ] {
        let lines = [TBF, &line(more)];
        exact(&format!("kinds_sfq_{name}"), &lines, &[&burst, &longer]);
    }
}

const CLASS: [&str; 2] = [
    "tc qdisc add dev d1 root handle 1: htb default 10",
    "tc class add dev d1 parent 1: classid 1:10 htb rate 8kbit burst 1200 cburst 1200",
];

/// What waits less than the target: in its order, up to the limit, by which the longest flow loses the half of what it has.
#[test]
fn fq_codel() {
    let line = |parent: &str, more: &str| {
        format!("tc qdisc add dev d1 parent {parent} handle 10: fq_codel flows 65536 target 50s interval 90s {more}")
    };
    let burst = [(flow(0), 8), (flow(1), 2), (flow(2).tos(0x10), 3), (flow(3), 1)];
    let longer = [(flow(0), 9), (flow(4), 4), (flow(1), 1), (flow(2), 5)];
    if !knows("fq_codel", &[TBF, &line("1:1", "limit 60")]) {
        return;
    }
    for (name, more) in [
        ("turns", "limit 60"),
        ("small", "limit 60 quantum 300"),
        ("full", "limit 8"),
        ("batch", "limit 8 drop_batch 2"),
    ] {
        let below = [CLASS[0], CLASS[1], &line("1:10", more)];
        exact(&format!("kinds_fq_codel_{name}"), &below, &[&burst, &longer]);
        let behind = [TBF, &line("1:1", more)];
        exact(&format!("kinds_fq_codel_tbf_{name}"), &behind, &[&burst, &longer]);
    }
}

/// What waits longer: dropped ever more often, or marked where both sides know how. A frame takes 500 ms, and by these intervals nothing
/// is decided within 100 ms of its opposite.
#[test]
fn fq_codel_that_is_late() {
    if !knows("fq_codel", &[TBF, "tc qdisc add dev d1 parent 1:1 handle 10: fq_codel"]) {
        return;
    }
    for (name, tos, more) in [
        ("drops", 0, "interval 1100ms"),
        ("marks", 2, "interval 750ms"),
        ("marks_not", 2, "interval 1100ms noecn"),
    ] {
        let line = format!("tc qdisc add dev d1 parent 1:10 handle 10: fq_codel target 100ms {more}");
        let lines = [CLASS[0], CLASS[1], &line];
        exact(&format!("kinds_fq_codel_{name}"), &lines, &[&[(flow(0).tos(tos), 24)]]);
    }
}

/// Those who find nobody before them go first, then flows in turn, band by band; up to the limits of each. (Bands are those that fq has by
/// itself: a `tc` that is as old as Debian 12's cannot say others.)
#[test]
fn fq() {
    let line = |parent: &str, more: &str| {
        format!("tc qdisc add dev d1 parent {parent} handle 10: fq orphan_mask 16777215 quantum 1514 {more}")
    };
    let burst = [(flow(0), 16), (flow(1), 4), (flow(2).tos(0x10), 5), (flow(3).tos(8), 3)];
    let longer = [(flow(0).tos(0x10), 12), (flow(4), 4), (flow(1), 1), (flow(2), 5)];
    if !knows("fq", &[TBF, &line("1:1", "limit 60")]) {
        return;
    }
    for (name, more) in [
        ("turns", "initial_quantum 1514"),
        ("first", "initial_quantum 3000 refill_delay 20s"),
        ("flow", "flow_limit 3"),
        ("band", "limit 5"),
    ] {
        let below = [CLASS[0], CLASS[1], &line("1:10", more)];
        exact(&format!("kinds_fq_{name}"), &below, &[&burst, &longer]);
        let behind = [TBF, &line("1:1", more)];
        exact(&format!("kinds_fq_tbf_{name}"), &behind, &[&burst, &longer]);
    }
    let late = [CLASS[0], CLASS[1], &line("1:10", "ce_threshold 5250ms")];
    exact("kinds_fq_late", &late, &[&[(flow(0).tos(2), 20)]]);
}

/// Each flow has its own pace: by packets, or by turns where the rate is above `low_rate_threshold`.
#[test]
fn fq_that_paces() {
    let line = |more: &str| format!("tc qdisc add dev d1 root handle 10: fq orphan_mask 16777215 maxrate 8kbit {more}");
    if !knows("fq", &[&line("")]) {
        return;
    }
    for (name, more) in [
        ("packets", ""),
        ("turns", "low_rate_threshold 1kbit quantum 1000 initial_quantum 1000"),
        ("full", "flow_limit 5"),
    ] {
        let mut shaped = Shaped::start(&format!("kinds_fq_{name}"), 2, &[&line(more)]);
        shaped.burst(&[(flow(0), 9), (flow(1), 6)]);
        shaped.rest(QUIET);
        shaped.same_frames();
        for id in [0, 1] {
            let [kernel, tested] = shaped.sides().map(|side| {
                let of_flow = side.of(id);
                of_flow
                    .iter()
                    .map(|arrival| arrival.at_ns - of_flow[0].at_ns)
                    .collect::<Vec<_>>()
            });
            let apart = kernel.iter().zip(&tested).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(
                kernel.len() == tested.len() && apart.is_some_and(|apart| apart < 200_000_000),
                "{name}: flow {id} left after\n{kernel:?} and\n{tested:?}"
            );
        }
        shaped.finish_exact();
    }
}

/// Any queue that knows flows apart. Hashes do not meet, and nothing waits too long for CoDel.
fn any_leaf(random: &mut ChaCha8Rng) -> String {
    let mut one = |range: std::ops::Range<u32>| random.random_range(range);
    match one(0..3) {
        0 => format!(
            "fq_codel flows 65536 target 50s interval 90s limit {} quantum {} drop_batch {}",
            one(1..30),
            one(256..4000),
            one(1..6)
        ),
        1 => format!(
            "sfq divisor 65536 limit {} quantum {} depth {} flows {} {}",
            one(2..30),
            one(256..4000),
            one(1..10),
            one(2..8),
            ["", "headdrop"][one(0..2) as usize]
        ),
        _ => format!(
            "fq orphan_mask 16777215 limit {} flow_limit {} quantum {} initial_quantum {} refill_delay {}",
            one(1..30),
            one(1..10),
            one(256..4000),
            one(256..9000),
            ["40ms", "90s"][one(0..2) as usize]
        ),
    }
}

/// One of them behind a token bucket, and bursts of any flows, each when the one before has left.
#[test]
fn any_queue_of_flows() {
    let refused = |kind: &&str| {
        !knows(
            kind,
            &[TBF, &format!("tc qdisc add dev d1 parent 1:1 handle 10: {kind}")],
        )
    };
    if ["fq_codel", "sfq", "fq"].iter().any(refused) {
        return;
    }
    for seed in seeds(6) {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let leaf = any_leaf(random);
        let mut lines = match random.random_bool(0.5) {
            true => CLASS.to_vec(),
            false => vec![TBF],
        };
        let parent = if lines.len() == 1 { "1:1" } else { "1:10" };
        let leaf = format!("tc qdisc add dev d1 parent {parent} handle 10: {leaf}");
        lines.push(&leaf);
        let any = |random: &mut ChaCha8Rng| {
            let tos = [0, 0x08, 0x10][random.random_range(0..3)];
            (flow(random.random_range(0..6)).tos(tos), random.random_range(1..9))
        };
        let bursts: [Vec<_>; 3] =
            std::array::from_fn(|_| (0..random.random_range(2..6)).map(|_| any(random)).collect());
        println!("replay: BYPATH_TWIN_SEED={seed}\n  {}", lines.join("\n  "));
        for burst in &bursts {
            let words = burst
                .iter()
                .map(|(flow, count)| format!("{count} of {} ({:#x})", flow.id, flow.tos));
            println!("  {}", words.collect::<Vec<_>>().join(", "));
        }
        exact(
            &format!("kinds_seed_{seed}"),
            &lines,
            &bursts.each_ref().map(Vec::as_slice),
        );
    }
}
