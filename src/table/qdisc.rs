//! What `tc` says about the way out of a port: its root qdisc, and what hangs below, as a tree. Configuration alone, part of a
//! [`Snapshot`](super::Snapshot): mirror/tc reads it from the kernel, stage/shape keeps frames and tokens by it.
//!
//! ```text
//!  Qdisc 1: htb -- Class 1:1 -- Class 1:10 -- Qdisc 10: pfifo
//!     |                  \----- Class 1:20 -- Qdisc 8002: pfifo (the class's own)
//!     \-- filters: to which class?
//! ```
//!
//! Numbers are the kernel's (include/uapi/linux/pkt_sched.h), in units that need no clock of its own: bytes, nanoseconds,
//! bytes per second. A kind that is not here is not carried: the guard leaves what would go out by such a port to the kernel.

use super::filter::Filter;
use std::sync::Arc;

/// A handle or the number of a class: major number in the high half, minor in the low one, `1:10` is `0x0001_0010`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u32);

/// How what leaves by a link is shaped.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Shaping {
    /// It is not: the root qdisc only queues, which frames of a ring of their own never meet.
    #[default]
    Unshaped,
    /// By one qdisc, for all queues.
    Root(Arc<Qdisc>),
    /// By one for each queue, as below mq; `None` for those that are not shaped.
    Queues(Vec<Option<Arc<Qdisc>>>),
}

/// A qdisc.
#[derive(Clone, Debug, PartialEq)]
pub struct Qdisc {
    /// Its handle; 0 for one that the kernel made by itself and gave none.
    pub handle: Handle,
    /// Where it hangs: `0xffff_ffff` for a root, else a class.
    pub parent: Handle,
    /// Which one of its handle it is: another where the kernel told that the last one was deleted.
    pub generation: u64,
    /// How many bytes each frame counts more than it has (or less), in all of a tree: what the root's size table says.
    pub overhead: i32,
    /// How it queues.
    pub kind: Kind,
    /// What chooses a class of its, in the kernel's order of priority; empty where the kind has no classes.
    pub filters: Vec<Filter>,
}

/// How a qdisc queues.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// First in, first out (net/sched/sch_fifo.c).
    Fifo(Fifo),
    /// Bands, the first that has a frame goes first (net/sched/sch_prio.c, pfifo_fast).
    Prio(Prio),
    /// One or two token buckets (net/sched/sch_tbf.c).
    Tbf(Tbf),
    /// A tree of classes that borrow from each other (net/sched/sch_htb.c).
    Htb(Htb),
    /// Flows in turn, each with a bound on the time that it waits (net/sched/sch_fq_codel.c).
    FqCodel(FqCodel),
    /// Flows in turn (net/sched/sch_sfq.c).
    Sfq(Sfq),
    /// Flows in turn, each at its own pace, in bands that share by weight (net/sched/sch_fq.c).
    Fq(Fq),
}

/// pfifo, bfifo, pfifo_head_drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// How much it holds.
    pub limit: Limit,
    /// Over the limit the oldest is dropped, not the newest.
    pub drops_head: bool,
}

/// A bound on what a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// In packets.
    Packets(u32),
    /// In bytes.
    Bytes(u32),
}

/// See [`Kind::Prio`].
#[derive(Clone, Debug, PartialEq)]
pub struct Prio {
    /// The first is served first; class `handle:n` is band `n - 1`.
    pub bands: Vec<Arc<Qdisc>>,
    /// The band of a frame of priority 0 to 15 that nothing else has placed.
    pub priomap: [u8; 16],
    /// Only the map chooses, as in pfifo_fast.
    pub by_map: bool,
}

/// See [`Kind::Tbf`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tbf {
    /// How fast tokens come.
    pub rate: Rate,
    /// How many may lie there, in nanoseconds of `rate`; no less than a frame of `max_size` lasts.
    pub buffer_ns: u64,
    /// The second bucket: its rate, and its size in nanoseconds of that.
    pub peak: Option<(Rate, u64)>,
    /// The longest frame that may pass, in bytes; longer ones are dropped.
    pub max_size: u32,
    /// How much it holds, in bytes, for its own queue; another child has its own bound.
    pub limit: u32,
    /// The queue before it.
    pub child: Arc<Qdisc>,
}

/// See [`Kind::Htb`].
#[derive(Clone, Debug, PartialEq)]
pub struct Htb {
    /// The minor number of the class for what nothing places; what names no leaf goes by the direct queue.
    pub default: u32,
    /// Bytes per second that give one byte of quantum.
    pub rate2quantum: u32,
    /// The direct queue's bound, in packets.
    pub direct_qlen: u32,
    /// All classes; a parent before its children.
    pub classes: Vec<Class>,
}

/// A class of htb.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its number.
    pub id: Handle,
    /// The class above, or the qdisc itself.
    pub parent: Handle,
    /// Which one of its number it is, see [`Qdisc::generation`].
    pub generation: u64,
    /// What it is sure of.
    pub rate: Rate,
    /// What it may have when others leave it.
    pub ceil: Rate,
    /// How much it may send at once by `rate`, in nanoseconds of that.
    pub buffer_ns: i64,
    /// ... by `ceil`.
    pub cbuffer_ns: i64,
    /// Who borrows first: 0 to 7.
    pub prio: u8,
    /// How much it sends in its turn, in bytes.
    pub quantum: u32,
    /// Its queue; `None` for one that has classes below it.
    pub leaf: Option<Arc<Qdisc>>,
    /// What chooses a class below it.
    pub filters: Vec<Filter>,
}

/// See [`Kind::FqCodel`].
#[derive(Clone, Debug, PartialEq)]
pub struct FqCodel {
    /// How many packets it holds.
    pub limit: u32,
    /// How many bytes it holds.
    pub memory_limit: u32,
    /// How many flows it tells apart.
    pub flows: u32,
    /// What a flow sends in its turn, in bytes.
    pub quantum: u32,
    /// The time that a packet may wait, in nanoseconds.
    pub target_ns: u64,
    /// For how long it may wait longer, in nanoseconds.
    pub interval_ns: u64,
    /// Marks instead of drops where the packet knows ECN.
    pub ecn: bool,
    /// Above so much, in nanoseconds, every packet that knows ECN is marked.
    pub ce_threshold_ns: Option<u64>,
    /// How many packets it drops at once when it is full.
    pub drop_batch: u32,
    /// The longest frame of the link, in bytes: while no more than that waits, none waits too long.
    pub frame_max: u32,
}

/// See [`Kind::Sfq`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sfq {
    /// How many packets it holds.
    pub limit: u32,
    /// How many flows it holds packets of at once.
    pub flows: u32,
    /// How many hashes it tells apart.
    pub divisor: u32,
    /// How many packets of one flow it holds.
    pub depth: u32,
    /// What a flow sends in its turn, in bytes.
    pub quantum: u32,
    /// Over the limit the oldest of the longest flow is dropped, not the newest.
    pub drops_head: bool,
    /// After how many seconds flows are hashed anew; 0 for never.
    pub perturb_s: u32,
}

/// See [`Kind::Fq`].
#[derive(Clone, Debug, PartialEq)]
pub struct Fq {
    /// How many packets a band holds.
    pub limit: u32,
    /// How many packets of one flow it holds.
    pub flow_limit: u32,
    /// What a flow sends in its turn, in bytes.
    pub quantum: u32,
    /// What a flow sends in its first turn, in bytes.
    pub initial_quantum: u32,
    /// Which bits of a packet's hash tell flows apart.
    pub orphan_mask: u32,
    /// A flow that was empty for longer, in nanoseconds, has a whole turn again.
    pub refill_delay_ns: u64,
    /// Whether it paces at all.
    pub paces: bool,
    /// What each flow may send, in bytes per second.
    pub max_rate: Option<u32>,
    /// Up to this rate, in bytes per second, a flow is paced packet by packet, above it turn by turn.
    pub low_rate_threshold: u32,
    /// A packet that leaves so much later than it could, in nanoseconds, is marked.
    pub ce_threshold_ns: Option<u64>,
    /// The band of each priority: 0 to 2.
    pub priomap: [u8; 16],
    /// What each band sends in its turn, in bytes.
    pub weights: [u32; Fq::BANDS],
}

impl Fq {
    /// How many bands there are.
    pub const BANDS: usize = 3;
}

/// How fast tokens come, and what a frame counts (struct psched_ratecfg).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second.
    pub bytes_per_second: u64,
    /// What each frame has around it, in bytes.
    pub overhead: u16,
    /// The least that a frame counts, in bytes.
    pub mpu: u16,
    /// Frames travel in cells of 48 bytes, each of 53.
    pub atm: bool,
}

impl Shaping {
    /// Whether some qdisc in it is an htb.
    pub fn has_htb(&self) -> bool {
        match self {
            Shaping::Unshaped => false,
            Shaping::Root(root) => root.has_htb(),
            Shaping::Queues(roots) => roots.iter().flatten().any(|root| root.has_htb()),
        }
    }

    /// For how many frames there is room. Where it is counted in bytes, of frames of so many.
    pub fn room(&self, frame_bytes: u32) -> u64 {
        match self {
            Shaping::Unshaped => 0,
            Shaping::Root(root) => root.room(frame_bytes),
            Shaping::Queues(roots) => roots.iter().flatten().map(|root| root.room(frame_bytes)).sum(),
        }
    }
}

impl Qdisc {
    /// See [`Shaping::has_htb`]: here and below.
    fn has_htb(&self) -> bool {
        match &self.kind {
            Kind::Htb(_) => true,
            Kind::Prio(prio) => prio.bands.iter().any(|band| band.has_htb()),
            Kind::Tbf(tbf) => tbf.child.has_htb(),
            Kind::Fifo(_) | Kind::FqCodel(_) | Kind::Sfq(_) | Kind::Fq(_) => false,
        }
    }

    /// See [`Shaping::room`]: here and below.
    fn room(&self, frame_bytes: u32) -> u64 {
        match &self.kind {
            Kind::Fifo(fifo) => match fifo.limit {
                Limit::Packets(packets) => packets.into(),
                Limit::Bytes(bytes) => bytes.div_ceil(frame_bytes.max(1)).into(),
            },
            Kind::Prio(prio) => prio.bands.iter().map(|band| band.room(frame_bytes)).sum(),
            Kind::Tbf(tbf) => tbf.child.room(frame_bytes),
            Kind::Htb(htb) => {
                let leaves = htb.classes.iter().filter_map(|class| class.leaf.as_ref());
                u64::from(htb.direct_qlen) + leaves.map(|leaf| leaf.room(frame_bytes)).sum::<u64>()
            }
            Kind::FqCodel(codel) => codel.limit.into(),
            Kind::Sfq(sfq) => sfq.limit.into(),
            Kind::Fq(fq) => fq.limit.into(),
        }
    }
}

/// The parent of a root qdisc.
pub const ROOT: Handle = Handle(u32::MAX);

impl Kind {
    /// Its name, as tc has it.
    pub const fn word(&self) -> &'static str {
        match self {
            Kind::Fifo(Fifo { drops_head: true, .. }) => "pfifo_head_drop",
            Kind::Fifo(Fifo {
                limit: Limit::Packets(_),
                ..
            }) => "pfifo",
            Kind::Fifo(Fifo {
                limit: Limit::Bytes(_), ..
            }) => "bfifo",
            Kind::Prio(Prio { by_map: true, .. }) => "pfifo_fast",
            Kind::Prio(_) => "prio",
            Kind::Tbf(_) => "tbf",
            Kind::Htb(_) => "htb",
            Kind::FqCodel(_) => "fq_codel",
            Kind::Sfq(_) => "sfq",
            Kind::Fq(_) => "fq",
        }
    }
}

impl Handle {
    /// `major:0`.
    pub const fn qdisc(major: u16) -> Self {
        Self((major as u32) << 16)
    }

    /// The high half, as the handle of the qdisc that a class belongs to.
    pub const fn of_qdisc(self) -> Self {
        Self(self.0 & 0xffff_0000)
    }

    /// The low half.
    pub const fn minor(self) -> u32 {
        self.0 & 0xffff
    }
}

impl std::fmt::Display for Handle {
    /// As tc writes it: `1:`, `1:10`, in hexadecimal numbers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0 >> 16, self.minor()) {
            (major, 0) => write!(f, "{major:x}:"),
            (0, minor) => write!(f, ":{minor:x}"),
            (major, minor) => write!(f, "{major:x}:{minor:x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_written_as_tc_does() {
        assert_eq!(Handle::qdisc(0x8001).to_string(), "8001:");
        assert_eq!(Handle(0x0001_0010).to_string(), "1:10");
        assert_eq!(Handle(0x0001_0010).of_qdisc(), Handle::qdisc(1));
        assert_eq!(Handle(7).to_string(), ":7");
    }
}
