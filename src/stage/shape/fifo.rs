//! pfifo, bfifo and pfifo_head_drop (net/sched/sch_fifo.c): first in, first out, up to a limit in packets or bytes.
//!
//! It is bounded in packets or in bytes. What finds no room is dropped, or, by pfifo_head_drop, what has waited longest; both count as
//! refused.

use super::frames::Waiting;
use crate::table::qdisc::{self, Limit};
use std::collections::VecDeque;

/// A fifo at work.
#[derive(Debug)]
pub(super) struct Fifo {
    frames: VecDeque<Waiting>,
    bytes: u64,
    config: qdisc::Fifo,
}

impl Fifo {
    pub fn new(config: qdisc::Fifo) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            config,
        }
    }

    #[inline]
    pub fn enqueue(&mut self, frame: Waiting, lost: &mut Vec<Waiting>) -> bool {
        let size = u64::from(frame.size);
        let (has_room, can_ever) = match self.config.limit {
            Limit::Packets(limit) => (self.frames.len() < limit as usize, limit > 0),
            Limit::Bytes(limit) => (self.bytes + size <= limit.into(), true),
        };
        if !has_room {
            if !(self.config.drops_head && can_ever) {
                lost.push(frame);
                return true;
            }
            lost.extend(self.dequeue());
        }
        self.bytes += size;
        self.frames.push_back(frame);
        !has_room
    }

    /// Loses a frame, the one that it would lose if it were full.
    pub fn shed(&mut self, lost: &mut Vec<Waiting>) {
        if self.config.drops_head {
            return lost.extend(self.dequeue());
        }
        if let Some(frame) = self.frames.pop_back() {
            self.bytes -= u64::from(frame.size);
            lost.push(frame);
        }
    }

    /// Whether there is room for a frame when nothing waits.
    #[inline]
    pub fn passes(&self, size: u32) -> bool {
        match self.config.limit {
            Limit::Packets(limit) => limit > 0,
            Limit::Bytes(limit) => size <= limit,
        }
    }

    #[inline]
    pub fn dequeue(&mut self) -> Option<Waiting> {
        let frame = self.frames.pop_front()?;
        self.bytes -= u64::from(frame.size);
        Some(frame)
    }

    /// Whether the frame that is next stays so when others come.
    pub fn keeps_first(&self) -> bool {
        !self.config.drops_head
    }

    /// The length of the frame that is next.
    #[inline]
    pub fn front(&self) -> Option<u32> {
        self.frames.front().map(|frame| frame.size)
    }

    /// Another limit holds for frames to come. False where it is another kind: pfifo, bfifo and pfifo_head_drop are three.
    pub fn change(&mut self, config: qdisc::Fifo) -> bool {
        let same_unit = matches!(
            (config.limit, self.config.limit),
            (Limit::Packets(_), Limit::Packets(_)) | (Limit::Bytes(_), Limit::Bytes(_))
        );
        let same_kind = same_unit && config.drops_head == self.config.drops_head;
        if same_kind {
            self.config = config;
        }
        same_kind
    }

    pub fn purge(&mut self, lost: &mut Vec<Waiting>) {
        self.bytes = 0;
        lost.extend(self.frames.drain(..));
    }
}
