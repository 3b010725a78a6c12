//! Expressions with a memory, and the named objects that are one: counter, quota, limit, connlimit, last.
//!
//! As the dump functions of net/netfilter/nft_{counter,quota,limit,connlimit,last}.c.

use super::fields::Fields;
use crate::table::rules::expr::{Limit, Stateful};

/// NFT_OBJECT_COUNTER and its like.
const OBJECT_KINDS: [(u32, &str); 4] = [(1, "counter"), (2, "quota"), (4, "limit"), (5, "connlimit")];
/// NFT_QUOTA_F_INV, and that it is used up, which the numbers say too.
const QUOTA_INV: u32 = 1;
const QUOTA_DEPLETED: u32 = 2;
const INV: u32 = 1;
const NANOSECONDS: u64 = 1_000_000_000;

/// The expression `name`, with its attributes `data`. None if it is another one, or not understood.
pub(super) fn decode(name: &str, data: &[u8]) -> Option<Stateful> {
    match name {
        "counter" => {
            let fields = Fields::<4>::of(data)?;
            Some(Stateful::Counter {
                bytes: fields.u64(1)?,
                packets: fields.u64(2)?,
            })
        }
        "quota" => {
            let fields = Fields::<5>::of(data)?;
            let flags = fields.flags(2, QUOTA_INV | QUOTA_DEPLETED)?;
            let consumed = if fields.has(4) { fields.u64(4)? } else { 0 };
            Some(Stateful::Quota {
                bytes: fields.u64(1)?,
                consumed,
                inverted: flags & QUOTA_INV != 0,
            })
        }
        "limit" => {
            let fields = Fields::<7>::of(data)?;
            Some(Stateful::Limit(Limit {
                rate: fields.u64(1).filter(|rate| *rate > 0)?,
                per_ns: fields.u64(2)?.checked_mul(NANOSECONDS)?,
                burst: fields.u32_or(3, 0)?,
                of_bytes: fields.u32_or(4, 0).filter(|kind| *kind <= 1)? == 1,
                inverted: fields.flags(5, INV)? != 0,
            }))
        }
        "connlimit" => {
            let fields = Fields::<3>::of(data)?;
            Some(Stateful::Connlimit {
                count: fields.u32(1)?,
                inverted: fields.flags(2, INV)? != 0,
            })
        }
        "last" => {
            let fields = Fields::<4>::of(data)?;
            let ago_ms = if fields.u32_or(1, 0)? != 0 {
                Some(fields.u64(2)?)
            } else {
                None
            };
            Some(Stateful::Last { ago_ms })
        }
        _ => None,
    }
}

/// A named object of this kind.
pub(super) fn decode_object(kind: u32, data: &[u8]) -> Option<Stateful> {
    let (_, name) = OBJECT_KINDS.iter().find(|(number, _)| *number == kind)?;
    decode(name, data)
}
