//! What a frame tells the qdisc: mark and priority, as skb would have them where the kernel's qdisc asks. That the cached walk of
//! connections says the same is tested in tests/tracked.rs, with random rules.

use super::{Bench, OUT, bridge, lab, packet, rules, shaped, tree};
use bypath::packet::{Family, Frame, PortIndex, Verdict};
use bypath::port::MemPool;
use bypath::stage::routing::Flows;
use bypath::table::Snapshot;
use bypath::table::qdisc::Handle;
use bypath::table::rules::expr::{Expr, Stateful};
use bypath::table::rules::keys::MetaKey;
use bypath::table::rules::live::{FORWARD, PREROUTING, Rules};
use bypath::table::rules::program::{BaseChain, Chain, ChainType, Rule, Ruleset, Table, TableId};
use bypath::worker::pipeline::{Here, Unobserved, walk};
use std::sync::Arc;

/// What comes of TOS 0, 2, 4, ... 30 (rt_tos2priority).
const BY_TOS: [u32; 16] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];

struct Walks {
    frame: Frame,
    flows: Flows,
}

impl Walks {
    fn new() -> Self {
        Self {
            frame: MemPool::new(1, 2048, 256).take(1).remove(0),
            flows: Flows::new(0, 4),
        }
    }

    /// Mark and priority of a packet that came in by port 0 and leaves.
    fn label(&mut self, snapshot: &Snapshot, packet: &[u8]) -> (u32, u32) {
        // As the packet before left it.
        self.frame.set_meta(99, 99);
        self.frame.fill(packet);
        let here = Here {
            labels: true,
            ..Here::new(PortIndex(0), snapshot)
        };
        let verdict = walk(&mut self.frame, &here, &mut self.flows, &mut Unobserved);
        assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
        (self.frame.mark(), self.frame.priority())
    }
}

fn v4(tos: u8) -> Vec<u8> {
    let mut packet = packet();
    lab::set_tos(&mut packet, tos);
    packet
}

fn v6() -> Vec<u8> {
    lab::udp(Family::V6, lab::gateway(Family::V6), 18)
}

fn with(rules: Arc<Rules>) -> Snapshot {
    Snapshot {
        rules,
        ..lab::snapshot(1, lab::FAR)
    }
}

#[test]
fn routed_ipv4_has_the_priority_of_its_tos() {
    let mut snapshot = lab::snapshot(1, lab::FAR);
    let mut walks = Walks::new();
    for (tos, priority) in (0..=u8::MAX).map(|tos| (tos, BY_TOS[usize::from(tos >> 1 & 15)])) {
        assert_eq!(walks.label(&snapshot, &v4(tos)), (0, priority), "TOS {tos}");
    }
    assert_eq!(walks.label(&snapshot, &v6()), (0, 0));
    snapshot.update_priority = false;
    assert_eq!(
        walks.label(&snapshot, &v4(8)),
        (0, 0),
        "net.ipv4.ip_forward_update_priority"
    );
}

#[test]
fn rules_set_both_and_forwarding_sets_the_priority_again() {
    let set = |hook| {
        let sets = [
            rules::meta_set(MetaKey::Mark, 7),
            rules::meta_set(MetaKey::Priority, 0x1_0010),
        ];
        with(rules::letting_through(1, hook, vec![sets.concat()]))
    };
    let mut walks = Walks::new();
    for (hook, priority) in [(FORWARD, 0x1_0010), (PREROUTING, 2)] {
        let mut snapshot = set(hook);
        assert_eq!(walks.label(&snapshot, &v4(8)), (7, priority), "hook {hook}");
        assert_eq!(walks.label(&snapshot, &v6()), (7, 0x1_0010), "IPv6 keeps it");
        snapshot.update_priority = false;
        assert_eq!(walks.label(&snapshot, &v4(8)), (7, 0x1_0010));
    }
}

/// A chain of family bridge at forward, which sets mark and priority.
fn of_bridge() -> Arc<Rules> {
    let sets = [
        rules::meta_set(MetaKey::Mark, 5),
        rules::meta_set(MetaKey::Priority, 0x1_0020),
    ];
    let exprs: Vec<Expr> = sets.concat();
    let chain = Chain {
        table: TableId(0),
        name: "c".into(),
        base: Some(BaseChain {
            hook: FORWARD,
            priority: -200,
            kind: ChainType::Filter,
            policy_drop: false,
            devices: [].into(),
            counter: None,
            offload: false,
            order: [0; 2],
        }),
        rules: [Rule {
            handle: 1,
            exprs: exprs.into(),
        }]
        .into(),
    };
    let table = Table {
        family: 7,
        name: "t".into(),
        dormant: false,
    };
    let ruleset = Ruleset {
        generation: 1,
        tables: [table].into(),
        chains: [chain].into(),
        states: Vec::<Stateful>::new().into(),
        ..Ruleset::default()
    };
    Arc::new(Rules::new(ruleset, None, 0))
}

#[test]
fn bridged_frames_have_what_rules_set_and_nothing_of_their_tos() {
    let mut snapshot = bridge::snapshot(1, lab::FAR);
    let mut walks = Walks::new();
    let mut across = v4(8);
    across[..6].copy_from_slice(&bridge::station(2));
    across[6..12].copy_from_slice(&bridge::station(0));
    assert_eq!(walks.label(&snapshot, &across), (0, 0));
    let mut up = v4(8);
    up[6..12].copy_from_slice(&bridge::station(0));
    assert_eq!(walks.label(&snapshot, &up), (0, 2), "it is routed");
    snapshot.rules = of_bridge();
    assert_eq!(walks.label(&snapshot, &across), (5, 0x1_0020));
}

#[test]
fn a_trace_says_by_which_class_a_packet_leaves() {
    use bypath::worker::Command;
    use bypath::worker::pipeline::Stage;
    use bypath::worker::trace::{Filter, Tracer};
    let rules = rules::letting_through(1, FORWARD, vec![rules::meta_set(MetaKey::Priority, 0x1_0002)]);
    for (shaping, class) in [
        (tree::tbf(1_000_000), "tbf 1:"),
        (tree::fifo(10), "pfifo 1:"),
        (tree::htb(4, 3, 1_000_000), "class 1:2"),
    ] {
        let mut snapshot = shaped(shaping);
        snapshot.rules = rules.clone();
        let mut bench = Bench::new(snapshot, &[]);
        let reader = Arc::new(());
        let (tracers, watched) = Tracer::pool(&Filter::default(), 2, 1, &Arc::downgrade(&reader));
        for (worker, tracer) in tracers.into_iter().enumerate() {
            assert!(bench.shared.tell(worker, Command::Trace(Some(tracer))));
            assert!(bench.workers[worker].obey());
        }
        assert!(bench.ports[0].push(&packet()));
        bench.turn();
        let watched = watched.try_recv().expect("the packet");
        assert_eq!(watched.verdict, Verdict::Forward(OUT));
        assert_eq!(watched.boxes.last(), Some(&(Stage::Shape, class.to_string())));
        // And so it did: of all classes, or qdiscs that have none, it was counted there.
        let report = bench.workers[1].report();
        let (_, _, counts) = &report.shaping[0];
        let counted = |of: &Handle| counts.iter().any(|(handle, stats)| handle == of && stats.packets == 1);
        let place = class.split(' ').next_back().expect("a handle");
        assert!(
            counts
                .iter()
                .any(|(handle, _)| handle.to_string() == place && counted(handle)),
            "{counts:?}"
        );
        bench.assert_audit();
    }
}
