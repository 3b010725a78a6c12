//! htb when something is said anew while frames wait: classes that change, go, move, become leaves or inner ones, a tree that goes, and a
//! link that goes down. What stays and what begins anew is as in htb_change_class, htb_delete and htb_reset.
//! Times and orders are those that follow from the configuration, to the nanosecond.

use crate::htb::{ROOT, class, htb, keep_busy, near, of, root, sharing};
use crate::lab::*;
use bypath::stage::shape::{Shaper, Stats};
use bypath::table::qdisc::{Handle, Htb, Qdisc};
use std::sync::Arc;

/// A tree with frames in two classes, both in debt, changed at 1 ms.
fn changed(to: Htb) -> (Shaper<Probe>, Vec<Probe>) {
    let (mut shaper, mut lost) = (shaper(root(sharing(125_000, &[100_000, 25_000]))), Vec::new());
    for n in 0..8 {
        shaper.enqueue(Probe::to(n, 1000, ROOT | 0x10 | (n % 2)), 0, &mut lost);
    }
    assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 2);
    assert!(lost.is_empty());
    shaper.change(root(to), 1_000_000, &mut lost);
    (shaper, lost)
}

#[test]
fn a_change_of_rates_keeps_frames_and_what_is_owed() {
    let same = changed(sharing(125_000, &[100_000, 25_000])).0;
    let (shaper, mut lost) = changed(sharing(1_250_000, &[1_000_000, 250_000]));
    assert!(lost.is_empty());
    assert_eq!((shaper.len(), of(&shaper, 0x10).packets), (6, 1));
    // Both trees owe the same time, as the kernel's would.
    let mut dues = [same, shaper].map(|mut shaper| {
        assert!(drain(&mut shaper, 1_000_000, &mut lost).is_empty());
        (shaper.due_ns(), shaper)
    });
    assert_eq!(dues[0].0, dues[1].0);
    let sent = keep_busy(&mut dues[1].1, &[0x10, 0x11], 1000, &mut 100_000_000, 10 * SECOND);
    near(sent[0], 10_000_000, 20, "the new rate");
}

#[test]
fn a_class_that_goes_drops_its_frames() {
    let (mut shaper, lost) = changed(sharing(125_000, &[100_000]));
    assert_eq!((lost.len(), shaper.len()), (3, 3));
    assert!(lost.iter().all(|probe| probe.priority == ROOT | 0x11));
    assert_eq!(of(&shaper, 0).drops, 3);
    // The priority names nothing any more, nor does the default.
    let mut lost = Vec::new();
    shaper.enqueue(Probe::to(9, 100, ROOT | 0x11), 1_000_000, &mut lost);
    assert_eq!(shaper.dequeue(1_000_000, &mut lost).map(|probe| probe.number), Some(9));
}

#[test]
fn a_class_that_moves_is_a_new_one() {
    let mut to = sharing(125_000, &[100_000, 25_000]);
    to.classes[2].parent = Handle(ROOT);
    let (mut shaper, mut lost) = changed(to);
    assert_eq!((lost.len(), shaper.len()), (3, 3));
    shaper.enqueue(Probe::to(9, 100, ROOT | 0x11), 1_000_000, &mut lost);
    assert_eq!(
        drain(&mut shaper, 1_000_000, &mut lost).len(),
        1,
        "it begins with a full bucket"
    );
}

#[test]
fn a_leaf_that_gets_children_drops_and_one_that_lost_them_begins() {
    let mut deeper = sharing(125_000, &[100_000, 25_000]);
    deeper.classes.push(class(0x30, 0x10, 1000, 125_000));
    let (mut shaper, mut lost) = changed(deeper);
    assert_eq!((lost.len(), shaper.len()), (3, 3));
    shaper.enqueue(Probe::to(9, 100, ROOT | 0x30), 1_000_000, &mut lost);
    assert_eq!(drain(&mut shaper, 1_000_000, &mut lost).len(), 1);
    shaper.change(root(sharing(125_000, &[100_000, 25_000])), 2_000_000, &mut lost);
    shaper.enqueue(Probe::to(9, 100, ROOT | 0x10), 2_000_000, &mut lost);
    assert_eq!((lost.len(), shaper.len()), (3, 4));
}

#[test]
fn a_tree_that_disappears_gives_all_frames_back() {
    let (mut shaper, lost) = changed(htb(0, Vec::new()));
    assert_eq!((lost.len(), shaper.len(), shaper.due_ns()), (6, 0, None));
    let mut lost = Vec::new();
    for n in 0..8 {
        shaper.enqueue(Probe::to(n, 1000, ROOT | 0x10 | (n % 2)), 0, &mut lost);
    }
    shaper.purge(&mut lost);
    assert_eq!((lost.len(), shaper.len(), shaper.due_ns()), (8, 0, None));
}

/// A link that goes down and comes up (htb_reset): no class waits for what it owes, but it pays for that after its next frame.
#[test]
fn a_reset_lets_every_class_send_and_forgives_nothing() {
    let (mut shaper, mut lost) = changed(sharing(125_000, &[100_000, 25_000]));
    shaper.purge(&mut lost);
    assert_eq!((lost.len(), shaper.len(), shaper.due_ns()), (6, 0, None));
    let both = |from| (from..from + 4).map(|n| Probe::to(n, 1000, ROOT | 0x10 | (n % 2)));
    both(8).for_each(|probe| shaper.enqueue(probe, 1_000_000, &mut lost));
    let numbers = |sent: Vec<Probe>| sent.iter().map(|probe| probe.number).collect::<Vec<_>>();
    assert_eq!(numbers(drain(&mut shaper, 1_000_000, &mut lost)), [8, 9]);
    // The first has its own rate again when both of its frames are paid for, less what it began with: 1900 bytes. The second borrows
    // when those of both are, and that third one: 4875 bytes.
    let sent = run(&mut shaper, &[], SECOND);
    let times: Vec<_> = sent.iter().map(|(at_ns, probe)| (*at_ns, probe.number)).collect();
    assert_eq!(times, [(19_000_000, 10), (39_000_000, 11)]);
}

/// Frames that wait go on by the priority that their class had; when it was empty, it has the new one.
#[test]
fn another_priority_is_in_force_when_the_class_was_empty() {
    let tree = |prio| {
        let mut tree = sharing(1_250_000, &[1000, 1000]);
        tree.classes[1].prio = prio;
        root(tree)
    };
    let (mut shaper, mut lost) = (shaper(tree(0)), Vec::new());
    let both = |at_ns| {
        (0..12)
            .map(move |n| (at_ns, Probe::to(n, 1000, ROOT | 0x10 | (n % 2))))
            .collect::<Vec<_>>()
    };
    let classes = |sent: &[(u64, Probe)]| sent.iter().map(|(_, probe)| probe.priority & 1).collect::<Vec<_>>();
    assert_eq!(classes(&run(&mut shaper, &both(0), 0)), [0, 1]);
    shaper.change(tree(1), 0, &mut lost);
    assert_eq!(
        classes(&run(&mut shaper, &[], u64::MAX)),
        [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    );
    let sent = run(&mut shaper, &both(SECOND / 2), u64::MAX);
    assert_eq!(classes(&sent), [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
    assert!(lost.is_empty());
}

/// What was deleted and made anew reads as before, and is another one: it has nothing of the old, and full buckets.
#[test]
fn what_is_made_anew_begins_anew() {
    let tree = || sharing(125_000, &[100_000, 25_000]);
    // The whole tree: all six are lost, and both classes send at once again.
    let again = Qdisc {
        generation: 1,
        ..(*root(tree())).clone()
    };
    let (mut shaper, mut lost) = changed(tree());
    shaper.change(Arc::new(again), 1_000_000, &mut lost);
    assert_eq!((lost.len(), shaper.len(), of(&shaper, 0)), (6, 0, Stats::default()));
    (8..12).for_each(|n| shaper.enqueue(Probe::to(n, 1000, ROOT | 0x10 | (n % 2)), 1_000_000, &mut lost));
    assert_eq!(drain(&mut shaper, 1_000_000, &mut lost).len(), 2);
    // A class: its own three.
    let mut of_class = tree();
    of_class.classes[1].generation = 1;
    let (shaper, lost) = changed(of_class);
    assert_eq!((lost.len(), shaper.len()), (3, 3));
    assert!(lost.iter().all(|probe| probe.priority == ROOT | 0x10));
    assert_eq!((of(&shaper, 0x10).packets, of(&shaper, 0x11).packets), (0, 1));
    // A queue of one: its frames, and nothing of the class.
    let mut of_leaf = tree();
    of_leaf.classes[1].leaf = of_leaf.classes[1]
        .leaf
        .as_deref()
        .cloned()
        .map(|leaf| Arc::new(Qdisc { generation: 1, ..leaf }));
    let (shaper, lost) = changed(of_leaf);
    assert_eq!((lost.len(), shaper.len(), of(&shaper, 0x10).packets), (3, 3, 1));
}
