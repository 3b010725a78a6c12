//! A class of htb (struct htb_class of sch_htb.c): its two buckets, its mode, its queue if it is a leaf, its feeds if it is not.
//!
//! Classes stand in a row, sorted by number, and know each other by their place in it. A class pays from both buckets and may be in debt
//! after: what it may do next follows from the signs of both.

use super::feed::{Feed, NONE};
use super::{DEPTH, PRIOS};
use crate::stage::shape::Stats;
use crate::stage::shape::queue::Queue;
use crate::table::bucket::{Bucket, DEBT_NS_MAX};
use crate::table::qdisc::{self, Fifo, Handle, Kind, Limit, Qdisc};
use std::sync::Arc;

/// What a class may do now (enum htb_cmode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Neither send nor borrow: it is above its ceil.
    CantSend,
    /// Send by the tokens of a class above: it is above its rate.
    MayBorrow,
    /// Send.
    CanSend,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Class {
    /// The tokens of its own rate.
    pub tokens: Bucket,
    /// Those of its ceil.
    pub ctokens: Bucket,
    /// Of what priorities there is something to send, here or below, as bits.
    pub activity: u8,
    /// What it may do.
    pub mode: Mode,
    /// 0 for a leaf; the classes at the top of the tree have `DEPTH - 1`.
    pub level: u8,
    /// Who borrows first.
    pub prio: u8,
    /// The class above, or `NONE`.
    pub parent: u32,
    /// Which child of that it is, in the order of numbers.
    pub rank: u32,
    /// What a leaf sends in its turn, in bytes.
    pub quantum: i32,
    /// What it sent less in its turns, by the level that it sent from.
    pub deficit: [i32; DEPTH],
    /// A leaf's queue.
    pub leaf: Option<Queue>,
    /// Who below has something to send and may borrow, by priority.
    pub feeds: Option<Box<[Feed; PRIOS]>>,
    /// Those below, in the order of numbers.
    pub children: Vec<u32>,
    /// What it counted.
    pub stats: Stats,
    /// Its number.
    pub id: Handle,
    /// Where its configuration is.
    pub config: usize,
}

impl Class {
    /// With full buckets, a leaf for now, on its own.
    pub fn new(config: &qdisc::Class, at: usize, now_ns: u64) -> Self {
        let ns = |ns: i64| u64::try_from(ns).unwrap_or(0);
        Self {
            tokens: Bucket::new(config.rate, ns(config.buffer_ns), now_ns),
            ctokens: Bucket::new(config.ceil, ns(config.cbuffer_ns), now_ns),
            activity: 0,
            mode: Mode::CanSend,
            level: 0,
            prio: config.prio.min(PRIOS as u8 - 1),
            parent: NONE,
            rank: 0,
            quantum: config.quantum.clamp(1, i32::MAX as u32) as i32,
            deficit: [0; DEPTH],
            leaf: None,
            feeds: None,
            children: Vec::new(),
            stats: Stats::default(),
            id: config.id,
            config: at,
        }
    }

    /// Makes it a leaf, or with children an inner class. One without both is a leaf whose queue was not there yet when the kernel was
    /// asked: it has the queue that the kernel gives such a one.
    pub fn furnish(&mut self, config: &qdisc::Class, qlen: u32, now_ns: u64) {
        if !self.children.is_empty() {
            let members = self.children.len();
            self.feeds = Some(Box::new(std::array::from_fn(|_| Feed::new(members))));
            return;
        }
        let queue = config.leaf.clone().unwrap_or_else(|| {
            Arc::new(Qdisc {
                generation: 0,
                overhead: 0,
                handle: Handle::default(),
                parent: config.id,
                kind: Kind::Fifo(Fifo {
                    limit: Limit::Packets(qlen),
                    drops_head: false,
                }),
                filters: Vec::new(),
            })
        });
        self.leaf = Some(Queue::new(&queue, now_ns));
    }

    /// Whether there is nothing in its queue.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.leaf.as_ref().is_none_or(Queue::is_empty)
    }

    /// What it may do by its tokens (htb_class_mode).
    #[inline]
    pub fn mode_by_tokens(&self) -> Mode {
        if self.ctokens.is_owing() {
            Mode::CantSend
        } else if self.tokens.is_owing() {
            Mode::MayBorrow
        } else {
            Mode::CanSend
        }
    }

    /// When that changes by itself; `None` for one that may send.
    #[inline]
    pub fn change_ns(&self, now_ns: u64) -> Option<u64> {
        let debt_ns = match self.mode_by_tokens() {
            Mode::CantSend => self.ctokens.debt_ns(),
            Mode::MayBorrow => self.tokens.debt_ns(),
            Mode::CanSend => return None,
        };
        Some(now_ns.saturating_add(debt_ns))
    }

    /// The tokens that came until now, of a minute at most (`mbuffer`).
    #[inline]
    pub fn fill(&mut self, now_ns: u64) {
        self.tokens.fill_for(now_ns, DEBT_NS_MAX);
        self.ctokens.fill_for(now_ns, DEBT_NS_MAX);
    }

    /// What it counted, with its tokens and what waits in its queue.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats;
        (stats.tokens_ns, stats.ctokens_ns) = (self.tokens.tokens_ns(), self.ctokens.tokens_ns());
        if let Some(queue) = &self.leaf {
            let waiting = queue.own_stats();
            (stats.backlog_packets, stats.backlog_bytes) = (waiting.backlog_packets, waiting.backlog_bytes);
        }
        stats
    }
}
