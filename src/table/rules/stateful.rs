//! Expressions with a memory, as data: what they are, and where they stood when they were read. The memory itself is in
//! `state`.

/// An expression with a memory: in a rule, as a named object, or in an element of a set. Numbers are those of the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stateful {
    /// Counts. Never breaks.
    Counter {
        /// Packets so far.
        packets: u64,
        /// Bytes so far.
        bytes: u64,
    },
    /// Breaks beyond its bytes; below them if inverted (`over`).
    Quota {
        /// So many.
        bytes: u64,
        /// So many are used, at most `bytes`.
        consumed: u64,
        /// Below breaks.
        inverted: bool,
    },
    /// Breaks beyond its rate; below it if inverted (`over`).
    Limit(Limit),
    /// Breaks beyond so many connections; below if inverted (`over`).
    Connlimit {
        /// So many.
        count: u32,
        /// Below breaks.
        inverted: bool,
    },
    /// When it was run last. Never breaks.
    Last {
        /// Milliseconds ago, if it ever was.
        ago_ms: Option<u64>,
    },
    /// The counter of `numgen inc`: not one of the kernel's own, but it lives as they do.
    Numgen {
        /// It goes up to one less than this. At least 1.
        modulus: u32,
    },
    /// A random choice: who makes it. Not one of the kernel's own, but it lives as they do.
    Choice,
}

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// So many packets or bytes, at least 1.
    pub rate: u64,
    /// In so many nanoseconds.
    pub per_ns: u64,
    /// And so many at once.
    pub burst: u32,
    /// Of bytes, not of packets.
    pub of_bytes: bool,
    /// Below breaks.
    pub inverted: bool,
}

impl Stateful {
    /// Whether it is the other but for what packets have changed in it.
    pub fn is_same_but_for_use(&self, other: &Stateful) -> bool {
        let unused = |spec: &Stateful| match *spec {
            Stateful::Counter { .. } => Stateful::Counter { packets: 0, bytes: 0 },
            Stateful::Quota { bytes, inverted, .. } => Stateful::Quota {
                bytes,
                consumed: 0,
                inverted,
            },
            Stateful::Last { .. } => Stateful::Last { ago_ms: None },
            other => other,
        };
        unused(self) == unused(other)
    }
}
