//! Chains (`nft_chain_attributes`): their names, and where base chains are hooked.
//!
//! As nf_tables_fill_chain_info and nft_dump_basechain_hook in net/netfilter/nf_tables_api.c.

use super::super::nlattr::{Attrs, get_be32, get_str};
use crate::table::rules::program::{BaseChain, ChainType};

const NF_ACCEPT: u32 = 1;
/// NFT_CHAIN_HW_OFFLOAD.
const HW_OFFLOAD: u32 = 2;

/// The base chain that these attributes tell of; none if it is a regular one. A policy that is not accept drops. Its counter,
/// if it has one, is not here: see [`counts`].
pub(super) fn base(attrs: &Attrs) -> Option<BaseChain> {
    let number = |attrs: &Attrs, kind| attrs.find(kind).and_then(get_be32);
    let hook = Attrs(attrs.find(4)?);
    let flags = number(attrs, 10).unwrap_or(0);
    Some(BaseChain {
        hook: number(&hook, 1)?,
        priority: number(&hook, 2).unwrap_or(0).cast_signed(),
        kind: match get_str(attrs.find(7).unwrap_or_default()).as_str() {
            "filter" => ChainType::Filter,
            "nat" => ChainType::Nat,
            "route" => ChainType::Route,
            _ => ChainType::Other,
        },
        policy_drop: number(attrs, 5) != Some(NF_ACCEPT),
        devices: devices(&hook),
        counter: None,
        offload: flags & HW_OFFLOAD != 0,
        order: [u32::MAX; 2],
    })
}

/// Whether a base chain counts what reaches its policy.
pub(super) fn counts(attrs: &Attrs) -> bool {
    attrs.find(8).is_some()
}

/// The devices of a hook: a single one, or a list, in which newer kernels have prefixes.
fn devices(hook: &Attrs) -> Box<[Box<str>]> {
    let list = Attrs(hook.find(4).unwrap_or_default());
    let listed: Box<[Box<str>]> = list
        .map(|(kind, name)| if kind == 1 { get_str(name) } else { get_str(name) + "*" }.into())
        .collect();
    match hook.find(3) {
        Some(single) if listed.is_empty() => [get_str(single).into()].into(),
        _ => listed,
    }
}
