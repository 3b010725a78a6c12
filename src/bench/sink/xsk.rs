//! The sink that looks at every frame: AF_XDP sockets on all queues of a port, one thread, and a [`Record`].
//!
//! Arrivals are stamped by the XDP program, so that it does not matter when this thread gets to run; the rings hold a good
//! 10 ms of a million frames per second meanwhile. The thread does not wait in poll(2): each frame would wake it, on the core of
//! what is measured. It looks every half millisecond.
//!
//! Frame memory stays for the life of the process (port/umem.rs): 32 MiB for each sink that is opened and has up to four queues.

use super::program::{Counts, Program, QUEUES_MAX};
use super::{Found, Sink};
use crate::bench::record::Record;
use crate::bench::tag;
use crate::packet::{BURST, Frame};
use crate::port::link::{Link, frame_size};
use crate::port::umem::{Mode, Umem, UmemConfig};
use crate::port::wait::monotonic_ns;
use crate::port::xsk::{Config, XskQueue};
use crate::port::{Queue, take_stamp};
use std::time::Duration;

/// Frames to receive into, over all queues.
const FRAMES: u32 = 16_384;
/// Of each queue at least.
const FRAMES_MIN: u32 = 2048;
/// Nothing is sent by these sockets.
const TX_RING: u32 = 64;
/// Rounds of one turn: a turn ends though frames come faster than they can be looked at.
const ROUNDS: usize = 64;
/// Addresses and ports of IPv4 without a VLAN tag; of all else some bytes that do not change within a flow.
const ADDRESSES: std::ops::Range<usize> = 26..38;

/// A port whose frames are looked at.
#[derive(Debug)]
pub(super) struct Xsk {
    /// Dropped first: what it redirects has a socket as long as it runs.
    program: Program,
    queues: Vec<XskQueue>,
    free: Vec<Frame>,
    burst: Vec<Frame>,
    record: Record,
    run: u16,
    before: Counts,
}

impl Xsk {
    pub(super) fn open(name: &str, first: u16) -> Result<Self, String> {
        let link = Link::query(name).map_err(|error| error.to_string())?;
        link.check_ethernet().map_err(|error| error.to_string())?;
        let queues = link.rx_queues.min(link.tx_queues);
        if link.rx_queues > link.tx_queues || queues > QUEUES_MAX {
            return Err(format!(
                "{name} has {} receive and {} transmit queues: AF_XDP wants as many of both, {QUEUES_MAX} at most; \
                 `ethtool -L {name} combined {QUEUES_MAX}` or fewer, or use --sink count",
                link.rx_queues, link.tx_queues
            ));
        }
        let per_queue = (FRAMES / queues.max(1)).max(FRAMES_MIN);
        let per_queue = 1 << per_queue.ilog2();
        let umem = Umem::create(UmemConfig {
            workers: 1,
            frames_per_worker: per_queue * queues,
            frame_size: frame_size(link.xdp.is_some_and(|features| features.zero_copy())),
            fill_size: per_queue,
            completion_size: TX_RING,
            mode: Mode::Auto,
            ..UmemConfig::default()
        });
        let umem = umem.map_err(|error| format!("{name}: {error}"))?;
        let config = Config {
            rx_size: per_queue,
            tx_size: TX_RING,
            fill_frames: per_queue,
            ..Config::default()
        };
        let mut made = Self {
            program: Program::attach(&link, true, first)?,
            queues: Vec::new(),
            free: umem.take_slab(0),
            burst: Vec::with_capacity(BURST),
            record: Record::new(1),
            run: first,
            before: Counts::default(),
        };
        for id in 0..queues {
            let mut queue = XskQueue::open(&umem, &link.name, id, &config).map_err(|error| error.to_string())?;
            queue.refill(&mut made.free);
            let fd = queue.fd().ok_or("an AF_XDP socket has a descriptor")?;
            made.queues.push(queue);
            made.program.set_socket(id, fd)?;
        }
        Ok(made)
    }

    /// Takes what is in the rings; not for ever, should frames run in a circle.
    fn empty(&mut self) {
        for _ in 0..ROUNDS {
            if self.turn() == 0 {
                return;
            }
        }
    }

    /// Takes one burst of each queue.
    fn round(&mut self) -> usize {
        let mut taken = 0;
        for queue in &mut self.queues {
            let got = queue.receive(&mut self.burst, BURST);
            if got == 0 {
                continue;
            }
            taken += got;
            let now = monotonic_ns();
            for mut frame in self.burst.drain(..) {
                let arrival_ns = take_stamp(&mut frame).unwrap_or(now);
                let bytes = frame.bytes();
                self.record
                    .take(tag::judge(bytes, self.run), arrival_ns, || flow_of(bytes));
                self.free.push(frame);
            }
            queue.refill(&mut self.free);
        }
        taken
    }
}

/// A number for the flow of a frame whose tag has no room for one.
fn flow_of(frame: &[u8]) -> u32 {
    let bytes = frame.get(ADDRESSES).unwrap_or_default();
    // FNV-1a.
    bytes.iter().fold(0x811c_9dc5, |hash: u32, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

impl Sink for Xsk {
    fn begin(&mut self, run: u16, flows: u32) -> Result<(), String> {
        self.empty();
        self.record = Record::new(flows);
        self.run = run;
        self.program.set_run(run)?;
        self.before = self.program.counts()?;
        Ok(())
    }

    fn turn(&mut self) -> usize {
        let mut taken = 0;
        for _ in 0..ROUNDS {
            match self.round() {
                0 => break,
                got => taken += got,
            }
        }
        taken
    }

    fn pause(&self) -> Duration {
        Duration::from_micros(500)
    }

    fn arrived(&mut self) -> Result<u64, String> {
        Ok(self.program.counts()?.since(self.before).ours)
    }

    fn end(&mut self) -> Result<Found, String> {
        self.empty();
        let counts = self.program.counts()?.since(self.before);
        let mut notes = Vec::new();
        if counts.unstamped > 0 {
            notes.push(format!(
                "{} frames have no stamp of their arrival, since the driver leaves no room for it: their delay is that of the \
                 receiver's turn, up to a millisecond more",
                counts.unstamped
            ));
        }
        Ok(Found {
            arrived: counts.ours,
            foreign: counts.foreign,
            record: Some(std::mem::replace(&mut self.record, Record::new(1))),
            notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_other_addresses_are_of_other_flows() {
        let mut frame = [0u8; 64];
        let first = flow_of(&frame);
        frame[22] = 63;
        assert_eq!(flow_of(&frame), first, "a TTL is not part of a flow");
        frame[35] = 1;
        assert_ne!(flow_of(&frame), first);
        assert_eq!(flow_of(&frame[..20]), flow_of(&[]));
    }
}
