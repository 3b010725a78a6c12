//! Qdiscs and filters of tc: what leaves a way of a port to the kernel, and what is carried.

use super::*;

#[test]
#[rustfmt::skip]
fn qdiscs_and_filters() {
    isolated("qdiscs::qdiscs_and_filters", || check(&[
        tc!("tc qdisc add dev d1 root handle 8001: stab overhead 20 linklayer atm tbf rate 1mbit burst 10k latency 10ms",
            "tc qdisc del dev d1 root", &["d1"], &["out"], "qdisc tbf 8001: on d1: has a size table"),
        tc!("tc qdisc add dev d0 root handle 1: htb default 1; tc class add dev d0 parent 1: classid 1:1 htb rate 1gbit; \
             tc qdisc add dev d0 parent 1:1 handle 2: tbf rate 1mbit burst 10k latency 10ms; \
             tc qdisc add dev d0 parent 2:1 handle 3: pfifo; tc qdisc del dev d0 parent 2:1",
            "tc qdisc del dev d0 root", &["d0"], &["out"],
            "qdisc htb 1: on d0: class 1:1: qdisc tbf 2:: its queue was deleted"),
        tc!("tc qdisc add dev p0 root tbf rate 1mbit burst 10k latency 10ms", "tc qdisc del dev p0 root", &[], &[], ""),
        tc!("tc qdisc add dev d0 root pfifo_fast", "tc qdisc del dev d0 root", &[], &[], ""),
        tc!("tc qdisc add dev d0 root bfifo", "tc qdisc del dev d0 root", &[], &[], ""),
        tc!("tc qdisc add dev d0 ingress", "tc qdisc del dev d0 ingress", &["d0"], &["in"], "qdisc ingress ffff: on d0"),
        tc!("tc qdisc add dev d0 clsact; tc filter add dev d0 ingress bpf bytecode '1,6 0 0 0'", "tc qdisc del dev d0 clsact",
            &["d0"], &["in"], "qdisc clsact ffff: on d0"),
        tc!("tc qdisc add dev d1 clsact; tc filter add dev d1 egress u32 match u32 0 0 classid 1:1", "tc qdisc del dev d1 clsact",
            &["d1"], BOTH_WAYS, "qdisc clsact ffff: on d1"),
    ]));
}

/// Trees that are carried leave nothing, are named, and change with tc.
#[test]
fn qdiscs_that_are_carried() {
    isolated("qdiscs::qdiscs_that_are_carried", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let now = links(PORTS);
        assert_eq!(guard.read(&now), Findings::default());
        let shaped = |guard: &mut Guard| {
            let found = guard.read(&now);
            assert!(!found.leaves(), "{:#?}", found.notes);
            found.shaping.get(&ifindex("d1")).cloned()
        };
        sh("tc qdisc add dev d1 root handle 1: tbf rate 1mbit burst 10k latency 10ms");
        let first = shaped(&mut guard).expect("a tree");
        let note = &guard.read(&now).notes[0];
        assert!(
            note.text.contains("qdisc tbf 1: on d1") && note.remedy.starts_with("carried"),
            "{note:?}"
        );
        assert_eq!(shaped(&mut guard), Some(first.clone()));
        sh("tc qdisc change dev d1 root handle 1: tbf rate 2mbit burst 10k latency 10ms");
        let second = shaped(&mut guard).expect("a tree");
        assert_ne!(first, second);
        sh(
            "tc qdisc replace dev d1 root handle 2: htb default 1; tc class add dev d1 parent 2: classid 2:1 htb rate 1mbit",
        );
        let third = shaped(&mut guard).expect("a tree");
        sh("tc class change dev d1 parent 2: classid 2:1 htb rate 2mbit");
        assert_ne!(shaped(&mut guard), Some(third));
        sh("tc qdisc del dev d1 root");
        assert_eq!(shaped(&mut guard), None);
        // A kind that the kernel has and workers do not shape by would be named; a filter that drops is.
        sh(
            "tc qdisc add dev d1 root handle 1: htb default 1; tc class add dev d1 parent 1: classid 1:1 htb rate 1mbit",
        );
        sh("tc filter add dev d1 parent 1: bpf bytecode '1,6 0 0 0' classid 1:1");
        let found = guard.read(&now);
        assert_eq!(left(&found, &now), each(&["d1"], V46, &["out"]), "{:#?}", found.notes);
        assert!(found.shaping.is_empty());
    });
}
