//! A connection's status, in the kernel's bits (enum ip_conntrack_status), and what rules call a packet's state.
//!
//! The numbers are the kernel's uapi, so that what ctnetlink says and what bytecode compares need no translation. The
//! status fits the 16 bits that an entry's life word has for it.

use std::ops::BitOr;

/// The IPS_* bits that bypath knows, as in include/uapi/linux/netfilter/nf_conntrack_common.h. The kernel has 16 of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

impl Status {
    /// It is the child of an expectation.
    pub const EXPECTED: Status = Status(1 << 0);
    /// Packets went both ways.
    pub const SEEN_REPLY: Status = Status(1 << 1);
    /// Not the first to go when the table is full.
    pub const ASSURED: Status = Status(1 << 2);
    /// In the table.
    pub const CONFIRMED: Status = Status(1 << 3);
    /// Source NAT.
    pub const SRC_NAT: Status = Status(1 << 4);
    /// Destination NAT.
    pub const DST_NAT: Status = Status(1 << 5);
    /// TCP sequence adjustment.
    pub const SEQ_ADJUST: Status = Status(1 << 6);
    /// Source NAT is decided, perhaps for none.
    pub const SRC_NAT_DONE: Status = Status(1 << 7);
    /// Destination NAT is decided, perhaps for none.
    pub const DST_NAT_DONE: Status = Status(1 << 8);
    /// Deleted.
    pub const DYING: Status = Status(1 << 9);
    /// The timeout does not change with packets.
    pub const FIXED_TIMEOUT: Status = Status(1 << 10);
    /// Its reply tuple was taken when it was confirmed.
    pub const NAT_CLASH: Status = Status(1 << 12);
    /// A helper is attached.
    pub const HELPER: Status = Status(1 << 13);
    /// In a flowtable.
    pub const OFFLOAD: Status = Status(1 << 14);

    /// Whether any of `bits` is set.
    #[inline]
    pub const fn any(self, bits: Status) -> bool {
        self.0 & bits.0 != 0
    }
}

impl BitOr for Status {
    type Output = Status;

    fn bitor(self, other: Status) -> Status {
        Status(self.0 | other.0)
    }
}

/// What `ct state` of a rule sees: one bit (NF_CT_STATE_BIT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtState(pub u32);

impl CtState {
    /// No connection could be found or made for the packet.
    pub const INVALID: CtState = CtState(1);
    /// Of a connection that has seen packets both ways.
    pub const ESTABLISHED: CtState = CtState(2);
    /// Of a connection that another one gave rise to, or an ICMP error about one.
    pub const RELATED: CtState = CtState(4);
    /// Of a connection that has seen packets one way only.
    pub const NEW: CtState = CtState(8);
    /// Not to be tracked.
    pub const UNTRACKED: CtState = CtState(64);

    /// Its word in rules.
    pub const fn word(self) -> &'static str {
        match self {
            CtState::INVALID => "invalid",
            CtState::ESTABLISHED => "established",
            CtState::RELATED => "related",
            CtState::NEW => "new",
            CtState::UNTRACKED => "untracked",
            _ => "?",
        }
    }
}
