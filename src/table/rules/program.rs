//! A ruleset of nf_tables as data: everything that the kernel runs for the packets of this network namespace, at one moment.
//!
//! ```text
//!  Ruleset -> tables
//!          -> chains   base: family, hook, priority, type, policy  -> rules -> exprs
//!          -> sets     keys, data, times
//!          -> objects  named counters, quotas, limits
//!          -> states   what has a memory starts from here; the memory itself is in `state`
//! ```
//!
//! Immutable (one whose sets have other elements shares all else with it), and without names where packets go: a jump, a lookup, a reference is a number that was resolved when the
//! ruleset was read, and is valid for this ruleset only. Jumps form no loop: the kernel refuses them, and whoever builds a
//! ruleset must, too; the interpreter is bounded in any case.
//!
//! As net/netfilter/nf_tables_api.c has it. Tables that are dormant have no base chains here.

use super::expr::{Expr, Stateful, Verdict};
use super::set::Set;
use std::sync::Arc;

/// NFPROTO_INET: both IP families.
pub const NFPROTO_INET: u8 = 1;
/// NFPROTO_IPV4.
pub const NFPROTO_IPV4: u8 = 2;
/// NFPROTO_BRIDGE.
pub const NFPROTO_BRIDGE: u8 = 7;
/// NFPROTO_IPV6.
pub const NFPROTO_IPV6: u8 = 10;

/// How deep chains may call each other (NFT_JUMP_STACK_SIZE).
pub const JUMPS_MAX: usize = 16;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident of $list:ident: $what:ty,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl std::ops::Index<$name> for Ruleset {
            type Output = $what;

            fn index(&self, id: $name) -> &$what {
                &self.$list[id.0 as usize]
            }
        }
    )*};
}

ids! {
    /// A table's number.
    TableId of tables: Table,
    /// A chain's number.
    ChainId of chains: Chain,
    /// A set's number.
    SetId of sets: Arc<Set>,
    /// A named object's number.
    ObjectId of objects: Object,
    /// The number of something with a memory.
    StateId of states: Stateful,
}

/// All that the kernel runs.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    /// The kernel's number of this moment.
    pub generation: u32,
    /// By their [`TableId`].
    pub tables: Arc<[Table]>,
    /// By their [`ChainId`].
    pub chains: Arc<[Chain]>,
    /// By their [`SetId`].
    pub sets: Box<[Arc<Set>]>,
    /// By their [`ObjectId`].
    pub objects: Arc<[Object]>,
    /// By their [`StateId`]: where each begins.
    pub states: Arc<[Stateful]>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// NFPROTO_*
    pub family: u8,
    /// Its name.
    pub name: Box<str>,
    /// None of its base chains is hooked.
    pub dormant: bool,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Whose.
    pub table: TableId,
    /// Its name.
    pub name: Box<str>,
    /// Where it is hooked, if it is.
    pub base: Option<BaseChain>,
    /// In order.
    pub rules: Box<[Rule]>,
}

/// What a chain is for (its `type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainType {
    /// Decides about packets.
    Filter,
    /// Decides about NAT of new connections. Run by NAT's own hook, at its own priority, whatever the chain's is.
    Nat,
    /// Routes again what it marks; for local output only.
    Route,
    /// Another one.
    Other,
}

/// Where a chain is hooked, and what becomes of packets that reach its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// NF_INET_*, or those of its family.
    pub hook: u32,
    /// The lowest runs first.
    pub priority: i32,
    /// What for.
    pub kind: ChainType,
    /// What follows its end: drop, else accept.
    pub policy_drop: bool,
    /// Of a chain on devices: their names, or prefixes with a `*`.
    pub devices: Box<[Box<str>]>,
    /// Counts what reaches its end, and so its policy.
    pub counter: Option<StateId>,
    /// It asks for hardware offload.
    pub offload: bool,
    /// Among those of one hook and one priority the lowest runs first: of IPv4 (and all others), of IPv6.
    pub order: [u32; 2],
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kernel's number, by which `nft -a` shows it.
    pub handle: u64,
    /// In order, until one breaks or decides.
    pub exprs: Box<[Expr]>,
}

/// A named object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Whose.
    pub table: TableId,
    /// Its name.
    pub name: Box<str>,
    /// What it is.
    pub kind: ObjectKind,
}

/// What a named object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Something with a memory.
    State(StateId),
    /// What is not carried: the kernel's number of its type (NFT_OBJECT_*).
    Uncarried(u32),
}

impl Ruleset {
    /// The base chains of a hook that a packet of `family` (NFPROTO_IPV4 or _IPV6; _BRIDGE for frames) meets, those of family inet too, in the
    /// order in which they run.
    pub fn bases(&self, family: u8, hook: u32) -> Vec<ChainId> {
        let of_family = |chain: &Chain| {
            let table = self[chain.table].family;
            table == family || table == NFPROTO_INET && matches!(family, NFPROTO_IPV4 | NFPROTO_IPV6)
        };
        let mut found: Vec<_> = (0..self.chains.len() as u32)
            .map(ChainId)
            .filter(|&id| of_family(&self[id]))
            .filter_map(|id| Some((self[id].base.as_ref().filter(|base| base.hook == hook)?, id)))
            .collect();
        found.sort_by_key(|(base, _)| (base.priority, base.order[usize::from(family == NFPROTO_IPV6)]));
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// Why an expression is never carried, whatever the packet: a packet that reaches it is the kernel's.
    pub fn uncarried<'a>(&'a self, expr: &'a Expr) -> Option<&'a str> {
        let opaque = |set: SetId| self[set].spec.opaque.as_deref();
        match expr {
            Expr::Uncarried(what) => Some(&what.name),
            Expr::Dynset(_) => Some("dynset"),
            Expr::Jhash { seed: None, .. } => Some("jhash without a seed"),
            Expr::Verdict(Verdict::Uncarried(_)) => Some("verdict"),
            Expr::State(id) if matches!(self[*id], Stateful::Connlimit { .. }) => Some("connlimit"),
            Expr::Objref(id) => match self[*id].kind {
                ObjectKind::Uncarried(_) => Some("object"),
                ObjectKind::State(id) => matches!(self[id], Stateful::Connlimit { .. }).then_some("connlimit"),
            },
            Expr::Lookup { set, .. } | Expr::ObjrefMap { set, .. } => opaque(*set),
            _ => None,
        }
    }

    /// A chain as an operator would look for it: `table inet fw, chain forward`.
    pub fn describe(&self, chain: ChainId) -> String {
        let (chain, table) = (&self[chain], &self[self[chain].table]);
        let family = family_word(table.family);
        format!("table {family} {}, chain {}", table.name, chain.name)
    }
}

/// nft's word for a family (NFPROTO_*).
pub fn family_word(nfproto: u8) -> &'static str {
    match nfproto {
        NFPROTO_INET => "inet",
        NFPROTO_IPV4 => "ip",
        3 => "arp",
        5 => "netdev",
        NFPROTO_BRIDGE => "bridge",
        NFPROTO_IPV6 => "ip6",
        _ => "of an unknown family",
    }
}
