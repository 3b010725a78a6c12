//! What workers are still to be told of what the kernel sent: all of a look at once, so that a mailbox gets one command for it, however
//! many ports there are. A worker whose mailbox is full is told with the next look, of both together.
//!
//! It is bounded by the payers that there are: what is owed of one is one sum, and ports that are shaped no more are forgotten.

use crate::packet::PortIndex;
use crate::table::bucket::Amount;
use crate::table::qdisc::{Handle, Shaping};
use crate::worker::{Charge, Command, Shared};

/// By worker.
#[derive(Debug, Default)]
pub struct Owed {
    workers: Vec<Vec<Charge>>,
}

impl Owed {
    /// The owner of a root pays for all of it; below mq each queue's worker takes what is its own.
    pub fn add<Q>(&mut self, shared: &Shared<Q>, port: PortIndex, shaping: &Shaping, sent: &[(Handle, Amount)]) {
        if sent.is_empty() {
            return;
        }
        self.workers.resize_with(shared.limits.workers, Vec::new);
        let owner = shared.owner(port);
        for (worker, charges) in self.workers.iter_mut().enumerate() {
            if owner != Some(worker) && !matches!(shaping, Shaping::Queues(_)) {
                continue;
            }
            match charges.iter_mut().find(|(of, _)| *of == port) {
                Some((_, before)) => sent.iter().for_each(|one| merge(before, *one)),
                None => charges.push((port, sent.to_vec())),
            }
        }
    }

    /// Tells those whose mailbox has room.
    pub fn tell<Q>(&mut self, shared: &Shared<Q>) {
        for (worker, charges) in self.workers.iter_mut().enumerate() {
            if !charges.is_empty() && shared.tell(worker, Command::Charge(charges.clone())) {
                charges.clear();
            }
        }
    }

    /// Forgets what is owed for other ports than these.
    pub fn retain(&mut self, is_shaped: impl Fn(PortIndex) -> bool) {
        for charges in &mut self.workers {
            charges.retain(|(port, _)| is_shaped(*port));
        }
    }
}

fn merge(charges: &mut Vec<(Handle, Amount)>, (of, (bytes, packets)): (Handle, Amount)) {
    match charges.iter_mut().find(|(handle, _)| *handle == of) {
        Some((_, sum)) => *sum = (sum.0.saturating_add(bytes), sum.1.saturating_add(packets)),
        None => charges.push((of, (bytes, packets))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Snapshot;
    use crate::table::qdisc::{Fifo, Kind, Limit, Qdisc, ROOT};
    use crate::worker::Limits;
    use std::sync::Arc;

    const A: Handle = Handle::qdisc(1);
    const B: Handle = Handle::qdisc(2);

    fn root() -> Shaping {
        Shaping::Root(Arc::new(Qdisc {
            generation: 0,
            overhead: 0,
            handle: A,
            parent: ROOT,
            kind: Kind::Fifo(Fifo {
                limit: Limit::Packets(1),
                drops_head: false,
            }),
            filters: Vec::new(),
        }))
    }

    fn told(shared: &Shared<()>, worker: usize) -> Option<Vec<Charge>> {
        match shared.mailbox[worker].pop()? {
            Command::Charge(charges) => Some(charges),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn a_look_is_one_command_and_nothing_is_forgotten_while_a_mailbox_is_full() {
        let (shared, _, _) = Shared::<()>::new(Limits::new(2, 64), Snapshot::default()).unwrap();
        let (root, mut owed) = (root(), Owed::default());
        let ports: Vec<PortIndex> = (0..64).map(PortIndex).collect();
        ports.iter().for_each(|&port| shared.set_owner(port, Some(1)));
        let mut look = |sent: &[(Handle, Amount)]| {
            ports.iter().for_each(|&port| owed.add(&shared, port, &root, sent));
            owed.retain(|port| port.0 < 60);
            owed.tell(&shared);
        };
        look(&[(A, (100, 1))]);
        let charges = told(&shared, 1).expect("a command");
        assert_eq!((charges.len(), &charges[7]), (60, &(PortIndex(7), vec![(A, (100, 1))])));
        assert!(told(&shared, 0).is_none() && told(&shared, 1).is_none());
        // Nobody empties it.
        while shared.tell(1, Command::Trace(None)) {}
        look(&[(A, (100, 1))]);
        look(&[(B, (7, 1)), (A, (200, 2))]);
        while shared.mailbox[1].pop().is_some() {}
        look(&[]);
        let charges = told(&shared, 1).expect("a command");
        assert_eq!(charges[59], (PortIndex(59), vec![(A, (300, 3)), (B, (7, 1))]));
        look(&[]);
        assert!(told(&shared, 1).is_none(), "nothing is told twice");
    }

    #[test]
    fn below_mq_each_worker_is_told() {
        let (shared, _, _) = Shared::<()>::new(Limits::new(2, 64), Snapshot::default()).unwrap();
        let mut owed = Owed::default();
        owed.add(&shared, PortIndex(3), &Shaping::Queues(Vec::new()), &[(A, (100, 1))]);
        owed.tell(&shared);
        assert!(
            [0, 1]
                .iter()
                .all(|&worker| told(&shared, worker).is_some_and(|charges| charges.len() == 1))
        );
    }
}
