//! `ip rule`: selectors and an action. Selectors on a mark are decided by mirror when it loads the rule (nothing marks a
//! packet before routing yet), so none is here.

use super::super::iface::{IfaceIndex, Left};
use crate::packet::Addr;

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The address, zero behind `len` bits.
    pub addr: Addr,
    /// Length in bits, 0 to the family's width.
    pub len: u8,
}

/// What a rule that matches does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look in the table at this place of [`Fib::tables`](super::Fib::tables).
    Lookup(usize),
    /// Blackhole, unreachable, prohibit.
    Refuse,
    /// Go on at the rule at this place of [`Fib::rules`](super::Fib::rules).
    Goto(usize),
    /// Go on with the next rule.
    Nop,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its preference, for `show`.
    pub pref: u32,
    /// Source must lie in it (length 0: any).
    pub from: Prefix,
    /// Destination must lie in it (length 0: any).
    pub to: Prefix,
    /// Link of arrival must be it.
    pub iif: Option<IfaceIndex>,
    /// TOS must be equal, 0: any.
    pub tos: u8,
    /// What happens on a match.
    pub action: Action,
    /// `suppress_prefixlength`: a route found whose prefix is not longer than this does not count; -1 for none.
    pub suppress_prefix_len: i16,
    /// Has a selector or action that is not carried; what matches the selectors above then goes to the kernel.
    pub left: Left,
}
