//! A base chain of nf_tables: where it is hooked, and what of it could stand in the path of a forwarded packet.
//!
//! As net/netfilter/nf_tables_api.c (nf_tables_fill_chain_info, nft_chain_parse_hook). Its use count (NFTA_CHAIN_USE) is not asked: a
//! batch that is just prepared, and may be dropped again, changes it. Devices of a chain on devices are names, or prefixes since
//! Linux 6.17.

use super::super::nlattr::{Attrs, get_be32, get_str};
use super::nft::{
    NF_INET_FORWARD, NF_INET_INGRESS, NFPROTO_ARP, NFPROTO_BRIDGE, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6,
    NFPROTO_NETDEV, text, word,
};
use crate::table::rules::live::{BridgePoint, Point};
use crate::table::rules::program::ChainType;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// NFT_CHAIN_HW_OFFLOAD.
const HW_OFFLOAD: u32 = 2;

/// See the file's head.
#[derive(Debug)]
pub(super) struct BaseChain {
    pub(super) family: u8,
    pub(super) hook: u32,
    /// Names of devices, or prefixes with a `*`, of a chain on devices.
    pub(super) devices: Vec<String>,
    /// What and where it is, for an operator.
    pub(super) text: String,
    /// What of the chain itself, beside its rules, is not carried.
    strange: Option<&'static str>,
}

/// What a chain is to a forwarded packet.
#[derive(Debug)]
pub(super) enum Judged {
    /// Nothing.
    Harmless,
    /// It stands in the path.
    InPath(BaseChain),
}

impl BaseChain {
    /// Reads a chain (`nft_chain_attributes`) of a table that is not dormant, with so many rules.
    pub(super) fn read(family: u8, attrs: &Attrs, rules: usize) -> Judged {
        let Some((hook_attrs, hook)) = hook(attrs) else {
            return Judged::Harmless;
        };
        let place = match (family, hook) {
            (NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET, 0) => "prerouting",
            // ARP is always the kernel's.
            (NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET, 1 | 3) | (NFPROTO_ARP, _) => return Judged::Harmless,
            (NFPROTO_BRIDGE, 0) => "prerouting",
            (NFPROTO_BRIDGE, 1) => "input",
            (NFPROTO_BRIDGE, 2) => "forward",
            (NFPROTO_BRIDGE, 3) => "output",
            (NFPROTO_BRIDGE, 4) => "postrouting",
            (NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET, NF_INET_FORWARD) => "forward",
            (NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET, 4) => "postrouting",
            (NFPROTO_INET, NF_INET_INGRESS) | (NFPROTO_NETDEV, 0) => "ingress",
            (NFPROTO_NETDEV, 1) => "egress",
            _ => "an unknown hook",
        };
        let policy = attrs.find(5).and_then(get_be32);
        let priority = hook_attrs.find(2).and_then(get_be32).map_or(0, u32::cast_signed);
        let kind = match &*text(attrs, 7) {
            "filter" => ChainType::Filter,
            "nat" => ChainType::Nat,
            _ => ChainType::Other,
        };
        let routed = matches!(family, NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET) && hook != NF_INET_INGRESS;
        let of_bridge =
            family == NFPROTO_BRIDGE && kind == ChainType::Filter && BridgePoint::of(hook, priority).is_some();
        let has_point = routed && Point::of(hook, kind, priority).is_some() || of_bridge;
        // An empty one that counts is run for that alone, where it can be.
        let counts = has_point && attrs.find(8).is_some();
        if rules == 0 && policy == Some(NF_ACCEPT) && !counts {
            return Judged::Harmless;
        }
        let what = match rules {
            0 if policy == Some(NF_ACCEPT) => "a counter".to_owned(),
            0 => "policy drop".to_owned(),
            1 => "1 rule".to_owned(),
            n => format!("{n} rules"),
        };
        let [table, name] = [text(attrs, 1), text(attrs, 3)];
        let flags = attrs.find(10).and_then(get_be32).unwrap_or(0);
        let strange = match () {
            () if kind == ChainType::Other => Some("another type than filter or nat"),
            () if flags & HW_OFFLOAD != 0 => Some("hardware offload"),
            () if !matches!(policy, Some(NF_ACCEPT | NF_DROP)) => Some("an unknown policy"),
            () => None,
        };
        let mut text = format!(
            "nft table {} {table}, chain {name}: base chain at {place} with {what}",
            word(family)
        );
        let is_run = routed || family == NFPROTO_BRIDGE;
        let strange = match has_point {
            false if is_run && strange.is_none() => Some("a hook or priority at which it is not carried"),
            _ => strange,
        };
        if is_run {
            text += &strange.map_or(String::new(), |strange| format!(" and {strange}"));
        }
        Judged::InPath(BaseChain {
            family,
            hook,
            devices: devices(&hook_attrs),
            text,
            strange,
        })
    }

    /// Whether it is a chain of type nat of a family that is forwarded.
    pub(super) fn is_nat(family: u8, attrs: &Attrs) -> bool {
        let routed = matches!(family, NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET);
        routed && hook(attrs).is_some() && text(attrs, 7) == "nat"
    }

    /// Whether its rules are run here.
    pub(super) fn is_carried(&self) -> bool {
        let is_run = matches!(self.family, NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET | NFPROTO_BRIDGE);
        is_run && (self.hook != NF_INET_INGRESS || self.family == NFPROTO_BRIDGE) && self.strange.is_none()
    }
}

/// The hook's attributes and number, of a base chain.
fn hook<'a>(attrs: &Attrs<'a>) -> Option<(Attrs<'a>, u32)> {
    let hook = Attrs(attrs.find(4)?);
    let number = hook.find(1).and_then(get_be32)?;
    Some((hook, number))
}

/// The devices of a hook: the first one stands alone, all of them in a list, newer kernels have prefixes.
pub(super) fn devices(hook: &Attrs) -> Vec<String> {
    let mut devices: Vec<_> = hook.find(3).map(get_str).into_iter().collect();
    for (kind, name) in Attrs(hook.find(4).unwrap_or_default()) {
        devices.push(if kind == 1 { get_str(name) } else { get_str(name) + "*" });
    }
    devices
}
