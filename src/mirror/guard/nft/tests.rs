//! What leaves a family, a device or bridging, on rulesets and messages that are built by hand.

use super::super::super::nlattr::HEADER_LEN;
use super::super::findings::Scope;
use super::super::link::LinkFacts;
use super::*;

/// What nf_ct_netns_get does for a bridge rule; few kernels at hand have nf_conntrack_bridge.
#[test]
fn a_bridge_rule_that_tracks_touches_both_families() {
    let mut ruleset = Ruleset::default();
    ruleset.track(NFPROTO_BRIDGE, "a rule".to_owned(), true);
    ruleset.track(NFPROTO_ARP, "no IP".to_owned(), true);
    assert_eq!(ruleset.tracking.len(), 1);
    assert_eq!(ruleset.tracking[0].families, Family::ALL);
    assert!(!ruleset.tracking[0].plainly, "bridged frames would be tracked too");
}

/// Few kernels at hand have a queue.
#[test]
fn a_queue_at_forward_leaves_its_family_and_a_log_does_not() {
    use crate::table::rules::expr::{Expr, Verdict};
    use crate::table::rules::program::{self, Chain, ChainType, Rule, Table, TableId};
    for (expr, leaves) in [
        (Expr::uncarried("queue"), true),
        (Expr::Verdict(Verdict::Uncarried(3)), true),
        (Expr::uncarried("log"), false),
    ] {
        let chain = Chain {
            table: TableId(0),
            name: "f".into(),
            base: Some(program::BaseChain {
                hook: NF_INET_FORWARD,
                priority: 0,
                kind: ChainType::Filter,
                policy_drop: false,
                devices: [].into(),
                counter: None,
                offload: false,
                order: [0; 2],
            }),
            rules: [Rule {
                handle: 4,
                exprs: [expr].into(),
            }]
            .into(),
        };
        let table = Table {
            family: NFPROTO_IPV4,
            name: "t".into(),
            dormant: false,
        };
        let read = program::Ruleset {
            tables: [table].into(),
            chains: [chain].into(),
            ..program::Ruleset::default()
        };
        let mut found = Collector::new(&[LinkFacts {
            ifindex: 1,
            is_port: true,
            ..LinkFacts::default()
        }]);
        report_punted(&mut found, &punted(&Rules::new(read, None, 0)));
        let found = found.finish();
        assert_eq!(found.on(1, Family::V4).is_some(), leaves);
        assert_eq!(found.notes.len(), 1);
        assert!(
            found.leaves()
                && found.notes[0]
                    .text
                    .starts_with("nft table ip t, chain f, rule handle 4 ")
        );
    }
}

/// Device prefixes, which kernels since 6.17 report, match by their beginning.
#[test]
fn device_prefixes() {
    let list = Request::new(0, 0, &[])
        .attr_str(1, "d1")
        .attr_str(2, "eth")
        .finish(0)
        .split_off(HEADER_LEN);
    let hook = Request::new(0, 0, &[])
        .attr(1, &[0; 4])
        .attr_str(3, "d1")
        .attr(4, &list)
        .finish(0)
        .split_off(HEADER_LEN);
    let hook = [(4, &hook[..])];
    let attrs = hook
        .iter()
        .fold(Request::new(0, 0, &[]), |r, (kind, value)| r.attr(*kind, value));
    let attrs = attrs.finish(0).split_off(HEADER_LEN);
    let Judged::InPath(chain) = BaseChain::read(NFPROTO_NETDEV, &Attrs(&attrs), 1) else {
        panic!("not in the path");
    };
    let link = |ifindex, name: &str| LinkFacts {
        ifindex,
        name: name.into(),
        is_port: true,
        ..LinkFacts::default()
    };
    let mut found = Collector::new(&[link(1, "d1"), link(2, "eth7"), link(3, "d11"), link(4, "et")]);
    on_devices(&mut found, &chain, Way::Ingress);
    let mut left: Vec<_> = found.finish().by_iface.into_keys().collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2]);
}

/// A base chain of family bridge is run; one of another type leaves bridging, of ports of bridges alone, and nothing else.
#[test]
fn chains_of_family_bridge() {
    let list = |attrs: &[(u16, &[u8])]| {
        let request = attrs
            .iter()
            .fold(Request::new(0, 0, &[]), |r, (kind, value)| r.attr(*kind, value));
        request.finish(0).split_off(HEADER_LEN)
    };
    let chain = |hook: u8, rules: usize, policy: u8, kind: &[u8]| {
        let hook = list(&[(1, &[0, 0, 0, hook]), (2, &[0; 4])]);
        // Its use says 0, as while a batch is prepared that would flush it.
        let attrs = list(&[(4, &hook), (5, &[0, 0, 0, policy]), (6, &[0; 4]), (7, kind)]);
        BaseChain::read(NFPROTO_BRIDGE, &Attrs(&attrs), rules)
    };
    let is_carried = |judged| matches!(judged, Judged::InPath(chain) if chain.is_carried());
    for hook in 0..5 {
        assert!(
            matches!(chain(hook, 0, 1, b"filter\0"), Judged::Harmless),
            "it is empty"
        );
        assert!(is_carried(chain(hook, 1, 1, b"filter\0")));
        assert!(is_carried(chain(hook, 0, 0, b"filter\0")), "it drops");
        assert!(!is_carried(chain(hook, 1, 1, b"nat\0")));
    }
    let Judged::InPath(chain) = chain(5, 1, 1, b"filter\0") else {
        panic!("not in the path");
    };
    assert!(!chain.is_carried(), "a hook of ebtables alone");
    let link = |ifindex, kind: &str, master| LinkFacts {
        ifindex,
        kind: Some(kind.to_owned()),
        master,
        is_port: ifindex < 9,
        ..LinkFacts::default()
    };
    let links = [
        link(1, "veth", Some(9)),
        link(2, "veth", None),
        link(3, "veth", Some(10)),
        link(9, "bridge", None),
        link(10, "bond", None),
    ];
    let mut found = Collector::new(&links);
    let ruleset = Ruleset {
        chains: vec![chain],
        ..Ruleset::default()
    };
    report(&mut found, &ruleset);
    let found = found.finish();
    assert_eq!(found.bridging.keys().collect::<Vec<_>>(), [&1]);
    let left = &found.bridging[&1];
    assert!(left.ingress.is_some() && left.egress.is_some() && found.by_iface.is_empty());
    assert_eq!((found.notes.len(), &found.notes[0].scope), (1, &Scope::Bridging));
}
