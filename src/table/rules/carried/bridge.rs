//! What of a rule of family bridge is carried: loads of the frame and facts of ports, bridges and VLANs, with all that compares,
//! looks up, counts and decides. What writes into the frame, asks about connections, routes or sockets, or is an extension of
//! ebtables is the kernel's.
//!
//! The list of keys is that which `stage::rules::bridge` answers; a test there compares them.

use super::super::expr::Expr;
use super::super::keys::MetaKey;
use super::super::program::Ruleset;

/// What `meta` loads and is known of a frame at a bridge.
pub const META_OF_FRAMES: &[MetaKey] = &[
    MetaKey::Len,
    MetaKey::Protocol,
    MetaKey::Priority,
    MetaKey::Mark,
    MetaKey::Iif,
    MetaKey::Oif,
    MetaKey::Iifname,
    MetaKey::Oifname,
    MetaKey::Iiftype,
    MetaKey::Oiftype,
    MetaKey::Skuid,
    MetaKey::Skgid,
    MetaKey::Nfproto,
    MetaKey::L4proto,
    MetaKey::BriIifname,
    MetaKey::BriOifname,
    MetaKey::Pkttype,
    MetaKey::Iifgroup,
    MetaKey::Oifgroup,
    MetaKey::Cgroup,
    MetaKey::Iifkind,
    MetaKey::Oifkind,
    MetaKey::BriIifpvid,
    MetaKey::BriIifvproto,
];

/// Why every frame that reaches `expr` in a chain of family bridge is the kernel's, if it is.
pub fn kernels_of_frames(ruleset: &Ruleset, expr: &Expr) -> Option<String> {
    let word = match expr {
        Expr::Meta { key, .. } if META_OF_FRAMES.contains(key) => return None,
        Expr::Ct { .. } | Expr::CtSet { .. } => "ct",
        Expr::Notrack => "notrack",
        Expr::PayloadStore { .. } => "payload set",
        Expr::Exthdr { .. } => "exthdr",
        Expr::Rt { .. } => "rt",
        Expr::Fib { .. } => "fib",
        Expr::Nat(_) => "nat",
        Expr::Match(_) | Expr::Target(_) => "an extension of ebtables",
        _ => return super::kernels(ruleset, expr),
    };
    Some(word.to_owned())
}
