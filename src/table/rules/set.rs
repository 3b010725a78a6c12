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
//! Immutable but for time: it holds what the kernel had when it was read. Of one whose elements come and go another is made that
//! shares with it all but the parts that changed ([`Set::changed`]). A set that packets change (`dynset`) has its
//! elements elsewhere. Bounded by [`ELEMENTS_MAX`]; keys by the kernel's 64 bytes.

mod bounds;
mod exact;
mod ranges;

use super::expr::{Stateful, Verdict};
use super::program::{ObjectId, TableId};
use bounds::Bounds;
use exact::Exact;
use ranges::Ranges;

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

/// An element that came to a set, or went from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub element: Element,
    /// It came.
    pub comes: bool,
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
    catch_all: Option<Entry>,
    states: Box<[Stateful]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    data: Data,
    expires_ns: u64,
    states: std::ops::Range<u32>,
}

#[derive(Clone, Debug)]
enum Index {
    Exact(Exact),
    Interval(Bounds),
    /// Elements by their place.
    Ranges(Ranges, Box<[Entry]>),
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
        let is_ranges =
            spec.interval && elements.iter().any(|e| e.key_end.is_some()) || spec.is_concatenated_interval();
        if is_ranges && !spec.fields_fit() {
            return Err(SetError::Fields);
        }
        let (mut states, mut catch_all) = (Vec::new(), None);
        let mut keys = Vec::with_capacity(elements.len());
        for element in elements {
            spec.check(&element)?;
            let first = states.len() as u32;
            states.extend_from_slice(&element.states);
            let entry = Entry {
                data: element.data,
                expires_ns: element.expires_ns.unwrap_or(u64::MAX),
                states: first..states.len() as u32,
            };
            match element.kind {
                Kind::CatchAll => catch_all = Some(entry),
                Kind::Key => keys.push((element.key, element.key_end, Some(entry))),
                Kind::IntervalEnd => keys.push((element.key, element.key_end, None)),
            }
        }
        let index = match (is_ranges, spec.interval) {
            (true, _) => {
                let (mut ranges, mut entries) = (Vec::new(), Vec::new());
                for (place, (key, end, entry)) in (0..).zip(keys.into_iter().filter(|(.., entry)| entry.is_some())) {
                    entries.extend(entry);
                    ranges.push((key.clone(), end.unwrap_or(key), place));
                }
                Index::Ranges(Ranges::new(&spec.field_ranges(), ranges.into_iter()), entries.into())
            }
            (false, true) => Index::Interval(Bounds::new(keys.into_iter().map(|(key, _, entry)| (key, entry)))),
            (false, false) => {
                let whole = keys.into_iter().filter_map(|(key, _, entry)| Some((key, entry?)));
                Index::Exact(Exact::new(whole.collect()))
            }
        };
        Ok(Self {
            spec,
            index,
            catch_all,
            states: states.into(),
        })
    }

    /// A set whose elements are not known; `spec` says why.
    pub fn opaque(spec: SetSpec) -> Self {
        Self {
            spec,
            index: Index::Exact(Exact::default()),
            catch_all: None,
            states: Box::default(),
        }
    }

    /// The set that this one becomes by these changes, one after the other, at `now_ns`; it costs what they touch, not what there
    /// is. None where that cannot be told from them: then the set has to be read. So it is of concatenations of ranges, of
    /// what leads to more than bytes, of elements that carry something and those that answer for all others; of intervals
    /// that end in time, for the kernel takes them away without a word, ends too; and of a change that is none.
    pub fn changed(&self, changes: Vec<Change>, now_ns: u64) -> Option<Self> {
        let spec = &self.spec;
        let is_plain = spec.carries.is_empty() && self.states.is_empty() && self.catch_all.is_none();
        let leads_nowhere = matches!(spec.data, DataKind::Nothing | DataKind::Value(_));
        if spec.opaque.is_some() || !is_plain || !leads_nowhere {
            return None;
        }
        let is_timed = spec.timeout_ms.is_some();
        let mut index = self.index.clone();
        for Change { element, comes } in changes {
            let fits = spec.check(&element).is_ok() && element.key_end.is_none() && element.states.is_empty();
            let entry = || Entry {
                data: element.data.clone(),
                expires_ns: element.expires_ns.unwrap_or(u64::MAX),
                states: 0..0,
            };
            let (key, starts) = (element.key.clone(), element.kind == Kind::Key);
            // What is over may be here still, and what the kernel gives another time is told as if it came.
            let is_one = match (&mut index, element.kind) {
                (Index::Exact(exact), Kind::Key) if comes => !exact.add(key, entry(), now_ns) || is_timed,
                (Index::Exact(exact), Kind::Key) => exact.remove(&key) || is_timed,
                (Index::Interval(bounds), Kind::Key | Kind::IntervalEnd) if !is_timed => match comes {
                    true => !bounds.add(key, starts.then(entry)),
                    false => bounds.remove(&key, starts),
                },
                _ => false,
            };
            if !fits || !is_one || index.len() > ELEMENTS_MAX {
                return None;
            }
        }
        Some(Self {
            spec: spec.clone(),
            index,
            catch_all: None,
            states: Box::default(),
        })
    }

    /// Whether it has the elements of `other`, a set of the same specification, and no more, at `now_ns`; but for those that
    /// end within a second. Of a kind that changes by readings alone nothing is compared.
    pub fn has_what(&self, other: &Self, now_ns: u64) -> bool {
        match (&self.index, &other.index) {
            (Index::Exact(ours), Index::Exact(theirs)) => {
                ours.has_what(theirs, now_ns) && theirs.has_what(ours, now_ns)
            }
            (Index::Interval(ours), Index::Interval(theirs)) => self.spec.timeout_ms.is_some() || ours == theirs,
            (ours, theirs) => std::mem::discriminant(ours) == std::mem::discriminant(theirs),
        }
    }

    /// The element of `key`, but for a catch-all; `key` has the set's length.
    pub fn lookup(&self, key: &[u8], now_ns: u64) -> Option<Found<'_>> {
        let entry = match &self.index {
            Index::Exact(exact) => exact.get(key)?,
            Index::Interval(bounds) => bounds.at(key)?,
            Index::Ranges(ranges, entries) => {
                let place = ranges.first(key, |place| entries[place as usize].is_there(now_ns))?;
                &entries[place as usize]
            }
        };
        entry.found(now_ns)
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
        self.catch_all.as_ref()?.found(now_ns)
    }

    /// What its elements carry, each its own.
    pub fn states(&self) -> &[Stateful] {
        &self.states
    }

    /// What its elements lead to.
    pub fn data(&self) -> impl Iterator<Item = &Data> {
        self.index.entries().chain(&self.catch_all).map(|entry| &entry.data)
    }

    /// How many elements it has; an interval may be two.
    pub fn len(&self) -> usize {
        self.index.len() + usize::from(self.catch_all.is_some())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Index {
    fn len(&self) -> usize {
        match self {
            Index::Exact(exact) => exact.len(),
            Index::Interval(bounds) => bounds.len(),
            Index::Ranges(_, entries) => entries.len(),
        }
    }

    fn entries(&self) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match self {
            Index::Exact(exact) => Box::new(exact.entries()),
            Index::Interval(bounds) => Box::new(bounds.entries()),
            Index::Ranges(_, entries) => Box::new(entries.iter()),
        }
    }
}

impl Entry {
    fn is_there(&self, now_ns: u64) -> bool {
        self.expires_ns > now_ns
    }

    fn found(&self, now_ns: u64) -> Option<Found<'_>> {
        self.is_there(now_ns).then(|| Found {
            data: &self.data,
            states: self.states.clone(),
        })
    }
}

impl SetSpec {
    /// Whether an element may be one of the set's.
    fn check(&self, element: &Element) -> Result<(), SetError> {
        if element.kind != Kind::IntervalEnd && !self.data.fits(&element.data) {
            return Err(SetError::Data);
        }
        let key_len = usize::from(self.key_len);
        let lens = [Some(&element.key), element.key_end.as_ref()];
        let is_of_len = lens.into_iter().flatten().all(|key| key.len() == key_len);
        match element.kind == Kind::CatchAll || is_of_len {
            true => Ok(()),
            false => Err(SetError::KeyLen),
        }
    }

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
