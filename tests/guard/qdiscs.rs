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
        tc!("tc qdisc add dev d0 ingress", "tc qdisc del dev d0 ingress", &[], &[], ""),
        tc!("tc qdisc add dev d0 ingress; tc filter add dev d0 ingress chain 3 protocol ip u32 match ip dport 53 0xffff flowid :1",
            "tc qdisc del dev d0 ingress", &["d0"], &["in"],
            "qdisc ingress ffff: on d0: filter protocol ip pref 49152 u32 chain 3: only chain 0 is carried"),
        tc!("tc qdisc add dev d0 ingress_block 5 ingress", "tc qdisc del dev d0 ingress_block 5 ingress", &["d0"], &["in"],
            "qdisc ingress ffff: on d0: its filters are a block's"),
        tc!("tc qdisc add dev p0 ingress", "tc qdisc del dev p0 ingress", &[], &[], ""),
        tc!("tc qdisc add dev d0 clsact; tc filter add dev d0 ingress bpf bytecode '1,6 0 0 0'", "tc qdisc del dev d0 clsact",
            &["d0"], &["in"],
            "qdisc clsact ffff: on d0: filter protocol all pref 49152 bpf chain 0: filters of this kind are not carried"),
        tc!("tc qdisc add dev d1 clsact; tc filter add dev d1 egress u32 match u32 0 0 classid 1:1", "tc qdisc del dev d1 clsact",
            &["d1"], &["out"], "qdisc clsact ffff: on d1"),
    ]));
}

/// What does nothing to what arrives is named; a policer, where the kernel has that, is the same one until it is told something else.
#[test]
fn filters_at_ingress_that_are_carried() {
    isolated("qdiscs::filters_at_ingress_that_are_carried", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let now = links(PORTS);
        sh(
            "tc qdisc add dev d1 clsact; tc filter add dev d1 ingress protocol ip u32 match ip dport 53 0xffff flowid :1",
        );
        let found = guard.read(&now);
        assert!(!found.leaves() && found.policing.is_empty(), "{found:#?}");
        let note = &found.notes[0];
        assert!(
            &*note.text == "qdisc clsact ffff: on d1" && note.remedy.starts_with("carried: it does nothing"),
            "{note:?}"
        );
        let police =
            "tc filter replace dev d1 ingress prio 9 handle 1 matchall action police burst 10k conform-exceed drop";
        let has_police = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("{police} rate 1mbit"))
            .output();
        if !has_police.is_ok_and(|output| output.status.success()) {
            println!("SKIPPED policers: this kernel has none (scripts/vm has)");
            return;
        }
        let policing = |guard: &mut Guard| {
            let found = guard.read(&now);
            assert!(!found.leaves(), "{:#?}", found.notes);
            found.policing[&ifindex("d1")].clone()
        };
        let first = policing(&mut guard);
        assert_eq!((first.policers.len(), &*first.kind), (1, "clsact"));
        sh("tc filter add dev d1 ingress protocol ip prio 7 matchall action pass");
        let second = policing(&mut guard);
        assert!(first != second && std::sync::Arc::ptr_eq(&first.policers[0], &second.policers[0]));
        sh(&format!("{police} rate 2mbit"));
        assert_ne!(
            policing(&mut guard).policers[0].config.limit,
            first.policers[0].config.limit
        );
        guard.leave_policed(ifindex("d1"));
        let found = guard.read(&now);
        assert_eq!(left(&found, &now), each(&["d1"], V46, &["in"]), "{:#?}", found.notes);
        assert!(found.policing.is_empty());
        sh("tc qdisc del dev d1 clsact");
        assert!(!guard.read(&now).leaves());
    });
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

/// What waits in a tree that is left while its root stands leaves by that tree; where the root goes, the tree does.
#[test]
fn trees_that_are_left_drain() {
    isolated("qdiscs::trees_that_are_left_drain", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let (now, d1) = (links(PORTS), ifindex("d1"));
        let tree = |guard: &mut Guard| {
            let found = guard.read(&now);
            let drains = found.draining.contains(&d1);
            assert_eq!(drains, !left(&found, &now).is_empty(), "{:#?}", found.notes);
            (found.shaping.get(&d1).cloned(), drains)
        };
        sh(
            "tc qdisc add dev d1 root handle 1: htb default 1; tc class add dev d1 parent 1: classid 1:1 htb rate 1mbit",
        );
        let (first, drains) = tree(&mut guard);
        assert!(first.is_some() && !drains);
        guard.leave_contended(d1);
        assert_eq!(tree(&mut guard), (first.clone(), true));
        // A part that is not carried, for longer than it is contended.
        sh("tc filter add dev d1 parent 1: bpf bytecode '1,6 0 0 0' classid 1:1");
        for _ in 0..3 {
            assert_eq!(tree(&mut guard), (first.clone(), true));
        }
        sh("tc filter del dev d1 parent 1:");
        assert_eq!(tree(&mut guard), (first, false));
        sh("tc filter add dev d1 parent 1: bpf bytecode '1,6 0 0 0' classid 1:1");
        assert!(tree(&mut guard).1);
        // Another root of that kind, which is not carried either, then none.
        sh("tc qdisc replace dev d1 root handle 2: htb default 1");
        sh("tc filter add dev d1 parent 2: bpf bytecode '1,6 0 0 0' classid 2:1");
        let found = guard.read(&now);
        assert!(
            found.leaves() && found.shaping.is_empty() && found.draining.is_empty(),
            "{found:#?}"
        );
        sh("tc qdisc del dev d1 root");
        assert_eq!(tree(&mut guard), (None, false));
    });
}

/// While classes of the kernel's htb keep their modes longer, trees that have one are left, and drain; others are not.
#[test]
fn an_htb_with_hysteresis_is_left() {
    isolated("qdiscs::an_htb_with_hysteresis_is_left", || {
        ports();
        // The parameter is that of the machine: this thread sees a file in its place.
        let file = std::env::temp_dir().join(format!("bypath-hysteresis-{}", std::process::id()));
        let set = |value: &str| std::fs::write(&file, value).expect("a file");
        set("0\n");
        sh("modprobe -q sch_htb || true");
        // SAFETY: affects this thread only, which ends with the test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        let parameter = "/sys/module/sch_htb/parameters/htb_hysteresis";
        sh(&format!(
            "mount --make-rprivate /; mount --bind {} {parameter}",
            file.display()
        ));
        let mut guard = Guard::open().expect("guard");
        let (now, d1) = (links(PORTS), ifindex("d1"));
        sh("tc qdisc add dev d0 root handle 1: tbf rate 1mbit burst 10k latency 10ms");
        // An htb below another qdisc counts, too.
        sh(
            "tc qdisc add dev d1 root handle 1: tbf rate 1mbit burst 10k latency 10ms; tc qdisc add dev d1 parent 1:1 handle 2: htb default 1; \
            tc class add dev d1 parent 2: classid 2:1 htb rate 1mbit",
        );
        let (carried, is_left) = (BTreeSet::new(), each(&["d1"], V46, &["out"]));
        for (value, wanted) in [("0\n", &carried), ("1\n", &is_left), ("0\n", &carried), ("", &is_left)] {
            set(value);
            let found = guard.read(&now);
            assert_eq!(&left(&found, &now), wanted, "{value:?}: {:#?}", found.notes);
            assert_eq!(found.shaping.len(), 2, "{value:?}: what waits has its tree");
            assert_eq!(found.draining.contains(&d1), wanted == &is_left, "{value:?}");
            let named = found
                .notes
                .iter()
                .any(|note| note.text.contains("qdisc tbf 1: on d1: htb_hysteresis is 1"));
            assert_eq!(named, value == "1\n", "{:#?}", found.notes);
        }
        let _ = std::fs::remove_file(&file);
    });
}

/// A root that is deleted and made anew at once is another tree, though it reads the same; so is a qdisc or a class in it. What happens
/// at another port changes nothing.
#[test]
fn what_is_made_anew_is_another_tree() {
    isolated("qdiscs::what_is_made_anew_is_another_tree", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let (now, d1) = (links(PORTS), ifindex("d1"));
        let batch = |lines: &[&str]| sh(&format!("tc -batch - <<END\n{}\nEND", lines.join("\n")));
        let mut tree = || guard.read(&now).shaping.get(&d1).cloned().expect("a tree");
        let class = "class add dev d1 parent 1: classid 1:1 htb rate 1mbit";
        let leaf = "qdisc add dev d1 parent 1:1 handle 10: pfifo limit 5";
        let all = ["qdisc add dev d1 root handle 1: htb default 1", class, leaf];
        batch(&all);
        let mut last = tree();
        let of_root = [&["qdisc del dev d1 root"], &all[..]].concat();
        let of_class = ["class del dev d1 classid 1:1", class, leaf];
        let of_leaf = ["qdisc del dev d1 parent 1:1", leaf];
        for lines in [&of_root[..], &of_class, &of_leaf] {
            batch(lines);
            let next = tree();
            assert_ne!(next, last, "{lines:?}");
            sh("tc qdisc add dev d0 root handle 1: htb; tc qdisc del dev d0 root");
            assert_eq!(tree(), next);
            last = next;
        }
    });
}

/// What stands below an mq ends with it, of which alone the kernel tells.
#[test]
fn what_is_below_an_mq_is_made_anew_with_it() {
    isolated("qdiscs::what_is_below_an_mq_is_made_anew_with_it", || {
        sh("ip link add d0 numtxqueues 2 type veth peer name c0; ip link add d1 type veth peer name s0");
        sh("ip link set d0 up; ip link set c0 up; ip link set d1 up; ip link set s0 up");
        let mut guard = Guard::open().expect("guard");
        let (now, d0) = (links(PORTS), ifindex("d0"));
        let mut tree = || guard.read(&now).shaping.get(&d0).cloned().expect("a tree");
        let add = "tc qdisc add dev d0 root handle 1: mq && tc qdisc add dev d0 parent 1:1 handle 10: tbf rate 1mbit burst 10k limit 10k";
        sh(add);
        let first = tree();
        assert_eq!(tree(), first);
        sh(&format!("tc qdisc del dev d0 root && {add}"));
        assert_ne!(tree(), first);
    });
}

/// A root that only queues leaves nothing; of those that somebody may count on one line says that nothing here waits in them.
#[test]
fn queues_that_are_passed_by() {
    isolated("qdiscs::queues_that_are_passed_by", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let now = links(PORTS);
        let add = |line: &str| std::process::Command::new("tc").args(line.split(' ')).output();
        let has = |kind: &str| {
            let done = add(&format!("qdisc add dev d0 root {kind}")).is_ok_and(|output| output.status.success());
            if !done {
                println!("SKIPPED {kind} as a root: not in this kernel (scripts/vm has it)");
            }
            done
        };
        for kind in ["pfifo_fast", "fq_codel", "fq"] {
            if !has(kind) {
                continue;
            }
            let says = |guard: &mut Guard| {
                let found = guard.read(&now);
                assert!(!found.leaves() && found.shaping.is_empty(), "{kind}: {found:#?}");
                let said = |note: &Note| format!("{}: {}", note.text, note.remedy);
                found.notes.iter().map(said).collect::<Vec<_>>()
            };
            if kind == "pfifo_fast" {
                assert!(says(&mut guard).is_empty());
            } else {
                let [line] = &says(&mut guard)[..] else {
                    panic!("{kind}: one line")
                };
                assert!(
                    line.starts_with(&format!("qdisc {kind} on d0: carried, but past")),
                    "{line}"
                );
                sh(&format!("tc qdisc add dev d1 root {kind}"));
                let [line] = &says(&mut guard)[..] else {
                    panic!("{kind}: one line for both ports")
                };
                assert!(line.starts_with(&format!("qdisc {kind} on d0 d1: ")), "{line}");
                sh("tc qdisc del dev d1 root");
            }
            sh("tc qdisc del dev d0 root");
        }
        assert_eq!(guard.read(&now), Findings::default());
    });
}
