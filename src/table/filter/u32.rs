//! u32: words of the frame, each masked and compared, in hash tables that lead to each other; as u32_classify
//! (net/sched/cls_u32.c) walks them.
//!
//! ```text
//!  root (one bucket)          table 2: (16 buckets)
//!   800::800 keys --class      hash of a word --> 2:3:800 keys --class
//!   800::801 keys --link------>                   2:3:801 keys --class
//!   800::802 ...  <--none------
//! ```
//!
//! What is surprising, and so in the kernel: a word beyond the end of the frame ends the search of all these tables, it does not
//! merely not match; a link shifts the offsets of what follows, and where nothing is found there, the one that keys ask for
//! with `nexthdr+` stays shifted; a link may be a class too, which counts when nothing is found behind it.
//!
//! Each filter that is added without a preference gets one of its own, so preferences that follow each other are searched together
//! here ([`U32::joined`]), each still ending by itself; of many, those that may match are found by an `Index`.
//! Bounded: links are at most [`DEPTH_MAX`] deep, and [`U32::new`] takes no tables that lead back to themselves.

use super::Handle;
use super::index::Index;
use super::view::{NETWORK, View};

/// How deep links go (TC_U32_MAXDEPTH).
pub const DEPTH_MAX: usize = 8;
/// The lowest offset from the network header that lies in the frame.
const OFFSET_MIN: i32 = -NETWORK;

/// The tables of one preference, or of several that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct U32 {
    /// What the searches begin with.
    root: Box<[Node]>,
    /// The preference of each of these, counted from 0.
    parts: Box<[u32]>,
    index: Index,
    /// What links lead to; the first is the place of a root, and empty.
    tables: Box<[Table]>,
}

/// A hash table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By hash; there is at least one, and for a root no other.
    pub buckets: Vec<Vec<Node>>,
}

/// One filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The mark, masked, must be this.
    pub mark: Mark,
    /// All must match.
    pub keys: Box<[Key]>,
    /// The class, where it says one.
    pub class: Option<Handle>,
    /// Where the search goes on first.
    pub link: Option<Link>,
}

/// A mark and its mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The mark.
    pub value: u32,
    /// Which bits of it count.
    pub mask: u32,
}

/// A word of the frame, in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// What it must be.
    pub value: u32,
    /// Which bits of it count.
    pub mask: u32,
    /// Where, from the network header, or from where links have led.
    pub offset: i32,
    /// Which bits of the links' variable offset count: all for `nexthdr+`.
    pub offset_mask: i32,
}

/// A way to another table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its place among the tables.
    pub table: usize,
    /// Where the word is whose hash chooses a bucket.
    pub hash_offset: i16,
    /// Which bits of it count; the lowest of them is the hash's lowest.
    pub hash_mask: u32,
    /// How keys behind it are shifted.
    pub shift: Option<Shift>,
    /// ... for good: also what they are counted from.
    pub eat: bool,
}

/// By how much keys are shifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// By so much, in bytes, rounded up to words.
    pub fixed: u16,
    /// And by what a half word of the frame says.
    pub variable: Option<Variable>,
}

/// A half word that says how long something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variable {
    /// Where it is.
    pub offset: i16,
    /// Which bits of it count.
    pub mask: u16,
    /// By how many bits it is shifted to the right, below 32.
    pub right: u8,
}

/// What cannot be searched as the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// There the kernel reads what was left in its buffer.
    #[error("it looks before the Ethernet header")]
    BeforeFrame,
    /// A link to nowhere.
    #[error("it links to a table that is not listed")]
    NoTable,
    /// Tables that lead to each other.
    #[error("its links lead in a circle")]
    Circle,
}

impl U32 {
    /// Of these tables, the root first. With what is odd come a table, a bucket and a place in it.
    ///
    /// # Errors
    /// Where no search would be right, or would end.
    pub fn new(mut tables: Vec<Table>) -> Result<Self, ([usize; 3], Odd)> {
        let mut linked = vec![Vec::new(); tables.len()];
        for (of, table) in tables.iter().enumerate() {
            for (bucket, nodes) in table.buckets.iter().enumerate() {
                for (at, node) in nodes.iter().enumerate() {
                    node.check(&tables).map_err(|odd| ([of, bucket, at], odd))?;
                    linked[of].extend(node.link.map(|link| ([of, bucket, at], link.table)));
                }
            }
        }
        for of in 0..tables.len() {
            let mut seen = vec![false; tables.len()];
            let mut open = linked[of].clone();
            while let Some((place, table)) = open.pop() {
                if table == of {
                    return Err((place, Odd::Circle));
                }
                if !std::mem::replace(&mut seen[table], true) {
                    open.extend(linked[table].iter().copied());
                }
            }
        }
        let root = tables.first_mut().and_then(|root| root.buckets.first_mut());
        let root = root.map_or_else(Vec::new, std::mem::take);
        Ok(Self::of(vec![0; root.len()], root, tables))
    }

    fn of(parts: Vec<u32>, root: Vec<Node>, tables: Vec<Table>) -> Self {
        Self {
            index: Index::new(&root),
            root: root.into(),
            parts: parts.into(),
            tables: tables.into(),
        }
    }

    /// All of these, whose preferences follow each other.
    pub fn joined(all: Vec<Self>) -> Self {
        let (mut parts, mut root, mut tables) = (Vec::new(), Vec::new(), vec![Table::default()]);
        let mut before = 0;
        for one in all {
            let moved = |node: &Node| Node {
                link: node.link.map(|link| Link {
                    table: link.table + tables.len() - 1,
                    ..link
                }),
                ..node.clone()
            };
            let roots: Vec<Node> = one.root.iter().map(moved).collect();
            let moved_table = |table: &Table| Table {
                buckets: table
                    .buckets
                    .iter()
                    .map(|nodes| nodes.iter().map(moved).collect())
                    .collect(),
            };
            let below: Vec<Table> = one.tables.iter().skip(1).map(moved_table).collect();
            parts.extend(one.parts.iter().map(|part| part + before));
            before = parts.last().map_or(0, |last| last + 1);
            root.extend(roots);
            tables.extend(below);
        }
        Self::of(parts, root, tables)
    }

    /// The class of the first that matches.
    pub(super) fn find(&self, view: &View<'_>) -> Option<Handle> {
        let mut walk = Walk {
            view,
            tables: &self.tables,
            shift: 0,
        };
        let (mut of, mut ended) = (0, false);
        for place in self.index.candidates(view) {
            let (Some(node), Some(&part)) = (self.root.get(place), self.parts.get(place)) else {
                continue;
            };
            if part != of {
                (of, ended, walk.shift) = (part, false, 0);
            }
            if ended {
                continue;
            }
            match walk.node(node, NETWORK, 0) {
                Step::Found(class) => return Some(class),
                Step::Next => {}
                Step::End => ended = true,
            }
        }
        None
    }
}

/// What a part of a search says.
enum Step {
    /// This class.
    Found(Handle),
    /// Nothing; go on behind the link that led here.
    Next,
    /// Nothing, whatever follows.
    End,
}

/// A search.
struct Walk<'a> {
    view: &'a View<'a>,
    tables: &'a [Table],
    /// The variable offset.
    shift: i32,
}

impl Walk<'_> {
    /// Searches a bucket, whose keys are counted from `from`.
    fn bucket(&mut self, nodes: &[Node], from: i32, depth: usize) -> Step {
        for node in nodes {
            match self.node(node, from, depth) {
                Step::Next => {}
                other => return other,
            }
        }
        Step::Next
    }

    #[inline]
    fn node(&mut self, node: &Node, from: i32, depth: usize) -> Step {
        if self.view.mark & node.mark.mask != node.mark.value {
            return Step::Next;
        }
        match self.matches(node, from) {
            Some(true) => {}
            Some(false) => return Step::Next,
            None => return Step::End,
        }
        if let Some(link) = &node.link {
            match self.follow(link, from, depth) {
                Step::Next => {}
                other => return other,
            }
        }
        node.class.map_or(Step::Next, Step::Found)
    }

    /// Whether all keys do; `None` where one lies beyond the frame.
    #[inline]
    fn matches(&self, node: &Node, from: i32) -> Option<bool> {
        for key in &node.keys {
            let at = from.wrapping_add(key.offset).wrapping_add(self.shift & key.offset_mask);
            let word = u32::from_be_bytes(self.view.read(at)?);
            if (word ^ key.value) & key.mask != 0 {
                return Some(false);
            }
        }
        Some(true)
    }

    fn follow(&mut self, link: &Link, mut from: i32, depth: usize) -> Step {
        if depth >= DEPTH_MAX {
            return Step::End;
        }
        let Some(table) = self.tables.get(link.table) else {
            return Step::End;
        };
        let mut bucket = 0;
        if table.buckets.len() > 1 {
            let Some(word) = self.view.read(from.wrapping_add(link.hash_offset.into())) else {
                return Step::End;
            };
            let hash = (u32::from_be_bytes(word) & link.hash_mask) >> (link.hash_mask.trailing_zeros() & 31);
            bucket = (table.buckets.len() - 1) & hash as usize;
        }
        if let Some(shift) = &link.shift {
            let mut by = i32::from(shift.fixed) + 3;
            if let Some(variable) = &shift.variable {
                let Some(half) = self.view.read(from.wrapping_add(variable.offset.into())) else {
                    return Step::End;
                };
                by += i32::from(u16::from_be_bytes(half) & variable.mask) >> (variable.right & 31);
            }
            self.shift = by & !3;
        }
        if link.eat {
            from = from.wrapping_add(self.shift);
            self.shift = 0;
        }
        let within = usize::try_from(from).is_ok_and(|from| from < self.view.len());
        if (link.shift.is_some() || link.eat) && !within {
            return Step::Next;
        }
        match table.buckets.get(bucket) {
            Some(nodes) => self.bucket(nodes, from, depth + 1),
            None => Step::Next,
        }
    }
}

impl Node {
    fn check(&self, tables: &[Table]) -> Result<(), Odd> {
        if self.keys.iter().any(Key::looks_before) {
            return Err(Odd::BeforeFrame);
        }
        let Some(link) = &self.link else { return Ok(()) };
        let table = tables.get(link.table).filter(|_| link.table != 0).ok_or(Odd::NoTable)?;
        let variable = link.shift.and_then(|shift| shift.variable);
        let before = |offset: i16| i32::from(offset) < OFFSET_MIN;
        let hash = table.buckets.len() > 1 && before(link.hash_offset);
        if hash || variable.is_some_and(|variable| before(variable.offset)) {
            return Err(Odd::BeforeFrame);
        }
        Ok(())
    }
}

impl Key {
    /// Whether bytes that count may lie before the frame. Those of `match ether dst` begin two bytes before, and do not count.
    fn looks_before(&self) -> bool {
        match OFFSET_MIN.saturating_sub(self.offset) {
            ..=0 => false,
            bytes @ 1..=3 => self.mask >> (32 - 8 * bytes) != 0,
            _ => true,
        }
    }
}
