//! Expressions that ask something of a packet, or set it: payload, meta, ct, exthdr, rt, fib, socket, hash.
//!
//! As the dump functions of net/netfilter/nft_{payload,meta,ct,exthdr,rt,fib,socket,hash}.c. A key that is known is decoded,
//! whether or not anybody can answer it: that is for the packet to say. What can be set is what the kernel lets be set.

use super::super::fields::Fields;
use crate::table::rules::expr::{Base, ChecksumFix, Expr, ExthdrDo, FibFlags, Options};
use crate::table::rules::keys::{CtKey, FibResult, MetaKey, RtKey, SocketKey};

const FIB_FLAGS: u32 =
    FibFlags::SADDR | FibFlags::DADDR | FibFlags::MARK | FibFlags::IIF | FibFlags::OIF | FibFlags::PRESENT;

/// One of them.
pub(super) fn decode(name: &str, data: &[u8]) -> Option<Expr> {
    match name {
        "payload" => payload(data),
        "meta" => meta(data),
        "ct" => ct(data),
        "exthdr" => exthdr(data),
        "rt" => rt(data),
        "fib" => fib(data),
        "socket" => socket(data),
        "hash" => hash(data),
        _ => None,
    }
}

fn payload(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<9>::of(data)?;
    // What lies behind the transport header, and what is counted from an inner one, is not carried.
    let base = [Base::Link, Base::Network, Base::Transport]
        .get(fields.u32(2)? as usize)
        .copied()?;
    let (offset, len) = (fields.small(3)?, fields.small(4)?);
    if fields.has(1) {
        let dest = fields.register(1, len.into())?;
        return Some(Expr::Payload {
            base,
            offset,
            len,
            dest,
        });
    }
    let own = match fields.u32_or(6, 0)? {
        0 => None,
        1 => Some(fields.small(7)?),
        _ => return None,
    };
    let pseudo_header = fields.flags(8, 1)? != 0;
    Some(Expr::PayloadStore {
        base,
        offset,
        len,
        source: fields.register(5, len.into())?,
        fix: ChecksumFix { own, pseudo_header },
    })
}

fn meta(data: &[u8]) -> Option<Expr> {
    use MetaKey::*;
    let fields = Fields::<4>::of(data)?;
    let key = MetaKey::of(fields.u32(2)?)?;
    if fields.has(1) {
        let dest = fields.register(1, key.width())?;
        return (!matches!(key, Nftrace | BriBroute)).then_some(Expr::Meta { key, dest });
    }
    let source = fields.register(3, 4)?;
    matches!(key, Mark | Priority | Pkttype | Nftrace | Secmark | BriBroute).then_some(Expr::MetaSet { key, source })
}

fn ct(data: &[u8]) -> Option<Expr> {
    use CtKey::*;
    let fields = Fields::<5>::of(data)?;
    let key = CtKey::of(fields.u32(2)?)?;
    let reply = match fields.has(3) {
        true => Some(fields.u8(3).filter(|direction| *direction <= 1)? == 1),
        false => None,
    };
    if fields.has(1) {
        let dest = fields.register(1, key.width())?;
        let wants_direction = matches!(key, Src | Dst | ProtoSrc | ProtoDst | SrcIp | DstIp | SrcIp6 | DstIp6);
        let is_right = key != Eventmask && (!wants_direction || reply.is_some());
        return is_right.then_some(Expr::Ct { key, reply, dest });
    }
    let source = fields.register(4, key.width())?;
    matches!(key, Mark | Secmark | Labels | Zone | Eventmask).then_some(Expr::CtSet { key, reply, source })
}

fn exthdr(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<8>::of(data)?;
    // The others are chunks of SCTP and DCCP.
    let options = [Options::Ipv6, Options::Tcp, Options::Ipv4]
        .get(fields.u32_or(6, 0)? as usize)
        .copied()?;
    let present = fields.flags(5, 1)? != 0;
    let (offset, len) = (
        fields.u32_or(3, 0)?.try_into().ok()?,
        fields.u32_or(4, 0)?.try_into().ok()?,
    );
    let act = match (fields.has(1), fields.has(7), options) {
        (true, false, _) if present => ExthdrDo::Present(fields.register(1, 4)?),
        (true, false, _) => ExthdrDo::Load(fields.register(1, usize::from(len))?),
        (false, true, Options::Tcp) if !present && matches!(len, 2u8 | 4) => ExthdrDo::Store(fields.register(7, 4)?),
        (false, false, Options::Tcp) if !present => ExthdrDo::Strip,
        _ => return None,
    };
    Some(Expr::Exthdr {
        options,
        kind: fields.u8(2)?,
        offset,
        len,
        act,
    })
}

fn rt(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<3>::of(data)?;
    let key = RtKey::of(fields.u32(2)?)?;
    let dest = fields.register(1, key.width())?;
    Some(Expr::Rt { key, dest })
}

fn fib(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<4>::of(data)?;
    let result = FibResult::of(fields.u32(2)?)?;
    let flags = FibFlags(fields.flags(3, FIB_FLAGS)?);
    let is_name = result == FibResult::Oifname && flags.0 & FibFlags::PRESENT == 0;
    let dest = fields.register(1, if is_name { 16 } else { 4 })?;
    Some(Expr::Fib { result, flags, dest })
}

fn socket(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<4>::of(data)?;
    let key = SocketKey::of(fields.u32(1)?)?;
    Some(Expr::Socket {
        key,
        level: fields.u32_or(3, 0)?,
        dest: fields.register(2, if key == SocketKey::Cgroupv2 { 8 } else { 4 })?,
    })
}

fn hash(data: &[u8]) -> Option<Expr> {
    // Numbers 8 and 9 are of no use to anybody.
    let fields = Fields::<8>::of(data)?;
    let len = fields.small(3)?;
    (fields.u32_or(7, 0)? == 0).then_some(())?;
    Some(Expr::Jhash {
        source: fields.register(1, len.into())?,
        len,
        seed: if fields.has(5) { Some(fields.u32(5)?) } else { None },
        modulus: fields.u32(4).filter(|modulus| *modulus > 0)?,
        offset: fields.u32_or(6, 0)?,
        dest: fields.register(2, 4)?,
    })
}
