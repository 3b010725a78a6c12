//! What of a rule is carried here: which expressions are the kernel's whatever the packet, and what of a packet a rule looks
//! at, so that its decision may be kept.
//!
//! ```text
//!  reached   of a rule's expressions those that packets of a family come to: not what is behind `meta nfproto` of the other
//!  kernels   why an expression is the kernel's: every packet that reaches it is punted
//!  depends   the same for all packets of a flow and state | and of a flow with ports | each packet has its own
//! ```
//!
//! The lists of keys are those that `stage::rules` answers; a test there compares them. An expression that is the kernel's
//! decides nothing here, so that what is before it alone tells whether a flow's packets reach it.

use super::expr::{Base, BitOp, CmpOp, Expr, ExthdrDo, LookupInto, Register, Reject, Verdict};
use super::keys::{CtKey, MetaKey};
use super::program::{ChainId, NFPROTO_IPV4, ObjectKind, Rule, Ruleset, SetId};
use super::set::Data;
use super::stateful::Stateful;
use crate::table::conntrack::Status;

/// What `meta` loads and is known of a forwarded packet.
pub const META: &[MetaKey] = &[
    MetaKey::Len,
    MetaKey::Protocol,
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
    MetaKey::Pkttype,
    MetaKey::Cgroup,
    MetaKey::Secpath,
];

/// What `ct` loads and is known of a forwarded packet.
pub const CT: &[CtKey] = &[
    CtKey::State,
    CtKey::Direction,
    CtKey::Status,
    CtKey::Mark,
    CtKey::Expiration,
    CtKey::L3protocol,
    CtKey::Src,
    CtKey::Dst,
    CtKey::Protocol,
    CtKey::ProtoSrc,
    CtKey::ProtoDst,
    CtKey::Zone,
    CtKey::SrcIp,
    CtKey::DstIp,
    CtKey::SrcIp6,
    CtKey::DstIp6,
];

/// What a decision depends on: the later, the less of it can be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depends {
    /// On what all packets of a connection, direction and state have in common.
    #[default]
    Flow,
    /// Also on the first four bytes of the transport header, which are constant where they are ports.
    FlowWithPorts,
    /// On each packet, or on a memory. (Counters only count: a decision knows which, see `stage::flow`.)
    Packet,
}

/// The expressions of `rule` that packets of a family (NFPROTO_IPV4 or _IPV6) may come to.
pub fn reached(rule: &Rule, nfproto: u8) -> &[Expr] {
    let is_other = |pair: &[Expr]| match pair {
        [
            Expr::Meta {
                key: MetaKey::Nfproto,
                dest,
            },
            Expr::Cmp {
                source,
                op: CmpOp::Eq,
                data,
            },
        ] => source == dest && **data != [nfproto],
        _ => false,
    };
    let end = rule.exprs.windows(2).position(is_other);
    &rule.exprs[..end.map_or(rule.exprs.len(), |at| at + 1)]
}

/// The chains that packets of a family may come to from these base chains, which are among them.
pub fn reachable(ruleset: &Ruleset, bases: &[ChainId], nfproto: u8) -> Vec<ChainId> {
    let mut found = bases.to_vec();
    let mut seen = vec![false; ruleset.chains.len()];
    bases.iter().for_each(|base| seen[base.0 as usize] = true);
    let mut next = 0;
    while let Some(&chain) = found.get(next) {
        next += 1;
        let exprs = ruleset[chain].rules.iter().flat_map(|rule| reached(rule, nfproto));
        exprs.for_each(|expr| {
            each_target(ruleset, expr, |to| {
                if !std::mem::replace(&mut seen[to.0 as usize], true) {
                    found.push(to);
                }
            });
        });
    }
    found
}

fn each_target(ruleset: &Ruleset, expr: &Expr, mut each: impl FnMut(ChainId)) {
    let mut verdict = |verdict: &Verdict| {
        if let Verdict::Jump(to) | Verdict::Goto(to) = verdict {
            each(*to);
        }
    };
    match expr {
        Expr::Verdict(it) => verdict(it),
        Expr::Lookup {
            set,
            into: LookupInto::Verdict,
            ..
        } => ruleset[*set].data().for_each(|data| {
            if let Data::Verdict(it) = data {
                verdict(it);
            }
        }),
        _ => {}
    }
}

/// Why every packet that reaches `expr` is the kernel's, if it is.
pub fn kernels(ruleset: &Ruleset, expr: &Expr) -> Option<String> {
    if let Some(name) = ruleset.uncarried(expr) {
        return Some(name.to_owned());
    }
    let counts = |set: SetId| {
        let set = &ruleset[set];
        !set.states().is_empty() || !set.spec.carries.is_empty()
    };
    match expr {
        Expr::Meta { key, .. } if !META.contains(key) => Some(format!("meta {}", key.word())),
        Expr::Ct { key, .. } if !CT.contains(key) => Some(format!("ct {}", key.word())),
        Expr::MetaSet { key, .. } => Some(format!("meta {} set", key.word())),
        Expr::CtSet { key, .. } => Some(format!("ct {} set", key.word())),
        Expr::PayloadStore { .. } => Some("payload set".into()),
        Expr::Exthdr {
            act: ExthdrDo::Store(_) | ExthdrDo::Strip,
            ..
        } => Some("tcp option set".into()),
        Expr::Lookup { set, .. } | Expr::ObjrefMap { set, .. } if counts(*set) => {
            Some("a set whose elements have a memory".into())
        }
        Expr::NumgenRandom { .. } => Some("numgen random".into()),
        Expr::Fib { .. } => Some("fib".into()),
        Expr::Rt { .. } => Some("rt".into()),
        Expr::Socket { .. } => Some("socket".into()),
        Expr::Log(_) => Some("log".into()),
        Expr::Notrack => Some("notrack".into()),
        Expr::Reject(_) => Some("reject".into()),
        Expr::Nat(_) => Some("nat".into()),
        _ => None,
    }
}

/// The word of an expression that decides by a memory: it belongs to one side only. Counters do not decide.
pub fn memory(ruleset: &Ruleset, expr: &Expr) -> Option<&'static str> {
    let word = |spec: &Stateful| match spec {
        Stateful::Counter { .. } => None,
        Stateful::Quota { .. } => Some("quota"),
        Stateful::Limit(_) => Some("limit"),
        Stateful::Connlimit { .. } => Some("connlimit"),
        Stateful::Last { .. } => Some("last"),
        Stateful::Numgen { .. } => Some("numgen"),
    };
    let of_object = |kind: &ObjectKind| match kind {
        ObjectKind::State(id) => word(&ruleset[*id]),
        ObjectKind::Uncarried(_) => None,
    };
    match expr {
        Expr::State(id) => word(&ruleset[*id]),
        Expr::Objref(object) => of_object(&ruleset[*object].kind),
        Expr::ObjrefMap { set, .. } => ruleset[*set].data().find_map(|data| match data {
            Data::Object(object) => of_object(&ruleset[*object].kind),
            _ => None,
        }),
        Expr::NumgenInc { .. } => Some("numgen"),
        _ => None,
    }
}

/// Whether `expr` may answer a TCP segment with a reset.
pub fn resets(expr: &Expr) -> bool {
    match expr {
        Expr::Reject(reject) => *reject == Reject::TcpReset,
        Expr::Uncarried(what) => what.name.contains("REJECT"),
        _ => false,
    }
}

/// Whether `rule` may look whether a connection is assured: whoever looks at its status does, unless that bit is masked away.
pub fn asks_assured(rule: &[Expr]) -> bool {
    let assured = u32::from(Status::ASSURED.0);
    let masked = |next: Option<&Expr>, dest: &Register| match next {
        Some(Expr::Bitwise {
            source,
            op: BitOp::MaskXor(mask, _),
            ..
        }) => {
            source == dest
                && mask
                    .first_chunk()
                    .is_some_and(|&mask| u32::from_ne_bytes(mask) & assured == 0)
        }
        _ => false,
    };
    rule.iter().enumerate().any(|(at, expr)| match expr {
        Expr::Ct {
            key: CtKey::Status,
            dest,
            ..
        } => !masked(rule.get(at + 1), dest),
        _ => false,
    })
}

/// What `expr` makes the decision about packets of a family depend on.
pub fn depends(ruleset: &Ruleset, expr: &Expr, nfproto: u8) -> Depends {
    if kernels(ruleset, expr).is_some() {
        return Depends::Flow;
    }
    match expr {
        Expr::Payload { base, offset, len, .. } => payload(*base, usize::from(*offset), usize::from(*len), nfproto),
        Expr::Meta { key: MetaKey::Len, .. }
        | Expr::Ct {
            key: CtKey::Status | CtKey::Mark | CtKey::Expiration,
            ..
        }
        | Expr::Exthdr { .. } => Depends::Packet,
        _ if memory(ruleset, expr).is_some() => Depends::Packet,
        Expr::Lookup { set, .. } | Expr::ObjrefMap { set, .. } if ruleset[*set].spec.timeout_ms.is_some() => {
            Depends::Packet
        }
        _ => Depends::Flow,
    }
}

/// Of a packet without options and extensions: protocol and addresses are those of its connection.
fn payload(base: Base, offset: usize, len: usize, nfproto: u8) -> Depends {
    let constant: &[std::ops::Range<usize>] = match nfproto {
        NFPROTO_IPV4 => &[9..10, 12..20],
        _ => &[6..7, 8..40],
    };
    let within = |range: &std::ops::Range<usize>| range.start <= offset && offset + len <= range.end;
    match base {
        Base::Network if constant.iter().any(within) => Depends::Flow,
        Base::Transport if offset + len <= 4 => Depends::FlowWithPorts,
        _ => Depends::Packet,
    }
}
