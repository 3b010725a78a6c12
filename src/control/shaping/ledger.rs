//! Who pays for what the kernel sent by a link: those that have buckets, tbf, and of htb the classes with a queue. A
//! shaper has all above pay with the one that is charged, so a byte is charged once, to the lowest that it passed:
//! what went by a class of an htb below a tbf is charged to the class, what went by its direct queue to the tbf.
//!
//! What was sent before a qdisc was first seen here is not charged. As large as the tree.

use crate::table::bucket::Amount;
use crate::table::qdisc::{Handle, Kind, Qdisc, Shaping};
use std::collections::HashMap;

/// What the qdiscs and classes of a link sent.
#[derive(Debug, Default)]
pub struct Ledger {
    /// As of the last look.
    sent: HashMap<Handle, Amount>,
    /// What was charged to those below before a payer told of it itself, for dumps are not of one moment; negative.
    ahead: HashMap<Handle, Difference>,
}

/// Bytes and packets, more or less of them.
type Difference = [i64; 2];

impl Ledger {
    /// Takes in what all have sent by now; what is to be charged to whom.
    pub fn settle(&mut self, shaping: &Shaping, sent: HashMap<Handle, Amount>) -> Vec<(Handle, Amount)> {
        let before = std::mem::replace(&mut self.sent, sent);
        // One that was not there before, or counts from 0 again, is a new one.
        let since = |handle: &Handle| -> Difference {
            match (self.sent.get(handle), before.get(handle)) {
                (Some(now), Some(before)) if now.0 >= before.0 => [
                    i64::try_from(now.0 - before.0).unwrap_or(0),
                    // Counts of 32 bits go round: then nobody knows how many it were.
                    i64::try_from(now.1.saturating_sub(before.1)).unwrap_or(0),
                ],
                _ => [0; 2],
            }
        };
        let mut payers = Vec::new();
        match shaping {
            Shaping::Unshaped => {}
            Shaping::Root(root) => drop(pay(root, &mut payers)),
            Shaping::Queues(queues) => queues.iter().flatten().for_each(|root| drop(pay(root, &mut payers))),
        }
        let (mut charges, mut ahead) = (Vec::new(), HashMap::new());
        for (payer, below) in payers {
            let [mut bytes, mut packets] = since(&payer);
            for by_others in below.iter().map(since) {
                (bytes, packets) = (bytes - by_others[0], packets - by_others[1]);
            }
            let [before_bytes, before_packets] = self.ahead.get(&payer).copied().unwrap_or_default();
            (bytes, packets) = (bytes + before_bytes, packets + before_packets);
            let mut rest = [bytes, packets];
            if let Ok(bytes @ 1..) = u64::try_from(bytes) {
                charges.push((payer, (bytes, u64::try_from(packets).unwrap_or(0))));
                rest = [0, packets.min(0)];
            }
            if rest != [0; 2] {
                ahead.insert(payer, rest);
            }
        }
        self.ahead = ahead;
        charges
    }
}

/// Adds those in a tree that have buckets of their own, each with the next ones below it; the topmost ones.
fn pay(qdisc: &Qdisc, payers: &mut Vec<(Handle, Vec<Handle>)>) -> Vec<Handle> {
    match &qdisc.kind {
        Kind::Tbf(tbf) => {
            let below = pay(&tbf.child, payers);
            payers.push((qdisc.handle, below));
            vec![qdisc.handle]
        }
        Kind::Prio(prio) => prio.bands.iter().flat_map(|band| pay(band, payers)).collect(),
        Kind::Htb(htb) => {
            let leaves = htb
                .classes
                .iter()
                .filter_map(|class| Some((class.id, class.leaf.as_ref()?)));
            let mut top = Vec::new();
            for (id, leaf) in leaves {
                let below = pay(leaf, payers);
                payers.push((id, below));
                top.push(id);
            }
            top
        }
        Kind::Fifo(_) | Kind::FqCodel(_) | Kind::Sfq(_) | Kind::Fq(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::qdisc::{Class, Fifo, Htb, Limit, ROOT, Rate, Tbf};
    use std::sync::Arc;

    const TBF: Handle = Handle::qdisc(1);
    const HTB: Handle = Handle::qdisc(2);

    fn qdisc(handle: Handle, kind: Kind) -> Arc<Qdisc> {
        Arc::new(Qdisc {
            generation: 0,
            overhead: 0,
            handle,
            parent: ROOT,
            kind,
            filters: Vec::new(),
        })
    }

    fn fifo() -> Arc<Qdisc> {
        let fifo = Fifo {
            limit: Limit::Packets(1),
            drops_head: false,
        };
        qdisc(Handle(0), Kind::Fifo(fifo))
    }

    fn tbf(handle: Handle, child: Arc<Qdisc>) -> Arc<Qdisc> {
        let tbf = Tbf {
            rate: Rate::default(),
            buffer_ns: 1,
            peak: None,
            max_size: 1,
            limit: 1,
            child,
        };
        qdisc(handle, Kind::Tbf(tbf))
    }

    /// Classes 2:1 with 2:2 and 2:3 below; 2:2 has the tbf 3:.
    fn htb() -> Arc<Qdisc> {
        let class = |minor, parent, leaf| Class {
            id: Handle(HTB.0 | minor),
            parent: Handle(HTB.0 | parent),
            generation: 0,
            rate: Rate::default(),
            ceil: Rate::default(),
            buffer_ns: 1,
            cbuffer_ns: 1,
            prio: 0,
            quantum: 1,
            leaf,
            filters: Vec::new(),
        };
        let htb = Htb {
            default: 0,
            rate2quantum: 10,
            direct_qlen: 1,
            classes: vec![
                class(1, 0, None),
                class(2, 1, Some(tbf(Handle::qdisc(3), fifo()))),
                class(3, 1, Some(fifo())),
            ],
        };
        qdisc(HTB, Kind::Htb(htb))
    }

    fn charges(ledger: &mut Ledger, shaping: &Shaping, rows: &[(u32, u64)]) -> Vec<(u32, u64)> {
        // In packets of 10 bytes.
        let sent = rows
            .iter()
            .map(|&(handle, bytes)| (Handle(handle), (bytes, bytes / 10)))
            .collect();
        let mut charges = ledger.settle(shaping, sent);
        charges.sort_unstable();
        let charge = |(handle, (bytes, packets)): (Handle, Amount)| {
            assert_eq!(packets, bytes / 10);
            (handle.0, bytes)
        };
        charges.into_iter().map(charge).collect()
    }

    #[test]
    fn what_was_sent_since_is_charged_and_what_is_new_is_not() {
        let (shaping, mut ledger) = (Shaping::Root(tbf(TBF, fifo())), Ledger::default());
        let mut charged = |bytes| charges(&mut ledger, &shaping, &[(TBF.0, bytes)]);
        assert_eq!(charged(100), []);
        assert_eq!(charged(150), [(TBF.0, 50)]);
        assert_eq!(charged(150), []);
        // Another one of that handle.
        assert_eq!(charged(20), []);
        assert_eq!(charged(30), [(TBF.0, 10)]);
    }

    #[test]
    fn a_byte_is_charged_to_the_lowest_that_it_passed() {
        let (shaping, mut ledger) = (Shaping::Root(tbf(TBF, htb())), Ledger::default());
        let mut charged = |of_tbf, class_2, class_3| {
            let rows = [
                (TBF.0, of_tbf),
                (HTB.0, of_tbf),
                (HTB.0 | 1, class_2 + class_3),
                (HTB.0 | 2, class_2),
                (0x3_0000, class_2),
                (HTB.0 | 3, class_3),
            ];
            charges(&mut ledger, &shaping, &rows)
        };
        assert_eq!(charged(0, 0, 0), []);
        assert_eq!(charged(300, 100, 200), [(HTB.0 | 3, 200), (0x3_0000, 100)]);
        // 40 went by htb's direct queue.
        assert_eq!(charged(340, 100, 200), [(TBF.0, 40)]);
        // Classes were read later than qdiscs, which follow.
        assert_eq!(charged(340, 100, 260), [(HTB.0 | 3, 60)]);
        assert_eq!(charged(400, 100, 260), []);
        assert_eq!(charged(410, 100, 260), [(TBF.0, 10)]);
    }
}
