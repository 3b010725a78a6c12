//! What the loop looks after beside the configuration: that all threads are there, and that workers go on.

use super::{EXPORT, Instance};
use crate::control::Error;
use crate::control::carrying::carry;
use crate::control::steer::HEARTBEAT_LIMIT;
use crate::port::wait::monotonic_ns;
use std::thread::JoinHandle;

impl Instance {
    /// Without any of the threads something is lost, or no longer heard of.
    pub(super) fn watch_threads(&self) -> Result<(), Error> {
        let of_workers = self.workers.iter().any(JoinHandle::is_finished);
        let of_helpers = self.helpers.iter().any(JoinHandle::is_finished);
        let who = match (of_workers, of_helpers || self.ports.closer_is_gone()) {
            (true, _) => "a worker",
            (false, true) => "a helper thread",
            (false, false) => return Ok(()),
        };
        Err(Error::Other(format!(
            "{who} ended by itself, which is a bug: the kernel forwards again; please report what it printed"
        )))
    }

    /// Leaves everything to the kernel while a worker stalls. Steer sees by itself that the worker of a queue is stalled, but
    /// not that the frame's egress belongs to one; a live worker would hand frames over to nobody.
    pub(super) fn watch_workers(&mut self) {
        let stalled = self.shared.stalled(monotonic_ns(), HEARTBEAT_LIMIT.as_nanos() as u64);
        if stalled == self.stalled {
            return;
        }
        for worker in stalled.iter().filter(|worker| !self.stalled.contains(worker)) {
            say!("bypath: worker {worker} stalls: the kernel forwards until it goes on");
        }
        for worker in self.stalled.iter().filter(|worker| !stalled.contains(worker)) {
            say!("bypath: worker {worker} goes on");
        }
        let was_whole = self.stalled.is_empty();
        self.stalled = stalled;
        match (self.stalled.is_empty(), was_whole) {
            (false, true) => return self.leave_all(),
            (false, false) => return self.ports.let_go(),
            (true, _) => {}
        }
        let snapshot = self.shared.snapshot.load_full();
        self.tell_steer(|port| carry(&snapshot, port));
    }

    /// Leaves everything to the kernel, until steer is told again. It meets all connections: it must know them, and from then on
    /// it is the one that knows how they are.
    pub(super) fn leave_all(&mut self) {
        self.exchange.export_all(EXPORT);
        self.ports.let_go();
        self.exchange.let_go(self.shared.snapshot.load().conntrack.tracked);
    }
}
