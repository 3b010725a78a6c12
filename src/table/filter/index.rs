//! Which of many u32 filters may match a frame, without trying them all: those that look at the same words are sorted by what one of
//! these words must be, so that one search takes out those that the frame may match. They are tried in their order, with all that
//! are in no such group between them.
//!
//! ```text
//!  at 16, whole:  10.0.0.1 -> 0, 7   10.0.0.2 -> 1   ...      frame's word at 16: 10.0.0.1
//!  others:        3, 5                                         tried: 0, 3, 5, 7
//! ```
//!
//! A filter that is left out has a word that is not what the frame has, and all of its words are within the frame, so trying it would
//! have done nothing: that is the condition under which a group is asked. Bounded: [`GROUPS_MAX`] groups, one search for each.

use super::u32::Node;
use super::view::{NETWORK, View};

/// The most groups.
const GROUPS_MAX: usize = 6;
/// Fewer are tried one by one.
const GROUP_MIN: usize = 8;

/// See the file's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    groups: Box<[Group]>,
    others: Box<[Slot]>,
}

/// Filters that look at the same words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    /// The word that tells them apart, from the network header.
    offset: i32,
    mask: u32,
    /// The last of their words.
    reach: i32,
    /// By value, then by place.
    by_value: Box<[Slot]>,
    /// By place.
    all: Box<[Slot]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    value: u32,
    place: u32,
}

/// Where a filter looks: offset and mask of each word.
type Shape = Vec<(i32, u32)>;

/// None where that hangs on links.
fn shape(node: &Node) -> Option<Shape> {
    let fixed = node.keys.iter().all(|key| key.offset_mask == 0) && !node.keys.is_empty();
    fixed.then(|| node.keys.iter().map(|key| (key.offset, key.mask)).collect())
}

impl Index {
    pub(super) fn new(nodes: &[Node]) -> Self {
        let mut shapes: Vec<(Shape, Vec<usize>)> = Vec::new();
        let mut others = Vec::new();
        for (place, node) in nodes.iter().enumerate() {
            match shape(node) {
                None => others.push(place),
                Some(shape) => match shapes.iter_mut().find(|(of, _)| *of == shape) {
                    Some((_, places)) => places.push(place),
                    None => shapes.push((shape, vec![place])),
                },
            }
        }
        shapes.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
        let mut groups = Vec::new();
        for (shape, places) in shapes {
            match groups.len() < GROUPS_MAX && places.len() >= GROUP_MIN {
                true => groups.extend(Group::new(nodes, &shape, &places)),
                false => others.extend(places),
            }
        }
        others.sort_unstable();
        Self {
            groups: groups.into(),
            others: others.into_iter().map(|place| Slot::new(0, place)).collect(),
        }
    }

    /// The places of those that may match, in their order.
    #[inline]
    pub(super) fn candidates<'a>(&'a self, view: &View<'_>) -> Candidates<'a> {
        let mut streams: [&[Slot]; GROUPS_MAX + 1] = [&[]; GROUPS_MAX + 1];
        streams[0] = &self.others;
        for (stream, group) in streams.iter_mut().skip(1).zip(&self.groups) {
            *stream = group.candidates(view);
        }
        let used = self.groups.len() + 1;
        Candidates { streams, used }
    }
}

impl Slot {
    fn new(value: u32, place: usize) -> Self {
        let place = place as u32;
        Self { value, place }
    }
}

impl Group {
    /// By the word that has the most values.
    fn new(nodes: &[Node], shape: &[(i32, u32)], places: &[usize]) -> Option<Self> {
        let by = |key: usize| {
            let slot = |&place: &usize| {
                let key = nodes.get(place)?.keys.get(key)?;
                Some(Slot::new(key.value & key.mask, place))
            };
            let mut slots: Vec<Slot> = places.iter().filter_map(slot).collect();
            slots.sort_unstable();
            slots
        };
        let values = |slots: &Vec<Slot>| slots.chunk_by(|a, b| a.value == b.value).count();
        let all = (0..shape.len()).map(|key| (key, by(key)));
        let (key, by_value) = all.max_by_key(|(_, slots)| values(slots))?;
        let &(offset, mask) = shape.get(key)?;
        Some(Self {
            offset,
            mask,
            reach: shape.iter().map(|(offset, _)| *offset).max()?,
            by_value: by_value.into(),
            all: places.iter().map(|&place| Slot::new(0, place)).collect(),
        })
    }

    #[inline]
    fn candidates(&self, view: &View<'_>) -> &[Slot] {
        let at = |offset: i32| view.read::<4>(NETWORK.saturating_add(offset));
        let (Some(_), Some(word)) = (at(self.reach), at(self.offset)) else {
            return &self.all;
        };
        let value = u32::from_be_bytes(word) & self.mask;
        let rest = self
            .by_value
            .get(self.by_value.partition_point(|slot| slot.value < value)..);
        let rest = rest.unwrap_or_default();
        rest.get(..rest.partition_point(|slot| slot.value == value))
            .unwrap_or_default()
    }
}

/// See [`Index::candidates`].
pub(super) struct Candidates<'a> {
    /// Each by place.
    streams: [&'a [Slot]; GROUPS_MAX + 1],
    used: usize,
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let place = |stream: &&[Slot]| stream.first().map_or(u32::MAX, |slot| slot.place);
        let next = self
            .streams
            .iter_mut()
            .take(self.used)
            .min_by_key(|stream| place(stream))?;
        let (first, rest) = next.split_first()?;
        *next = rest;
        Some(first.place as usize)
    }
}
