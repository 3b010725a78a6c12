//! Longest-prefix match for IPv4 and IPv6: a persistent multibit trie. A clone costs one reference count and shares all
//! nodes; a change copies what it alters and others still hold, at most the nodes on its path. So control edits its own
//! copy while workers read the one that was published, without a lock, and a batch of changes pays for a shared node once.
//!
//! ```text
//!  root --> 1st octet --> 2nd octet --> 3rd octet ...     one node per octet, unless a path is alone
//!            node          node          node
//!            |- prefixes that end in this octet, a bitmap     (see `node`)
//!            `- children by octet, a bitmap
//! ```
//!
//! A lookup takes the longest match of every node on its way as it descends, and never goes back. At 1,000,000 IPv4 routes
//! it passes three nodes, of which the first two stay in the caches; a lone prefix, however long, is reached in one step
//! from where it parts from the others, so IPv6 costs about the same. Memory is about 16 bytes a route plus 192 a node.
//!
//! A linear search over sorted prefixes is the specification (see the tests).

use super::node::{Child, Key, Node, behind, head, longest, prefix_of};
use crate::packet::Addr;
use std::sync::Arc;

/// A table from prefix to `T`. `clone` shares everything.
#[derive(Clone, Debug)]
pub struct Lpm<T> {
    root: Arc<Node<T>>,
    len: usize,
    /// 128 less the width of an address.
    shift: u8,
}

impl<T: Clone> Lpm<T> {
    /// An empty table for addresses of `bits` bits: 32 or 128, [`Family::bits`](crate::packet::Family::bits).
    pub fn new(bits: u8) -> Self {
        assert!(bits == 32 || bits == 128, "addresses have 32 or 128 bits");
        Lpm {
            root: Arc::new(Node::new(0)),
            len: 0,
            shift: 128 - bits,
        }
    }

    /// Enters or replaces the prefix of `len` bits (at most the width) of `addr`; the value it had. Bits of `addr` behind
    /// `len` do not matter, here and below.
    pub fn insert(&mut self, addr: Addr, len: u8, value: T) -> Option<T> {
        let key = self.key(addr, len);
        let old = Arc::make_mut(&mut self.root).insert(0, key, len, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes a prefix; the value it had.
    pub fn remove(&mut self, addr: Addr, len: u8) -> Option<T> {
        self.get(addr, len)?;
        let key = self.key(addr, len);
        self.len -= 1;
        Arc::make_mut(&mut self.root).remove(0, key, len)
    }

    /// The value of exactly this prefix.
    pub fn get(&self, addr: Addr, len: u8) -> Option<&T> {
        self.root.get(0, self.key(addr, len), len)
    }

    /// The longest prefix that `addr` has: its length in bits, and its value.
    #[inline]
    pub fn lookup(&self, addr: Addr) -> Option<(u8, &T)> {
        let key = addr << self.shift;
        let octets = key.to_be_bytes();
        let mut node = &*self.root;
        let mut depth = 0;
        let mut best = Best {
            node,
            depth: 0,
            slot: 0,
        };
        loop {
            let octet = octets[usize::from(depth & 15)];
            let slot = longest(node.prefixes.bits(), octet);
            if slot != 0 {
                best = Best { node, depth, slot };
            }
            match node.children.get(octet) {
                Some(Child::Node(below, child)) => {
                    if *below != depth + 1 && head(key, 8 * below) != child.path {
                        return best.found();
                    }
                    (node, depth) = (child, *below);
                }
                Some(Child::Fringe(value)) => return Some((8 * depth + 8, value)),
                Some(Child::Leaf(leaf)) if head(key, leaf.len) == leaf.key => return Some((leaf.len, &leaf.value)),
                Some(Child::Leaf(_)) | None => return best.found(),
            }
        }
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All prefixes: address, length in bits, value; in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Addr, u8, &T)> {
        let shift = self.shift;
        let mut pending = vec![(0, &*self.root)];
        let nodes = std::iter::from_fn(move || {
            let (depth, node) = pending.pop()?;
            for (_, child) in node.children.iter() {
                if let Child::Node(below, child) = child {
                    pending.push((*below, child));
                }
            }
            Some((depth, node))
        });
        nodes.flat_map(move |(depth, node)| {
            own_prefixes(depth, node)
                .chain(lone_children(depth, node))
                .map(move |(key, len, v)| (key >> shift, len, v))
        })
    }

    /// `addr` left-aligned and cut to `len` bits.
    fn key(&self, addr: Addr, len: u8) -> Key {
        assert!(len <= 128 - self.shift, "a prefix is not longer than an address");
        head(addr << self.shift, len)
    }
}

/// The longest match so far: a slot of the prefixes of a node, 0 for none. Its value is not touched before it is needed.
struct Best<'a, T> {
    node: &'a Node<T>,
    depth: u8,
    slot: u8,
}

impl<'a, T> Best<'a, T> {
    #[inline]
    fn found(self) -> Option<(u8, &'a T)> {
        let len = 8 * self.depth + (7 - (self.slot | 1).leading_zeros() as u8);
        Some((len, self.node.prefixes.get(self.slot)?))
    }
}

/// The prefixes that end inside the octet of `node`.
fn own_prefixes<T>(depth: u8, node: &Node<T>) -> impl Iterator<Item = (Key, u8, &T)> {
    node.prefixes.iter().map(move |(slot, value)| {
        let (key, len) = prefix_of(node.path, depth, slot);
        (key, len, value)
    })
}

/// The prefixes that are alone behind an octet of `node`.
fn lone_children<T>(depth: u8, node: &Node<T>) -> impl Iterator<Item = (Key, u8, &T)> {
    node.children.iter().filter_map(move |(octet, child)| match child {
        Child::Fringe(value) => Some((behind(node.path, depth, octet), 8 * depth + 8, value)),
        Child::Leaf(leaf) => Some((leaf.key, leaf.len, &leaf.value)),
        Child::Node(..) => None,
    })
}

#[cfg(test)]
mod tests;
