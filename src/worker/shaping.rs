//! A worker's part in shaping: the shapers of the ports that it owns, between the walk and the transmit rings.
//!
//! ```text
//!  walk, inbox --> shape: it passes, when nothing waits and tokens and room in the ring are there ------> pending
//!                   \--> wait: enqueue --> Shaper --dequeue, while tokens and room are there ------------> pending
//!                                            \--release: the same, after each burst, when time has passed
//! ```
//!
//! A root qdisc is one worker's, that which owns the port: others have no way out there (`egress`), so their frames come by its
//! inbox. Below mq each queue's qdisc is that of the queue's worker, whose flows are spread over its queues. No lock, and no atomic.
//!
//! Bounds: of each slab only [`Limits::shaped`] frames wait in shapers, so that rings never lack any. Each worker that owns
//! shapers may hold a part of them, as many as those have room for where all can have that ([`share`]), which it counts for
//! itself. For what comes beyond that the longest queue loses a frame, `qdisc_memory`; what a qdisc has no room for is
//! `qdisc_drop`. A full transmit ring keeps frames here.
//!
//! A worker follows the configuration between bursts ([`Worker::reshape`]): what changes goes on with its frames and tokens, what
//! goes loses its frames, `qdisc_gone`. So do those of a port that is down, as the kernel's do (dev_deactivate).
//!
//! [`Limits::shaped`]: super::Limits::shaped

use super::observer::{Observer, Stage};
use super::report::Shaped;
use super::share::share;
use super::shared::Charge;
use super::turn::{Owned, Worker};
use crate::packet::{BURST, DropReason, Frame, PORTS_MAX, PortIndex};
use crate::port::Queue;
use crate::stage::shape::place::place;
use crate::stage::shape::{Packet, Shaper, ecn, queue_of};
use crate::table::filter::Facts;
use crate::table::qdisc::{self, Qdisc};
use crate::wire::ether::EtherType;
use std::sync::Arc;

/// For how long a worker leaves a full transmit ring alone that nothing tells it of, in nanoseconds.
pub(super) const FULL_RING_NS: u64 = 200_000;

/// The shortest frame: of those a queue that counts bytes holds most.
const FRAME_BYTES_MIN: u32 = 60;

/// What is due by then is waited for, in nanoseconds: about as long as a frame takes anyway.
const SOON_NS: u64 = 2000;
/// How often that takes a look at the clock; each is some 20 ns.
const LOOKS_AT_CLOCK: usize = 200;

/// A frame in a shaper.
#[derive(Debug)]
pub(super) struct Waiting {
    frame: Frame,
    /// In monotonic nanoseconds, 0 if it is not sampled: its latency has the time that it waits.
    arrival_ns: u64,
}

impl Packet for Waiting {
    /// Without the outer tag, which the kernel has beside the frame.
    #[inline]
    fn size(&self) -> u32 {
        const TAG_LEN: u32 = 4;
        let is_tagged = match self.frame.bytes() {
            [_, _, _, _, _, _, _, _, _, _, _, _, a, b, ..] => EtherType(u16::from_be_bytes([*a, *b])).is_tag(),
            _ => false,
        };
        self.frame.len() as u32 - if is_tagged { TAG_LEN } else { 0 }
    }

    #[inline]
    fn facts(&self) -> Facts<'_> {
        facts(&self.frame)
    }

    fn mark_congestion(&mut self) -> bool {
        ecn::set_congestion(self.frame.bytes_mut())
    }
}

/// What filters look at.
#[inline]
fn facts(frame: &Frame) -> Facts<'_> {
    Facts {
        bytes: frame.bytes(),
        mark: frame.mark(),
        priority: frame.priority(),
    }
}

/// What all shapers of a worker have in common.
#[derive(Debug)]
pub(super) struct Shaping {
    /// Queues or configuration have changed since the last look at them.
    pub(super) is_stale: bool,
    /// Some port is shaped, of whatever worker.
    pub(super) labels: bool,
    /// The places in `queues` that have a shaper.
    pub(super) places: Vec<u16>,
    /// Ports below mq with several queues here, by their places in `queues`.
    spread: Vec<(PortIndex, Vec<u16>)>,
    /// The time of the burst, in monotonic nanoseconds.
    pub(super) now_ns: u64,
    /// No full ring is tried before that, in monotonic nanoseconds.
    retry_ns: u64,
    /// Frames that left since this was last asked.
    pub(super) released: usize,
    /// What the kernel sent by whom, to be paid for.
    pub(super) charges: Vec<Charge>,
    /// Frames that wait, by the slab that they are from.
    held: Vec<u32>,
    /// The most of one slab.
    share: u32,
    lost: Vec<Waiting>,
}

impl Shaping {
    /// Nothing is shaped. There are `workers` slabs.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            is_stale: true,
            labels: false,
            places: Vec::new(),
            spread: Vec::new(),
            now_ns: 0,
            retry_ns: 0,
            released: 0,
            charges: Vec::new(),
            held: vec![0; workers],
            share: 0,
            lost: Vec::with_capacity(BURST),
        }
    }

    /// Places change: which have a shaper is found anew before the next burst.
    pub(super) fn forget_places(&mut self) {
        self.places.clear();
        self.spread.clear();
        self.is_stale = true;
    }
}

/// Frames between the walk and the ring.
impl<Q: Queue> Worker<Q> {
    /// The shaper of `place` lets a frame pass, or has it wait.
    #[inline(never)]
    pub(super) fn shape(&mut self, place: u16, frame: Frame, arrival_ns: u64) {
        let place = self.spread(place, &frame);
        let owned = &mut self.queues[usize::from(place)];
        let waiting = Waiting { frame, arrival_ns };
        let passes = match &mut owned.shaper {
            Some(shaper) if owned.queue.room() > owned.pending.len() => {
                shaper.passes(waiting.size(), &waiting.facts(), self.shaping.now_ns)
            }
            Some(_) => false,
            None => true,
        };
        match passes {
            true => self.line_up(place, waiting.frame, arrival_ns),
            false => self.wait(place, waiting),
        }
    }

    /// Which of several queues below mq a frame leaves by, where one of them is `place`.
    #[inline]
    fn spread(&self, place: u16, frame: &Frame) -> u16 {
        if self.shaping.spread.is_empty() {
            return place;
        }
        let port = self.queues[usize::from(place)].port;
        match self.shaping.spread.iter().find(|(of, _)| *of == port) {
            Some((_, places)) => places[queue_of(frame.bytes(), places.len())],
            None => place,
        }
    }

    /// Gives a frame to the shaper of `place`. What may leave by then does so at once, as in the kernel: else a burst would find
    /// no room in a short queue that has tokens.
    #[inline(never)]
    fn wait(&mut self, place: u16, waiting: Waiting) {
        let frame = &waiting.frame;
        let home = self.slab_of(frame);
        let owned = &mut self.queues[usize::from(place)];
        let shaping = &mut self.shaping;
        let (port, now_ns) = (owned.port, shaping.now_ns);
        let Some(shaper) = &mut owned.shaper else {
            return self.line_up(place, waiting.frame, waiting.arrival_ns);
        };
        shaping.held[home] += 1;
        shaper.enqueue(waiting, now_ns, &mut shaping.lost);
        let is_due = shaper.due_ns().is_some_and(|due_ns| due_ns <= now_ns);
        let room = owned.queue.room().saturating_sub(owned.pending.len());
        if !shaping.lost.is_empty() {
            self.lose_all(port, DropReason::QdiscDrop);
        }
        if is_due && room > 0 {
            self.release_from(place, room, now_ns);
        }
        if self.shaping.held[home] > self.shaping.share {
            self.shed(home);
        }
    }

    /// Has the longest queues here lose frames until no more of the slab `home` wait than may. It is paid for by those that came: each
    /// frame is lost once.
    #[cold]
    fn shed(&mut self, home: usize) {
        while self.shaping.held[home] > self.shaping.share {
            let mut longest = (0, None);
            for &place in &self.shaping.places {
                let shaper = self.queues[usize::from(place)].shaper.as_mut();
                longest = longest.max((shaper.map_or(0, |shaper| shaper.longest()), Some(place)));
            }
            let (1.., Some(place)) = longest else {
                debug_assert!(false, "frames wait that no shaper has");
                return;
            };
            let owned = &mut self.queues[usize::from(place)];
            let port = owned.port;
            if let Some(shaper) = &mut owned.shaper {
                shaper.shed(&mut self.shaping.lost);
            }
            self.lose_all(port, DropReason::QdiscMemory);
        }
    }

    /// Takes out of the shapers what may leave by now, as far as the rings have room.
    pub(super) fn release(&mut self, clock: &impl Fn() -> u64) {
        let mut now_ns = None;
        for at in 0..self.shaping.places.len() {
            let place = self.shaping.places[at];
            let owned = &mut self.queues[usize::from(place)];
            let Some(due_ns) = owned.shaper.as_ref().and_then(|shaper| shaper.due_ns()) else {
                continue;
            };
            let now_ns = *now_ns.get_or_insert_with(clock);
            if due_ns > now_ns + SOON_NS {
                continue;
            }
            if owned.queue.room() < BURST && now_ns >= self.shaping.retry_ns {
                // Nobody else sees to a ring that the kernel did not take all of.
                owned.queue.kick();
                owned.queue.complete(&mut self.done);
                if owned.queue.room() == 0 {
                    self.shaping.retry_ns = now_ns + FULL_RING_NS;
                }
            }
            self.release_in_time(place, now_ns, clock);
        }
    }

    /// Releases until nothing more is due, and what is due soon, too: where a class holds less than a frame (`cburst 0b`, as tc has
    /// it from 12 Gbit/s on), each frame has to wait for its own tokens, some nanoseconds, and would wait for the next burst.
    fn release_in_time(&mut self, place: u16, mut now_ns: u64, clock: &impl Fn() -> u64) {
        for _ in 0..BURST {
            let owned = &self.queues[usize::from(place)];
            let room = owned.queue.room().saturating_sub(owned.pending.len());
            self.release_from(place, room, now_ns);
            let shaper = self.queues[usize::from(place)].shaper.as_ref();
            let due_ns = shaper.and_then(|shaper| shaper.due_ns()).unwrap_or(u64::MAX);
            if room == 0 || due_ns > now_ns + SOON_NS {
                return;
            }
            for _ in 0..LOOKS_AT_CLOCK {
                if now_ns >= due_ns {
                    break;
                }
                now_ns = clock();
            }
        }
    }

    fn release_from(&mut self, place: u16, room: usize, now_ns: u64) {
        // It is away meanwhile, so that its frames may be put elsewhere.
        let Some(mut shaper) = self.queues[usize::from(place)].shaper.take() else {
            return;
        };
        for _ in 0..room {
            let Some(Waiting { frame, arrival_ns }) = shaper.dequeue(now_ns, &mut self.shaping.lost) else {
                break;
            };
            self.leaves(&frame);
            self.shaping.released += 1;
            self.line_up(place, frame, arrival_ns);
        }
        let owned = &mut self.queues[usize::from(place)];
        owned.shaper = Some(shaper);
        if !self.shaping.lost.is_empty() {
            let port = owned.port;
            self.lose_all(port, DropReason::QdiscDrop);
        }
    }

    /// When a shaper may have a frame again that the ring has room for, in monotonic nanoseconds; `None` when nothing waits.
    pub(super) fn shaped_due_ns(&self, now_ns: u64) -> Option<u64> {
        let due = |&place: &u16| {
            let owned = self.queues.get(usize::from(place))?;
            let due_ns = owned.shaper.as_ref()?.due_ns()?;
            Some(match owned.queue.room() {
                0 => due_ns.max(now_ns + FULL_RING_NS),
                _ => due_ns,
            })
        };
        self.shaping.places.iter().filter_map(due).min()
    }

    /// A frame waits no more.
    #[inline]
    fn leaves(&mut self, frame: &Frame) {
        let home = self.slab_of(frame);
        self.shaping.held[home] = self.shaping.held[home].saturating_sub(1);
    }

    #[inline]
    fn slab_of(&self, frame: &Frame) -> usize {
        match self.shared.is_home(frame.id(), self.index) {
            true => self.index,
            false => self.shared.home_of(frame.id()),
        }
    }

    #[cold]
    fn lose_all(&mut self, port: PortIndex, reason: DropReason) {
        while let Some(Waiting { frame, .. }) = self.shaping.lost.pop() {
            self.leaves(&frame);
            self.lose(frame, port, reason);
        }
    }
}

/// Configuration: not hot.
impl<Q: Queue> Worker<Q> {
    /// Makes the shapers what the snapshot says, and pays for what the kernel sent.
    #[cold]
    pub(super) fn reshape(&mut self, now_ns: u64) {
        self.shaping.is_stale = false;
        self.find_ways_out();
        let snapshot = Arc::clone(&self.snapshot);
        for place in 0..self.queues.len() {
            let owned = &mut self.queues[place];
            let port = owned.port;
            let iface = snapshot.port(port).map(|(_, iface)| iface);
            let is_spread = |(of, places): &(PortIndex, Vec<u16>)| *of == port && places.contains(&(place as u16));
            let transmits =
                self.egress[usize::from(port.0)] == Some(place as u16) || self.shaping.spread.iter().any(is_spread);
            let is_wire = self.peers.iter().any(Option::is_some);
            let root = iface
                .filter(|_| transmits && !is_wire)
                .and_then(|iface| match &iface.shaping {
                    qdisc::Shaping::Unshaped => None,
                    qdisc::Shaping::Root(root) => Some(root),
                    qdisc::Shaping::Queues(roots) => roots.get(owned.number as usize)?.as_ref(),
                });
            owned.reshape(root, now_ns, &mut self.shaping.lost);
            if let Some(shaper) = owned.shaper.as_mut().filter(|_| !iface.is_some_and(|iface| iface.up)) {
                shaper.purge(&mut self.shaping.lost);
            }
            self.lose_all(port, DropReason::QdiscGone);
        }
        let shaped = |place: &u16| self.queues[usize::from(*place)].shaper.is_some();
        self.shaping.places = (0..self.queues.len() as u16).filter(shaped).collect();
        self.share_out();
        (0..self.shaping.held.len()).for_each(|home| self.shed(home));
        self.pay(now_ns);
    }

    /// The place that transmits for each port: its first queue here. A root qdisc's frames go to the port's owner; below mq
    /// the first queue that is shaped stands for all.
    pub(super) fn find_ways_out(&mut self) {
        self.egress.fill(None);
        self.shaping.spread.clear();
        let is_wire = self.peers.iter().any(Option::is_some);
        for (place, owned) in (0..).zip(&self.queues) {
            let iface = self.snapshot.port(owned.port).map(|(_, iface)| iface);
            let shaping = iface.map(|iface| &iface.shaping).filter(|_| !is_wire);
            let egress = &mut self.egress[usize::from(owned.port.0)];
            match shaping {
                Some(qdisc::Shaping::Root(_)) if self.shared.owner(owned.port) != Some(self.index) => {}
                Some(qdisc::Shaping::Queues(roots)) => {
                    let known = self.shaping.spread.iter_mut().find(|(of, _)| *of == owned.port);
                    match known {
                        Some((_, places)) => places.push(place),
                        None => self.shaping.spread.push((owned.port, vec![place])),
                    }
                    let is_shaped = |number: u32| roots.get(number as usize).is_some_and(Option::is_some);
                    let first = *egress.get_or_insert(place);
                    if !is_shaped(self.queues[usize::from(first)].number) && is_shaped(owned.number) {
                        *egress = Some(place);
                    }
                }
                _ => {
                    egress.get_or_insert(place);
                }
            }
        }
        self.shaping.spread.retain(|(_, places)| places.len() > 1);
    }

    /// How much of each slab may wait here.
    fn share_out(&mut self) {
        let workers = self.shared.limits.workers;
        let mut asked = vec![None; workers];
        let mut ask = |worker: usize, room: u64| {
            if let Some(asked) = asked.get_mut(worker) {
                *asked = Some(asked.unwrap_or(0) + room);
            }
        };
        self.shaping.labels = false;
        for port in (0..PORTS_MAX as u16).map(PortIndex) {
            let Some((_, iface)) = self.snapshot.port(port) else {
                continue;
            };
            match &iface.shaping {
                qdisc::Shaping::Unshaped => continue,
                qdisc::Shaping::Root(_) => {
                    if let Some(owner) = self.shared.owner(port) {
                        ask(owner, iface.shaping.room(FRAME_BYTES_MIN));
                    }
                }
                // Which queue is whose is not known here.
                qdisc::Shaping::Queues(_) => {
                    let room = iface.shaping.room(FRAME_BYTES_MIN);
                    (0..workers).for_each(|worker| ask(worker, room / workers as u64));
                }
            }
            self.shaping.labels = true;
        }
        self.shaping.share = share(&asked, self.index, self.shared.limits.shaped);
    }

    /// Empties the shapers of some queues.
    pub(super) fn lose_shaped(&mut self, which: impl Fn(&Owned<Q>) -> bool, reason: DropReason) {
        for place in 0..self.queues.len() {
            let owned = &mut self.queues[place];
            if which(owned)
                && let Some(shaper) = &mut owned.shaper
            {
                shaper.purge(&mut self.shaping.lost);
                let port = owned.port;
                self.lose_all(port, reason);
            }
        }
    }

    /// How many frames wait.
    pub(super) fn shaped(&self) -> u64 {
        let shapers = self.queues.iter().filter_map(|owned| owned.shaper.as_ref());
        shapers.map(|shaper| shaper.len() as u64).sum()
    }

    /// Tells who watches by what class a frame will leave.
    #[cold]
    pub(super) fn see_shaping(&self, egress: PortIndex, frame: &Frame, seen: &mut impl Observer) {
        let Some((_, iface)) = self.snapshot.port(egress) else {
            return;
        };
        let root = match &iface.shaping {
            qdisc::Shaping::Unshaped => None,
            qdisc::Shaping::Root(root) => Some(root),
            qdisc::Shaping::Queues(roots) => {
                let way_out = self.egress[usize::from(egress.0)];
                let number = way_out.map_or(0, |place| self.queues[usize::from(self.spread(place, frame))].number);
                roots.get(number as usize).and_then(Option::as_ref)
            }
        };
        if let Some(root) = root {
            seen.see(Stage::Shape, || place(root, &facts(frame)));
        }
    }

    /// What shapers counted, by port and queue.
    pub(super) fn shaping_report(&self) -> Vec<Shaped> {
        let report = |owned: &Owned<Q>| Some((owned.port, owned.number, owned.shaper.as_ref()?.stats()));
        self.queues.iter().filter_map(report).collect()
    }
}

impl<Q> Owned<Q> {
    /// Has `root` for its qdisc from now on.
    fn reshape(&mut self, root: Option<&Arc<Qdisc>>, now_ns: u64, lost: &mut Vec<Waiting>) {
        match (root, &mut self.shaper) {
            (Some(root), Some(shaper)) if Arc::ptr_eq(root, shaper.root()) => {}
            (Some(root), Some(shaper)) => shaper.change(Arc::clone(root), now_ns, lost),
            (Some(root), none) => *none = Some(Box::new(Shaper::new(Arc::clone(root), now_ns))),
            (None, _) => {
                if let Some(mut shaper) = self.shaper.take() {
                    shaper.purge(lost);
                }
            }
        }
    }
}
