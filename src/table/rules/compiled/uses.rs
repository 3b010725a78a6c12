//! Which registers an expression reads and writes: so that it is known which rules stand for themselves.
//!
//! The kernel refuses rules that read what they have not written (nft_parse_register_load), so that what earlier rules left in
//! registers is never seen. The compiled form, which spares most of what those would load, relies on that, and so looks first.

use super::super::expr::{BitOp, Expr, ExthdrDo, LookupInto, Operand, REGISTERS_LEN, Register, Verdict};
use super::super::keys::FibResult;
use super::super::program::{NFPROTO_INET, NFPROTO_IPV4, Ruleset};
use super::super::set::DataKind;
use super::super::xt::Target;
use super::load::Source;

/// Registers, a bit for each word.
type Words = u32;

/// One that nobody writes.
const NOWHERE: Words = 1 << 31;

/// Whether `exprs` read nothing that they have not written, where a packet of a family runs them.
pub(super) fn stand_alone(ruleset: &Ruleset, exprs: &[Expr], nfproto: u8) -> bool {
    let mut written: Words = 0;
    let reached = exprs.iter().position(ends).map_or(exprs.len(), |at| at + 1);
    exprs[..reached].iter().all(|expr| {
        let alone = reads(ruleset, expr, nfproto) & !written == 0;
        written |= writes(ruleset, expr, nfproto) & !NOWHERE;
        alone
    })
}

/// Whether it sets something that later loads may see. Like what follows, without a rest of all others: an expression that
/// is new must be looked at here.
pub(super) fn sets(expr: &Expr) -> bool {
    match expr {
        Expr::MetaSet { .. } | Expr::CtSet { .. } | Expr::PayloadStore { .. } | Expr::Notrack => true,
        Expr::Exthdr { act, .. } => matches!(act, ExthdrDo::Store(_) | ExthdrDo::Strip),
        Expr::Target(target) => match target {
            Target::Mark { .. } | Target::Connmark(_) | Target::Tcpmss(_) => true,
            Target::Nat(_) => false,
        },
        Expr::Immediate { .. }
        | Expr::Verdict(_)
        | Expr::Payload { .. }
        | Expr::Meta { .. }
        | Expr::Ct { .. }
        | Expr::Bitwise { .. }
        | Expr::Byteorder { .. }
        | Expr::Cmp { .. }
        | Expr::Range { .. }
        | Expr::Lookup { .. }
        | Expr::Dynset(_)
        | Expr::State(_)
        | Expr::Objref(_)
        | Expr::ObjrefMap { .. }
        | Expr::NumgenInc { .. }
        | Expr::NumgenRandom { .. }
        | Expr::Chance { .. }
        | Expr::Jhash { .. }
        | Expr::Fib { .. }
        | Expr::Rt { .. }
        | Expr::Socket { .. }
        | Expr::Log(_)
        | Expr::Reject(_)
        | Expr::Nat(_)
        | Expr::Match(_)
        | Expr::Uncarried(_) => false,
    }
}

/// Whether nothing behind it is ever run.
fn ends(expr: &Expr) -> bool {
    match expr {
        Expr::Verdict(verdict) => *verdict != Verdict::Continue,
        // What it would write is not known, either.
        Expr::Uncarried(_) | Expr::Dynset(_) | Expr::Reject(_) => true,
        _ => false,
    }
}

fn words(first: Register, len: usize) -> Words {
    if first.start() + len > REGISTERS_LEN {
        return NOWHERE;
    }
    let count = len.div_ceil(4) as u32;
    ((1 << count) - 1) << (first.start() / 4)
}

fn address_len(nfproto: u8) -> usize {
    if nfproto == NFPROTO_IPV4 { 4 } else { 16 }
}

fn reads(ruleset: &Ruleset, expr: &Expr, nfproto: u8) -> Words {
    match expr {
        Expr::PayloadStore { source, len, .. }
        | Expr::Byteorder { source, len, .. }
        | Expr::Jhash { source, len, .. } => words(*source, usize::from(*len)),
        Expr::MetaSet { source, .. } => words(*source, 4),
        Expr::CtSet { key, source, .. } => words(*source, key.width()),
        Expr::Exthdr {
            act: ExthdrDo::Store(source),
            ..
        } => words(*source, 4),
        Expr::Bitwise { source, len, op, .. } => {
            let other = match op {
                BitOp::And(Operand::Register(other))
                | BitOp::Or(Operand::Register(other))
                | BitOp::Xor(Operand::Register(other)) => words(*other, usize::from(*len)),
                _ => 0,
            };
            words(*source, usize::from(*len)) | other
        }
        Expr::Cmp { source, data, .. } => words(*source, data.len()),
        Expr::Range { source, from, to, .. } => words(*source, from.len().max(to.len())),
        Expr::Lookup { set, key, .. } | Expr::ObjrefMap { set, key } => {
            words(*key, usize::from(ruleset[*set].spec.key_len))
        }
        Expr::Nat(nat) if nat.family == NFPROTO_INET || nat.family == nfproto => {
            let addresses = nat.addresses.map_or(0, |(first, last)| {
                words(first, address_len(nfproto)) | words(last, address_len(nfproto))
            });
            let ports = nat.ports.map_or(0, |(first, last)| words(first, 2) | words(last, 2));
            addresses | ports
        }
        // It ends the rule here.
        Expr::Dynset(_) | Expr::Uncarried(_) => 0,
        Expr::Immediate { .. }
        | Expr::Verdict(_)
        | Expr::Payload { .. }
        | Expr::Meta { .. }
        | Expr::Ct { .. }
        | Expr::Exthdr { .. }
        | Expr::State(_)
        | Expr::Objref(_)
        | Expr::NumgenInc { .. }
        | Expr::NumgenRandom { .. }
        | Expr::Chance { .. }
        | Expr::Fib { .. }
        | Expr::Rt { .. }
        | Expr::Socket { .. }
        | Expr::Log(_)
        | Expr::Notrack
        | Expr::Reject(_)
        | Expr::Nat(_)
        | Expr::Match(_)
        | Expr::Target(_) => 0,
    }
}

fn writes(ruleset: &Ruleset, expr: &Expr, nfproto: u8) -> Words {
    if let Some((source, dest)) = Source::of(expr) {
        return words(dest, source.width(nfproto));
    }
    match expr {
        Expr::Immediate { dest, data } => words(*dest, data.len()),
        Expr::Payload { len, dest, .. } => words(*dest, usize::from(*len)),
        Expr::Exthdr { len, act, .. } => match act {
            ExthdrDo::Load(dest) => words(*dest, usize::from(*len)),
            ExthdrDo::Present(dest) => words(*dest, 4),
            ExthdrDo::Store(_) | ExthdrDo::Strip => 0,
        },
        Expr::Bitwise { dest, len, .. } => words(*dest, usize::from(*len)),
        // Whole words: what it does not fill keeps what it had.
        Expr::Byteorder { dest, len, size, .. } => {
            let whole = usize::from(len - len % (*size).max(1));
            words(*dest, whole - whole % 4)
        }
        Expr::Lookup {
            set,
            into: LookupInto::Register(dest),
            ..
        } => match ruleset[*set].spec.data {
            DataKind::Value(len) => words(*dest, usize::from(len)),
            _ => 0,
        },
        Expr::NumgenInc { dest, .. }
        | Expr::NumgenRandom { dest, .. }
        | Expr::Jhash { dest, .. }
        | Expr::Socket { dest, .. } => words(*dest, 4),
        Expr::Fib { result, dest, .. } => match result {
            FibResult::Oifname => words(*dest, 16),
            _ => words(*dest, 4),
        },
        Expr::Rt { key, dest } => words(*dest, key.width()),
        Expr::Meta { .. } | Expr::Ct { .. } => NOWHERE, // a load, which is above
        Expr::Verdict(_)
        | Expr::PayloadStore { .. }
        | Expr::MetaSet { .. }
        | Expr::CtSet { .. }
        | Expr::Cmp { .. }
        | Expr::Range { .. }
        | Expr::Lookup { .. }
        | Expr::Dynset(_)
        | Expr::State(_)
        | Expr::Objref(_)
        | Expr::ObjrefMap { .. }
        | Expr::Log(_)
        | Expr::Notrack
        | Expr::Reject(_)
        | Expr::Nat(_)
        | Expr::Match(_)
        | Expr::Chance { .. }
        | Expr::Target(_)
        | Expr::Uncarried(_) => 0,
    }
}
