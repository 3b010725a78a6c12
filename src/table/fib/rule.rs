//! `ip rule`: selectors and an action. Selectors on a mark are decided by mirror when it loads the rule (nothing marks a
//! packet before routing yet), so none is here. A rule that mirror cannot express has its reason in [`Rule::left`]: what it
//! might match goes to the kernel (fib_rule_match, fib4_rule_match).

use super::super::iface::{IfaceIndex, Left};
use crate::packet::{Addr, Family};

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The address, zero behind `len` bits.
    pub addr: Addr,
    /// Length in bits, 0 to the family's width.
    pub len: u8,
}

impl Prefix {
    /// Every address.
    pub const ALL: Prefix = Prefix { addr: 0, len: 0 };

    /// Whether `addr` lies in it.
    #[inline]
    pub fn contains(&self, family: Family, addr: Addr) -> bool {
        self.len == 0 || (self.addr ^ addr) >> family.bits().saturating_sub(self.len) == 0
    }

    /// As `ip` has it: `10.0.0.0/24`.
    pub fn show(&self, family: Family) -> String {
        format!("{}/{}", family.show(self.addr), self.len)
    }
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
    /// TOS or traffic class must be equal, in the bits that the kernel compares for the family; 0: any.
    pub tos: u8,
    /// `not`: the rule is for what the selectors above do not match.
    pub invert: bool,
    /// What happens on a match.
    pub action: Action,
    /// `suppress_prefixlength`: a route found whose prefix is not longer than this does not count; -1 for none.
    pub suppress_prefix_len: i16,
    /// Has a selector or action that is not carried; what matches the selectors above then goes to the kernel. Of an
    /// inverted rule nothing can be said then, so it must come with selectors that match everything, and not inverted.
    pub left: Left,
}

impl Rule {
    /// A rule for everything that looks into the table at `table`.
    pub fn lookup(pref: u32, table: usize) -> Self {
        Rule {
            pref,
            from: Prefix::ALL,
            to: Prefix::ALL,
            iif: None,
            tos: 0,
            invert: false,
            action: Action::Lookup(table),
            suppress_prefix_len: -1,
            left: None,
        }
    }

    /// Whether it matches every packet, and is carried.
    #[inline]
    pub(super) fn is_for_all(&self) -> bool {
        self.from.len | self.to.len | self.tos == 0 && self.iif.is_none() && !self.invert && self.left.is_none()
    }
}
