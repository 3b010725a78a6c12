//! Sets and maps: what `lookup` asks, of the three shapes that the kernel's set types amount to.
//!
//! ```text
//!  exact    hash and bitmap sets        the whole key                             one hash lookup
//!  interval rbtree sets                 the greatest bound that is not above it   binary search
//!  ranges   pipapo sets                 per field of a concatenation a range      one hash lookup for each form of range
//! ```
//!
//! An element of an interval set is a bound: it starts an interval, which lasts until the next bound, or only ends one
//! (NFT_SET_ELEM_INTERVAL_END). Of pipapo elements that overlap the one that came first counts; one whose time is over is
//! not there. A catch-all element answers for what is not found. As net/netfilter/nft_set_{hash,bitmap,rbtree,pipapo}.c,
//! nft_set_catchall_lookup in nf_tables_api.c.
//!
//! Immutable but for time: it holds what the kernel had when it was read. A set that packets change (`dynset`) has its
//! elements elsewhere. Bounded by [`ELEMENTS_MAX`]; keys by the kernel's 64 bytes.

mod ranges;

use super::expr::{Stateful, Verdict};
use super::program::{ObjectId, TableId};
use ranges::Ranges;
use std::collections::HashMap;

/// The most elements of a set that is carried: about half a gigabyte.
pub const ELEMENTS_MAX: usize = 4 << 20;
/// The most bytes of a key, and of data (NFT_DATA_VALUE_MAXLEN).
pub const KEY_MAX: usize = 64;

/// What a set is, beside its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetSpec {
    /// Whose.
    pub table: TableId,
    /// Its name; of anonymous ones, the kernel's.
    pub name: Box<str>,
    /// Bytes of a key, all fields with their padding.
    pub key_len: u8,
    /// Bytes of each field of a concatenation, without padding; empty if it is none.
    pub fields: Box<[u8]>,
    /// What its elements lead to.
    pub data: DataKind,
    /// It belongs to one rule.
    pub anonymous: bool,
    /// Elements do not change but by replacing the set.
    pub constant: bool,
    /// Keys are intervals.
    pub interval: bool,
    /// Its elements are not known here, and this is why: whoever looks something up in it, does so in the kernel.
    pub opaque: Option<Box<str>>,
    /// Elements may have a time, and what it is where they do not say. 0: forever.
    pub timeout_ms: Option<u64>,
    /// The most elements; 0 for no bound.
    pub size: u32,
    /// What each element carries.
    pub carries: Box<[Stateful]>,
}

/// What a set's elements lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataKind {
    /// Nothing: a set.
    #[default]
    Nothing,
    /// So many bytes.
    Value(u8),
    /// A verdict.
    Verdict,
    /// An object of this kind (NFT_OBJECT_*).
    Object(u32),
}

/// What an element leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    Nothing,
    /// Bytes.
    Value(Box<[u8]>),
    /// A verdict.
    Verdict(Verdict),
    /// An object.
    Object(ObjectId),
}

/// What an element is in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key; of an interval set, the first of an interval.
    Key,
    /// The first key that is behind an interval.
    IntervalEnd,
    /// All that is not found.
    CatchAll,
}

/// An element, as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// How to take its key.
    pub kind: Kind,
    /// The key, or the first of it. Empty for a catch-all.
    pub key: Box<[u8]>,
    /// The last of it, of a concatenation of ranges.
    pub key_end: Option<Box<[u8]>>,
    /// What it leads to.
    pub data: Data,
    /// From when on it is not there, in nanoseconds of the clock that lookups use.
    pub expires_ns: Option<u64>,
    /// What it carries.
    pub states: Box<[Stateful]>,
}

/// An element that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// What it leads to.
    pub data: &'a Data,
    /// What it carries: from where on in the set's [`states`](Set::states).
    pub states: std::ops::Range<u32>,
}

/// Why a set cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// A key is not of the set's length.
    #[error("an element of another length than the set's")]
    KeyLen,
    /// Fields do not add up to the key.
    #[error("the fields of the concatenation are not its key")]
    Fields,
    /// Too many elements.
    #[error("more than {ELEMENTS_MAX} elements")]
    TooMany,
    /// The data is not of the map's kind.
    #[error("an element's data is not of the map's kind")]
    Data,
}

/// A set with its elements.
#[derive(Clone, Debug)]
pub struct Set {
    /// What it is.
    pub spec: SetSpec,
    index: Index,
    entries: Box<[Entry]>,
    catch_all: Option<u32>,
    states: Box<[Stateful]>,
}

#[derive(Clone, Debug)]
struct Entry {
    data: Data,
    expires_ns: u64,
    states: std::ops::Range<u32>,
}

/// Where an interval starts, with its element; or only ends.
type Bound = (Box<[u8]>, Option<u32>);

#[derive(Clone, Debug)]
enum Index {
    Exact(HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>),
    /// Bounds in order, each with the element that starts there.
    Interval(Box<[Bound]>),
    Ranges(Ranges),
}

impl Set {
    /// A set of these elements, in the kernel's order.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn new(spec: SetSpec, elements: Vec<Element>) -> Result<Self, SetError> {
        if elements.len() > ELEMENTS_MAX {
            return Err(SetError::TooMany);
        }
        let key_len = usize::from(spec.key_len);
        let is_ranges =
            spec.interval && elements.iter().any(|e| e.key_end.is_some()) || spec.is_concatenated_interval();
        if is_ranges && !spec.fields_fit() {
            return Err(SetError::Fields);
        }
        let (mut entries, mut states, mut catch_all) = (Vec::with_capacity(elements.len()), Vec::new(), None);
        let mut keys = Vec::with_capacity(elements.len());
        for (place, element) in (0u32..).zip(elements) {
            let is_end = element.kind == Kind::IntervalEnd;
            if !is_end && !spec.data.fits(&element.data) {
                return Err(SetError::Data);
            }
            let first = states.len() as u32;
            states.extend_from_slice(&element.states);
            entries.push(Entry {
                data: element.data,
                expires_ns: element.expires_ns.unwrap_or(u64::MAX),
                states: first..states.len() as u32,
            });
            if element.kind == Kind::CatchAll {
                catch_all = Some(place);
                continue;
            }
            let lens = [Some(&element.key), element.key_end.as_ref()];
            if lens.into_iter().flatten().any(|key| key.len() != key_len) {
                return Err(SetError::KeyLen);
            }
            keys.push((element.key, element.key_end, (!is_end).then_some(place)));
        }
        let index = match (is_ranges, spec.interval) {
            (true, _) => {
                let fields = spec.field_ranges();
                let ranges = keys
                    .into_iter()
                    .filter_map(|(key, end, place)| Some((end.unwrap_or_else(|| key.clone()), key, place?)));
                Index::Ranges(Ranges::new(&fields, ranges.map(|(end, key, place)| (key, end, place))))
            }
            (false, true) => Index::Interval(bounds(keys.into_iter().map(|(key, _, place)| (key, place)))),
            (false, false) => Index::Exact(
                keys.into_iter()
                    .filter_map(|(key, _, place)| Some((key, place?)))
                    .collect(),
            ),
        };
        Ok(Self {
            spec,
            index,
            entries: entries.into(),
            catch_all,
            states: states.into(),
        })
    }

    /// A set whose elements are not known; `spec` says why.
    pub fn opaque(spec: SetSpec) -> Self {
        Self {
            spec,
            index: Index::Exact(HashMap::default()),
            entries: Box::default(),
            catch_all: None,
            states: Box::default(),
        }
    }

    /// The element of `key`, but for a catch-all; `key` has the set's length.
    pub fn lookup(&self, key: &[u8], now_ns: u64) -> Option<Found<'_>> {
        let place = match &self.index {
            Index::Exact(map) => *map.get(key)?,
            Index::Interval(bounds) => {
                let above = bounds.partition_point(|(bound, _)| &**bound <= key);
                bounds.get(above.checked_sub(1)?)?.1?
            }
            Index::Ranges(ranges) => ranges.first(key, |place| self.is_there(place, now_ns))?,
        };
        self.found(place, now_ns)
    }

    /// What a lookup of `key` comes to, which goes on where it is there, or is not if `inverted`: none breaks, and what goes on
    /// may have an element. A catch-all answers whenever it would break, inverted or not.
    pub fn holds(&self, key: &[u8], inverted: bool, now_ns: u64) -> Option<Option<Found<'_>>> {
        let found = self.lookup(key, now_ns);
        match found.is_some() == inverted {
            true => self.catch_all(now_ns).map(Some),
            false => Some(found),
        }
    }

    /// The element that answers for all others.
    pub fn catch_all(&self, now_ns: u64) -> Option<Found<'_>> {
        self.found(self.catch_all?, now_ns)
    }

    /// What its elements carry, each its own.
    pub fn states(&self) -> &[Stateful] {
        &self.states
    }

    /// What its elements lead to.
    pub fn data(&self) -> impl Iterator<Item = &Data> {
        self.entries.iter().map(|entry| &entry.data)
    }

    /// How many elements it has; an interval may be two.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn is_there(&self, place: u32, now_ns: u64) -> bool {
        self.entries[place as usize].expires_ns > now_ns
    }

    fn found(&self, place: u32, now_ns: u64) -> Option<Found<'_>> {
        let entry = &self.entries[place as usize];
        self.is_there(place, now_ns).then(|| Found {
            data: &entry.data,
            states: entry.states.clone(),
        })
    }
}

/// Sorted bounds, of equal ones that which starts an interval.
fn bounds(keys: impl IntoIterator<Item = Bound>) -> Box<[Bound]> {
    let mut bounds: Vec<_> = keys.into_iter().collect();
    // An end has no place, and goes behind what starts there: then it is the one to leave out.
    bounds.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    bounds.dedup_by(|b, a| a.0 == b.0);
    bounds.into()
}

impl SetSpec {
    fn is_concatenated_interval(&self) -> bool {
        self.interval && self.fields.len() > 1
    }

    /// Where each field lies in the key: one after the other, each padded to a word.
    fn field_ranges(&self) -> Vec<std::ops::Range<usize>> {
        if self.fields.is_empty() {
            return std::iter::once(0..usize::from(self.key_len)).collect();
        }
        let mut start = 0;
        let place = |&len: &u8| {
            let field = start..start + usize::from(len);
            start = field.end.next_multiple_of(4);
            field
        };
        self.fields.iter().map(place).collect()
    }

    fn fields_fit(&self) -> bool {
        let end = self.field_ranges().last().map_or(0, |field| field.end);
        self.fields.iter().all(|&len| len > 0)
            && (end..end.next_multiple_of(4) + 1).contains(&usize::from(self.key_len))
    }
}

impl DataKind {
    fn fits(self, data: &Data) -> bool {
        match (self, data) {
            (DataKind::Value(len), Data::Value(bytes)) => bytes.len() == usize::from(len),
            (DataKind::Nothing, Data::Nothing) | (DataKind::Verdict, Data::Verdict(_)) => true,
            (DataKind::Object(_), Data::Object(_)) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
