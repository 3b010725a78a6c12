//! The end of ports, on a thread of its own.
//!
//! Taking XDP off a link and closing its sockets waits for the kernel several times (synchronize_net, the queues' NAPI), some
//! tens of milliseconds; when a bridge with 64 ports is deleted that is more than a second. The control loop must not wait for
//! it: rules and routes that change meanwhile concern all other ports. So the loop only does what has to be done at once
//! (steer leaves the port to the kernel, workers give its queues back), and this thread does the rest, in this order:
//!
//! ```text
//!  detach XDP -> take the queues from the workers -> empty steer's slots -> close sockets, frames home -> tell the loop
//! ```
//!
//! Until then the port's slots are taken, and its link, should it be a port again, is not opened. A worker that stalls gives its
//! queues back when it goes on: its ports are closed then, and others meanwhile. Bounded: a port is closed once per opening, and
//! there is one final count per queue.

use super::opening::take_back;
use super::{BUSY_PAUSE, Ports};
use crate::control::steer::{AttachedLink, AttachedMode, Steer};
use crate::control::{Error, threads};
use crate::packet::PortIndex;
use crate::port::xsk::XskQueue;
use crate::port::{Promiscuous, Queue};
use crate::worker::{Command, QueueReport, Shared};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker may take to give a queue back until other ports are looked after.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// How often is looked whether a worker that took longer has given them back.
const LATE: Duration = Duration::from_millis(50);

/// A port that steer and the workers have let go of, or are about to.
pub struct Closing {
    /// Its number.
    pub index: PortIndex,
    /// Its link.
    pub ifindex: u32,
    /// Steer's slots of it: the first, and how many.
    pub slots: (u16, usize),
    /// Keeps steer on the link, if it came to that.
    pub attached: Option<AttachedLink>,
    /// Kept a wire's port promiscuous.
    pub promiscuous: Option<Promiscuous>,
    /// Where its workers give its queues back, and whether they are worth waiting for.
    pub queues: Vec<(Receiver<XskQueue>, bool)>,
}

/// A port that steer knows nothing of any more, and workers may.
struct Late {
    index: PortIndex,
    of: Closed,
    /// Where workers give queues back that they have yet.
    queues: Vec<Receiver<XskQueue>>,
}

/// A port that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Its link, which may be opened again.
    pub ifindex: u32,
    /// Steer's slots, which are empty: the first, and how many.
    pub slots: (u16, usize),
}

/// What closing needs.
pub struct Closer {
    /// Has the slots.
    pub steer: Arc<Steer>,
    /// Where frames go home.
    pub shared: Arc<Shared<XskQueue>>,
    /// Where final counts go.
    pub counts: Arc<Mutex<Vec<QueueReport>>>,
}

/// The thread, as the loop sees it.
pub struct Closings {
    to: Option<Sender<Closing>>,
    from: Receiver<Closed>,
    thread: Option<JoinHandle<()>>,
    /// Links that are not closed yet.
    pending: Vec<u32>,
    /// When somebody last looked whether they are.
    looked: Instant,
}

impl Closings {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(closer: Closer) -> Result<Self, Error> {
        let (to, closings) = unbounded::<Closing>();
        let (done, from) = unbounded();
        let thread = threads::spawn("bypath-closing".into(), move || closer.run(&closings, &done))?;
        Ok(Self {
            to: Some(to),
            from,
            thread: Some(thread),
            pending: Vec::new(),
            looked: Instant::now(),
        })
    }

    /// Has a port closed.
    pub fn begin(&mut self, closing: Closing) {
        if self.pending.is_empty() {
            self.looked = Instant::now();
        }
        self.pending.push(closing.ifindex);
        // The thread ends after this half of the channel.
        if let Some(to) = &self.to {
            let _ = to.send(closing);
        }
    }

    /// The ports that were closed since this was last asked.
    pub fn ended(&mut self) -> Vec<Closed> {
        self.looked = Instant::now();
        let closed: Vec<Closed> = self.from.try_iter().collect();
        for Closed { ifindex, .. } in &closed {
            if let Some(place) = self.pending.iter().position(|pending| pending == ifindex) {
                self.pending.swap_remove(place);
            }
        }
        closed
    }

    /// Whether the port of this link is not closed yet.
    pub fn is_pending(&self, ifindex: u32) -> bool {
        self.pending.contains(&ifindex)
    }

    /// When to look again, if anything is being closed.
    pub fn look_at(&self) -> Option<Instant> {
        (!self.pending.is_empty()).then(|| self.looked + BUSY_PAUSE)
    }

    /// Whether the thread has died.
    pub fn is_gone(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits until all is closed; nothing can be closed afterwards.
    pub fn finish(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Closer {
    /// Closes what comes until nothing can come any more. What workers hold then is lost.
    fn run(&self, closings: &Receiver<Closing>, done: &Sender<Closed>) {
        let mut late: Vec<Late> = Vec::new();
        loop {
            let next = match late.is_empty() {
                true => closings.recv().map_err(RecvTimeoutError::from),
                false => closings.recv_timeout(LATE),
            };
            match next {
                Ok(closing) => late.push(self.detach(closing)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for closed in late.extract_if(.., |closing| self.is_closed(closing)) {
                if done.send(closed.of).is_err() {
                    return;
                }
            }
        }
    }

    /// Takes XDP off the link, and waits for the queues.
    fn detach(&self, closing: Closing) -> Late {
        let Closing {
            index,
            ifindex,
            slots,
            attached,
            promiscuous,
            queues,
        } = closing;
        drop((attached, promiscuous));
        // It may have been known still, to cut cookies off.
        let _ = self.steer.remove_port(ifindex);
        let mut sockets: Vec<XskQueue> = Vec::new();
        for (given_back, worth_waiting) in &queues {
            let patience = if *worth_waiting { GIVE_BACK } else { Duration::ZERO };
            while let Ok(socket) = given_back.recv_timeout(patience) {
                sockets.push(socket);
            }
        }
        for slot in usize::from(slots.0)..usize::from(slots.0) + slots.1 {
            let _ = self.steer.clear_slot(slot as u16);
        }
        self.take_back(index, sockets);
        Late {
            index,
            of: Closed { ifindex, slots },
            queues: queues.into_iter().map(|(given_back, _)| given_back).collect(),
        }
    }

    /// Closes what has been given back meanwhile; whether that was the last of the port.
    fn is_closed(&self, closing: &mut Late) -> bool {
        let mut sockets: Vec<XskQueue> = Vec::new();
        closing.queues.retain(|given_back| {
            loop {
                match given_back.try_recv() {
                    Ok(socket) => sockets.push(socket),
                    Err(TryRecvError::Empty) => break true,
                    // The worker has given back all.
                    Err(TryRecvError::Disconnected) => break false,
                }
            }
        });
        self.take_back(closing.index, sockets);
        closing.queues.is_empty()
    }

    fn take_back(&self, index: PortIndex, sockets: Vec<XskQueue>) {
        let counts = |socket: &XskQueue| QueueReport {
            port: index,
            queue: socket.queue_id(),
            held: socket.held(),
            counters: socket.counters(),
        };
        {
            let mut closed = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            sockets.iter().map(counts).for_each(|count| merge(&mut closed, count));
        }
        take_back(sockets, &self.shared);
    }
}

impl Ports {
    /// Closes port `n`. The workers that are `gone` are not waited for; what they hold is lost.
    pub(super) fn close(&mut self, n: usize, gone: &[usize]) {
        let port = &mut self.ports[n];
        port.tried = None;
        let Some(open) = port.open.take() else { return };
        let index = port.index;
        let keeps = (Some(open.attached), open.promiscuous);
        self.hand_to_closings(index, open.ifindex, open.first_slot, &open.workers, keeps, gone);
    }

    /// Has steer and the workers let go of a port, and the thread do the rest.
    pub(super) fn hand_to_closings(
        &mut self,
        index: PortIndex,
        ifindex: u32,
        first_slot: u16,
        workers: &[usize],
        (attached, promiscuous): (Option<AttachedLink>, Option<Promiscuous>),
        gone: &[usize],
    ) {
        let mode = attached.as_ref().map_or(AttachedMode::Native, |attached| attached.mode);
        self.let_go_of(index, ifindex, mode);
        self.shared.set_owner(index, None);
        let mut asked = workers.to_vec();
        asked.sort_unstable();
        asked.dedup();
        let ask = |worker: usize| {
            let (reply, given_back) = bounded(workers.len());
            self.shared.order(worker, Command::Close(index, reply));
            (given_back, !gone.contains(&worker))
        };
        let queues = asked.into_iter().map(ask).collect();
        self.closings.begin(Closing {
            index,
            ifindex,
            slots: (first_slot, workers.len()),
            attached,
            promiscuous,
            queues,
        });
    }

    /// After [`let_go`](Self::let_go) and when the rings are empty: detaches and closes, at the end of the process. `stalled`
    /// workers are not waited for.
    pub fn close_all(&mut self, stalled: &[usize]) {
        (0..self.ports.len()).for_each(|n| self.close(n, stalled));
        self.closings.finish();
    }
}

/// Adds the final counts of a queue to those of its earlier lives.
fn merge(counts: &mut Vec<QueueReport>, count: QueueReport) {
    let same = |one: &&mut QueueReport| one.port == count.port && one.queue == count.queue;
    match counts.iter_mut().find(same) {
        Some(one) => one.counters.add(&count.counters),
        None => counts.push(count),
    }
}
