//! Expressions that act: log, notrack, reject, nat, masq, redir.
//!
//! As the dump functions of net/netfilter/nft_{log,reject,nat,masq,redir}.c. Of the three that translate, the model has one
//! with a kind: masq and redir have no addresses, and hold for both families. A range of one value is first and last.

use super::super::fields::Fields;
use crate::table::rules::expr::{Expr, Log, Nat, NatKind, Register, Reject};
use crate::table::rules::program::{NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6};

/// NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED, which the registers say, and all that there are (NF_NAT_RANGE_MASK).
const BY_REGISTERS: u32 = 3;
const RANGE_MASK: u32 = 0x7f;

/// One of them.
pub(super) fn decode(name: &str, data: &[u8]) -> Option<Expr> {
    match name {
        "log" => log(data),
        "notrack" => Fields::<1>::of(data).map(|_| Expr::Notrack),
        "reject" => reject(data),
        "nat" => nat(data),
        "masq" => masq(data),
        "redir" => redir(data),
        _ => None,
    }
}

fn log(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<7>::of(data)?;
    let group = if fields.has(1) { Some(fields.u16(1)?) } else { None };
    let prefix = if fields.has(2) { fields.text(2)? } else { "" };
    Some(Expr::Log(Log {
        prefix: prefix.into(),
        group,
    }))
}

fn reject(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<3>::of(data)?;
    Some(Expr::Reject(match fields.u32(1)? {
        0 => Reject::Icmp(fields.u8(2)?),
        1 => Reject::TcpReset,
        2 => Reject::Icmpx(fields.u8(2).filter(|code| *code <= 3)?),
        _ => return None,
    }))
}

/// First and last register of a range; the last is the first where it is not there. Outer None if not understood.
fn range<const N: usize>(fields: &Fields<N>, first: usize, len: usize) -> Option<Option<(Register, Register)>> {
    if !fields.has(first) {
        return Some(None);
    }
    let last = if fields.has(first + 1) { first + 1 } else { first };
    Some(Some((fields.register(first, len)?, fields.register(last, len)?)))
}

fn nat(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<8>::of(data)?;
    let family = fields.small(2)?;
    let len = match family {
        NFPROTO_IPV4 => 4,
        NFPROTO_IPV6 | NFPROTO_INET => 16,
        _ => return None,
    };
    Some(Expr::Nat(Nat {
        kind: [NatKind::Source, NatKind::Destination]
            .get(fields.u32(1)? as usize)
            .copied()?,
        family,
        addresses: range(&fields, 3, len)?,
        ports: range(&fields, 5, 2)?,
        flags: fields.flags(7, RANGE_MASK)? & !BY_REGISTERS,
    }))
}

fn masq(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<4>::of(data)?;
    ports_only(NatKind::Masquerade, &fields, 1, 2)
}

fn redir(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<4>::of(data)?;
    ports_only(NatKind::Redirect, &fields, 3, 1)
}

fn ports_only(kind: NatKind, fields: &Fields<4>, flags: usize, ports: usize) -> Option<Expr> {
    Some(Expr::Nat(Nat {
        kind,
        family: NFPROTO_INET,
        addresses: None,
        ports: range(fields, ports, 2)?,
        flags: fields.flags(flags, RANGE_MASK)? & !BY_REGISTERS,
    }))
}
