//! Which class: by rules (`meta priority`), u32 filters, the default; and what names no class, or none that there is.

use crate::net::{Flow, Shaped, behind};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(500);

/// Two classes of one rate but different bounds (2 and 5 frames wait), so that who is of which is seen.
const TREE: [&str; 5] = [
    "tc qdisc add dev d1 root handle 1: htb default 20",
    "tc class add dev d1 parent 1: classid 1:10 htb rate 64kbit burst 1200 cburst 1200",
    "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 2",
    "tc class add dev d1 parent 1: classid 1:20 htb rate 64kbit burst 1200 cburst 1200",
    "tc qdisc add dev d1 parent 1:20 handle 20: pfifo limit 5",
];
/// Frames of 500 bytes that pass a class at once.
const AT_ONCE: usize = 3;

fn tree(name: &str, more: &[&str]) -> Shaped {
    let lines: Vec<&str> = TREE.iter().chain(more).copied().collect();
    Shaped::start(name, 2, &lines)
}

/// `burst` of 12 frames of each flow; how many of each came.
fn came(shaped: &mut Shaped, flows: &[Flow]) -> Vec<usize> {
    let all: Vec<(Flow, u64)> = flows.iter().map(|flow| (*flow, 12)).collect();
    shaped.burst(&all);
    shaped.rest(QUIET);
    shaped.same_frames();
    flows.iter().map(|flow| shaped.came(flow.id)).collect()
}

#[test]
fn the_default_class() {
    let mut shaped = tree("choice_default", &[]);
    assert_eq!(came(&mut shaped, &[Flow::new(0, 500)]), [AT_ONCE + 5]);
    shaped.finish_exact();
}

#[test]
fn a_rule_names_the_class() {
    let rules = "ruleset table inet t { chain c { type filter hook forward priority 0; \
                 udp dport 5000 meta priority set 0x10010; udp dport 5001 meta priority set 0x10020; }; }";
    let mut shaped = tree("choice_rule", &[rules]);
    assert_eq!(
        came(&mut shaped, &[Flow::new(0, 500), Flow::new(1, 500)]),
        [AT_ONCE + 2, AT_ONCE + 5]
    );
    shaped.finish_exact();
}

/// What names the qdisc itself goes by the direct queue, which nothing holds back; what names a class of another, or none that
/// there is, is of the default class.
#[test]
fn a_rule_names_no_class() {
    let rules = "ruleset table inet t { chain c { type filter hook forward priority 0; \
                 udp dport 5000 meta priority set 0x10000; udp dport 5001 meta priority set 0x10077; \
                 udp dport 5002 meta priority set 0x20010; }; }";
    let mut shaped = tree("choice_rule_none", &[rules]);
    assert_eq!(came(&mut shaped, &[Flow::new(0, 500)]), [12]);
    assert_eq!(came(&mut shaped, &[Flow::new(1, 500)]), [AT_ONCE + 5]);
    assert_eq!(came(&mut shaped, &[Flow::new(2, 500)]).len(), 1);
    shaped.finish_exact();
}

/// A rule before tracking, one behind it, and what a connection's own decision keeps.
#[test]
fn rules_of_a_tracked_family() {
    let rules = "ruleset table ip t { chain pre { type filter hook prerouting priority -150; \
                 udp dport 5000 meta priority set 0x10010; }; chain c { type filter hook forward priority 0; \
                 ct state established,new udp dport 5001 meta priority set 0x10010; }; \
                 chain post { type nat hook postrouting priority 100; masquerade; }; }";
    let mut shaped = tree("choice_tracked", &[rules]);
    let flows = [Flow::new(0, 500), Flow::new(1, 500), Flow::new(2, 500)];
    // The first packets alone, so that all others are of connections that both know.
    for flow in flows {
        shaped.burst(&[(flow, 1)]);
        shaped.wait(Duration::from_millis(300));
    }
    came(&mut shaped, &flows[..1]);
    came(&mut shaped, &flows[1..2]);
    came(&mut shaped, &flows[2..]);
    shaped.finish(0.8);
}

#[test]
fn u32_by_headers() {
    let destination = format!(
        "tc filter add dev d1 parent 1: protocol ip prio 3 u32 match ip dst {}/32 flowid 1:10",
        behind(1, 7)
    );
    let filters = [
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5000 0xffff match ip protocol 17 0xff flowid 1:10",
        "tc filter add dev d1 parent 1: protocol ip prio 2 u32 match ip tos 0x10 0xff flowid 1:10",
        &destination,
        "tc filter add dev d1 parent 1: protocol ip prio 4 u32 match u16 0x138a 0xffff at 22 flowid 1:10",
        "tc filter add dev d1 parent 1: protocol ip prio 5 u32 match ip dport 5003 0xffff flowid 1:20",
        "tc filter add dev d1 parent 1: protocol ip prio 6 u32 match ip dport 5000 0xfff0 flowid 1:10",
    ];
    let mut shaped = tree("choice_u32", &filters);
    let flows = [
        (Flow::new(0, 500), 2),
        (Flow::new(8, 500).tos(0x10), 2),
        (Flow::new(9, 500).host(7), 2),
        (Flow::new(2, 500), 2),
        (Flow::new(3, 500), 5),
        (Flow::new(4, 500), 2),
        (Flow::new(30, 500), 5),
    ];
    for (flow, waits) in flows {
        assert_eq!(came(&mut shaped, &[flow]), [AT_ONCE + waits], "{flow:?}");
    }
    shaped.finish_exact();
}

/// A filter of another protocol, and one of all.
#[test]
fn u32_by_protocol() {
    let filters = [
        "tc filter add dev d1 parent 1: protocol ipv6 prio 1 u32 match ip6 dport 5001 0xffff flowid 1:10",
        "tc filter add dev d1 parent 1: protocol all prio 2 u32 match u16 0x1388 0xffff at 22 flowid 1:10",
    ];
    let lines: Vec<&str> = TREE.iter().chain(&filters).copied().collect();
    let mut shaped = Shaped::start_both("choice_protocol", 2, &lines);
    for flow in [
        Flow::new(0, 500),
        Flow::new(1, 500),
        Flow::new(1, 500).v6(),
        Flow::new(2, 500).v6(),
    ] {
        shaped.burst(&[(flow, 12)]);
        shaped.rest(QUIET);
        shaped.same_frames();
    }
    shaped.finish(1.0);
}

/// A filter to a class that does not exist: the default class, whatever filters come behind.
#[test]
fn a_filter_to_no_class() {
    let filters = [
        "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5000 0xffff flowid 1:77",
        "tc filter add dev d1 parent 1: protocol ip prio 2 u32 match ip dport 5000 0xffff flowid 1:10",
        "tc filter add dev d1 parent 1: protocol ip prio 3 u32 match ip dport 5001 0xffff flowid 1:0",
        "tc filter add dev d1 parent 1: protocol ip prio 4 u32 match ip dport 5002 0xffff flowid 2:10",
    ];
    let mut shaped = tree("choice_no_class", &filters);
    assert_eq!(came(&mut shaped, &[Flow::new(0, 500)]), [AT_ONCE + 5]);
    came(&mut shaped, &[Flow::new(1, 500)]);
    came(&mut shaped, &[Flow::new(2, 500)]);
    shaped.finish_exact();
}

/// No default, and one that does not exist: nothing holds back what no filter places.
#[test]
fn a_default_that_does_not_exist() {
    for (name, default) in [("choice_default_none", ""), ("choice_default_missing", "default 99")] {
        let root = format!("tc qdisc add dev d1 root handle 1: htb {default}");
        let class = "tc class add dev d1 parent 1: classid 1:10 htb rate 64kbit burst 1200 cburst 1200";
        let filter = "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5000 0xffff flowid 1:10";
        let leaf = "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 2";
        let mut shaped = Shaped::start(name, 2, &[&root, class, leaf, filter]);
        assert_eq!(
            came(&mut shaped, &[Flow::new(0, 500), Flow::new(1, 500)]),
            [AT_ONCE + 2, 12]
        );
        shaped.finish_exact();
    }
}

const INNER: [&str; 7] = [
    "tc qdisc add dev d1 root handle 1: htb default 20",
    "tc class add dev d1 parent 1: classid 1:1 htb rate 64kbit burst 9000 cburst 9000",
    "tc class add dev d1 parent 1:1 classid 1:10 htb rate 32kbit burst 1200 cburst 1200",
    "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 2",
    "tc class add dev d1 parent 1:1 classid 1:20 htb rate 32kbit burst 1200 cburst 1200",
    "tc qdisc add dev d1 parent 1:20 handle 20: pfifo limit 5",
    "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport 5000 0xfff0 flowid 1:1",
];

/// A filter leads to an inner class, whose own filters go on; where none matches, the default class.
#[test]
fn filters_of_an_inner_class() {
    let inner = "tc filter add dev d1 parent 1:1 protocol ip prio 2 u32 match ip dport 5001 0xffff flowid 1:10";
    let lines: Vec<&str> = INNER.into_iter().chain([inner]).collect();
    let mut shaped = Shaped::start("choice_inner", 2, &lines);
    assert_eq!(came(&mut shaped, &[Flow::new(1, 500)]), [AT_ONCE + 2]);
    assert_eq!(came(&mut shaped, &[Flow::new(2, 500)]), [AT_ONCE + 5]);
    shaped.finish_exact();
}

/// Filters of one preference at two places of a qdisc: the kernel does not tell which of their tables begins where, so this may
/// stay with it, whole.
#[test]
fn filters_of_one_preference_at_two_places() {
    let inner = "tc filter add dev d1 parent 1:1 protocol ip prio 1 u32 match ip dport 5001 0xffff flowid 1:10";
    let lines: Vec<&str> = INNER.into_iter().chain([inner]).collect();
    let mut shaped = Shaped::start("choice_inner_same", 2, &lines);
    assert_eq!(came(&mut shaped, &[Flow::new(1, 500)]), [AT_ONCE + 2]);
    assert_eq!(came(&mut shaped, &[Flow::new(2, 500)]), [AT_ONCE + 5]);
    shaped.finish(0.0);
}
