//! The exchange of connections with the kernel: one box, two tables that must not contradict each other.
//!
//! ```text
//!  kernel's table --dump at the start--> import  \
//!                 --events-------------> hear     +-> our table: KERNEL, and ADOPTABLE once it is established
//!  our table --every assured one, within 2 s---> write behind --> kernel's table
//!            --datagrams translated for 5 s--/
//!            --ended, or by `bypath conntrack`--> delete
//!            --before a packet is punted--------> Exporter (the punt thread's own)
//!            --at the end, before a family is left--> export_all
//! ```
//!
//! What the kernel decided about stays the kernel's until it is established and a record can say all of it; then the first
//! packet that walks to its transmit ring takes it over. What is the box's own, under NAT, stays the kernel's. A user's
//! deletion in the kernel (an event with a socket's number) deletes ours; an expiry there does not, for we see the packets.
//!
//! Bounded: the kernel's nf_conntrack_max refuses what does not fit (counted, tried again a second later); events that were
//! lost lead to another dump; a round walks a tenth of our table. Nothing is done while nothing is tracked.

mod counts;
mod export;
mod handing;
mod import;
mod own;

pub use counts::Counts;
pub use handing::Exporter;
pub use own::Local;

use import::is_users;

use super::connections::Subscribers;
use crate::mirror::ctnetlink::{self as ct, BUFFER_BYTES, Ctnetlink, EventKind, Events, Heard, Own};
use crate::packet::Family;
use crate::port::wait::{Waker, monotonic_ns, wait};
use crate::stage::prerouting::leaving::let_go;
use crate::table::Snapshot;
use crate::table::conntrack::table::{Event, Handle, Table};
use crate::table::conntrack::{Direction, Marks, Record, Ticks, Tuple, ticks};
use crate::worker::HEARTBEAT_LIMIT;
use arc_swap::ArcSwap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two rounds, unless there are events.
const ROUND: Duration = Duration::from_millis(100);
/// ... and while nothing is tracked: it is woken.
const IDLE: Duration = Duration::from_secs(1);

/// Rounds for one walk over our table.
const ROUNDS_PER_WALK: u32 = 10;

/// Events that one round takes.
const EVENTS_MAX: usize = 4096;

/// Between two dumps that look for what events did not tell.
const AUDIT_EVERY: Duration = Duration::from_secs(300);

/// A round that took so much longer than it should was one of a process that stood still. Workers then give all connections to
/// the kernel, which forwarded, and what it told of these before they did is asked again so much later.
const STOPPED: Duration = HEARTBEAT_LIMIT;
const AUDIT_SOON: Duration = Duration::from_secs(1);

/// How long handing connections back to the kernel may take when nothing is tracked any more.
const HAND_BACK: Duration = Duration::from_millis(300);

/// How long a dump may have to be tried again, at the start.
const IMPORT_TRIES: usize = 3;

/// What the exchange's thread, control and the punt thread share.
pub struct Exchange {
    table: Arc<Table>,
    local: ArcSwap<Local>,
    /// Addresses that were the box's, and behind which there may be connections yet.
    gone: Mutex<Local>,
    /// NAT is in force, by family.
    nat: [AtomicBool; 2],
    /// How long datagrams that are not answered keep their connection.
    udp_ticks: AtomicU32,
    subscribers: Arc<Subscribers>,
    own: Arc<Own>,
    /// What was done.
    pub counts: Arc<Counts>,
    inner: Mutex<Option<Inner>>,
    /// There is an `inner`; [`Exchange::follow`] alone changes that.
    begun: AtomicBool,
    /// Held while what ended is deleted: by the exchange's thread, or by the punt thread before a frame.
    ending: Mutex<()>,
    /// Held while copies are made or changed, by whichever thread: what it asks of a connection first then holds.
    copying: Mutex<()>,
    waker: Waker,
    stop: AtomicBool,
}

/// What there is while something is tracked.
struct Inner {
    events: Events,
    link: Ctnetlink,
    handle: Handle,
    /// Where the walk over our table goes on.
    cursor: u32,
    /// Not before then: the kernel's table was full.
    not_before: Instant,
    audit_at: Instant,
    /// Events were lost.
    lost: bool,
}

impl Exchange {
    /// Nothing is tracked yet.
    ///
    /// # Errors
    /// Where there is no eventfd.
    pub fn new(table: Arc<Table>, subscribers: Arc<Subscribers>, counts: Arc<Counts>) -> io::Result<Self> {
        Ok(Self {
            table,
            local: ArcSwap::default(),
            gone: Mutex::default(),
            nat: Default::default(),
            udp_ticks: AtomicU32::default(),
            subscribers,
            own: Arc::default(),
            counts,
            inner: Mutex::new(None),
            begun: AtomicBool::new(false),
            ending: Mutex::new(()),
            copying: Mutex::new(()),
            waker: Waker::new()?,
            stop: AtomicBool::new(false),
        })
    }

    /// To be called before `snapshot` is in force. When something begins to be tracked, what the kernel has is taken over
    /// first; when nothing is any more, what we have is forgotten. NAT coming and going: see own.rs.
    ///
    /// # Errors
    /// Where the kernel's table cannot be read: then nothing may be tracked here.
    pub fn follow(&self, snapshot: &Snapshot) -> io::Result<()> {
        let tracked = snapshot.conntrack.tracked != [false; 2];
        self.udp_ticks.store(snapshot.conntrack.udp[0], Relaxed);
        let nat = Family::ALL.map(|family| self.translates(family));
        if tracked == self.begun.load(Relaxed) && (!tracked || nat == snapshot.conntrack.nat) {
            // As it is, mostly: no waiting for a reading of the kernel's table.
            return Ok(());
        }
        let mut inner = self.lock();
        match (tracked, &mut *inner) {
            (true, None) => {
                self.set_nat(snapshot.conntrack.nat);
                *inner = Some(self.begin()?);
                self.begun.store(true, Relaxed);
            }
            (true, Some(inner)) => return self.change_nat(inner, snapshot.conntrack.nat),
            // In the kernel's table they go on until they expire, and are there again when tracking begins again.
            (false, Some(here)) => {
                self.export_everything(here, HAND_BACK);
                self.set_nat([false; 2]);
                *inner = None;
                self.begun.store(false, Relaxed);
                self.forget_all();
            }
            (false, None) => return Ok(()),
        }
        self.waker.wake();
        Ok(())
    }

    fn begin(&self) -> io::Result<Inner> {
        // Listen first: what changes during the dump is then heard of.
        let mut inner = Inner {
            events: Events::open(BUFFER_BYTES)?,
            link: Ctnetlink::open(Arc::clone(&self.own))?,
            handle: self.table.register(),
            cursor: 0,
            not_before: Instant::now(),
            audit_at: Instant::now() + AUDIT_EVERY,
            lost: false,
        };
        let mut tries = 0;
        while let Err(error) = self.import(&mut inner) {
            tries += 1;
            if tries == IMPORT_TRIES {
                return Err(error);
            }
        }
        Ok(inner)
    }

    fn forget_all(&self) {
        let handle = self.table.register();
        let mut from = Some(0);
        while let Some(at) = from {
            let guard = handle.pin();
            from = self.table.walk(at, 4096, &guard, |connection| {
                connection.clear_marks(Marks::EXPORTED);
                self.table.remove(connection, &guard);
            });
        }
    }

    /// Brings all that is ours into the kernel's table, as it is now; at most `within`.
    pub fn export_all(&self, within: Duration) {
        if let Some(inner) = &mut *self.lock() {
            self.delete_ended(&mut inner.link, &inner.handle);
            self.export_everything(inner, within);
        }
    }

    /// Gives the connections of `families` to the kernel, which has just got their traffic and knows them: we do not see
    /// their packets any more. Should the traffic come back, the first packets take them over again.
    pub fn let_go(&self, families: [bool; 2]) {
        let handle = self.table.register();
        let mut from = Some(0);
        while let Some(at) = from {
            let guard = handle.pin();
            from = self.table.walk(at, 4096, &guard, |connection| {
                let original = connection.tuple(Direction::Original);
                if families[original.family as usize] {
                    let_go(&connection);
                }
            });
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
        self.waker.wake();
    }

    /// Keeps the tables in step, until [`stop`](Self::stop). A thread of its own runs it.
    pub fn run(&self) {
        while !self.stop.load(Relaxed) {
            let events = self.lock().as_ref().map(|inner| inner.events.as_raw_fd());
            let round = if events.is_some() { ROUND } else { IDLE };
            let fds = events.into_iter().chain([self.waker.as_raw_fd()]);
            let since = Instant::now();
            wait(fds, round.as_millis() as u32);
            self.waker.drain();
            if let Some(inner) = &mut *self.lock() {
                if since.elapsed() > round + STOPPED {
                    inner.audit_at = inner.audit_at.min(Instant::now() + AUDIT_SOON);
                }
                self.round(inner);
            }
        }
    }

    fn round(&self, inner: &mut Inner) {
        self.hear(inner);
        if inner.lost || Instant::now() >= inner.audit_at {
            self.counts.overruns.fetch_add(u64::from(inner.lost), Relaxed);
            inner.lost = false;
            let mut changed = Vec::new();
            inner.lost |= self.reconcile(inner, &mut changed).is_err();
            self.ask_changed(inner, &changed);
            inner.audit_at = Instant::now() + AUDIT_EVERY;
        }
        self.end_masqueraded(&inner.handle);
        self.delete_ended(&mut inner.link, &inner.handle);
        if !self.table.is_empty() && Instant::now() >= inner.not_before {
            self.write_behind(inner);
        }
    }

    fn hear(&self, inner: &mut Inner) {
        let mut changed = Vec::new();
        let Inner {
            events, handle, lost, ..
        } = inner;
        self.take_in_events(events, handle, lost, |event| self.note_changed(event, &mut changed));
        self.ask_changed(inner, &changed);
    }

    /// Notes which of ours a user may have changed.
    fn note_changed(&self, event: &ct::Event, changed: &mut Vec<Tuple>) {
        if event.kind == EventKind::Update && is_users(event) && !self.own.contains(event.port) {
            changed.push(event.entry.record.original);
        }
    }

    /// Takes in what there is, and shows it to `each`.
    fn take_in_events(&self, events: &mut Events, handle: &Handle, lost: &mut bool, mut each: impl FnMut(&ct::Event)) {
        let now = now();
        for _ in 0..EVENTS_MAX {
            let heard = events.read(now, |event| {
                self.take_in(handle, &event, now);
                each(&event);
            });
            match heard {
                Ok(Heard::Some) => {}
                Ok(Heard::Nothing) => return,
                Ok(Heard::Overrun) | Err(_) => {
                    *lost = true;
                    return;
                }
            }
        }
    }

    /// Tells subscribers what happened to ours, and deletes the kernel's copies of what ended. When it returns they are gone,
    /// whichever thread deleted them.
    fn delete_ended(&self, link: &mut Ctnetlink, handle: &Handle) {
        let _alone = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        if self.table.log.is_empty() {
            return;
        }
        let now = now();
        let mut ended: Vec<Tuple> = Vec::new();
        while let Some((event, record)) = self.table.log.pop() {
            if event == Event::Destroy && self.leaves_a_copy(handle, &record, now) {
                ended.push(record.original);
            }
            if self.table.log.is_watched() {
                let word = match event {
                    Event::New => "new",
                    Event::Update => "update",
                    Event::Destroy => "destroy",
                };
                let anybody = self.subscribers.tell(word, &record, now, false);
                self.table.log.watch(anybody);
            }
        }
        // What found no room in the log stays in the kernel until it expires there.
        self.counts.log_full.fetch_add(self.table.log.take_lost(), Relaxed);
        let mut gone = 0;
        let done = link.delete(&ended, |_, _| gone += 1);
        if done.is_ok() {
            self.counts.deleted.fetch_add(ended.len() as u64 - gone, Relaxed);
        }
    }

    /// Whether the kernel has a copy of a connection that ended, which means nothing any more. One that is the kernel's own
    /// was only known here, and goes on there; and where its tuples live on, so does the copy, as theirs: it ends with them.
    /// Not of one that the kernel is only about to begin: its first packet must not meet the copy, and waits for this.
    fn leaves_a_copy(&self, handle: &Handle, ended: &Record, now: Ticks) -> bool {
        if !ended.marks.any(Marks::EXPORTED) || ended.marks.any(Marks::KERNEL) {
            return false;
        }
        let guard = handle.pin();
        let hash = self.table.hash(&ended.original);
        while let Some((heir, _)) = self.table.lookup(&ended.original, hash, now, &guard) {
            if heir.marks().any(Marks::KERNEL) {
                return !heir.marks().any(Marks::EXPORTED);
            }
            if heir.tuple(Direction::Reply) != ended.reply || ended.marks.any(Marks::TURNED) {
                return true;
            }
            if heir.mark_alive(Marks::EXPORTED) {
                heir.clear_marks(Marks::SETTLED);
                return false;
            }
            // It has ended meanwhile, and says nothing of a copy.
        }
        true
    }

    /// See the field.
    fn copying(&self) -> MutexGuard<'_, ()> {
        self.copying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Inner>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Ticks {
    ticks(monotonic_ns())
}
