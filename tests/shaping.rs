//! Shaping in workers, on in-memory ports: what reaches the qdisc of a port, that no frame is lost without a count, and that
//! every one is somewhere at the end. How qdiscs shape is tested beside them (src/stage/shape).

#[path = "box/bench.rs"]
mod bench;
#[path = "box/bridge.rs"]
mod bridge;
#[path = "env/mod.rs"]
mod env;
#[path = "box/mod.rs"]
mod lab;
#[path = "shaping/labels.rs"]
mod labels;
#[path = "shaping/owners.rs"]
mod owners;
#[path = "shaping/policing.rs"]
mod policing;
#[path = "shaping/random.rs"]
mod random;
#[path = "box/rules.rs"]
mod rules;
#[path = "shaping/tree.rs"]
mod tree;

use bench::{Bench, SLAB};
use bypath::packet::{BURST, DropReason, Family, PortIndex};
use bypath::port::Fault;
use bypath::table::Snapshot;
use bypath::table::qdisc::{Handle, Shaping};
use bypath::worker::Command;
use std::sync::Arc;

/// The port by which everything leaves.
const OUT: PortIndex = PortIndex(1);

/// The box, with d1 shaped so.
fn shaped(shaping: Shaping) -> Snapshot {
    let mut snapshot = lab::snapshot(1, lab::FAR);
    set(&mut snapshot, OUT, shaping);
    snapshot
}

fn set(snapshot: &mut Snapshot, port: PortIndex, shaping: Shaping) {
    let (index, _) = snapshot.port(port).expect("a port");
    Arc::make_mut(&mut snapshot.ifaces)[usize::from(index.0)].shaping = shaping;
}

fn packet() -> Vec<u8> {
    lab::udp(Family::V4, lab::gateway(Family::V4), 18)
}

/// Frames of a reason, and those that wait.
fn lost(bench: &Bench, reason: DropReason) -> u64 {
    let reports = bench.reports();
    reports.iter().map(|report| report.dropped[reason as usize]).sum()
}

fn waiting(bench: &Bench) -> u64 {
    bench.reports().iter().map(|report| report.shaped).sum()
}

/// Fills the ring of d1, which is down, and what is before it: so many packets.
fn pile_up(bench: &mut Bench, packets: usize) {
    bench.ports[1].set_fault(Fault::Down);
    for _ in 0..packets.div_ceil(BURST) {
        for _ in 0..BURST.min(packets) {
            assert!(bench.ports[0].push(&packet()), "the fill ring ran dry");
        }
        bench.turn();
    }
}

fn assert_balanced(bench: &Bench) {
    let (received, forwarded, punted, dropped) = bench.totals();
    assert_eq!(received, forwarded + punted + dropped + waiting(bench));
}

/// A change of the configuration, as mirror makes it.
fn publish(bench: &Bench, change: impl FnOnce(&mut Snapshot)) {
    let mut snapshot = Snapshot::clone(&bench.shared.snapshot.load());
    change(&mut snapshot);
    snapshot.generation += 1;
    bench.shared.snapshot.store(Arc::new(snapshot));
}

#[test]
fn frames_of_a_port_whose_qdisc_never_binds_leave_as_they_are() {
    let mut bench = Bench::new(shaped(tree::tbf(tree::NEVER_BINDS)), &[]);
    let mut plain = Bench::new(lab::snapshot(1, lab::FAR), &[]);
    for _ in 0..50 {
        for bench in [&mut bench, &mut plain] {
            (0..BURST).for_each(|_| assert!(bench.ports[0].push(&packet())));
            bench.turn();
        }
    }
    assert_eq!(bench.ports[1].sent(), plain.ports[1].sent());
    assert_eq!(bench.totals(), (3200, 3200, 0, 0));
    let reports = bench.reports();
    let queues = |worker: usize| reports[worker].shaping.iter().map(|(port, queue, _)| (*port, *queue));
    assert_eq!(
        (queues(0).count(), queues(1).next()),
        (0, Some((OUT, 0))),
        "of its owner"
    );
    bench.assert_audit();
}

/// Each frame waits for the tokens of the one before, 25 ns at this rate: less than until the next burst.
#[test]
fn a_class_without_burst_sends_all_of_a_burst() {
    let mut bench = Bench::new(shaped(tree::htb_without_burst(2_500_000_000)), &[]);
    (0..BURST).for_each(|_| assert!(bench.ports[0].push(&packet())));
    let now_ns = std::cell::Cell::new(1);
    let clock = || now_ns.replace(now_ns.get() + 20);
    for worker in &mut bench.workers {
        worker.turn(&clock);
    }
    assert_eq!((waiting(&bench), bench.ports[1].sent().len()), (0, BURST));
    bench.assert_balanced();
    bench.assert_audit();
}

#[test]
fn a_full_ring_keeps_frames_in_the_shaper() {
    let mut bench = Bench::new(shaped(tree::tbf(tree::NEVER_BINDS)), &[]);
    pile_up(&mut bench, 600);
    assert!(waiting(&bench) >= 600 - 512, "the ring has 512 places");
    assert_eq!(lost(&bench, DropReason::TxRingFull), 0);
    assert_balanced(&bench);
    bench.ports[1].set_fault(Fault::None);
    bench.turn_at(1_000_000);
    assert_eq!(waiting(&bench), 0);
    bench.assert_balanced();
    bench.assert_audit();
}

#[test]
fn frames_that_wait_leave_enough_to_receive_into() {
    let mut bench = Bench::new(shaped(tree::fifo(u32::MAX)), &[]);
    // Would the fill ring run dry, it fails there.
    pile_up(&mut bench, 4 * SLAB as usize);
    assert_eq!(waiting(&bench), u64::from(bench.shared.limits.shaped));
    assert!(lost(&bench, DropReason::QdiscMemory) > u64::from(SLAB));
    assert_balanced(&bench);
    bench.assert_audit();
}

/// The band that is full makes room for another, and counts what it loses for that.
#[test]
fn who_holds_little_finds_room_where_another_has_all() {
    const OTHERS: u64 = 20;
    let mut bench = Bench::new(shaped(tree::two_bands()), &[]);
    pile_up(&mut bench, 4 * SLAB as usize);
    let full = lost(&bench, DropReason::QdiscMemory);
    for _ in 0..OTHERS {
        let mut packet = packet();
        lab::set_tos(&mut packet, 0x10);
        assert!(bench.ports[0].push(&packet));
        bench.turn();
    }
    assert_eq!(lost(&bench, DropReason::QdiscMemory), full + OTHERS);
    let most = u64::from(bench.shared.limits.shaped);
    assert_eq!(waiting(&bench), most);
    let (_, _, counted) = &bench.reports()[1].shaping[0];
    let bands: Vec<_> = counted
        .iter()
        .map(|(_, stats)| (stats.drops, stats.backlog_packets))
        .collect();
    assert_eq!(
        bands,
        [(full + OTHERS, most), (full + OTHERS, most - OTHERS), (0, OTHERS)]
    );
    assert_balanced(&bench);
    bench.assert_audit();
}

/// A worker that gets a shaper later has a part of what may wait; who had all gives that up, and rings have enough.
#[test]
fn who_had_all_makes_room_for_another_worker() {
    const IN: PortIndex = PortIndex(0);
    let mut bench = Bench::new(shaped(tree::fifo(u32::MAX)), &[]);
    pile_up(&mut bench, 2 * SLAB as usize);
    let (most, before) = (
        u64::from(bench.shared.limits.shaped),
        lost(&bench, DropReason::QdiscMemory),
    );
    assert_eq!(waiting(&bench), most);
    publish(&bench, |snapshot| set(snapshot, IN, tree::fifo(u32::MAX)));
    bench.turn();
    assert_eq!(
        (waiting(&bench), lost(&bench, DropReason::QdiscMemory)),
        (most / 2, before + most / 2)
    );
    let (_, _, counted) = &bench.reports()[1].shaping[0];
    assert_eq!(counted[0].1.drops, before + most / 2);
    assert_balanced(&bench);
    bench.assert_audit();
}

#[test]
fn frames_of_a_qdisc_that_goes_are_lost_by_name() {
    let mut bench = Bench::new(shaped(tree::fifo(1000)), &[]);
    pile_up(&mut bench, 700);
    let waited = waiting(&bench);
    assert!(waited > 0);
    publish(&bench, |snapshot| set(snapshot, OUT, Shaping::Unshaped));
    bench.turn();
    assert_eq!((waiting(&bench), lost(&bench, DropReason::QdiscGone)), (0, waited));
    bench.assert_balanced();
    bench.assert_audit();
}

#[test]
fn frames_of_a_port_that_goes_down_are_lost_by_name() {
    let mut bench = Bench::new(shaped(tree::fifo(1000)), &[]);
    pile_up(&mut bench, 700);
    let waited = waiting(&bench);
    publish(&bench, |snapshot| Arc::make_mut(&mut snapshot.ifaces)[1].up = false);
    bench.turn();
    assert_eq!((waiting(&bench), lost(&bench, DropReason::QdiscGone)), (0, waited));
    bench.assert_audit();
}

#[test]
fn frames_of_a_port_that_is_closed_are_lost_by_name() {
    let mut bench = Bench::new(shaped(tree::fifo(1000)), &[]);
    pile_up(&mut bench, 700);
    let waited = waiting(&bench);
    let (reply, given_back) = crossbeam::channel::bounded(4);
    bench.shared.set_owner(OUT, None);
    assert!(bench.shared.tell(1, Command::Close(OUT, reply)));
    assert!(bench.workers[1].obey());
    let mut frames = Vec::new();
    given_back.try_iter().for_each(|queue| queue.close(&mut frames));
    frames.into_iter().for_each(|frame| bench.shared.send_home(frame));
    assert_eq!((waiting(&bench), lost(&bench, DropReason::PortGone)), (0, waited));
    bench.assert_audit();
}

#[test]
fn frames_that_wait_at_the_end_are_lost_by_name() {
    let mut bench = Bench::new(shaped(tree::fifo(1000)), &[]);
    pile_up(&mut bench, 700);
    let waited = waiting(&bench);
    let (reply, last) = crossbeam::channel::bounded(1);
    assert!(bench.shared.tell(1, Command::Stop(reply)));
    assert!(!bench.workers[1].obey());
    let (report, queues) = last.recv().expect("the worker's last word");
    assert_eq!(
        (report.shaped, report.dropped[DropReason::QdiscGone as usize]),
        (0, waited)
    );
    let mut frames = Vec::new();
    queues.into_iter().for_each(|queue| queue.close(&mut frames));
    frames.into_iter().for_each(|frame| bench.shared.send_home(frame));
    bench.assert_audit();
}

#[test]
fn a_wire_is_not_shaped() {
    let mut bench = Bench::new(shaped(tree::fifo(0)), &[(PortIndex(0), OUT)]);
    assert!(bench.ports[0].push(&packet()));
    bench.turn();
    assert_eq!(bench.ports[1].sent(), [packet()]);
    assert!(bench.reports().iter().all(|report| report.shaping.is_empty()));
    bench.assert_audit();
}

#[test]
fn a_qdisc_drops_what_it_has_no_room_for() {
    let mut bench = Bench::new(shaped(tree::fifo(10)), &[]);
    pile_up(&mut bench, 640);
    assert_eq!(waiting(&bench), 10);
    assert_eq!(
        lost(&bench, DropReason::QdiscDrop),
        640 - 512 - 10,
        "the ring has 512 places"
    );
    assert_balanced(&bench);
    bench.assert_audit();
}

/// Time goes to where the owner says that something is due: then it is, and not before.
#[test]
fn frames_leave_when_their_tokens_are_due() {
    const RATE: u64 = 1_000_000;
    const BURST_BYTES: u64 = RATE / 100;
    let begin_ns = 1_000_000_000;
    let mut bench = Bench::new(shaped(tree::tbf(RATE)), &[]);
    bench.turn_at(begin_ns);
    // What the shaper was made with may have been less.
    let mut now_ns = begin_ns + 1_000_000_000;
    let packet = lab::udp(Family::V4, lab::gateway(Family::V4), 958);
    let size = packet.len() as u64;
    assert_eq!(size, 1000);
    (0..BURST).for_each(|_| assert!(bench.ports[0].push(&packet)));
    bench.turn_at(now_ns);
    let at_once = bench.ports[1].sent_count();
    assert_eq!(at_once * size, BURST_BYTES);
    for sent in at_once..BURST as u64 {
        assert_eq!(bench.ports[1].sent_count(), sent);
        let due_ns = bench.workers[1].due_ns(now_ns).expect("something waits");
        assert_eq!(due_ns - now_ns, 1_000_000, "1000 bytes at 1 MB/s");
        bench.turn_at(due_ns - 1);
        assert_eq!(bench.ports[1].sent_count(), sent, "not before");
        bench.turn_at(due_ns);
        now_ns = due_ns;
    }
    assert_eq!(bench.workers[1].due_ns(now_ns), None);
    bench.assert_balanced();
    bench.assert_audit();
}

#[test]
fn what_the_kernel_sent_is_paid_for_by_the_owner() {
    let mut bench = Bench::new(shaped(tree::tbf(1_000_000)), &[]);
    let now_ns = 1_000_000_000;
    bench.turn_at(now_ns);
    for worker in 0..2 {
        let charges = vec![(Handle::qdisc(1), (100_000, 100))];
        assert!(bench.shared.tell(worker, Command::Charge(vec![(OUT, charges)])));
        assert!(bench.workers[worker].obey());
    }
    assert!(bench.ports[0].push(&packet()));
    // The bucket holds 10,000 bytes: 90,000 and the packet are paid for first.
    bench.turn_at(now_ns);
    assert_eq!(waiting(&bench), 1);
    let due_ns = bench.workers[1].due_ns(now_ns).expect("it waits");
    assert_eq!(due_ns, now_ns + 90_000_000 + packet().len() as u64 * 1000);
    bench.turn_at(due_ns);
    assert_eq!(waiting(&bench), 0);
    bench.assert_balanced();
    bench.assert_audit();
}

/// Where the kernel takes all of a rate that frames wait for, control is told; not while they do not wait.
#[test]
fn who_waits_beside_the_kernel_in_vain_is_noted() {
    let mut bench = Bench::new(shaped(tree::tbf(1_000_000)), &[]);
    let mut now_ns = 1_000_000_000;
    let mut looks = |bench: &mut Bench| {
        for _ in 0..4 {
            now_ns += 50_000_000;
            let charges = vec![(OUT, vec![(Handle::qdisc(1), (60_000, 60))])];
            assert!(bench.shared.tell(1, Command::Charge(charges)) && bench.workers[1].obey());
            bench.turn_at(now_ns);
        }
        now_ns
    };
    looks(&mut bench);
    assert!(!bench.shared.was_left_out(OUT, 0), "nothing waits");
    assert!(bench.ports[0].push(&packet()));
    let noted_ns = looks(&mut bench);
    assert_eq!(waiting(&bench), 1);
    let was_left_out = [noted_ns, noted_ns + 1].map(|since_ns| bench.shared.was_left_out(OUT, since_ns));
    assert_eq!(was_left_out, [true, false]);
    assert!(!bench.shared.was_left_out(PortIndex(0), 0));
    bench.assert_audit();
}
