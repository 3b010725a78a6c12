//! From `nft_expr_attributes` to [`Expr`]: what is not understood, in whole or in part, is uncarried, under its name.
//!
//! Each expression is checked as the kernel checks it when a rule is made (its init function in net/netfilter/nft_*.c):
//! registers hold what is loaded into them, constants have the length that they are compared with. So whoever runs it need
//! not. This file has the common ones; `action` those that act on a packet or its connection.

mod action;
mod packet;
#[cfg(test)]
mod tests;

use super::data;
use super::fields::{self, Fields};
use super::names::Names;
use super::stateful;
use crate::table::rules::expr::{BitOp, CmpOp, Dynset, DynsetOp, Expr, LookupInto, Operand, Stateful, Uncarried, Xt};
use crate::table::rules::program::{StateId, TableId};
use crate::table::rules::set::{DataKind, SetSpec};
use crate::table::rules::xt;

/// The most expressions that an element carries (NFT_SET_EXPR_MAX).
const CARRIES_MAX: usize = 2;

/// What decoding needs to know, and what it adds.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    pub(super) names: &'a Names,
    pub(super) sets: &'a [SetSpec],
    /// Whose rule it is.
    pub(super) table: TableId,
    /// Of which family that table is.
    pub(super) family: u8,
    /// What has a memory.
    pub(super) states: &'a mut Vec<Stateful>,
}

/// The name of an expression, and its own attributes.
pub(super) fn parts(expr: &[u8]) -> Option<(&str, &[u8])> {
    let fields = Fields::<3>::of(expr)?;
    Some((fields.text(1)?, fields.get(2).unwrap_or_default()))
}

/// What a set, an element or a dynset carries: one attribute for one expression, another for a list. None if something of
/// it is not understood.
pub(super) fn carried(one: Option<&[u8]>, many: Option<&[u8]>) -> Option<Box<[Stateful]>> {
    let exprs = match (one, many) {
        (Some(one), None) => vec![one],
        (None, Some(many)) => fields::list(many)?,
        (None, None) => vec![],
        (Some(_), Some(_)) => return None,
    };
    let decode = |expr: &&[u8]| parts(expr).and_then(|(name, data)| stateful::decode(name, data));
    (exprs.len() <= CARRIES_MAX).then(|| exprs.iter().map(decode).collect::<Option<_>>())?
}

impl Decoder<'_> {
    /// The expressions of a rule (NFTA_RULE_EXPRESSIONS).
    pub(super) fn rule(&mut self, exprs: &[u8]) -> Box<[Expr]> {
        match fields::list(exprs) {
            Some(exprs) => exprs.into_iter().map(|expr| self.expr(expr)).collect(),
            None => [Expr::uncarried("malformed")].into(),
        }
    }

    /// One expression.
    pub(super) fn expr(&mut self, expr: &[u8]) -> Expr {
        let Some((name, data)) = parts(expr) else {
            return Expr::uncarried("malformed");
        };
        if let "match" | "target" = name {
            return self
                .xt(name, data)
                .unwrap_or_else(|| Expr::uncarried(format!("xt {name}")));
        }
        self.known(name, data)
            .unwrap_or_else(|| Expr::uncarried(self.uncarried_name(name, data)))
    }

    /// One of those that are carried; None if it is none, or not understood.
    fn known(&mut self, name: &str, data: &[u8]) -> Option<Expr> {
        match name {
            "immediate" => self.immediate(data),
            "bitwise" => bitwise(data),
            "byteorder" => byteorder(data),
            "cmp" => cmp(data),
            "range" => range(data),
            "lookup" => self.lookup(data),
            "dynset" => self.dynset(data),
            "objref" => self.objref(data),
            "numgen" => self.numgen(data),
            "counter" | "quota" | "limit" | "connlimit" | "last" => {
                let state = stateful::decode(name, data)?;
                Some(Expr::State(self.state(state)))
            }
            _ => packet::decode(name, data).or_else(|| action::decode(name, data)),
        }
    }

    fn state(&mut self, state: Stateful) -> StateId {
        self.states.push(state);
        StateId(self.states.len() as u32 - 1)
    }

    /// A name that says what of it is not carried, where one word is not enough.
    fn uncarried_name(&self, name: &str, data: &[u8]) -> String {
        let key = |kind| Fields::<8>::of(data).and_then(|fields| fields.u32(kind));
        match (name, key(7), key(2)) {
            ("hash", Some(1), _) => "symhash".into(),
            ("meta" | "ct", _, Some(key)) => format!("{name} {key}"),
            _ => name.into(),
        }
    }

    /// An extension of iptables.
    fn xt(&mut self, kind: &str, data: &[u8]) -> Option<Expr> {
        let fields = Fields::<4>::of(data)?;
        let name = fields.text(1)?;
        let xt = Xt {
            target: kind == "target",
            name: name.into(),
            revision: fields.u32(2)?,
            info: fields.get(3)?.into(),
        };
        let carried = xt::decode(&xt, self.family, |state| self.state(state));
        Some(carried.unwrap_or_else(|| {
            Expr::Uncarried(Uncarried {
                name: format!("xt {kind} {name}").into(),
                xt: Some(xt),
            })
        }))
    }

    fn immediate(&self, data: &[u8]) -> Option<Expr> {
        let fields = Fields::<3>::of(data)?;
        if fields.u32(1)? == 0 {
            return Some(Expr::Verdict(data::verdict(fields.get(2), self.names, self.table)?));
        }
        let data = data::value(fields.get(2))?;
        let dest = fields.register(1, data.len())?;
        Some(Expr::Immediate { dest, data })
    }

    fn lookup(&self, data: &[u8]) -> Option<Expr> {
        let fields = Fields::<6>::of(data)?;
        let set = self.names.set(self.table, fields.text(1)?)?;
        let spec = self.sets.get(set.0 as usize)?;
        let inverted = fields.flags(5, 1)? != 0;
        let into = match (fields.has(3), spec.data) {
            (false, _) => LookupInto::Nothing,
            (true, DataKind::Verdict) => fields
                .u32(3)
                .filter(|number| *number == 0)
                .map(|_| LookupInto::Verdict)?,
            (true, DataKind::Value(len)) => LookupInto::Register(fields.register(3, len.into())?),
            (true, _) => return None,
        };
        Some(Expr::Lookup {
            set,
            key: fields.register(2, spec.key_len.into())?,
            into,
            inverted,
        })
    }

    fn dynset(&self, data: &[u8]) -> Option<Expr> {
        let fields = Fields::<11>::of(data)?;
        let set = self.names.set(self.table, fields.text(1)?)?;
        let spec = self.sets.get(set.0 as usize)?;
        let data = match (fields.has(5), spec.data) {
            (false, _) => None,
            (true, DataKind::Value(len)) => Some(fields.register(5, len.into())?),
            (true, _) => return None,
        };
        // Of the two flags the other one only says that the list of expressions is used.
        let flags = fields.flags(9, 3)?;
        Some(Expr::Dynset(Dynset {
            set,
            op: [DynsetOp::Add, DynsetOp::Update, DynsetOp::Delete]
                .get(fields.u32(3)? as usize)
                .copied()?,
            key: fields.register(4, spec.key_len.into())?,
            data,
            timeout_ms: if fields.has(6) { fields.u64(6)? } else { 0 },
            inverted: flags & 1 != 0,
            carries: carried(fields.get(7), fields.get(10))?,
        }))
    }

    fn objref(&self, data: &[u8]) -> Option<Expr> {
        let fields = Fields::<6>::of(data)?;
        if fields.has(1) {
            let object = self.names.object(self.table, fields.u32(1)?, fields.text(2)?)?;
            return Some(Expr::Objref(object));
        }
        let set = self.names.set(self.table, fields.text(4)?)?;
        let spec = self
            .sets
            .get(set.0 as usize)
            .filter(|spec| matches!(spec.data, DataKind::Object(_)))?;
        let key = fields.register(3, spec.key_len.into())?;
        Some(Expr::ObjrefMap { set, key })
    }

    fn numgen(&mut self, data: &[u8]) -> Option<Expr> {
        let fields = Fields::<7>::of(data)?;
        let (dest, offset) = (fields.register(1, 4)?, fields.u32_or(4, 0)?);
        let modulus = fields.u32(2).filter(|modulus| *modulus > 0)?;
        match fields.u32(3)? {
            0 => Some(Expr::NumgenInc {
                state: self.state(Stateful::Numgen { modulus }),
                offset,
                dest,
            }),
            1 => Some(Expr::NumgenRandom {
                state: self.state(Stateful::Choice),
                modulus,
                offset,
                dest,
            }),
            _ => None,
        }
    }
}

fn bitwise(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<9>::of(data)?;
    let len = fields.small(3)?;
    let constant = |kind| data::value(fields.get(kind)).filter(|value| value.len() == usize::from(len));
    let bits = || {
        let bytes = data::value(fields.get(7))?;
        let bits = u32::from_ne_bytes((*bytes).try_into().ok()?);
        // By 0 the kernel's carry is undefined.
        (1..32).contains(&bits).then_some(bits)
    };
    let operand = || match fields.has(8) {
        true => Some(Operand::Register(fields.register(8, len.into())?)),
        false => Some(Operand::Data(constant(7)?)),
    };
    let op = match fields.u32_or(6, 0)? {
        0 => BitOp::MaskXor(constant(4)?, constant(5)?),
        1 => BitOp::Left(bits()?),
        2 => BitOp::Right(bits()?),
        3 => BitOp::And(operand()?),
        4 => BitOp::Or(operand()?),
        5 => BitOp::Xor(operand()?),
        _ => return None,
    };
    Some(Expr::Bitwise {
        source: fields.register(1, len.into())?,
        dest: fields.register(2, len.into())?,
        len,
        op,
    })
}

fn byteorder(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<6>::of(data)?;
    let (len, size) = (fields.small(4)?, fields.small(5)?);
    // The kernel's loop over words of 8 bytes is right for the first one only.
    let is_right = matches!((size, len), (2 | 4, _) | (8, 8));
    // There and back is the same.
    (is_right && fields.u32(3)? <= 1).then_some(())?;
    Some(Expr::Byteorder {
        source: fields.register(1, len.into())?,
        dest: fields.register(2, len.into())?,
        len,
        size,
    })
}

fn cmp(data: &[u8]) -> Option<Expr> {
    const OPS: [CmpOp; 6] = [CmpOp::Eq, CmpOp::Neq, CmpOp::Lt, CmpOp::Lte, CmpOp::Gt, CmpOp::Gte];
    let fields = Fields::<4>::of(data)?;
    let data = data::value(fields.get(3))?;
    Some(Expr::Cmp {
        source: fields.register(1, data.len())?,
        op: OPS.get(fields.u32(2)? as usize).copied()?,
        data,
    })
}

fn range(data: &[u8]) -> Option<Expr> {
    let fields = Fields::<5>::of(data)?;
    let (from, to) = (data::value(fields.get(3))?, data::value(fields.get(4))?);
    (from.len() == to.len()).then_some(())?;
    Some(Expr::Range {
        source: fields.register(1, from.len())?,
        inverted: fields.u32(2).filter(|op| *op <= 1)? == 1,
        from,
        to,
    })
}
