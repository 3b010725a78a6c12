//! `bypath trace`: what the boxes said about single packets. Free when off (one branch per packet), bounded when on: a
//! tracer ends after its count or with its reader, and packets that the reader does not take in time go unwatched and are counted.
//!
//! A worker never waits for a reader: a packet's lines go into a channel of 1,024 packets as one piece, or not at all.

use super::pipeline::{Observer, Stage};
use crate::packet::{Addr, Family, Parsed, PortIndex, Verdict};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Weak;

/// Packets that may wait for the reader.
const PACKETS_MAX: usize = 1024;

/// Addresses to watch: a prefix of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// IPv4 or IPv6.
    pub family: Family,
    /// An address of the prefix.
    pub addr: Addr,
    /// Its length in bits.
    pub len: u8,
}

impl Within {
    fn holds(&self, family: Family, addr: Addr) -> bool {
        let shift = u32::from(family.bits().saturating_sub(self.len));
        self.family == family && (self.addr ^ addr).checked_shr(shift).unwrap_or(0) == 0
    }
}

/// Which packets to watch; what is `None` matches any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Port of arrival.
    pub port: Option<PortIndex>,
    /// IP protocol.
    pub proto: Option<u8>,
    /// Source address.
    pub src: Option<Within>,
    /// Destination address.
    pub dst: Option<Within>,
}

impl Filter {
    /// Whether a packet (unparsable: `None`) is to be watched.
    fn matches(&self, port: PortIndex, packet: Option<&Parsed>) -> bool {
        let any_packet = self.proto.is_none() && self.src.is_none() && self.dst.is_none();
        self.port.is_none_or(|p| p == port)
            && packet.map_or(any_packet, |packet| {
                self.proto.is_none_or(|proto| proto == packet.proto)
                    && self.src.is_none_or(|src| src.holds(packet.family, packet.src))
                    && self.dst.is_none_or(|dst| dst.holds(packet.family, packet.dst))
            })
    }
}

/// One watched packet, from its arrival to its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Matching packets that were not watched before this one, because the reader was too slow.
    pub lost: u64,
    /// The worker it walked on.
    pub worker: usize,
    /// The port of arrival.
    pub port: PortIndex,
    /// What each box said, in the order of the walk.
    pub boxes: Vec<(Stage, String)>,
    /// Where it ended.
    pub verdict: Verdict,
}

/// A running trace on one worker.
#[derive(Debug)]
pub struct Tracer {
    filter: Filter,
    worker: usize,
    left: u64,
    lost: u64,
    boxes: Vec<(Stage, String)>,
    packets: Sender<Watched>,
    /// Gone with whoever reads it.
    client: Weak<()>,
}

impl Tracer {
    /// Tracers for `workers` workers that watch up to `count` packets each as long as there is a `client`, and where those arrive.
    pub fn pool(filter: &Filter, workers: usize, count: u64, client: &Weak<()>) -> (Vec<Self>, Receiver<Watched>) {
        let (packets, reader) = bounded(PACKETS_MAX);
        let of = |worker| Self {
            filter: filter.clone(),
            worker,
            left: count,
            lost: 0,
            boxes: Vec::new(),
            packets: packets.clone(),
            client: client.clone(),
        };
        ((0..workers).map(of).collect(), reader)
    }

    /// Whether no packet will be watched any more.
    pub fn is_over(&self) -> bool {
        self.left == 0 || self.client.strong_count() == 0
    }

    /// Whether the packet is to be watched.
    pub fn wants(&self, port: PortIndex, packet: Option<&Parsed>) -> bool {
        self.left > 0 && self.filter.matches(port, packet)
    }

    /// Ends the packet with its verdict; false when the trace is over.
    pub fn end(&mut self, port: PortIndex, verdict: Verdict) -> bool {
        let boxes = std::mem::take(&mut self.boxes);
        match self.packets.try_send(Watched {
            lost: self.lost,
            worker: self.worker,
            port,
            boxes,
            verdict,
        }) {
            Ok(()) => {
                self.lost = 0;
                self.left -= 1;
            }
            Err(TrySendError::Full(_)) => self.lost += 1,
            Err(TrySendError::Disconnected(_)) => self.left = 0,
        }
        self.left > 0
    }
}

impl Observer for Tracer {
    const ON: bool = true;

    fn see(&mut self, stage: Stage, what: impl FnOnce() -> String) {
        self.boxes.push((stage, what()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::PuntReason;
    use std::sync::Arc;

    #[test]
    fn a_filter_names_packets_and_none_matches_all() {
        let any = Filter::default();
        assert!(any.matches(PortIndex(3), None));
        let tcp = Filter {
            proto: Some(6),
            ..Filter::default()
        };
        assert!(!tcp.matches(PortIndex(3), None), "an unparsable packet has no protocol");
        let port = Filter {
            port: Some(PortIndex(1)),
            ..Filter::default()
        };
        assert!(port.matches(PortIndex(1), None) && !port.matches(PortIndex(2), None));
    }

    #[test]
    fn prefixes_hold_addresses_of_their_family() {
        let net = Within {
            family: Family::V4,
            addr: 0x0a00_0000,
            len: 8,
        };
        assert!(net.holds(Family::V4, 0x0a01_0203) && !net.holds(Family::V4, 0x0b00_0000));
        assert!(!net.holds(Family::V6, 0x0a01_0203));
        assert!(
            Within {
                family: Family::V6,
                addr: 0,
                len: 0
            }
            .holds(Family::V6, Addr::MAX)
        );
    }

    #[test]
    fn a_trace_ends_after_its_count_and_loses_packets_rather_than_wait() {
        let there = Arc::new(());
        let (mut tracers, reader) =
            Tracer::pool(&Filter::default(), 1, PACKETS_MAX as u64 + 1, &Arc::downgrade(&there));
        let tracer = &mut tracers[0];
        let punt = Verdict::Punt(PuntReason::Local);
        for _ in 0..PACKETS_MAX + 10 {
            tracer.see(Stage::Rx, String::new);
            assert!(tracer.end(PortIndex(0), punt));
        }
        assert_eq!((reader.len(), tracer.lost), (PACKETS_MAX, 10));
        assert_eq!(reader.recv().map(|w| w.boxes.len()), Ok(1));
        assert!(!tracer.end(PortIndex(0), punt), "the last of the count");
        assert!(!tracer.wants(PortIndex(0), None));
    }

    #[test]
    fn a_trace_is_over_when_its_reader_is_gone_though_no_packet_matched() {
        let there = Arc::new(());
        let (tracers, _) = Tracer::pool(&Filter::default(), 1, 1, &Arc::downgrade(&there));
        assert!(!tracers[0].is_over());
        drop(there);
        assert!(tracers[0].is_over());
    }
}
