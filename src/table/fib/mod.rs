//! Routing tables of one family: rules in order of preference, each naming a table; in a table the longest prefix wins.
//!
//! ```text
//!  key -> rule 0: local -> Lpm -- hit --> Route
//!            | miss
//!         rule 32766: main -> Lpm -- hit --> Route
//!            | miss
//!         rule 32767: default -> ...
//! ```
//!
//! As in the kernel (net/core/fib_rules.c, net/ipv4/fib_trie.c, net/ipv6/ip6_fib.c). Of the routes with one prefix only the
//! one that the kernel would use is here; mirror chose it. What mirror could not express has [`Route::left`] or
//! [`Rule::left`] set, and sends what reaches it to the kernel.
//!
//! One trap: until a namespace sees its first change of an IPv4 rule, the kernel keeps local and main in one trie, where the
//! longest prefix of both wins (fib_trie_table, fib_unmerge); afterwards, for good, local goes first. Which of the two holds
//! cannot be asked. Here local goes first always. That differs only where a local route covers longer routes of main
//! (`local 10.0.0.0/8` beside `10.1.0.0/16 via ...`), and is safe while local holds what is the kernel's anyway (local,
//! broadcast): the packet is punted. Routes of other kinds in IPv4's local table must therefore be `left`.

mod lpm;
mod node;
mod route;
mod rule;
mod sparse;

pub use lpm::Lpm;
pub use route::{Gateway, Nexthop, Route, RouteKind};
pub use rule::{Action, Prefix, Rule};

use super::iface::IfaceIndex;
use crate::packet::{Addr, Family};
use std::sync::Arc;

/// What a lookup is asked with.
#[derive(Clone, Copy, Debug)]
pub struct FibKey {
    /// Source address.
    pub src: Addr,
    /// Destination address: what the tables are searched for.
    pub dst: Addr,
    /// The link of arrival; `None` asks as the kernel does for source validation (its loopback).
    pub iif: Option<IfaceIndex>,
    /// TOS or traffic class.
    pub tos: u8,
}

/// What a lookup answers.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// This route, by a prefix of this length. It may be a blackhole, or [`Route::left`].
    Route(u8, &'a Arc<Route>),
    /// A rule ends it without a route: blackhole, unreachable, prohibit.
    Refused,
    /// A rule that is not carried matches what we know of the packet: only the kernel can say.
    Left(&'a Arc<str>),
    /// No rule found a route.
    Nothing,
}

/// The rules and tables of one family. Cloning shares the tables.
#[derive(Clone, Debug)]
pub struct Fib {
    /// Whose addresses these are.
    pub family: Family,
    /// In order of preference.
    pub rules: Arc<Vec<Rule>>,
    /// The tables that rules name by their place here, with their kernel numbers.
    pub tables: Vec<(u32, Lpm<Arc<Route>>)>,
    /// The kernel's loopback, which a rule with `iif lo` means: what a [`FibKey`] without a link of arrival comes from.
    pub loopback: Option<IfaceIndex>,
}

/// The kernel's numbers of the tables that the default rules name.
pub const TABLE_LOCAL: u32 = 255;
/// See [`TABLE_LOCAL`].
pub const TABLE_MAIN: u32 = 254;
/// See [`TABLE_LOCAL`].
pub const TABLE_DEFAULT: u32 = 253;

/// The kernel's table of this number as `ip` names it, where nobody has named others.
pub fn table_name(number: u32) -> String {
    match number {
        TABLE_DEFAULT => "default".into(),
        TABLE_MAIN => "main".into(),
        TABLE_LOCAL => "local".into(),
        other => other.to_string(),
    }
}

impl Fib {
    /// Neither rules nor tables: every lookup finds nothing.
    pub fn new(family: Family) -> Self {
        Fib {
            family,
            rules: Arc::default(),
            tables: Vec::new(),
            loopback: None,
        }
    }

    /// The kernel's rules of a new namespace, and their tables, empty.
    pub fn with_default_rules(family: Family) -> Self {
        let mut fib = Fib::new(family);
        let mut rules = vec![
            Rule::lookup(0, fib.table(TABLE_LOCAL)),
            Rule::lookup(32766, fib.table(TABLE_MAIN)),
        ];
        if family == Family::V4 {
            rules.push(Rule::lookup(32767, fib.table(TABLE_DEFAULT)));
        }
        fib.rules = Arc::new(rules);
        fib
    }

    /// The place in [`tables`](Fib::tables) of the table with this kernel number; made, empty, if it was not there.
    pub fn table(&mut self, number: u32) -> usize {
        self.tables
            .iter()
            .position(|table| table.0 == number)
            .unwrap_or_else(|| {
                self.tables.push((number, Lpm::new(self.family.bits())));
                self.tables.len() - 1
            })
    }

    /// Whether nothing but the destination decides: every rule is for all packets, and carried.
    pub fn is_by_destination(&self) -> bool {
        self.rules.iter().all(Rule::is_for_all)
    }

    /// Whether some rule may tell packets by their TOS or traffic class.
    pub fn looks_at_tos(&self) -> bool {
        self.rules.iter().any(|rule| rule.tos != 0 || rule.left.is_some())
    }

    /// What the kernel would find for `key` (fib_rules_lookup). Bounded by the number of rules: a goto only goes forward.
    #[inline]
    pub fn lookup(&self, key: &FibKey) -> Found<'_> {
        let mut at = 0;
        while let Some(rule) = self.rules.get(at) {
            at += 1;
            // The default rules select everything: then this is all there is to ask of them.
            if !rule.is_for_all() {
                if self.matches(rule, key) == rule.invert {
                    continue;
                }
                if let Some(why) = &rule.left {
                    return Found::Left(why);
                }
            }
            match rule.action {
                Action::Lookup(table) => {
                    if let Some((len, route)) = self.lookup_table(table, key.dst, rule.suppress_prefix_len) {
                        return Found::Route(len, route);
                    }
                }
                Action::Refuse => return Found::Refused,
                Action::Goto(target) => at = at.max(target),
                Action::Nop => {}
            }
        }
        Found::Nothing
    }

    /// Brings what lookups of a burst's destinations will read into the caches; see [`Lpm::warm`].
    pub fn warm(&self, burst: &[Addr]) {
        self.tables.iter().for_each(|(_, table)| table.warm(burst));
    }

    /// The route that a rule finds in its table, if it does not send the search on to the next rule.
    #[inline]
    fn lookup_table(&self, table: usize, dst: Addr, suppress_prefix_len: i16) -> Option<(u8, &Arc<Route>)> {
        let (len, route) = self.tables.get(table)?.1.lookup(dst)?;
        // What mirror could not express might not be what the kernel finds here: it ends the search, whatever it looks like.
        if route.left.is_none() {
            match route.kind {
                RouteKind::Throw => return None,
                // An error ends the search even where a route of its length would be suppressed.
                RouteKind::Refused => {}
                _ if i16::from(len) <= suppress_prefix_len => return None,
                _ => {}
            }
        }
        Some((len, route))
    }

    /// Whether the selectors of `rule` that are carried match, inverted or not (fib_rule_match, fib4_rule_match, fib6_rule_match).
    fn matches(&self, rule: &Rule, key: &FibKey) -> bool {
        // Of IPv4's TOS the kernel compares the three bits that RFC 791's precedence left (INET_DSCP_LEGACY_TOS_MASK); of
        // IPv6's traffic class the whole DSCP. Neither compares ECN.
        let tos = key.tos & if self.family == Family::V4 { 0x1c } else { 0xfc };
        (rule.iif.is_none() || rule.iif == key.iif.or(self.loopback))
            && (rule.tos == 0 || rule.tos == tos)
            && rule.from.contains(self.family, key.src)
            && rule.to.contains(self.family, key.dst)
    }
}

#[cfg(test)]
mod tests;
