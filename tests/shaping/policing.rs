//! Policing in workers: what exceeds at a port's ingress is lost there and nowhere else, and what is punted pays once.

use super::{Bench, OUT, lab, lost, packet};
use bypath::packet::{BURST, DropReason, Family, PortIndex, PuntReason, Verdict};
use bypath::table::Snapshot;
use bypath::table::filter::{Filter, Match};
use bypath::table::police::{Act, Counts, Limit, Police, Policer, Policing};
use bypath::table::qdisc::{Handle, Rate};
use bypath::worker::Command;
use bypath::worker::pipeline::Stage;
use bypath::worker::trace::{self, Tracer};
use std::sync::Arc;

/// Bytes of a packet that count: its frame has 60.
const BYTES: u64 = 46;

/// A kilobyte a second, at once so many packets.
fn policer(packets: u64) -> Arc<Policer> {
    Arc::new(Policer::new(Police {
        index: 7,
        limit: Some(Limit::Bytes(Rate {
            bytes_per_second: 1000,
            ..Rate::default()
        })),
        burst_ns: packets * BYTES * 1_000_000,
        peak: None,
        mtu: 2040,
        conforming: Act::Pass,
        exceeding: Act::Drop,
    }))
}

/// IPv4 that arrives by these ports is policed.
fn policed(ports: &[u16], policer: &Arc<Policer>) -> Snapshot {
    let mut snapshot = lab::snapshot(1, lab::FAR);
    for port in ports {
        let (index, _) = snapshot.port(PortIndex(*port)).expect("a port");
        Arc::make_mut(&mut snapshot.ifaces)[usize::from(index.0)].policing = Some(Arc::new(Policing {
            kind: "ingress".into(),
            handle: Handle::qdisc(0xffff),
            filters: vec![Filter {
                protocol: 0x0800,
                what: Match::All(Handle(1)),
            }],
            policers: vec![policer.clone()],
        }));
    }
    snapshot
}

fn push(bench: &Bench, packet: &[u8], count: usize) {
    (0..count).for_each(|_| assert!(bench.ports[0].push(packet)));
}

#[test]
fn what_exceeds_is_lost_and_the_rest_goes_on_in_order() {
    let policer = policer(10);
    let mut bench = Bench::new(policed(&[0], &policer), &[]);
    assert_eq!(packet().len() as u64, BYTES + 14);
    push(&bench, &packet(), BURST);
    bench.turn();
    assert_eq!(
        (bench.ports[1].sent().len(), lost(&bench, DropReason::Policed)),
        (10, 54)
    );
    // Three more, of the tokens of 140 ms.
    push(&bench, &packet(), 9);
    bench.turn_at(140_000_000);
    assert_eq!(
        (bench.ports[1].sent().len(), lost(&bench, DropReason::Policed)),
        (3, 60)
    );
    let counts = Counts {
        bytes: 73 * BYTES,
        packets: 73,
        exceeded: 60,
    };
    assert_eq!(policer.counts(), counts);
    // Another protocol meets no policer.
    push(&bench, &lab::udp(Family::V6, lab::gateway(Family::V6), 18), 9);
    bench.turn_at(140_000_000);
    assert_eq!((bench.ports[1].sent().len(), policer.counts()), (9, counts));
    bench.assert_balanced();
    bench.assert_audit();
}

/// Frames that exceed have not walked: the packets that come in their buffers next bear no stamp, and are not timed by theirs.
#[test]
fn what_exceeds_leaves_no_stamp_behind() {
    let policer = policer(10);
    let mut bench = Bench::new(policed(&[0], &policer), &[]);
    (0..10 * BURST).for_each(|_| {
        assert!(bench.ports[0].push_stamped(&packet(), 1));
        bench.turn();
    });
    let of_others = lab::udp(Family::V6, lab::gateway(Family::V6), 18);
    let samples = |bench: &Bench| -> u64 {
        let reports = bench.reports();
        let of_all = reports.iter().flat_map(|report| &report.latency);
        of_all.map(|(_, latency)| latency.histogram().len()).sum()
    };
    let before = samples(&bench);
    assert_eq!(before, 10, "those that conform are timed");
    // Every buffer of the slab comes by.
    for _ in 0..40 {
        push(&bench, &of_others, BURST);
        bench.turn();
    }
    assert_eq!(samples(&bench), before);
    bench.assert_audit();
}

#[test]
fn what_leaves_by_a_policed_port_is_not_policed() {
    let policer = policer(0);
    let mut bench = Bench::new(policed(&[OUT.0], &policer), &[]);
    push(&bench, &packet(), 20);
    bench.turn();
    assert_eq!((bench.ports[1].sent().len(), policer.counts()), (20, Counts::default()));
    bench.assert_audit();
}

/// The kernel's own policer is next: it counts them, and what it passes has paid.
#[test]
fn what_is_punted_pays_once() {
    let policer = policer(10);
    let mut bench = Bench::new(policed(&[0], &policer), &[]);
    let own = lab::udp(Family::V4, lab::own(Family::V4), 18);
    for passed in [(8 * BYTES, 8), (0, 0)] {
        push(&bench, &own, 8);
        bench.turn();
        policer.settle(Some(passed), 0, 0);
    }
    assert_eq!(
        (
            bench.punted[PuntReason::Local as usize],
            lost(&bench, DropReason::Policed)
        ),
        (10, 6),
        "of the second eight, two had tokens"
    );
    let exceeded = Counts {
        bytes: 6 * BYTES,
        packets: 6,
        exceeded: 6,
    };
    assert_eq!(policer.counts(), exceeded);
    push(&bench, &packet(), 12);
    bench.turn();
    assert_eq!(
        (bench.ports[1].sent().len(), lost(&bench, DropReason::Policed)),
        (2, 16)
    );
    // Without tokens, what would be punted is lost as well: both sides have one rate.
    push(&bench, &own, 3);
    bench.turn();
    assert_eq!(lost(&bench, DropReason::Policed), 19);
    bench.assert_balanced();
    bench.assert_audit();
}

#[test]
fn a_trace_says_which_policer_a_frame_met() {
    let policer = policer(1);
    let mut bench = Bench::new(policed(&[0], &policer), &[]);
    let reader = Arc::new(());
    let (tracers, watched) = Tracer::pool(&trace::Filter::default(), 2, 9, &Arc::downgrade(&reader));
    for (worker, tracer) in tracers.into_iter().enumerate() {
        assert!(bench.shared.tell(worker, Command::Trace(Some(tracer))));
        assert!(bench.workers[worker].obey());
    }
    for _ in 0..2 {
        push(&bench, &packet(), 1);
        bench.turn();
    }
    let [first, second] = std::array::from_fn(|_| watched.try_recv().expect("a packet"));
    let met = (Stage::Ingress, "ingress ffff:, police index 7".to_string());
    assert_eq!(
        (first.boxes.first(), first.verdict),
        (Some(&met), Verdict::Forward(OUT))
    );
    assert_eq!(
        (second.boxes, second.verdict),
        (vec![met], Verdict::Drop(DropReason::Policed))
    );
    bench.assert_audit();
}
