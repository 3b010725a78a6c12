//! The answers of a running instance, typed: what `bypath show` prints, what `--json` writes, and what metrics serve.
//!
//! One struct per answer, shared by the socket, the formatter and metrics, so that they cannot disagree. The field names
//! are the JSON names: a contract that scripts rely on. At rest
//! `received = forwarded + punted + dropped + held` (in frames), see [`Totals::difference`].

mod bridge;
mod qdisc;

pub use bridge::{Bridge, BridgeLink, BridgePort, FdbEntry, Vlan};
pub use qdisc::{Qdisc, QdiscCounts};

use crate::packet::{DropReason, PuntReason};
use crate::port::QueueCounters;
use crate::table::rules::live::Taken;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Frames, or packets, by the word of their reason. Every reason is in it, those that never happened with 0, so that a
/// script need not care which were seen yet.
pub type ByReason = BTreeMap<String, u64>;

/// Counts of punts by reason, from an array in the order of [`PuntReason::ALL`]; what it lacks is 0.
pub fn punted(counts: &[u64]) -> ByReason {
    by_reason(PuntReason::ALL.iter().map(|reason| reason.word()), counts)
}

/// Counts of drops by reason, from an array in the order of [`DropReason::ALL`]; what it lacks is 0.
pub fn dropped(counts: &[u64]) -> ByReason {
    by_reason(DropReason::ALL.iter().map(|reason| reason.word()), counts)
}

/// How often rules were taken over from the kernel, by the way.
pub fn taken(taken: &Taken) -> ByReason {
    let Taken {
        readings,
        deltas,
        divergences,
    } = *taken;
    let ways = [("reading", readings), ("delta", deltas), ("divergence", divergences)];
    ways.into_iter().map(|(way, count)| (way.into(), count)).collect()
}

fn by_reason(words: impl Iterator<Item = &'static str>, counts: &[u64]) -> ByReason {
    words
        .enumerate()
        .map(|(i, word)| (word.into(), counts.get(i).copied().unwrap_or(0)))
        .collect()
}

/// `show totals`: where every frame went that workers received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Frames taken from receive rings.
    pub received: u64,
    /// ... put into a transmit ring.
    pub forwarded: u64,
    /// ... handed back to the kernel, by reason.
    pub punted: ByReason,
    /// ... lost here, by reason.
    pub dropped: ByReason,
    /// ... still here: in a burst, a qdisc's queue, a hand-off queue or the punt queue.
    pub held: u64,
    /// Workers that did not answer in time: of them these are the numbers of an earlier answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stale_workers: Vec<usize>,
}

impl Totals {
    /// `received` less all that became of it: 0 at rest, and a few frames either way while counters are read under traffic.
    pub fn difference(&self) -> i128 {
        let sum = |counts: &ByReason| counts.values().map(|&n| i128::from(n)).sum::<i128>();
        let ends = i128::from(self.forwarded) + sum(&self.punted) + sum(&self.dropped) + i128::from(self.held);
        i128::from(self.received) - ends
    }
}

/// Where all packets went, in one line.
pub fn summary(totals: &Totals) -> String {
    let sum = |counts: &ByReason| counts.values().sum::<u64>();
    let Totals {
        received,
        forwarded,
        punted,
        dropped,
        held,
        ..
    } = totals;
    format!(
        "received {received}, forwarded {forwarded}, punted {}, dropped {}, held {held}",
        sum(punted),
        sum(dropped)
    )
}

/// `show ports`: one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Interface name.
    pub port: String,
    /// The bridge that it is a port for; none where it is named itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The kernel's number for it.
    pub ifindex: u32,
    /// `up`, `down` (waited for), or `gone`.
    pub state: String,
    /// Kernel driver, such as `veth`.
    pub driver: String,
    /// `zerocopy` or `copy`, as the kernel reports it.
    pub mode: String,
    /// `native` or `generic`.
    pub attach: String,
    /// In bytes.
    pub mtu: u32,
    /// What steer did with what arrived, in frames by decision: redirected, or passed to the kernel and why.
    pub steer: ByReason,
    /// Its receive queues that have a socket. Frames on others pass to the kernel.
    pub queues: Vec<Queue>,
}

/// One queue of a port: who owns it, and its counters since the start, in frames unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The device's number for it.
    pub queue: u32,
    /// The worker that owns it.
    pub worker: usize,
    /// Received.
    pub rx: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Put into the transmit ring.
    pub tx: u64,
    /// Bytes put into the transmit ring.
    pub tx_bytes: u64,
    /// Transmit system calls.
    pub kicks: u64,
    /// ... that left something in the ring (EAGAIN).
    pub kick_again: u64,
    /// ... whose frame the driver dropped (EBUSY).
    pub kick_busy: u64,
    /// ... for which the send buffer was too small (ENOBUFS).
    pub kick_nobufs: u64,
    /// ... on a port that is down or gone (ENETDOWN, ENXIO).
    pub kick_down: u64,
    /// ... that failed otherwise.
    pub kick_other: u64,
    /// Arrived in pieces, dropped.
    pub rx_oversize: u64,
    /// Dropped by the kernel before the ring.
    pub xsk_rx_dropped: u64,
    /// Dropped by the kernel, the receive ring was full.
    pub xsk_rx_ring_full: u64,
    /// Times the kernel found the fill ring empty.
    pub xsk_fill_empty: u64,
    /// Descriptors the kernel refused.
    pub xsk_invalid: u64,
}

impl Queue {
    /// The report on `queue`, which `worker` owns.
    pub fn new(queue: u32, worker: usize, counters: &QueueCounters) -> Self {
        let c = counters;
        Self {
            queue,
            worker,
            rx: c.rx,
            rx_bytes: c.rx_bytes,
            tx: c.tx,
            tx_bytes: c.tx_bytes,
            kicks: c.kicks,
            kick_again: c.kick_again,
            kick_busy: c.kick_busy,
            kick_nobufs: c.kick_nobufs,
            kick_down: c.kick_down,
            kick_other: c.kick_other,
            rx_oversize: c.rx_oversize,
            xsk_rx_dropped: c.xsk_rx_dropped,
            xsk_rx_ring_full: c.xsk_rx_ring_full,
            xsk_fill_empty: c.xsk_fill_empty,
            xsk_invalid: c.xsk_invalid,
        }
    }

    /// What the kernel lost of this queue, one word each: the reasons of its rows in `show drops`, which docs/REASONS.md explains.
    pub fn losses(&self) -> [(&'static str, u64); 5] {
        [
            ("tx_driver_busy", self.kick_busy),
            ("rx_dropped", self.xsk_rx_dropped),
            ("rx_ring_full", self.xsk_rx_ring_full),
            ("fill_ring_empty", self.xsk_fill_empty),
            ("invalid_descriptor", self.xsk_invalid),
        ]
    }
}

/// `show workers`: one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number, from 0.
    pub worker: usize,
    /// The CPU it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// The queues it owns, as `port:queue`.
    pub queues: Vec<String>,
    /// Milliseconds since its heartbeat; steer lets frames pass to the kernel when it is too old.
    pub heartbeat_age_ms: u64,
    /// It did not answer in time: its numbers are those of an earlier answer.
    pub stale: bool,
    /// The generation of the configuration that it works with.
    pub generation: u64,
    /// Where its frames went.
    pub totals: Totals,
    /// Times it looked at its queues.
    pub rounds: u64,
    /// ... and slept because there was nothing.
    pub sleeps: u64,
    /// Where the frames of its slab are.
    pub frames: Frames,
}

/// All that metrics tell, from one report of each worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrape {
    /// Where all frames went.
    pub totals: Totals,
    /// All ports.
    pub ports: Vec<Port>,
    /// All workers.
    pub workers: Vec<Worker>,
    /// Where frames are lost.
    pub drops: Vec<DropRow>,
    /// Latency per egress port.
    pub latency: Vec<Latency>,
    /// How often rules were taken over from the kernel, by the way.
    pub rules_taken: ByReason,
    /// The connection table's counts.
    pub conntrack: Conntrack,
    /// Bridges and their ports.
    pub bridges: Vec<BridgeLink>,
    /// The qdiscs and classes by which ports are shaped.
    pub qdiscs: Vec<Qdisc>,
}

/// The connection table, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Connections in it.
    pub connections: u64,
    /// ... for which there is room.
    pub connections_max: u64,
    /// What happened to connections, by word: see `control::exchange::Counts`.
    pub events: ByReason,
}

/// The frame audit: `free + fill + tx + held = all`, over all workers of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// In the pool.
    pub free: u64,
    /// In fill and receive rings.
    pub fill: u64,
    /// In transmit and completion rings.
    pub tx: u64,
    /// With the worker, or in a queue between threads.
    pub held: u64,
    /// All there are.
    pub all: u64,
}

/// `show drops`: one place where frames are lost, the kernel's among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// `bypath`, or the port and queue for losses in the kernel's rings: `d0:0`.
    pub place: String,
    /// The word of the reason.
    pub reason: String,
    /// How many.
    pub frames: u64,
}

/// `show routes`: one route as bypath has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `inet` or `inet6`.
    pub family: String,
    /// The kernel's number of its table; 254 is main, 255 local.
    pub table: u32,
    /// Prefix, such as `10.0.0.0/24`.
    pub destination: String,
    /// `unicast`, `local`, `broadcast`, `refused` or `throw`.
    pub kind: String,
    /// The ways out; several mean that the kernel is asked per flow.
    pub nexthops: Vec<Nexthop>,
    /// The route's own MTU in bytes, if it has one.
    pub mtu: Option<u32>,
    /// Why its traffic is left to the kernel, if it is.
    pub left: Option<String>,
}

/// One way out of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nexthop {
    /// The router, or `None` where the destination is on the link.
    pub via: Option<String>,
    /// Interface name.
    pub dev: String,
}

/// `show neighbors`: one resolved neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// `inet` or `inet6`.
    pub family: String,
    /// Its address.
    pub address: String,
    /// Interface name.
    pub dev: String,
    /// Its Ethernet address.
    pub lladdr: String,
}

/// `show rules`: a rule that forwarded packets may come to, the policy of a chain that counts, or a named counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// That of its table: `ip`, `ip6`, `inet`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its chain; empty for a named counter.
    pub chain: String,
    /// The number by which `nft -a` shows it; 0 for a named counter, and for the counter of a chain's policy.
    pub handle: u64,
    /// The name of a named counter; empty for a rule or policy.
    pub object: String,
    /// `cached` (the decision is kept in the connection), `per_packet`, or `punted`: packets that reach it are the kernel's.
    pub run: String,
    /// What of it is not carried, where it is punted.
    pub why: String,
    /// Packets that its counter counted here, if it has one. The kernel's own counter counts those that the kernel carried.
    pub packets: Option<u64>,
    /// Their bytes, as the kernel counts them.
    pub bytes: Option<u64>,
}

/// `show latency`: one egress port, from the XDP hook (or RX, where the driver gives no metadata room) to TX.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Interface name of the egress port.
    pub port: String,
    /// Frames measured (arrivals are stamped by sampling).
    pub count: u64,
    /// Shortest.
    pub min_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90 in 100 are at most this.
    pub p90_ns: u64,
    /// 99 in 100.
    pub p99_ns: u64,
    /// 999 in 1000.
    pub p999_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

impl Latency {
    /// The report on a histogram of nanoseconds. An empty one is all 0.
    pub fn new(port: impl Into<String>, histogram: &hdrhistogram::Histogram<u64>) -> Self {
        let at = |quantile| {
            if histogram.is_empty() {
                0
            } else {
                histogram.value_at_quantile(quantile)
            }
        };
        Self {
            port: port.into(),
            count: histogram.len(),
            min_ns: at(0.0),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: at(1.0),
        }
    }
}

/// `trace`: one box that one packet passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// Numbers the packets of this trace, from 1.
    pub packet: u64,
    /// The worker it ran on.
    pub worker: usize,
    /// The port of arrival.
    pub port: String,
    /// The box: the name of the stage's file.
    #[serde(rename = "box")]
    pub stage: String,
    /// What the box saw or looked up, and what it found.
    pub looked_up: String,
    /// What it changed in the packet, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    /// On the packet's last line: `forward`, `punt` or `drop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// ... the port it leaves by, or the word of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The lines of one traced packet, in the order of the walk. They travel together, so that packets of several workers do
/// not mix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracePacket {
    /// Matching packets that went untraced before this one, because the reader was too slow.
    pub lost: u64,
    /// One per box.
    pub lines: Vec<TraceLine>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_have_every_reason_and_the_contract_s_order() {
        let totals = Totals {
            received: 10,
            forwarded: 4,
            punted: punted(&[0, 2]),
            dropped: dropped(&[3]),
            held: 1,
            stale_workers: Vec::new(),
        };
        assert_eq!(totals.punted.len(), PuntReason::ALL.len());
        let second = PuntReason::ALL[1].word();
        assert_eq!((totals.punted[second], totals.dropped["tx_ring_full"]), (2, 3));
        assert_eq!(totals.difference(), 0);
        let json = serde_json::to_string(&Totals {
            punted: ByReason::new(),
            dropped: ByReason::new(),
            ..totals
        })
        .unwrap();
        assert_eq!(
            json,
            r#"{"received":10,"forwarded":4,"punted":{},"dropped":{},"held":1}"#
        );
    }

    #[test]
    fn latency_reads_a_histogram_and_survives_an_empty_one() {
        let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        assert_eq!(
            Latency::new("d0", &histogram),
            Latency {
                port: "d0".into(),
                ..Latency::default()
            }
        );
        (1..=1000).for_each(|ns| histogram.record(ns).unwrap());
        let latency = Latency::new("d0", &histogram);
        assert_eq!(
            (latency.count, latency.min_ns, latency.p50_ns, latency.p90_ns),
            (1000, 1, 500, 900)
        );
        assert_eq!((latency.p999_ns, latency.max_ns), (999, 1000));
    }
}
