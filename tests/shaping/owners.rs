//! Who shapes: a root qdisc is the port's owner's alone, also where the worker that walked the packet has a ring of that port.
//!
//! ```text
//!  d0 queue 0 -- worker 0 -- d1 queue 0 (worker 0 owns d1)
//!  d0 queue 1 -- worker 1 -- d1 queue 1
//! ```

use super::bench::{SLAB, assert_all_there};
use super::{OUT, lab, packet, set, shaped, tree};
use bypath::packet::{BURST, PortIndex};
use bypath::port::{MemConfig, MemPool, MemPort, MemQueue, mem_port};
use bypath::table::Snapshot;
use bypath::table::qdisc::Shaping;
use bypath::worker::{Limits, Shared, Worker};
use std::sync::Arc;

struct Queues {
    shared: Arc<Shared<MemQueue>>,
    workers: Vec<Worker<MemQueue>>,
    /// By queue: of d0, and of d1.
    near: Vec<MemPort>,
    far: Vec<MemPort>,
}

impl Queues {
    fn new(snapshot: Snapshot) -> Self {
        let (shared, _, _) = Shared::new(Limits::new(2, SLAB), snapshot).expect("eventfds");
        let shared = Arc::new(shared);
        let mut pool = MemPool::new(2 * SLAB, 2048, 256);
        let mut slabs = [pool.take(SLAB as usize), pool.take(SLAB as usize)];
        slabs.reverse();
        let mut queues = Self {
            shared: shared.clone(),
            workers: Vec::new(),
            near: Vec::new(),
            far: Vec::new(),
        };
        for (index, slab) in slabs.into_iter().enumerate() {
            let mut worker = Worker::new(index, shared.clone(), slab, &[]);
            for (port, ends) in [(PortIndex(0), &mut queues.near), (OUT, &mut queues.far)] {
                let (queue, end) = mem_port(MemConfig { fill: 512, tx: 512 });
                if index == 0 {
                    shared.set_owner(port, Some(0));
                }
                worker.open(port, index as u32, queue);
                ends.push(end);
            }
            queues.workers.push(worker);
        }
        queues.turn();
        queues
    }

    fn turn(&mut self) {
        while self.workers.iter_mut().map(|worker| worker.turn(&|| 1)).sum::<usize>() > 0 {}
    }

    /// A burst by each queue of d0; how many left by each of d1.
    fn bursts(&mut self) -> [usize; 2] {
        for end in &self.near {
            (0..BURST).for_each(|_| assert!(end.push(&packet())));
        }
        self.turn();
        [0, 1].map(|queue| self.far[queue].sent().len())
    }

    fn publish(&self, shaping: Shaping) {
        let mut snapshot = Snapshot::clone(&self.shared.snapshot.load());
        set(&mut snapshot, OUT, shaping);
        snapshot.generation += 1;
        self.shared.snapshot.store(Arc::new(snapshot));
    }

    fn assert_audit(self) {
        assert_all_there(&self.shared, self.workers);
    }
}

const EACH: [usize; 2] = [BURST; 2];
const ALL_BY_THE_OWNER: [usize; 2] = [2 * BURST, 0];

#[test]
fn frames_for_a_root_qdisc_go_to_the_owner_of_the_port() {
    let mut queues = Queues::new(shaped(tree::tbf(tree::NEVER_BINDS)));
    assert_eq!(queues.bursts(), ALL_BY_THE_OWNER);
    assert_eq!(queues.workers[1].report().handed_off, BURST as u64);
    queues.publish(Shaping::Unshaped);
    assert_eq!(queues.bursts(), EACH, "each by its own ring");
    queues.publish(tree::fifo(1000));
    assert_eq!(queues.bursts(), ALL_BY_THE_OWNER);
    queues.assert_audit();
}

#[test]
fn what_waits_at_the_owner_is_bounded_for_each_slab() {
    let mut queues = Queues::new(shaped(tree::fifo(u32::MAX)));
    queues.far[0].set_fault(bypath::port::Fault::Down);
    for _ in 0..4 * SLAB as usize / BURST {
        // A fill ring that runs dry fails here.
        assert_eq!(queues.bursts(), [0, 0]);
    }
    let waiting = queues.workers[0].report().shaped;
    assert_eq!(
        waiting,
        2 * u64::from(queues.shared.limits.shaped),
        "one owner has all of each slab"
    );
    queues.assert_audit();
}

#[test]
fn below_mq_each_queue_is_shaped_by_its_worker() {
    let Shaping::Root(root) = tree::tbf(tree::NEVER_BINDS) else {
        panic!("a root qdisc");
    };
    let mut queues = Queues::new(lab::snapshot(1, lab::FAR));
    queues.publish(Shaping::Queues(vec![Some(root), None]));
    assert_eq!(queues.bursts(), EACH);
    let shapers = [0, 1].map(|worker: usize| queues.workers[worker].report().shaping.len());
    assert_eq!(shapers, [1, 0]);
    queues.assert_audit();
}

/// With more queues than workers a worker's flows are spread over all of its queues: else the rates of some would lie idle.
#[test]
fn below_mq_a_worker_with_several_queues_spreads_flows_over_them() {
    let Shaping::Root(root) = tree::tbf(tree::NEVER_BINDS) else {
        panic!("a root qdisc");
    };
    let snapshot = shaped(Shaping::Queues(vec![None, Some(root.clone()), Some(root), None]));
    let (shared, _, _) = Shared::new(Limits::new(1, SLAB), snapshot).expect("eventfds");
    let shared = Arc::new(shared);
    let mut pool = MemPool::new(SLAB, 2048, 256);
    let mut worker = Worker::new(0, shared.clone(), pool.take(SLAB as usize), &[]);
    let mut ends = Vec::new();
    for (port, queues) in [(PortIndex(0), 1), (OUT, 4)] {
        shared.set_owner(port, Some(0));
        for number in 0..queues {
            let (queue, end) = mem_port(MemConfig { fill: 128, tx: 512 });
            worker.open(port, number, queue);
            ends.push(end);
        }
    }
    let flow = |port: u8| {
        let mut packet = packet();
        // The source port, behind Ethernet and IPv4.
        packet[34] = port;
        packet
    };
    worker.turn(&|| 1);
    let mut turn = |flows: &mut dyn Iterator<Item = u8>| -> [usize; 4] {
        flows.for_each(|port| assert!(ends[0].push(&flow(port))));
        while worker.turn(&|| 1) > 0 {}
        [1, 2, 3, 4].map(|queue: usize| ends[queue].sent().len())
    };
    let sent = turn(&mut (0..BURST as u8));
    assert!(
        sent.iter().all(|&sent| sent > BURST / 16) && sent.iter().sum::<usize>() == BURST,
        "{sent:?}"
    );
    let of_one = turn(&mut std::iter::repeat_n(7, BURST));
    assert_eq!(
        of_one.iter().filter(|&&sent| sent > 0).count(),
        1,
        "a flow stays in order"
    );
    assert_eq!(worker.report().shaping.len(), 2);
}
