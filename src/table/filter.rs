//! The one shape of filter chain that is carried: base chains at the forward hook whose rules look at `ct state` and at
//! the names of the interfaces, and end in accept or drop. Read from the kernel's bytecode by mirror, in the order of
//! priority.

use super::conntrack::CtState;
use super::iface::Iface;
use std::sync::Arc;

/// What a rule or a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterVerdict {
    /// On to the next chain.
    Accept,
    /// Lost.
    Drop,
}

/// One condition of a rule. All of a rule's must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `(state & mask) == value`, or unequal.
    State {
        /// Which bits.
        mask: u32,
        /// Compared with.
        value: u32,
        /// Equal, or unequal.
        equal: bool,
    },
    /// The name of the link of arrival.
    Iifname(Name),
    /// The name of the link of departure.
    Oifname(Name),
    /// The number of the link of arrival.
    Iif(u32, bool),
    /// The number of the link of departure.
    Oif(u32, bool),
}

/// A name that a rule compares with: the first bytes of the 16 that the kernel's name fills, padded with NUL. All 16 for a
/// whole name, fewer for one that ends in `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// What is compared, at most 16 bytes.
    pub bytes: Box<[u8]>,
    /// Equal, or unequal.
    pub equal: bool,
}

impl Name {
    fn holds(&self, name: &str) -> bool {
        let mut padded = [0u8; 16];
        let len = name.len().min(15);
        padded[..len].copy_from_slice(&name.as_bytes()[..len]);
        padded.starts_with(&self.bytes) == self.equal
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold; none always does.
    pub conditions: Box<[Condition]>,
    /// What follows.
    pub verdict: FilterVerdict,
}

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// As an operator would look for it: `table inet fw, chain forward`.
    pub name: Arc<str>,
    /// In order; the first that holds decides.
    pub rules: Box<[Rule]>,
    /// If none does.
    pub policy: FilterVerdict,
}

/// What the `chains` of a family say of a packet from `iif` to `oif`; the chain that drops it.
#[inline]
pub fn run<'a>(chains: &'a [Chain], state: CtState, iif: &Iface, oif: &Iface) -> Result<(), &'a Chain> {
    for chain in chains {
        let rule = chain.rules.iter().find(|rule| rule.holds(state, iif, oif));
        if rule.map_or(chain.policy, |rule| rule.verdict) == FilterVerdict::Drop {
            return Err(chain);
        }
    }
    Ok(())
}

impl Rule {
    fn holds(&self, state: CtState, iif: &Iface, oif: &Iface) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::State { mask, value, equal } => (state.0 & mask == *value) == *equal,
            Condition::Iifname(name) => name.holds(&iif.name),
            Condition::Oifname(name) => name.holds(&oif.name),
            Condition::Iif(index, equal) => (iif.ifindex == *index) == *equal,
            Condition::Oif(index, equal) => (oif.ifindex == *index) == *equal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iface(name: &str) -> Iface {
        Iface {
            name: name.into(),
            ..Iface::default()
        }
    }

    #[test]
    fn the_first_rule_that_holds_decides_else_the_policy() {
        let name = |bytes: &[u8]| Name {
            bytes: bytes.into(),
            equal: true,
        };
        let chain = Chain {
            name: "t".into(),
            rules: [
                Rule {
                    conditions: [Condition::State {
                        mask: 6,
                        value: 0,
                        equal: false,
                    }]
                    .into(),
                    verdict: FilterVerdict::Accept,
                },
                Rule {
                    conditions: [Condition::Iifname(name(b"eth"))].into(),
                    verdict: FilterVerdict::Accept,
                },
            ]
            .into(),
            policy: FilterVerdict::Drop,
        };
        let says = |state, iif: &str| run(std::slice::from_ref(&chain), state, &iface(iif), &iface("d1")).is_ok();
        assert!(says(CtState::ESTABLISHED, "d0") && says(CtState::NEW, "eth7"));
        assert!(!says(CtState::NEW, "d0") && !says(CtState::INVALID, "d0"));
        let whole = name(b"eth7\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(whole.holds("eth7") && !whole.holds("eth70"));
    }
}
