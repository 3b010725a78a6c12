//! Trees of qdiscs: what `tc` says on a link, and what mirror reads of it; as it is, and after each change. Kinds that
//! this kernel lacks are left out, and said so.

use super::lab::*;
use bypath::mirror::tc::{Egress, Reader};
use bypath::table::qdisc::{Class, Fifo, Handle, Htb, Kind, Limit, Qdisc, ROOT, Rate, Shaping, Tbf};
use std::process::Command;

fn tc(arguments: &str) {
    command("tc", arguments);
}

/// Whether the kernel has a kind of qdisc, by trying it on d0, which has none before and after.
fn has(kind: &str, options: &str) -> bool {
    let line = format!("qdisc add dev d0 root {kind} {options}");
    let done = Command::new("tc").args(line.split_whitespace()).output().expect("tc");
    if done.status.success() {
        tc("qdisc del dev d0 root");
    } else {
        println!("SKIPPED {kind}: not in this kernel (scripts/vm has it)");
    }
    done.status.success()
}

fn egress(name: &str) -> Egress {
    let ifindex = bypath::port::link::ifindex(name).expect(name);
    let mut reader = Reader::open().unwrap();
    let qdiscs = reader.qdiscs().unwrap();
    reader.egress(ifindex, &qdiscs).unwrap()
}

fn shaping() -> Shaping {
    egress("d0").shaping.unwrap()
}

fn root() -> Qdisc {
    match shaping() {
        Shaping::Root(root) => (*root).clone(),
        other => panic!("{other:?}"),
    }
}

fn why() -> String {
    egress("d0").shaping.unwrap_err()
}

fn tbf() -> Tbf {
    match root().kind {
        Kind::Tbf(tbf) => tbf,
        other => panic!("{other:?}"),
    }
}

fn htb() -> Htb {
    match root().kind {
        Kind::Htb(htb) => htb,
        other => panic!("{other:?}"),
    }
}

fn class(htb: &Htb, id: u32) -> &Class {
    htb.classes
        .iter()
        .find(|class| class.id == Handle(id))
        .expect("a class")
}

fn plain(bits_per_second: u64) -> Rate {
    Rate {
        bytes_per_second: bits_per_second / 8,
        ..Rate::default()
    }
}

fn fifo(qdisc: &Qdisc) -> Limit {
    match qdisc.kind {
        Kind::Fifo(Fifo { limit, .. }) => limit,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_tbf_as_tc_was_told() {
    namespace(|| {
        router();
        assert_eq!(shaping(), Shaping::Unshaped);
        for (rate, bits, burst) in [
            ("64kbit", 64_000, 1600),
            ("1mbit", 1_000_000, 5000),
            ("37mbit", 37_000_000, 12_345),
            ("100mbit", 100_000_000, 100_001),
            ("5gbit", 5_000_000_000, 625_000),
            ("40gbit", 40_000_000_000, 1_000_000),
        ] {
            tc(&format!(
                "qdisc replace dev d0 root handle 1: tbf rate {rate} burst {burst} limit 100000"
            ));
            let tbf = tbf();
            assert_eq!((tbf.rate, tbf.limit), (plain(bits), 100_000), "{rate}");
            assert_eq!((tbf.max_size, tbf.peak), (burst, None), "{rate}");
            let lasts = (u128::from(burst) * 8_000_000_000).div_ceil(u128::from(bits));
            assert_eq!(u128::from(tbf.buffer_ns), lasts, "{rate}");
            assert_eq!(fifo(&tbf.child), Limit::Bytes(100_000));
        }
        assert_eq!((root().handle, root().parent), (Handle::qdisc(1), ROOT));
        assert_eq!(egress("d0").root, "tbf 1:");
        tc("qdisc change dev d0 root handle 1: tbf rate 1mbit burst 5000 limit 3000 peakrate 2mbit mtu 1600");
        let changed = tbf();
        assert_eq!(changed.peak, Some((plain(2_000_000), 6_400_000)));
        assert_eq!((changed.max_size, changed.limit), (1600, 3000));
        assert_eq!(fifo(&changed.child), Limit::Bytes(3000));
        tc("qdisc replace dev d0 root handle 1: tbf rate 1mbit burst 5000 limit 3000 overhead 24 mpu 84 linklayer atm");
        let around = Rate {
            overhead: 24,
            mpu: 84,
            atm: true,
            ..plain(1_000_000)
        };
        assert_eq!(tbf().rate, around);
        tc("qdisc del dev d0 root");
        assert_eq!(shaping(), Shaping::Unshaped);
    });
}

#[test]
fn a_tree_of_htb_of_several_levels_with_leaves_of_all_kinds() {
    namespace(|| {
        router();
        ip("link set d0 txqueuelen 77");
        tc("qdisc add dev d0 root handle 1: htb default 30 r2q 100");
        tc("class add dev d0 parent 1: classid 1:1 htb rate 100mbit");
        tc("class add dev d0 parent 1:1 classid 1:2 htb rate 50mbit ceil 100mbit prio 3");
        for id in [10, 20, 30] {
            tc(&format!(
                "class add dev d0 parent 1:2 classid 1:{id} htb rate {id}mbit ceil 100mbit burst 3000 cburst 5000 quantum 2000"
            ));
        }
        tc("class add dev d0 parent 1: classid 1:40 htb rate 1mbit");
        tc("qdisc add dev d0 parent 1:10 handle 10: pfifo limit 5");
        tc("qdisc add dev d0 parent 1:20 handle 20: tbf rate 1mbit burst 2000 limit 9000");
        tc("qdisc add dev d0 parent 20:1 handle 21: pfifo_head_drop limit 6");
        tc("qdisc add dev d0 parent 1:40 handle 40: htb default 1");
        tc("class add dev d0 parent 40: classid 40:1 htb rate 1mbit");
        let htb = htb();
        assert_eq!((htb.default, htb.rate2quantum, htb.direct_qlen), (0x30, 100, 77));
        let parents: Vec<_> = htb.classes.iter().map(|class| (class.id.0, class.parent.0)).collect();
        let place = |id| parents.iter().position(|class| class.0 == id).expect("a class");
        assert_eq!((parents.len(), parents[place(0x1_0002)].1), (6, 0x1_0001));
        assert_eq!(
            (parents[place(0x1_0001)].1, parents[place(0x1_0040)].1),
            (0x1_0000, 0x1_0000)
        );
        assert!(place(0x1_0001) < place(0x1_0002) && place(0x1_0002) < place(0x1_0010));
        let ten = class(&htb, 0x1_0010);
        assert_eq!(
            (ten.rate, ten.ceil, ten.quantum),
            (plain(10_000_000), plain(100_000_000), 2000)
        );
        assert_eq!((ten.buffer_ns, ten.cbuffer_ns), (2_400_000, 400_000));
        assert_eq!((class(&htb, 0x1_0002).prio, &class(&htb, 0x1_0002).leaf), (3, &None));
        let leaf = |id| class(&htb, id).leaf.as_ref().expect("a leaf");
        assert_eq!(fifo(leaf(0x1_0010)), Limit::Packets(5));
        assert_eq!(fifo(leaf(0x1_0030)), Limit::Packets(77));
        let Kind::Tbf(tbf) = &leaf(0x1_0020).kind else {
            panic!("{:?}", leaf(0x1_0020))
        };
        let head_drop = Fifo {
            limit: Limit::Packets(6),
            drops_head: true,
        };
        assert_eq!(tbf.child.kind, Kind::Fifo(head_drop));
        let Kind::Htb(below) = &leaf(0x1_0040).kind else {
            panic!("{:?}", leaf(0x1_0040))
        };
        assert_eq!(below.classes.len(), 1);
    });
}

#[test]
fn what_is_deleted_and_changed_below_a_root() {
    namespace(|| {
        router();
        tc("qdisc add dev d0 root handle 1: htb default 2");
        tc("class add dev d0 parent 1: classid 1:1 htb rate 10mbit");
        tc("class add dev d0 parent 1:1 classid 1:2 htb rate 1mbit");
        tc("class add dev d0 parent 1:1 classid 1:3 htb rate 1mbit");
        tc("qdisc add dev d0 parent 1:2 handle 2: bfifo limit 4000");
        let leaf = |id| class(&htb(), id).leaf.clone().expect("a leaf");
        assert_eq!(fifo(&leaf(0x1_0002)), Limit::Bytes(4000));
        // What the kernel puts in its place it does not tell of.
        tc("qdisc del dev d0 parent 1:2");
        assert_eq!(fifo(&leaf(0x1_0002)), Limit::Packets(1000));
        tc("class change dev d0 parent 1:1 classid 1:2 htb rate 3mbit ceil 5mbit");
        assert_eq!(class(&htb(), 0x1_0002).ceil, plain(5_000_000));
        tc("class del dev d0 classid 1:2");
        tc("class del dev d0 classid 1:3");
        // A class whose last child went is a leaf again.
        assert_eq!(fifo(&leaf(0x1_0001)), Limit::Packets(1000));
        tc("qdisc replace dev d0 root handle 2: tbf rate 1mbit burst 5000 limit 3000");
        tc("qdisc add dev d0 parent 2:1 handle 3: pfifo limit 7");
        assert_eq!(fifo(&tbf().child), Limit::Packets(7));
        tc("qdisc del dev d0 parent 2:1");
        assert_eq!(why(), "its queue was deleted");
    });
}

#[test]
fn each_queue_below_mq() {
    namespace(|| {
        ip("link add d0 numtxqueues 3 numrxqueues 3 type veth peer name p0");
        ip("link set d0 up");
        ip("link set p0 up");
        tc("qdisc add dev d0 root handle 9: mq");
        assert_eq!(shaping(), Shaping::Unshaped);
        tc("qdisc add dev d0 parent 9:2 handle 2: tbf rate 1mbit burst 5000 limit 3000");
        let Shaping::Queues(queues) = shaping() else {
            panic!("{:?}", shaping())
        };
        assert!(queues[0].is_none());
        assert_eq!(queues[1].as_ref().map(|qdisc| qdisc.handle), Some(Handle::qdisc(2)));
        assert!(queues.get(2).is_none_or(Option::is_none));
    });
}

#[test]
fn what_is_not_carried_is_named() {
    namespace(|| {
        router();
        tc("qdisc add dev d0 root stab overhead 20 linklayer atm tbf rate 1mbit burst 5000 limit 3000");
        assert_eq!(why(), "has a size table");
        tc("qdisc replace dev d0 root handle 1: htb default 2");
        tc("class add dev d0 parent 1: classid 1:1 htb rate 10mbit");
        tc("class add dev d0 parent 1:1 classid 1:2 htb rate 1mbit");
        tc("qdisc del dev d0 root");
        for (kind, options) in [
            ("ets", "bands 2"),
            ("red", "limit 100000 avpkt 1000"),
            ("netem", "delay 1ms"),
        ] {
            if has(kind, options) {
                tc(&format!("qdisc add dev d0 root handle 5: {kind} {options}"));
                assert_eq!((why().as_str(), egress("d0").root), ("", format!("{kind} 5:")));
                tc("qdisc del dev d0 root");
                tc("qdisc add dev d0 root handle 1: tbf rate 1mbit burst 5000 limit 3000");
                tc(&format!("qdisc add dev d0 parent 1:1 handle 5: {kind} {options}"));
                assert_eq!(why(), format!("qdisc {kind} 5:"));
                tc("qdisc del dev d0 root");
            }
        }
        if has("fq", "") {
            tc("qdisc add dev d0 root fq maxrate 1mbit");
            assert_eq!(why(), "has a maxrate");
        }
    });
}

#[test]
fn kinds_of_the_virtual_machine() {
    namespace(|| {
        router();
        if has("prio", "") {
            tc("qdisc add dev d0 root handle 1: prio bands 2 priomap 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0");
            tc("qdisc add dev d0 parent 1:2 handle 2: pfifo limit 7");
            let Kind::Prio(prio) = root().kind else {
                panic!("{:?}", root())
            };
            let limits: Vec<_> = prio.bands.iter().map(|band| fifo(band)).collect();
            assert_eq!(limits, [Limit::Packets(1000), Limit::Packets(7)]);
            assert_eq!(prio.priomap[..2], [1, 0]);
            tc("qdisc del dev d0 root");
        }
        tc("qdisc add dev d0 root handle 1: tbf rate 1mbit burst 5000 limit 3000");
        let below = |kind: &str, options: &str| -> Option<Qdisc> {
            let line = format!("qdisc add dev d0 parent 1:1 handle 2: {kind} {options}");
            let done = Command::new("tc").args(line.split_whitespace()).output().expect("tc");
            if !done.status.success() {
                println!("SKIPPED {kind} as a leaf: not in this kernel (scripts/vm has it)");
                return None;
            }
            let child = (*tbf().child).clone();
            tc("qdisc del dev d0 root");
            tc("qdisc add dev d0 root handle 1: tbf rate 1mbit burst 5000 limit 3000");
            Some(child)
        };
        if let Some(child) = below(
            "fq_codel",
            "limit 100 flows 16 target 5ms interval 100ms quantum 1000 memory_limit 50000",
        ) {
            let Kind::FqCodel(codel) = child.kind else {
                panic!("{child:?}")
            };
            assert_eq!(
                (codel.limit, codel.flows, codel.quantum, codel.memory_limit),
                (100, 16, 1000, 50_000)
            );
            assert_eq!((codel.target_ns, codel.interval_ns), (4882 * 1024, 97_656 * 1024));
            assert!(codel.ecn && codel.ce_threshold_ns.is_none());
        }
        if let Some(child) = below(
            "sfq",
            "limit 100 divisor 256 depth 20 flows 50 quantum 2000 perturb 10 headdrop",
        ) {
            let Kind::Sfq(sfq) = child.kind else {
                panic!("{child:?}")
            };
            assert_eq!((sfq.limit, sfq.divisor, sfq.depth, sfq.flows), (100, 256, 20, 50));
            assert_eq!((sfq.quantum, sfq.perturb_s, sfq.drops_head), (2000, 10, true));
        }
        if let Some(child) = below(
            "fq",
            "limit 100 flow_limit 7 quantum 2000 initial_quantum 3000 maxrate 1mbit refill_delay 2s orphan_mask 255 \
             ce_threshold 3ms",
        ) {
            let Kind::Fq(fq) = child.kind else { panic!("{child:?}") };
            assert_eq!(
                (fq.limit, fq.flow_limit, fq.quantum, fq.initial_quantum),
                (100, 7, 2000, 3000)
            );
            assert_eq!(
                (fq.max_rate, fq.low_rate_threshold, fq.paces),
                (Some(125_000), 68_750, true)
            );
            assert_eq!((fq.refill_delay_ns, fq.orphan_mask), (2_000_000_000, 255));
            assert_eq!(fq.ce_threshold_ns, Some(3_000_000));
            // What it has by itself: a tc that is as old as Debian 12's cannot say others.
            assert_eq!(
                (fq.weights, &fq.priomap[..4]),
                ([589_824, 196_608, 65_536], &[1, 2, 2, 2][..])
            );
        }
    });
}

#[test]
fn a_thousand_classes() {
    namespace(|| {
        router();
        let mut lines = String::from(
            "qdisc add dev d0 root handle 1: htb default 1\nclass add dev d0 parent 1: classid 1:1 htb rate 1gbit\n",
        );
        for id in 2..1002 {
            lines += &format!("class add dev d0 parent 1:1 classid 1:{id:x} htb rate 1mbit ceil 1gbit quantum 1514\n");
        }
        let file = format!("/tmp/bypath-tc-{}.batch", std::process::id());
        std::fs::write(&file, lines).unwrap();
        tc(&format!("-batch {file}"));
        std::fs::remove_file(&file).unwrap();
        let htb = htb();
        assert_eq!(htb.classes.len(), 1001);
        assert!(htb.classes.iter().filter(|class| class.leaf.is_some()).count() == 1000);
    });
}
