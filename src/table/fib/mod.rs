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

mod lpm;
mod route;
mod rule;

pub use lpm::Lpm;
pub use route::{Gateway, Nexthop, Route, RouteKind};
pub use rule::{Action, Prefix, Rule};

use super::iface::IfaceIndex;
use crate::packet::Addr;
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
#[derive(Clone, Debug, Default)]
pub struct Fib {
    /// In order of preference.
    pub rules: Arc<Vec<Rule>>,
    /// The tables that rules name by their place here, with their kernel numbers.
    pub tables: Vec<(u32, Lpm<Arc<Route>>)>,
}
