//! htb as sch_htb.c tells it, plain and slow: ordered sets for its trees, a scan for its event queues, recursion for its walks, one
//! priority at a time. Leaves are fifos, and a frame's priority names its class.

use crate::lab::Probe;
use bypath::table::qdisc::{Class, Htb, Kind, Limit, Rate};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const TOP: u8 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Cant,
    Borrow,
    Can,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Row(u8),
    Class(u32),
}

#[derive(Debug, Default)]
struct Turns {
    members: BTreeSet<u32>,
    ptr: Option<u32>,
    last: Option<u32>,
}

#[derive(Debug)]
struct Node {
    config: Class,
    parent: Option<u32>,
    level: u8,
    prio: u8,
    mode: Mode,
    /// In nanoseconds times the rate, so that no fraction is lost.
    tokens: i128,
    ctokens: i128,
    at_ns: u64,
    active: BTreeSet<u8>,
    queue: VecDeque<Probe>,
    limit: usize,
    deficit: BTreeMap<u8, i64>,
    event: Option<(u64, u64)>,
    pub lended: u64,
    pub borrowed: u64,
}

#[derive(Debug)]
pub struct Model {
    handle: u32,
    config: Htb,
    nodes: BTreeMap<u32, Node>,
    turns: BTreeMap<(Owner, u8), Turns>,
    direct: VecDeque<Probe>,
    now_ns: u64,
    events: u64,
    pub dropped: Vec<u32>,
}

fn worth(ns: i64, rate: Rate) -> i128 {
    i128::from(ns) * i128::from(rate.bytes_per_second)
}

impl Model {
    pub fn new(handle: u32, config: &Htb) -> Self {
        let mut nodes: BTreeMap<u32, Node> = BTreeMap::new();
        for class in &config.classes {
            let parent = (class.parent.0 != handle).then_some(class.parent.0);
            let limit = match class.leaf.as_ref().map(|leaf| &leaf.kind) {
                Some(Kind::Fifo(fifo)) => match fifo.limit {
                    Limit::Packets(limit) => limit as usize,
                    Limit::Bytes(_) => panic!("leaves count packets"),
                },
                _ => 0,
            };
            if let Some(parent) = parent {
                let above = nodes[&parent].parent.map_or(TOP + 1, |above| nodes[&above].level);
                nodes.get_mut(&parent).unwrap().level = above - 1;
            }
            let node = Node {
                parent,
                level: 0,
                prio: class.prio,
                mode: Mode::Can,
                tokens: worth(class.buffer_ns, class.rate),
                ctokens: worth(class.cbuffer_ns, class.ceil),
                at_ns: 0,
                active: BTreeSet::new(),
                queue: VecDeque::new(),
                limit,
                deficit: BTreeMap::new(),
                event: None,
                lended: 0,
                borrowed: 0,
                config: class.clone(),
            };
            nodes.insert(class.id.0, node);
        }
        Self {
            handle,
            config: config.clone(),
            nodes,
            turns: BTreeMap::new(),
            direct: VecDeque::new(),
            now_ns: 0,
            events: 0,
            dropped: Vec::new(),
        }
    }

    pub fn lent(&self) -> Vec<(u32, u64, u64)> {
        self.nodes
            .iter()
            .map(|(id, node)| (*id, node.lended, node.borrowed))
            .collect()
    }

    pub fn waiting(&self) -> usize {
        self.direct.len() + self.nodes.values().map(|node| node.queue.len()).sum::<usize>()
    }

    pub fn enqueue(&mut self, probe: Probe) {
        let is_leaf = |id: &u32| self.nodes.get(id).is_some_and(|node| node.level == 0);
        let default = self.handle | self.config.default;
        let leaf = [probe.priority, default].into_iter().find(is_leaf);
        match leaf {
            Some(leaf) if probe.priority != self.handle => {
                let node = self.nodes.get_mut(&leaf).unwrap();
                if node.queue.len() >= node.limit {
                    return self.dropped.push(probe.number);
                }
                node.queue.push_back(probe);
                let prio = node.prio;
                if node.active.insert(prio) {
                    self.join(leaf, prio);
                }
            }
            _ if self.direct.len() < self.config.direct_qlen as usize => self.direct.push_back(probe),
            _ => self.dropped.push(probe.number),
        }
    }

    fn turns(&mut self, owner: Owner, prio: u8) -> &mut Turns {
        self.turns.entry((owner, prio)).or_default()
    }

    fn join(&mut self, id: u32, prio: u8) {
        let (mode, parent, level) = (self.nodes[&id].mode, self.nodes[&id].parent, self.nodes[&id].level);
        match (mode, parent) {
            (Mode::Can, _) => {
                self.turns(Owner::Row(level), prio).members.insert(id);
            }
            (Mode::Borrow, Some(parent)) => {
                let feed = self.turns(Owner::Class(parent), prio);
                let was_empty = feed.members.is_empty();
                feed.members.insert(id);
                if was_empty {
                    self.nodes.get_mut(&parent).unwrap().active.insert(prio);
                    self.join(parent, prio);
                }
            }
            _ => {}
        }
    }

    fn leave(&mut self, id: u32, prio: u8) {
        let (mode, parent, level) = (self.nodes[&id].mode, self.nodes[&id].parent, self.nodes[&id].level);
        match (mode, parent) {
            (Mode::Can, _) => {
                let row = self.turns(Owner::Row(level), prio);
                if row.ptr == Some(id) {
                    row.ptr = row.members.range(id + 1..).next().copied();
                }
                row.members.remove(&id);
            }
            (Mode::Borrow, Some(parent)) => {
                let feed = self.turns(Owner::Class(parent), prio);
                if feed.ptr == Some(id) {
                    (feed.ptr, feed.last) = (None, Some(id));
                }
                feed.members.remove(&id);
                if feed.members.is_empty() {
                    self.nodes.get_mut(&parent).unwrap().active.remove(&prio);
                    self.leave(parent, prio);
                }
            }
            _ => {}
        }
    }

    /// Its mode by tokens after `diff_ns` more, and how long that lasts.
    fn mode(&self, id: u32, diff_ns: u64) -> (Mode, u64) {
        let node = &self.nodes[&id];
        let after = |tokens: i128, rate: Rate| tokens + worth(diff_ns as i64, rate);
        let until = |tokens: i128, rate: Rate| {
            let rate = i128::from(rate.bytes_per_second);
            ((-tokens + rate - 1) / rate) as u64
        };
        let (tokens, ctokens) = (
            after(node.tokens, node.config.rate),
            after(node.ctokens, node.config.ceil),
        );
        if ctokens < 0 {
            (Mode::Cant, until(ctokens, node.config.ceil))
        } else if tokens < 0 {
            (Mode::Borrow, until(tokens, node.config.rate))
        } else {
            (Mode::Can, 0)
        }
    }

    fn change_mode(&mut self, id: u32, diff_ns: u64) -> u64 {
        let (mode, lasts_ns) = self.mode(id, diff_ns);
        if mode != self.nodes[&id].mode {
            let active: Vec<u8> = self.nodes[&id].active.iter().copied().collect();
            active.iter().for_each(|&prio| self.leave(id, prio));
            self.nodes.get_mut(&id).unwrap().mode = mode;
            active.iter().for_each(|&prio| self.join(id, prio));
        }
        lasts_ns
    }

    fn wait(&mut self, id: u32, lasts_ns: u64) {
        self.events += 1;
        self.nodes.get_mut(&id).unwrap().event = Some((self.now_ns + lasts_ns.max(1), self.events));
    }

    fn charge(&mut self, leaf: u32, level: u8, size: u32) {
        let mut next = Some(leaf);
        while let Some(id) = next {
            let node = self.nodes.get_mut(&id).unwrap();
            let (rate, ceil, cost) = (node.config.rate, node.config.ceil, i128::from(size) * 1_000_000_000);
            let diff_ns = (self.now_ns - node.at_ns) as i64;
            node.tokens += worth(diff_ns, rate);
            if node.level >= level {
                node.lended += u64::from(node.level == level);
                node.tokens = node.tokens.min(worth(node.config.buffer_ns, rate)) - cost;
            } else {
                node.borrowed += 1;
            }
            node.ctokens = (node.ctokens + worth(diff_ns, ceil)).min(worth(node.config.cbuffer_ns, ceil)) - cost;
            let forgiven = |rate| 1 - worth(60_000_000_000, rate);
            (node.tokens, node.ctokens) = (node.tokens.max(forgiven(rate)), node.ctokens.max(forgiven(ceil)));
            node.at_ns = self.now_ns;
            let old = node.mode;
            next = node.parent;
            let lasts_ns = self.change_mode(id, 0);
            if self.nodes[&id].mode != old {
                self.nodes.get_mut(&id).unwrap().event = None;
                if self.nodes[&id].mode != Mode::Can {
                    self.wait(id, lasts_ns);
                }
            }
        }
    }

    fn first_event(&self, level: u8) -> Option<(u64, u32)> {
        let at_level = self.nodes.iter().filter(|(_, node)| node.level == level);
        let first = at_level.filter_map(|(id, node)| Some((node.event?, *id))).min();
        first.map(|((at_ns, _), id)| (at_ns, id))
    }

    fn do_events(&mut self, level: u8) {
        while let Some((_, id)) = self.first_event(level).filter(|(at_ns, _)| *at_ns <= self.now_ns) {
            self.nodes.get_mut(&id).unwrap().event = None;
            let lasts_ns = self.change_mode(id, self.now_ns - self.nodes[&id].at_ns);
            if self.nodes[&id].mode != Mode::Can {
                self.wait(id, lasts_ns);
            }
        }
    }

    fn lookup_leaf(&mut self, level: u8, prio: u8) -> u32 {
        let mut path = vec![Owner::Row(level)];
        loop {
            let depth = path.len();
            let turns = self.turns(path[depth - 1], prio);
            if let (None, Some(last)) = (turns.ptr, turns.last) {
                turns.ptr = turns.members.range(last..).next().copied();
            }
            turns.last = None;
            let turn = turns.ptr;
            match turn {
                None => {
                    turns.ptr = turns.members.first().copied();
                    assert!(turns.ptr.is_some(), "an empty feed is in use");
                    if depth > 1 {
                        path.pop();
                        let above = self.turns(path[depth - 2], prio);
                        above.ptr = above.ptr.and_then(|ptr| above.members.range(ptr + 1..).next().copied());
                    }
                }
                Some(id) if self.nodes[&id].level == 0 => return id,
                Some(id) => path.push(Owner::Class(id)),
            }
        }
    }

    pub fn dequeue(&mut self, now_ns: u64) -> Option<Probe> {
        if let Some(probe) = self.direct.pop_front() {
            return Some(probe);
        }
        self.now_ns = now_ns;
        for level in 0..=TOP {
            self.do_events(level);
            for prio in 0..=TOP {
                if self.turns(Owner::Row(level), prio).members.is_empty() {
                    continue;
                }
                let id = self.lookup_leaf(level, prio);
                let node = self.nodes.get_mut(&id).unwrap();
                let probe = node.queue.pop_front().expect("an active leaf has a frame");
                let deficit = node.deficit.entry(level).or_default();
                *deficit -= i64::from(probe.size);
                let (parent, is_empty) = (node.parent, node.queue.is_empty());
                if *deficit < 0 {
                    *deficit += i64::from(node.config.quantum);
                    let owner = if level == 0 {
                        Owner::Row(0)
                    } else {
                        Owner::Class(parent.unwrap())
                    };
                    let turns = self.turns(owner, prio);
                    turns.ptr = turns.ptr.and_then(|ptr| turns.members.range(ptr + 1..).next().copied());
                }
                if is_empty {
                    self.leave(id, prio);
                    self.nodes.get_mut(&id).unwrap().active.clear();
                }
                self.charge(id, level, probe.size);
                return Some(probe);
            }
        }
        None
    }

    /// When something changes by itself.
    pub fn due_ns(&self) -> Option<u64> {
        let first = (0..=TOP)
            .filter_map(|level| self.first_event(level))
            .map(|(at_ns, _)| at_ns);
        first.min().filter(|_| self.waiting() > 0)
    }
}
