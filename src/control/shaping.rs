//! The kernel's part of what leaves by a shaped port: punted frames and the box's own traffic pass the kernel's qdisc
//! there, frames of ours do not (the copy mode of AF_XDP sends by dev_direct_xmit). Two shapers of one rate side by
//! side would let twice the rate out, so what the kernel's qdiscs and classes sent is told to the worker that owns the
//! port, which takes it out of its buckets: together they keep the rate, over any time that is long against [`EVERY`].
//!
//! ```text
//!  RTM_GETQDISC, RTM_GETTCLASS: what was sent --difference--> Command::Charge --> Shaper::charge
//! ```
//!
//! A [`Ledger`] for each link says who pays, [`Owed`] tells workers, a [`Contention`] where the kernel takes all of a rate: where a
//! worker finds, too, that frames wait for that, the port is contended. Nothing is read while no port is shaped, and reading takes at
//! most a fiftieth of the time: trees of very many classes are read less often.

pub(super) mod contention;
mod ledger;
mod owed;

use crate::mirror::tc::Reader;
use crate::packet::PortIndex;
use crate::port::wait::monotonic_ns;
use crate::table::Snapshot;
use crate::table::qdisc::Shaping;
use crate::worker::Shared;
use contention::{Contention, rates};
use ledger::Ledger;
use owed::Owed;
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// How often the kernel is asked, at most.
pub const EVERY: Duration = Duration::from_millis(50);
/// Reading may take this part of the time.
const PART: u32 = 50;
/// What a worker found is of now for so long, in nanoseconds, or until the next look but one.
const FOUND_NS: u64 = 500_000_000;

/// A shaped port, its link, how that is shaped, and whether that is only for what waits.
type Shaped<'a> = (PortIndex, u32, &'a Shaping, bool);

/// Tells workers what the kernel sent.
#[derive(Debug, Default)]
pub struct Charging {
    reader: Option<Reader>,
    next: Option<Instant>,
    /// By link.
    links: HashMap<u32, (Ledger, Contention)>,
    owed: Owed,
    /// The last look, in monotonic nanoseconds.
    looked_ns: u64,
    failed: bool,
}

impl Charging {
    /// Looks if it is time, and tells the owners of shaped ports what the kernel sent since; the links where that is so much
    /// that what leaves by them is better left to it.
    pub fn turn<Q>(&mut self, snapshot: &Snapshot, shared: &Shared<Q>) -> Vec<u32> {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return Vec::new();
        }
        let shaped: Vec<Shaped<'_>> = (0..snapshot.ports.len())
            .map(|port| PortIndex(port as u16))
            .filter_map(|port| Some((port, snapshot.port(port)?.1)))
            .filter(|(_, iface)| iface.shaping != Shaping::Unshaped)
            .map(|(port, iface)| (port, iface.ifindex, &iface.shaping, iface.drains))
            .collect();
        self.links
            .retain(|ifindex, _| shaped.iter().any(|port| port.1 == *ifindex));
        self.owed.retain(|of| shaped.iter().any(|(port, ..)| *port == of));
        let mut contended = Vec::new();
        if !shaped.is_empty() {
            match self.look(&shaped, shared) {
                Ok(links) => contended = links,
                Err(error) if !std::mem::replace(&mut self.failed, true) => {
                    say!(
                        "bypath: what the kernel sends by shaped ports cannot be read, {error}: it comes on top of \
                         their rate"
                    );
                }
                Err(_) => {}
            }
            self.owed.tell(shared);
        }
        self.next = Some(now + EVERY.max(now.elapsed() * PART));
        contended
    }

    /// Has what the kernel sent by each port since the last look paid for; the links that are contended.
    fn look<Q>(&mut self, shaped: &[Shaped<'_>], shared: &Shared<Q>) -> io::Result<Vec<u32>> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::open()?,
        };
        let qdiscs = reader.qdiscs()?;
        let mut contended = Vec::new();
        let now_ns = monotonic_ns();
        let since_ns = std::mem::replace(&mut self.looked_ns, now_ns).min(now_ns.saturating_sub(FOUND_NS));
        for &(port, ifindex, shaping, drains) in shaped {
            let classes = reader.classes_of(ifindex, &qdiscs)?;
            let all = qdiscs.of(ifindex, false).chain(&classes);
            let sent = all
                .map(|record| (record.handle, (record.counts.bytes, record.counts.packets)))
                .collect();
            let (ledger, contention) = self.links.entry(ifindex).or_default();
            let since = ledger.settle(shaping, sent);
            if drains {
                // What it sends meanwhile is all its own, and nobody else's to pay for.
                *contention = Contention::default();
                continue;
            }
            let takes_all = contention.is_contended(&rates(shaping), &since, Instant::now());
            if takes_all && shared.was_left_out(port, since_ns) {
                contended.push(ifindex);
            }
            self.owed.add(shared, port, shaping, &since);
        }
        (self.reader, self.failed) = (Some(reader), false);
        Ok(contended)
    }
}
