//! A connection as plain data: what is inserted, shown, and exchanged with the kernel.

use super::{ProtoState, Status, Ticks, Tuple};

/// Packets and bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

/// What is ours to say about a connection beside the kernel's [`Status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub u16);

impl Marks {
    /// The kernel tracks it: its packets are the kernel's, until it is adopted.
    pub const KERNEL: u16 = 1 << 0;
    /// The kernel's table has a copy of it; of one that is the kernel's: the kernel has told of its entry.
    pub const EXPORTED: u16 = 1 << 1;
    /// The kernel's, but the first packet of it that walks to the end takes it over.
    pub const ADOPTABLE: u16 = 1 << 2;
    /// The kernel's copy was made, or brought up to date, when the connection was assured already.
    pub const SETTLED: u16 = 1 << 3;
    /// The kernel's, of TCP or SCTP, and its tracker's state here is of all its packets: so are the windows, which the kernel
    /// cannot tell.
    pub const FOLLOWED: u16 = 1 << 4;
    /// The kernel's for good, of TCP or SCTP: it has windows that nobody else can know.
    pub const KEPT: u16 = 1 << 5;
    /// The kernel's entry is no copy of it, but such that a packet is invalid: nobody brings it up to date meanwhile.
    pub const TURNED: u16 = 1 << 6;
    /// It has the address of the link that it leaves by, and ends when it leaves by another.
    pub const MASQUERADED: u16 = 1 << 7;
    /// The last packet of it that was punted may have met a rule there that answers with a reset, and so closes it.
    pub const RESETTABLE: u16 = 1 << 8;
    /// A rule has set its `ct mark` here, and the kernel's copy does not have it yet.
    pub const REMARKED: u16 = 1 << 9;
    /// The kernel has had a packet of it since its copy was brought up to date: when the copy ends is not known here.
    pub const TOUCHED: u16 = 1 << 10;

    /// Whether any of `bits` is set.
    #[inline]
    pub const fn any(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    /// Whether it was let go and the kernel does not have it: it needs its copy before a packet, like one of ours.
    #[inline]
    pub const fn is_uncopied(self) -> bool {
        self.0 & (Self::KERNEL | Self::ADOPTABLE | Self::EXPORTED) == Self::KERNEL | Self::ADOPTABLE
    }
}

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The tuple of the first packet.
    pub original: Tuple,
    /// That of its answer: the inverse unless there is NAT.
    pub reply: Tuple,
    /// The kernel's bits.
    pub status: Status,
    /// Ours.
    pub marks: Marks,
    /// When it ends.
    pub deadline: Ticks,
    /// `ct mark`.
    pub mark: u32,
    /// The protocol's state; see `tracker`.
    pub proto: ProtoState,
    /// By [`Direction`](super::Direction); zero where they are not counted.
    pub counters: [Counter; 2],
}
