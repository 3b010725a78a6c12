//! A whole box on in-memory ports: two workers, which deal the ports out between them, so that frames also cross the hand-off
//! queue; and the audit at its end.
#![allow(dead_code)]

use bypath::packet::{Frame, PortIndex, PuntReason};
use bypath::port::{MemConfig, MemPool, MemPort, MemQueue, audit, mem_port};
use bypath::table::Snapshot;
use bypath::worker::{Command, Limits, Report, Shared, Worker};
use std::sync::Arc;

/// Frames of one worker's slab.
pub const SLAB: u32 = 2048;

/// See the module's head.
pub struct Bench {
    pub shared: Arc<Shared<MemQueue>>,
    pub workers: Vec<Worker<MemQueue>>,
    pub ports: Vec<MemPort>,
    pub punted: [u64; PuntReason::ALL.len()],
}

impl Bench {
    /// A box of the ports of `snapshot`; `wires` as for [`Worker::new`].
    pub fn new(snapshot: Snapshot, wires: &[(PortIndex, PortIndex)]) -> Self {
        let ports = snapshot.ports.len();
        let limits = Limits::new(2, SLAB);
        let (shared, _, _) = Shared::new(limits, snapshot).expect("eventfds");
        let shared = Arc::new(shared);
        let mut pool = MemPool::new(2 * SLAB, 2048, 256);
        // `take` gives the highest frames first: worker 1's slab, then worker 0's.
        let mut slabs = [pool.take(SLAB as usize), pool.take(SLAB as usize)];
        slabs.reverse();
        let mut bench = Self {
            shared,
            workers: Vec::new(),
            ports: Vec::new(),
            punted: Default::default(),
        };
        for (index, slab) in slabs.into_iter().enumerate() {
            bench
                .workers
                .push(Worker::new(index, bench.shared.clone(), slab, wires));
        }
        for index in 0..ports {
            let (port, worker) = (PortIndex(index as u16), index % 2);
            let (queue, end) = mem_port(MemConfig { fill: 512, tx: 512 });
            bench.workers[worker].open(port, 0, queue);
            bench.shared.set_owner(port, Some(worker));
            bench.ports.push(end);
        }
        bench.turn();
        bench
    }

    /// Turns both workers until nothing moves, and takes the punted frames as the punt thread would.
    pub fn turn(&mut self) {
        self.turn_at(1);
    }

    /// The same, at a time in nanoseconds.
    pub fn turn_at(&mut self, now_ns: u64) {
        loop {
            let moved: usize = self.workers.iter_mut().map(|worker| worker.turn(&|| now_ns)).sum();
            while let Some(punted) = self.shared.punts.pop() {
                self.punted[punted.reason as usize] += 1;
                self.shared.send_home(punted.frame);
            }
            if moved == 0 {
                return;
            }
        }
    }

    pub fn reports(&self) -> Vec<Report> {
        self.workers.iter().map(Worker::report_with_latency).collect()
    }

    /// Received, forwarded, punted, dropped.
    pub fn totals(&self) -> (u64, u64, u64, u64) {
        let reports = self.reports();
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
        let punted: u64 = reports.iter().flat_map(|report| report.punted).sum();
        assert_eq!(
            punted,
            self.punted.iter().sum::<u64>(),
            "every punted frame reached the punt thread"
        );
        let dropped = sum(|report| report.dropped.iter().sum());
        (
            sum(|report| report.received),
            sum(|report| report.forwarded),
            punted,
            dropped,
        )
    }

    pub fn assert_balanced(&self) {
        let (received, forwarded, punted, dropped) = self.totals();
        assert_eq!(
            received,
            forwarded + punted + dropped,
            "each packet ends in one verdict"
        );
    }

    /// Takes everything apart and looks whether all frames are there.
    pub fn assert_audit(mut self) {
        self.turn();
        assert_all_there(&self.shared, self.workers);
    }
}

/// Stops workers of a slab each, and looks whether all frames are there: with them, in their queues, or on their way home.
pub fn assert_all_there(shared: &Shared<MemQueue>, mut workers: Vec<Worker<MemQueue>>) {
    let mut frames: Vec<Frame> = Vec::new();
    for (index, worker) in workers.iter_mut().enumerate() {
        let (reply, last) = crossbeam::channel::bounded(1);
        assert!(shared.tell(index, Command::Stop(reply)));
        assert!(!worker.obey(), "stop ends the loop");
        let (_, queues) = last.recv().expect("the worker's last word");
        queues.into_iter().for_each(|queue| queue.close(&mut frames));
    }
    let slabs = workers.len() as u32;
    frames.extend(workers.into_iter().flat_map(Worker::into_frames));
    for home in &shared.home {
        frames.extend(std::iter::from_fn(|| home.pop()));
    }
    audit(slabs * SLAB, &frames).expect("the frame audit");
}
