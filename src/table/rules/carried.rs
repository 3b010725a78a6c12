//! What of a rule is carried here: which expressions are the kernel's whatever the packet, and what of a packet a rule looks
//! at, so that its decision may be kept.
//!
//! ```text
//!  reached   of a rule's expressions those that packets of a family come to: not what is behind `meta nfproto` of the other
//!  kernels   why an expression is the kernel's: every packet that reaches it is punted
//!  depends   the same for all packets of a flow and state | and of a flow with ports | each packet has its own
//! ```
//!
//! What frames at a bridge may ask is in `bridge`.
//!
//! The lists of keys are those that `stage::rules` answers; a test there compares them. An expression that is the kernel's
//! decides nothing here, so that what is before it alone tells whether a flow's packets reach it.

mod bridge;

pub use bridge::{META_OF_FRAMES, kernels_of_frames};

use super::expr::{Base, BitOp, ChecksumFix, CmpOp, Expr, ExthdrDo, FibFlags, LookupInto, Register, Reject, Verdict};
use super::keys::{CtKey, FibResult, MetaKey, RtKey};
use super::program::{ChainId, NFPROTO_IPV4, ObjectKind, Rule, Ruleset, SetId};
use super::set::Data;
use super::stateful::Stateful;
use super::xt::{Match, Target};
use crate::table::conntrack::Status;

/// What `meta` loads and is known of a forwarded packet.
pub const META: &[MetaKey] = &[
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
    MetaKey::Pkttype,
    MetaKey::Iifgroup,
    MetaKey::Oifgroup,
    MetaKey::Cgroup,
    MetaKey::Secpath,
    MetaKey::Iifkind,
    MetaKey::Oifkind,
];

/// What `ct` loads and is known of a forwarded packet.
pub const CT: &[CtKey] = &[
    CtKey::State,
    CtKey::Direction,
    CtKey::Status,
    CtKey::Mark,
    CtKey::Expiration,
    CtKey::Helper,
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
    /// Also on whether a TCP segment has SYN, FIN or RST: of one that has, no decision is kept, and it walks all boxes.
    FlowWithFlags,
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
        Expr::MetaSet { key, .. } if !matches!(key, MetaKey::Mark | MetaKey::Priority) => {
            Some(format!("meta {} set", key.word()))
        }
        Expr::CtSet { key, .. } if *key != CtKey::Mark => Some(format!("ct {} set", key.word())),
        Expr::PayloadStore {
            base, offset, len, fix, ..
        } if !is_written(*base, *offset, *len, *fix) => Some("payload set".into()),
        Expr::Lookup { set, .. } | Expr::ObjrefMap { set, .. } if counts(*set) => {
            Some("a set whose elements have a memory".into())
        }
        Expr::Fib { result, flags, .. } if !is_known_fib(*result, *flags) => Some("fib".into()),
        Expr::Rt { key, .. } if *key != RtKey::Tcpmss => Some(format!("rt {}", key.word())),
        Expr::Socket { .. } => Some("socket".into()),
        Expr::Log(_) => Some("log".into()),
        Expr::Reject(Reject::TcpReset) => Some("reject with tcp reset".into()),
        Expr::Reject(_) => Some("reject".into()),
        _ => None,
    }
}

/// Whether it answers with a TCP reset, and so has the kernel close the connection.
pub fn resets(expr: &Expr) -> bool {
    /// IP6T_TCP_RESET and IPT_TCP_RESET of the kernel's uapi, not told apart by family.
    const TCP_RESETS: [[u8; 4]; 2] = [6u32.to_ne_bytes(), 7u32.to_ne_bytes()];
    match expr {
        Expr::Reject(Reject::TcpReset) => true,
        Expr::Uncarried(what) => what.xt.as_ref().is_some_and(|xt| {
            let with = xt.info.first_chunk::<4>();
            xt.target && &*xt.name == "REJECT" && with.is_some_and(|with| TCP_RESETS.contains(with))
        }),
        _ => false,
    }
}

/// The word of an expression that decides by a memory: it belongs to one side only. Counters do not decide.
pub fn memory(ruleset: &Ruleset, expr: &Expr) -> Option<&'static str> {
    let word = |spec: &Stateful| match spec {
        Stateful::Counter { .. } | Stateful::Choice => None,
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
        Expr::Match(it) => it.asks_assured(),
        _ => false,
    })
}

/// Whether it is one of those questions to `fib` that are answered: the type of an address, whatever the links; the link that
/// the routes name for one, which the kernel lets nobody ask by the link of departure.
fn is_known_fib(result: FibResult, flags: FibFlags) -> bool {
    let links = FibFlags::IIF | FibFlags::OIF | FibFlags::MARK | FibFlags::PRESENT;
    match result {
        FibResult::Addrtype => flags.0 & links == 0,
        FibResult::Oif | FibResult::Oifname => flags.0 & FibFlags::OIF == 0,
    }
}

/// Whether it may be a store that is carried: to TOS, traffic class or hop limit. A checksum tells the families apart.
fn is_written(base: Base, offset: u8, len: u8, fix: ChecksumFix) -> bool {
    let place = (offset, len);
    let in_header = match fix.own {
        Some(10) => matches!(place, (0 | 8, 2)),
        None => matches!(place, (0, 1 | 2) | (1, 1) | (6, 2) | (7, 1)),
        Some(_) => false,
    };
    base == Base::Network && !fix.pseudo_header && in_header
}

/// Whether it can be done, or answered, for some packets only.
pub fn may_not_know(expr: &Expr) -> bool {
    match expr {
        Expr::Fib { result, .. } => matches!(result, FibResult::Oif | FibResult::Oifname),
        Expr::PayloadStore { .. } | Expr::Rt { .. } => true,
        Expr::Ct { key, .. } => matches!(key, CtKey::ProtoSrc | CtKey::ProtoDst),
        Expr::Exthdr { act, .. } => matches!(act, ExthdrDo::Store(_) | ExthdrDo::Strip),
        Expr::Match(it) => it.may_not_know(),
        Expr::Target(it) => matches!(it, Target::Tcpmss(_)),
        _ => false,
    }
}

/// Whether it changes the packet.
pub fn rewrites(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::PayloadStore { .. }
            | Expr::Exthdr {
                act: ExthdrDo::Store(_) | ExthdrDo::Strip,
                ..
            }
            | Expr::Target(Target::Tcpmss(_))
    )
}

/// Whether it looks at the mark of a connection, or sets it: a decision that came by it holds for that mark alone, and is
/// kept only if it leaves the mark as it was. See `stage::flow`.
pub fn has_ct_mark(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Ct { key: CtKey::Mark, .. }
            | Expr::CtSet { key: CtKey::Mark, .. }
            | Expr::Match(Match::Connmark(_))
            | Expr::Target(Target::Connmark(_))
    )
}

/// What a rule makes the decision about packets of a family depend on.
pub fn depends(ruleset: &Ruleset, rule: &Rule, nfproto: u8) -> Depends {
    let mut worst = Depends::Flow;
    let all = reached(rule, nfproto);
    let mut exprs = all;
    loop {
        exprs = match exprs {
            [] => return worst,
            [load, mask, Expr::Cmp { source, op, data }, rest @ ..]
                if is_of_flags(load, mask, *source, *op, data)
                    && asks_for_tcp(&all[..all.len() - exprs.len()], nfproto) =>
            {
                worst = worst.max(Depends::FlowWithFlags);
                // Without those flags the rest is reached or not.
                if !op.holds([0].as_slice().cmp(data)) {
                    return worst;
                }
                rest
            }
            [
                Expr::Ct {
                    key: CtKey::Status,
                    dest,
                    ..
                },
                Expr::Bitwise {
                    source,
                    op: BitOp::MaskXor(mask, _),
                    ..
                },
                rest @ ..,
            ] if dest == source
                && mask
                    .first_chunk()
                    .is_some_and(|&mask| is_constant_status(u32::from_ne_bytes(mask))) =>
            {
                rest
            }
            [Expr::Match(it), ..] if it.is_of_edges() => return worst.max(it.depends()),
            [expr, rest @ ..] => {
                worst = worst.max(depends_of(ruleset, expr, nfproto));
                rest
            }
        }
    }
}

/// Whether these bits of a connection's status are the same for all its packets: whether it is expected, and what NAT decided.
pub(super) fn is_constant_status(mask: u32) -> bool {
    let nat = Status::SRC_NAT | Status::DST_NAT | Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    let constant = u32::from((Status::EXPECTED | nat).0);
    mask & !constant == 0
}

/// Whether only TCP comes behind these.
fn asks_for_tcp(exprs: &[Expr], nfproto: u8) -> bool {
    const TCP: &[u8] = &[6];
    /// Where the headers of IP have the protocol.
    const PROTOCOL_AT: [u8; 2] = [9, 6];
    let at = PROTOCOL_AT[usize::from(nfproto != NFPROTO_IPV4)];
    exprs.windows(2).any(|pair| {
        let [
            load,
            Expr::Cmp {
                source,
                op: CmpOp::Eq,
                data,
            },
        ] = pair
        else {
            return false;
        };
        let loaded = match load {
            Expr::Meta {
                key: MetaKey::L4proto,
                dest,
            } => dest,
            Expr::Payload {
                base: Base::Network,
                offset,
                len: 1,
                dest,
            } if *offset == at => dest,
            _ => return false,
        };
        source == loaded && **data == *TCP
    })
}

/// Whether these two load the TCP flags into `into`, and of a segment without FIN, SYN and RST it is known how they compare:
/// the others are masked away, or what is asked for has one of the three.
fn is_of_flags(load: &Expr, mask: &Expr, into: Register, op: CmpOp, data: &[u8]) -> bool {
    const FLAGS_AT: u8 = 13;
    const EDGES: u8 = 0x07;
    const OTHERS: u8 = !EDGES;
    let (
        Expr::Payload {
            base: Base::Transport,
            offset: FLAGS_AT,
            len: 1,
            dest: loaded,
        },
        Expr::Bitwise {
            source,
            dest,
            len: 1,
            op: BitOp::MaskXor(mask, xor),
        },
    ) = (load, mask)
    else {
        return false;
    };
    let asks_for_edges = matches!(op, CmpOp::Eq | CmpOp::Neq) && data.first().is_some_and(|data| data & EDGES != 0);
    loaded == source
        && *dest == into
        && (asks_for_edges || mask.first().is_some_and(|mask| mask & OTHERS == 0))
        && xor.iter().all(|x| *x == 0)
}

/// What `expr` makes it depend on.
fn depends_of(ruleset: &Ruleset, expr: &Expr, nfproto: u8) -> Depends {
    if kernels(ruleset, expr).is_some() {
        return Depends::Flow;
    }
    match expr {
        Expr::Payload { base, offset, len, .. } => payload(*base, usize::from(*offset), usize::from(*len), nfproto),
        Expr::Meta {
            key: MetaKey::Len | MetaKey::Priority,
            ..
        }
        | Expr::PayloadStore { .. }
        | Expr::Ct {
            key: CtKey::Status | CtKey::Expiration,
            ..
        }
        | Expr::Exthdr { .. }
        | Expr::NumgenRandom { modulus: 2.., .. }
        | Expr::Chance { .. } => Depends::Packet,
        // What is to be changed was or was not in the packet.
        Expr::Target(Target::Tcpmss(_)) => Depends::Packet,
        Expr::Match(it) => it.depends(),
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
