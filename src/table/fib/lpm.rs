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
//! A lookup goes down as far as the table knows the address, and back up to the first node with a prefix of it. Of
//! 1,000,000 IPv4 routes it passes three nodes, of which the first two stay in the caches; a lone prefix, however long, is
//! reached in one step from where it parts from the others, and so is a group of them, which keeps IPv6 short. Memory is
//! some 30 bytes a route in a full IPv4 table and 120 in an IPv6 one. No number of routes is
//! refused: the kernel's own table bounds it.
//!
//! A linear search over all prefixes is the specification (see the tests).

use super::node::{Child, Key, Node, behind, head, longest, octet, prefix_of};
use crate::packet::{Addr, BURST};
use std::sync::Arc;

/// From how many prefixes on a table is too large to stay in the second-level cache, and [`Lpm::warm`] is worth its while.
const WARM_LEN_MIN: usize = 20_000;

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
        // The most nodes on a path: one per octet.
        if self.shift == 0 {
            self.descend::<16>(addr)
        } else {
            self.descend::<4>(addr << self.shift)
        }
    }

    /// Goes down as far as the table knows the octets of `key`; then back up, to the first node with a prefix of it. Most
    /// searches end at the bottom, so the nodes above are not asked for their prefixes before that.
    #[inline]
    fn descend<const NODES: usize>(&self, key: Key) -> Option<(u8, &T)> {
        let octets = key.to_be_bytes();
        let mut path = [(&*self.root, 0); NODES];
        let mut last = 0;
        let (mut node, mut depth) = path[0];
        loop {
            match node.children.get(octets[usize::from(depth & 15)]) {
                Some(Child::Node(below, child)) => {
                    if *below != depth + 1 && head(key, 8 * below) != child.path {
                        break;
                    }
                    (node, depth) = (child, *below);
                    last += 1;
                    path[last & (NODES - 1)] = (node, depth);
                }
                Some(Child::Fringe(value)) => return Some((8 * depth + 8, value)),
                Some(Child::Leaf(leaf)) if head(key, leaf.len) == leaf.key => return Some((leaf.len, &leaf.value)),
                Some(Child::Leaf(_)) | None => break,
            }
        }
        loop {
            let (node, depth) = path[last & (NODES - 1)];
            let slot = longest(node.prefixes.bits(), octets[usize::from(depth & 15)]);
            if slot != 0 {
                let len = 8 * depth + (7 - slot.leading_zeros() as u8);
                return Some((len, node.prefixes.get(slot)?));
            }
            last = last.checked_sub(1)?;
        }
    }

    /// Brings what lookups of a burst's addresses will read into the caches. One lookup in a large table waits for memory
    /// at every node; here the addresses go down side by side, a level at a time, so that they wait together. That halves
    /// the time of random destinations in a full IPv6 table, and costs some 30 ns an address where the nodes were in the
    /// caches already. Small tables are, and are left alone.
    pub fn warm(&self, burst: &[Addr]) {
        if self.len >= WARM_LEN_MIN {
            self.descend_together(burst);
        }
    }

    fn descend_together(&self, burst: &[Addr]) {
        for burst in burst.chunks(BURST) {
            let mut walks = [(&*self.root, 0, 0); BURST];
            for (walk, addr) in walks.iter_mut().zip(burst) {
                walk.2 = addr << self.shift;
            }
            let (mut going, mut seen) = (burst.len(), 0);
            while going > 0 {
                let mut still = 0;
                for at in 0..going {
                    let (node, depth, key) = walks[at];
                    match node.children.get(octet(key, depth)) {
                        Some(Child::Node(below, child)) => {
                            walks[still] = (child, *below, key);
                            still += 1;
                        }
                        Some(Child::Leaf(leaf)) => seen ^= leaf.len,
                        Some(Child::Fringe(_)) | None => seen ^= longest(node.prefixes.bits(), octet(key, depth)),
                    }
                }
                going = still;
            }
            // It is not used, but must be read.
            std::hint::black_box(seen);
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
