//! `bypath trace`: what the boxes said about single packets. Free when off (one branch per burst), bounded when on: a
//! tracer ends after its count, and lines that the reader does not take in time are lost and counted.

use super::pipeline::{Observer, Stage};
use crate::packet::{Addr, Family, Parsed, PortIndex, Verdict};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};

/// Lines that may wait for the reader.
const LINES_MAX: usize = 4096;

/// Which packets to watch; what is `None` matches any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Port of arrival.
    pub port: Option<PortIndex>,
    /// IP protocol.
    pub proto: Option<u8>,
    /// Source address.
    pub src: Option<(Family, Addr)>,
    /// Destination address.
    pub dst: Option<(Family, Addr)>,
}

impl Filter {
    /// Whether a packet (unparsable: `None`) is to be watched.
    fn matches(&self, port: PortIndex, packet: Option<&Parsed>) -> bool {
        let of_port = self.port.is_none_or(|p| p == port);
        let any_packet = self.proto.is_none() && self.src.is_none() && self.dst.is_none();
        let of_packet = packet.map_or(any_packet, |packet| {
            self.proto.is_none_or(|proto| proto == packet.proto)
                && self.src.is_none_or(|src| src == (packet.family, packet.src))
                && self.dst.is_none_or(|dst| dst == (packet.family, packet.dst))
        });
        of_port && of_packet
    }
}

/// One box that a watched packet passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// The packet's number in this trace; with several workers, numbers are per worker.
    pub packet: u64,
    /// The worker it walked on.
    pub worker: usize,
    /// The box, or `verdict`.
    pub stage: String,
    /// What was looked up, rewritten or decided there.
    pub text: String,
}

/// A running trace on one worker.
#[derive(Debug)]
pub struct Tracer {
    filter: Filter,
    worker: usize,
    left: u64,
    packet: u64,
    lost: u64,
    lines: Sender<TraceLine>,
}

impl Tracer {
    /// Tracers for `workers` workers that watch up to `count` packets each, and where their lines arrive.
    pub fn pool(filter: &Filter, workers: usize, count: u64) -> (Vec<Self>, Receiver<TraceLine>) {
        let (lines, reader) = bounded(LINES_MAX);
        let of = |worker| Self { filter: filter.clone(), worker, left: count, packet: 0, lost: 0, lines: lines.clone() };
        ((0..workers).map(of).collect(), reader)
    }

    /// Whether the packet is to be watched.
    pub fn wants(&self, port: PortIndex, packet: Option<&Parsed>) -> bool {
        self.left > 0 && self.filter.matches(port, packet)
    }

    /// Ends the packet with its verdict; false when the trace is over.
    pub fn end(&mut self, verdict: Verdict) -> bool {
        let text = match verdict {
            Verdict::Forward(port) => format!("forward, port {}", port.0),
            Verdict::Punt(reason) => format!("punt ({})", reason.word()),
            Verdict::Drop(reason) => format!("drop ({})", reason.word()),
        };
        self.send("verdict", text);
        self.packet += 1;
        self.left -= 1;
        self.left > 0
    }

    fn send(&mut self, stage: &str, text: String) {
        let line = TraceLine { packet: self.packet, worker: self.worker, stage: stage.to_owned(), text };
        match self.lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.lost += 1,
            // Nobody reads any more.
            Err(TrySendError::Disconnected(_)) => self.left = self.left.min(1),
        }
    }
}

impl Observer for Tracer {
    fn see(&mut self, stage: Stage, what: impl FnOnce() -> String) {
        self.send(stage.word(), what());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_packets_and_none_matches_all() {
        let any = Filter::default();
        assert!(any.matches(PortIndex(3), None));
        let tcp = Filter { proto: Some(6), ..Filter::default() };
        assert!(!tcp.matches(PortIndex(3), None), "an unparsable packet has no protocol");
        let port = Filter { port: Some(PortIndex(1)), ..Filter::default() };
        assert!(port.matches(PortIndex(1), None) && !port.matches(PortIndex(2), None));
    }

    #[test]
    fn a_trace_ends_after_its_count_and_loses_lines_rather_than_wait() {
        let (mut tracers, reader) = Tracer::pool(&Filter::default(), 1, 2);
        let tracer = &mut tracers[0];
        for _ in 0..LINES_MAX + 10 {
            tracer.see(Stage::Rx, String::new);
        }
        assert_eq!((reader.len(), tracer.lost), (LINES_MAX, 10));
        assert!(tracer.end(Verdict::Forward(PortIndex(0))));
        assert!(!tracer.end(Verdict::Forward(PortIndex(0))));
        assert!(!tracer.wants(PortIndex(0), None));
    }
}
