//! NAT: which tuple a new connection gets. As net/netfilter/nf_nat_core.c of Linux 6.18; what a packet then looks like
//! is `stage::nat`.
//!
//! ```text
//!  prerouting   Destination manip: a rule's range, or none (Range::null_binding) -\
//!  postrouting  Source manip: the same                                            +-> setup -> record.reply and status
//!                                                                                 |
//!               what the table has: World (Live is the one over the real table) --/
//! ```
//!
//! The decision is kept where the kernel keeps it: the reply tuple is the inverse of what the packets of the original
//! direction become, and two status bits per manip say "changed" and "decided". Inserting the reply tuple claims it, so
//! of two workers that chose one port at once, one is refused.
//!
//! A connection that no rule translates is set up too, with its own address for a range. That is not for nothing: where
//! its tuple is another connection's already, it gets another source port.
//!
//! Bounds: at most 250 look-ups for a port (see `unique`), as many as the kernel makes. PPTP, the one user of GRE keys,
//! is a helper's, and so the kernel's: no GRE key is ever changed.

mod by_source;
mod live;
mod range;
#[cfg(test)]
mod tests;
mod unique;

pub use by_source::BySource;
pub use live::{Live, Random};
pub use range::{Range, flag};

use crate::table::conntrack::{ProtoState, Record, Status, Tuple};

/// Which side of the tuple changes (enum nf_nat_manip_type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manip {
    /// NF_NAT_MANIP_SRC: at postrouting.
    Source,
    /// NF_NAT_MANIP_DST: at prerouting.
    Destination,
}

impl Manip {
    /// The other one.
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            Manip::Source => Manip::Destination,
            Manip::Destination => Manip::Source,
        }
    }

    /// The status bit that says that packets of the original direction are changed so.
    #[inline]
    pub const fn bit(self) -> Status {
        match self {
            Manip::Source => Status::SRC_NAT,
            Manip::Destination => Status::DST_NAT,
        }
    }

    /// The status bit that says that it is decided (nf_nat_initialized).
    #[inline]
    pub const fn done(self) -> Status {
        match self {
            Manip::Source => Status::SRC_NAT_DONE,
            Manip::Destination => Status::DST_NAT_DONE,
        }
    }
}

/// The connection that has a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its original tuple.
    pub original: Tuple,
    /// Its reply tuple.
    pub reply: Tuple,
    /// Its status.
    pub status: Status,
    /// Its protocol's state.
    pub proto: ProtoState,
}

/// What a choice needs to know of all other connections.
pub trait World {
    /// The connection that has `tuple` in either direction, unless it is over.
    fn holder(&self, tuple: &Tuple) -> Option<Holder>;

    /// The first of the connections with source NAT and the source (address, port, protocol and zone) of `original` of
    /// whose reply tuple `accept` makes something, the newest ones first. May miss some.
    fn mapping<T>(&self, original: &Tuple, accept: impl FnMut(&Tuple) -> Option<T>) -> Option<T>;

    /// Ends `holder`, which is over but for its TIME_WAIT, to make room; false if it is another one by now, or not ours to end.
    fn end(&mut self, holder: &Holder) -> bool;

    /// A number that nobody can foresee.
    fn random(&mut self) -> u32;
}

/// All tuples that were tried are taken. The kernel drops the packet when it would confirm its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// Decides about one side of a connection that begins, within `range` (nf_nat_setup_info): changes its reply tuple and
/// its status.
///
/// # Errors
/// [`Exhausted`], of a source manip only. The record is changed all the same, to the last tuple that was tried. Up to
/// where it would be confirmed the kernel does not mind; there it drops the packet. A destination manip may end with a
/// tuple that is taken: the source manip behind it, which there always is, finds another port then.
pub fn setup(record: &mut Record, range: &Range, manip: Manip, world: &mut impl World) -> Result<(), Exhausted> {
    let Some(current) = record.reply.invert() else {
        return Err(Exhausted); // nothing answers it, so nothing would have tracked it
    };
    let choice = unique::choose(record, &current, range, manip, world);
    if choice.tuple != current
        && let Some(reply) = choice.tuple.invert()
    {
        record.reply = reply;
        record.status = record.status | manip.bit();
    }
    record.status = record.status | manip.done();
    match manip {
        Manip::Source if choice.taken => Err(Exhausted),
        _ => Ok(()),
    }
}
