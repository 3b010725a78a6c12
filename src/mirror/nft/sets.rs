//! Sets: what they are, and their elements.
//!
//! As nf_tables_fill_set and nf_tables_fill_setelem in net/netfilter/nf_tables_api.c. A set of which something is not
//! understood, or whose elements packets add, is opaque: it has no elements here, and who asks it is in the kernel.

use super::data;
use super::expr::carried;
use super::fields::{self, Fields};
use super::names::Names;
use crate::table::rules::program::TableId;
use crate::table::rules::set::{Data, DataKind, ELEMENTS_MAX, Element, Kind, Set, SetSpec};

const ANONYMOUS: u32 = 0x1;
const CONSTANT: u32 = 0x2;
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const EVAL: u32 = 0x20;
const OBJECT: u32 = 0x40;
/// Concatenations and expressions, which other attributes say, too.
const CONCAT: u32 = 0x80;
const EXPR: u32 = 0x100;
const KNOWN: u32 = ANONYMOUS | CONSTANT | INTERVAL | MAP | TIMEOUT | EVAL | OBJECT | CONCAT | EXPR;
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;
/// NFT_DATA_VERDICT.
const TYPE_VERDICT: u32 = 0xffff_ff00;
const MILLISECOND_NS: u64 = 1_000_000;

/// The set of a message (`nft_set_attributes`) of this table; its name is known.
pub(super) fn spec(table: TableId, name: &str, attrs: &[u8]) -> SetSpec {
    known(table, name, attrs).unwrap_or_else(|| SetSpec {
        table,
        name: name.into(),
        opaque: Some("a set that is not understood".into()),
        ..SetSpec::default()
    })
}

fn known(table: TableId, name: &str, attrs: &[u8]) -> Option<SetSpec> {
    // The last two tell how the kernel stores it, and how many it has.
    let fields = Fields::<21>::of(attrs)?;
    let flags = fields.flags(3, KNOWN)?;
    let has = |flag| flags & flag != 0;
    let data = match (has(MAP), has(OBJECT)) {
        (true, _) if fields.u32(6)? == TYPE_VERDICT => DataKind::Verdict,
        (true, _) => DataKind::Value(fields.small(7).filter(|len| *len <= 64)?),
        (false, true) => DataKind::Object(fields.u32(15)?),
        (false, false) => DataKind::Nothing,
    };
    let desc = Fields::<3>::of(fields.get(9).unwrap_or_default())?;
    Some(SetSpec {
        table,
        name: name.into(),
        key_len: fields.small(5).filter(|len| (1..=64).contains(len))?,
        fields: concatenation(desc.get(2))?,
        data,
        anonymous: has(ANONYMOUS),
        constant: has(CONSTANT),
        interval: has(INTERVAL),
        opaque: has(EVAL).then(|| "a set that packets add to".into()),
        timeout_ms: match (has(TIMEOUT), fields.has(11)) {
            (true, true) => Some(fields.u64(11)?),
            (true, false) => Some(0),
            (false, _) => None,
        },
        size: desc.u32_or(1, 0)?,
        carries: carried(fields.get(17), fields.get(18))?,
    })
}

/// The lengths of the fields (NFTA_SET_DESC_CONCAT).
fn concatenation(desc: Option<&[u8]>) -> Option<Box<[u8]>> {
    let Some(desc) = desc else { return Some(Box::default()) };
    fields::list(desc)?
        .into_iter()
        .map(|field| Fields::<2>::of(field)?.small(1))
        .collect()
}

/// The elements of a set, while they come.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    spec: SetSpec,
    names: &'a Names,
    now_ns: u64,
    elements: Vec<Element>,
}

impl<'a> Elements<'a> {
    /// None yet. Times are as of `now_ns`.
    pub(super) fn new(spec: SetSpec, names: &'a Names, now_ns: u64) -> Self {
        Self {
            spec,
            names,
            now_ns,
            elements: Vec::new(),
        }
    }

    /// Takes those of a message (NFTA_SET_ELEM_LIST_ELEMENTS).
    pub(super) fn add(&mut self, list: &[u8]) {
        let Some(list) = fields::list(list) else {
            return self.give_up("elements that are not understood");
        };
        for element in list {
            if self.spec.opaque.is_some() {
                return;
            }
            match self::element(&self.spec, self.names, self.now_ns, element) {
                Some(_) if self.elements.len() >= ELEMENTS_MAX => self.give_up("a set of too many elements"),
                Some(element) => self.elements.push(element),
                None => self.give_up("an element that is not understood"),
            }
        }
    }

    /// The whole set.
    pub(super) fn finish(mut self) -> Set {
        let elements = std::mem::take(&mut self.elements);
        Set::new(self.spec.clone(), elements).unwrap_or_else(|error| {
            self.give_up(&error.to_string());
            Set::opaque(self.spec)
        })
    }

    fn give_up(&mut self, why: &str) {
        self.elements = Vec::new();
        self.spec.opaque.get_or_insert_with(|| why.into());
    }
}

/// An element of a set (`nft_set_elem_attributes`); none if it is not understood.
pub(super) fn element(spec: &SetSpec, names: &Names, now_ns: u64, bytes: &[u8]) -> Option<Element> {
    let fields = Fields::<12>::of(bytes)?;
    let flags = fields.flags(3, INTERVAL_END | CATCH_ALL)?;
    let kind = match flags {
        0 => Kind::Key,
        INTERVAL_END => Kind::IntervalEnd,
        CATCH_ALL => Kind::CatchAll,
        _ => return None,
    };
    let table = spec.table;
    let data = match spec.data {
        _ if kind == Kind::IntervalEnd => Data::Nothing,
        DataKind::Nothing => Data::Nothing,
        DataKind::Value(_) => Data::Value(data::value(fields.get(2))?),
        DataKind::Verdict => Data::Verdict(data::verdict(fields.get(2), names, table)?),
        DataKind::Object(kind) => Data::Object(names.object(table, kind, fields.text(9)?)?),
    };
    let left_ms = if fields.has(5) { Some(fields.u64(5)?) } else { None };
    Some(Element {
        kind,
        key: if kind == Kind::CatchAll {
            Box::default()
        } else {
            data::value(fields.get(1))?
        },
        key_end: if fields.has(10) {
            Some(data::value(fields.get(10))?)
        } else {
            None
        },
        data,
        expires_ns: left_ms.map(|ms| now_ns.saturating_add(ms.saturating_mul(MILLISECOND_NS))),
        states: carried(fields.get(7), fields.get(11))?,
    })
}
