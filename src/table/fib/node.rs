//! A node of the [`Lpm`](super::Lpm) trie: what is known about one octet of the address, behind a fixed path of octets.
//!
//! A prefix that ends inside the node's octet (0 to 7 bits of it) stands in `prefixes`, at its place in the binary tree of
//! these 255 prefixes, numbered as a heap:
//!
//! ```text
//!   len 0                1                      slot = 1 << len | the octet's first len bits
//!   len 1        2              3
//!   len 2     4     5        6     7            an octet's candidates are one slot per level: the longest is
//!   ...                                         the highest taken one among them
//!   len 7    128 129 ...        ... 255
//! ```
//!
//! Slots 0-63 are word 0 of the bitmap, where a mask by the octet's first 5 bits leaves the six candidates of lengths 0-5;
//! lengths 6 and 7 are one bit each in the words behind. So the longest match in a node costs a few instructions and no
//! loop, an insertion is one bit and one value, and nothing has to be pushed down or compiled again.
//!
//! A prefix that goes on behind the octet stands in `children`: as `Fringe` when it ends exactly with the octet, as `Leaf`
//! when it is alone behind it, whatever its length, and else as a `Node`, which may skip octets that all share. Every node
//! but the root holds at least two things; so there are fewer nodes than prefixes, and a table's shape depends on its
//! content alone, not on its history.
//!
//! Keys are left-aligned in 128 bits here. The stride and the heap numbering are those of Knuth's ART (allotment routing
//! table), in the compressed form that the Go package `bart` uses.

use super::sparse::Sparse;
use std::sync::Arc;

/// An address, left-aligned: the first octet is the highest.
pub(super) type Key = u128;

/// See the file's head. Its depth, in octets, stands beside the pointer that leads here.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Node<T> {
    pub(super) children: Sparse<Child<T>>,
    pub(super) prefixes: Sparse<T>,
    /// The octets before this node's own, zero behind them.
    pub(super) path: Key,
}

const _: () = assert!(size_of::<Node<Arc<()>>>() == 128, "a node's head is two cache lines");
const _: () = assert!(size_of::<Child<Arc<()>>>() == 16, "four children to a cache line");

/// What stands behind one value of a node's octet.
#[derive(Clone, Debug)]
pub(super) enum Child<T> {
    /// Several prefixes, and the depth of the node that holds them.
    Node(u8, Arc<Node<T>>),
    /// One prefix, which ends with this octet.
    Fringe(T),
    /// One prefix, which ends further down.
    Leaf(Arc<Leaf<T>>),
}

/// A prefix that is alone in its place.
#[derive(Clone, Debug)]
pub(super) struct Leaf<T> {
    pub(super) key: Key,
    pub(super) len: u8,
    pub(super) value: T,
}

impl<T: Clone> Node<T> {
    pub(super) fn new(path: Key) -> Self {
        Node {
            children: Sparse::default(),
            prefixes: Sparse::default(),
            path,
        }
    }

    /// The value of exactly this prefix, which belongs below this node at `depth`.
    pub(super) fn get(&self, depth: u8, key: Key, len: u8) -> Option<&T> {
        if len < end(depth) {
            return self.prefixes.get(slot(octet(key, depth), len - 8 * depth));
        }
        match self.children.get(octet(key, depth))? {
            Child::Node(depth, node) if len >= 8 * depth && head(key, 8 * depth) == node.path => {
                node.get(*depth, key, len)
            }
            Child::Fringe(value) if len == end(depth) => Some(value),
            Child::Leaf(leaf) if leaf.len == len && leaf.key == key => Some(&leaf.value),
            _ => None,
        }
    }

    /// Enters a prefix that belongs below this node at `depth`; the value it had.
    pub(super) fn insert(&mut self, depth: u8, key: Key, len: u8, value: T) -> Option<T> {
        if len < end(depth) {
            return self.prefixes.insert(slot(octet(key, depth), len - 8 * depth), value);
        }
        match self.children.get_mut(octet(key, depth)) {
            Some(child) => child.insert(depth, key, len, value),
            None => {
                self.children
                    .insert(octet(key, depth), Child::alone(depth, key, len, value));
                None
            }
        }
    }

    /// Removes a prefix that is there, below this node at `depth`.
    pub(super) fn remove(&mut self, depth: u8, key: Key, len: u8) -> Option<T> {
        if len < end(depth) {
            return self.prefixes.remove(slot(octet(key, depth), len - 8 * depth));
        }
        let child = self.children.get_mut(octet(key, depth))?;
        if let Child::Node(below, node) = child {
            let below = *below;
            let node = Arc::make_mut(node);
            let old = node.remove(below, key, len);
            if let Some(last) = node.last(below, depth) {
                *child = last;
            }
            return old;
        }
        match self.children.remove(octet(key, depth))? {
            Child::Fringe(value) => Some(value),
            Child::Leaf(leaf) => Some(Arc::unwrap_or_clone(leaf).value),
            Child::Node(..) => None,
        }
    }

    /// What this node at `depth` would be as a child of one at `above`, if only one thing is left in it.
    fn last(&self, depth: u8, above: u8) -> Option<Child<T>> {
        if self.children.len() + self.prefixes.len() != 1 {
            return None;
        }
        if let Some((slot, value)) = self.prefixes.iter().next() {
            let (key, len) = prefix_of(self.path, depth, slot);
            return Some(Child::alone(above, key, len, value.clone()));
        }
        self.children.iter().next().map(|(octet, child)| match child {
            Child::Fringe(value) => Child::alone(above, behind(self.path, depth, octet), end(depth), value.clone()),
            other => other.clone(),
        })
    }

    /// Takes over, into this new node at `depth`, what stood in its place.
    fn adopt(&mut self, depth: u8, child: Child<T>) {
        match child {
            Child::Fringe(value) => {
                self.insert(depth, self.path, 8 * depth, value);
            }
            Child::Leaf(leaf) if leaf.len <= end(depth) => {
                self.insert(depth, leaf.key, leaf.len, leaf.value.clone());
            }
            Child::Leaf(leaf) => {
                self.children.insert(octet(leaf.key, depth), Child::Leaf(leaf));
            }
            Child::Node(below, node) => {
                self.children.insert(octet(node.path, depth), Child::Node(below, node));
            }
        }
    }
}

impl<T: Clone> Child<T> {
    /// A prefix that is alone behind an octet of a node at `depth`.
    fn alone(depth: u8, key: Key, len: u8, value: T) -> Self {
        if len == end(depth) {
            Child::Fringe(value)
        } else {
            Child::Leaf(Arc::new(Leaf { key, len, value }))
        }
    }

    /// Enters a prefix that belongs behind this child of a node at `depth`; the value it had.
    fn insert(&mut self, depth: u8, key: Key, len: u8, value: T) -> Option<T> {
        // The depth of the node in which what is here and what comes part ways.
        let joint = match self {
            Child::Fringe(old) if len == end(depth) => return Some(std::mem::replace(old, value)),
            Child::Fringe(_) => depth + 1,
            Child::Leaf(leaf) if leaf.len == len && leaf.key == key => {
                return Some(std::mem::replace(&mut Arc::make_mut(leaf).value, value));
            }
            Child::Leaf(leaf) => common(leaf.key, key).min(leaf.len / 8).min(len / 8),
            Child::Node(below, node) => {
                let joint = common(node.path, key).min(len / 8);
                if joint >= *below {
                    return Arc::make_mut(node).insert(*below, key, len, value);
                }
                joint
            }
        };
        let old = std::mem::replace(self, Child::Node(joint, Arc::new(Node::new(head(key, 8 * joint)))));
        if let Child::Node(_, node) = self {
            let node = Arc::make_mut(node);
            node.adopt(joint, old);
            node.insert(joint, key, len, value);
        }
        None
    }
}

/// Octet number `depth` of `key`.
#[inline]
pub(super) fn octet(key: Key, depth: u8) -> u8 {
    key.to_be_bytes()[usize::from(depth & 15)]
}

/// How many bits the octets up to and with number `depth` are.
fn end(depth: u8) -> u8 {
    8 * depth + 8
}

/// The first `len` bits of `key`, zero behind them.
pub(super) fn head(key: Key, len: u8) -> Key {
    key & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// How many octets two keys share from the start.
fn common(a: Key, b: Key) -> u8 {
    ((a ^ b).leading_zeros() / 8) as u8
}

/// `path` with `octet` as its octet number `depth`.
pub(super) fn behind(path: Key, depth: u8, octet: u8) -> Key {
    path | Key::from(octet) << (120 - 8 * u32::from(depth))
}

/// Where a prefix of `len` bits (0-7) of `octet` stands.
fn slot(octet: u8, len: u8) -> u8 {
    ((256 | u16::from(octet)) >> (8 - len)) as u8
}

/// The prefix that stands at `slot` of a node.
pub(super) fn prefix_of(path: Key, depth: u8, slot: u8) -> (Key, u8) {
    let len = 7 - slot.leading_zeros() as u8;
    let octet = (u16::from(slot) << (8 - len)) as u8;
    (behind(path, depth, octet), 8 * depth + len)
}

/// The slot of the longest prefix among `prefixes` that `octet` has, 0 if it has none.
#[inline]
pub(super) fn longest(prefixes: &[u64; 4], octet: u8) -> u8 {
    let (seventh, sixth) = (octet >> 1, octet >> 2);
    // Without branches: which lengths there are is as good as random. The longer a candidate, the higher its slot.
    let in_7 = (prefixes[usize::from(2 | octet >> 7)] >> (seventh & 63) & 1) as u8 * (128 | seventh);
    let in_6 = (prefixes[1] >> sixth & 1) as u8 * (64 | sixth);
    // Bit 0 is no slot and never set: with it no match yields 0.
    let in_0_to_5 = 63 - (prefixes[0] & CANDIDATES[usize::from(octet >> 3)] | 1).leading_zeros() as u8;
    in_7.max(in_6).max(in_0_to_5)
}

/// The slots of lengths 0-5 whose prefixes an octet has, by its first 5 bits.
static CANDIDATES: [u64; 32] = {
    let mut masks = [0; 32];
    let mut bits = 0;
    while bits < 32 {
        let mut slot = 32 | bits;
        while slot > 0 {
            masks[bits] |= 1 << slot;
            slot >>= 1;
        }
        bits += 1;
    }
    masks
};
