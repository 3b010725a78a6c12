//! The forwarding databases of bridges: RTM_NEWNEIGH and RTM_DELNEIGH of AF_BRIDGE, as net/bridge/br_fdb.c (fdb_fill_info).
//! They go into the [`Fdb`] of each bridge at once, while workers look things up there; see its head for what that takes.
//!
//! ```text
//!  RTNLGRP_NEIGH, a socket of its own --> Fdbs --> Fdb <-- workers
//!  dump, in pieces ------------------------/
//! ```
//!
//! Only entries of a bridge count (NDA_MASTER), not those of a device beside it (NTF_SELF). The kernel lists a database in
//! pieces, by count, and others may change it meanwhile: what events told during a dump is newer than the dump; what the
//! dump lacks is taken out, for a frame to an unknown address is the kernel's, who knows; and where something was deleted
//! meanwhile, so that the dump may have passed over entries, another one follows. "Meanwhile" begins and ends with an event
//! socket that was seen empty: an event that still lies there may be older than what the dump says (others behind it were
//! lost), or tell of a deletion that had the dump pass over something.
//!
//! The kernel's events may come in another order than what they tell of (br_fdb_update moves an entry without a lock), so all
//! is read again every [`AUDIT_EVERY`]. Such an audit corrects what it sees. It takes something out only if nothing was deleted
//! meanwhile, for then nothing is in doubt but what nobody told.
//!
//! A table that is full is replaced by a larger one, which workers have with the next snapshot. Until then what goes or moves
//! does so in the old one, too.
//!
//! A flood of addresses costs neither routes nor links a new reading: it has its own socket, and an overrun of that one leads
//! to a dump of databases alone. Bounds: [`ENTRIES_MAX`] per bridge, what comes beyond is counted and not entered; a piece of
//! a dump takes [`STEP`]; one during which more than [`TOUCHED_MAX`] addresses change begins anew; audits take at most a
//! hundredth of the time.

use super::MirrorError;
use super::link::Links;
use super::netlink::{Channel, Message, Progress, as_u32, u16_at, u32_at};
use super::reread::FAILED_PAUSE;
use crate::table::bridge::Vid;
use crate::table::fdb::{Entry, EntryFlags, Fdb};
use crate::wire::Mac;
use std::collections::hash_map::Entry as Place;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most entries of one bridge; 8 MB.
pub const ENTRIES_MAX: usize = 1 << 18;
/// By how much a full table grows.
const GROWTH: usize = 4;
/// How long one piece of a dump may take.
const STEP: Duration = Duration::from_millis(2);
/// The least pause before a dump for doubt.
const DOUBT_PAUSE: Duration = Duration::from_millis(200);
/// How often all is read though nothing is in doubt, at most.
const AUDIT_EVERY: Duration = Duration::from_secs(30);
/// How many addresses may change while a dump goes on.
const TOUCHED_MAX: usize = 2_000_000;

const HEADER: usize = 12;
const NDA_LLADDR: u16 = 2;
const NDA_VLAN: u16 = 5;
const NDA_MASTER: u16 = 9;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_SELF: u8 = 1 << 1;
const NTF_EXT_LEARNED: u8 = 1 << 4;
const NTF_STICKY: u8 = 1 << 6;
const NTF_EXT_LOCKED: u32 = 1 << 1;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// An address in a VLAN of a bridge.
type Key = (u32, Mac, Vid);

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    bridge: u32,
    port: u32,
    mac: Mac,
    vid: Vid,
    flags: EntryFlags,
    gone: bool,
}

/// What became of the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdbChange {
    /// An entry moved, changed or went: what was decided by it is decided anew.
    pub decided: bool,
    /// A table was replaced by a larger one.
    pub replaced: bool,
}

/// All databases.
#[derive(Debug)]
pub struct Fdbs {
    channel: Channel,
    tables: HashMap<u32, Arc<Fdb>>,
    /// By the bridge's ifindex, what larger tables replaced since the last snapshot: workers may still look there.
    replaced: Vec<(u32, Arc<Fdb>)>,
    reading: Option<Reading>,
    wanted: bool,
    not_before: Instant,
    /// When the next audit is due.
    audit_at: Instant,
    /// The last dump failed.
    is_failing: bool,
    completed: u64,
    /// What changed since it was last taken.
    pub change: FdbChange,
}

/// A dump that is going on.
#[derive(Debug)]
struct Reading {
    started: Instant,
    /// What events told since it began.
    touched: HashSet<Key>,
    /// What it said.
    seen: HashSet<Key>,
    /// It may have passed over something.
    doubt: bool,
    /// Nothing was in doubt when it began.
    is_audit: bool,
    /// It is read to its end; what events told until then is still to be taken in.
    dumped: bool,
}

impl Reading {
    fn new(is_audit: bool) -> Self {
        Self {
            started: Instant::now(),
            touched: HashSet::new(),
            seen: HashSet::new(),
            doubt: false,
            is_audit,
            dumped: false,
        }
    }
}

impl Fdbs {
    /// None, and a dump is wanted.
    pub fn new() -> Result<Self, MirrorError> {
        Ok(Self {
            channel: Channel::for_requests()?,
            tables: HashMap::new(),
            replaced: Vec::new(),
            reading: None,
            wanted: true,
            not_before: Instant::now(),
            audit_at: Instant::now() + AUDIT_EVERY,
            is_failing: false,
            completed: 0,
            change: FdbChange::default(),
        })
    }

    /// The database of the bridge `ifindex`.
    pub fn get(&self, ifindex: u32) -> Option<&Arc<Fdb>> {
        self.tables.get(&ifindex)
    }

    /// All of them, by the bridge's ifindex.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Arc<Fdb>)> {
        self.tables.iter().map(|(&ifindex, fdb)| (ifindex, fdb))
    }

    /// A link came, changed or went: has a database where it is a bridge.
    pub fn follow(&mut self, links: &Links, ifindex: u32) {
        let is_bridge = links.get(ifindex).is_some_and(|link| link.bridge.is_some());
        if !is_bridge {
            self.tables.remove(&ifindex);
        } else if let Place::Vacant(vacant) = self.tables.entry(ifindex) {
            vacant.insert(Arc::default());
            // What it was told before the link was known was passed over.
            self.wanted = true;
        }
    }

    /// A snapshot has the tables of now.
    pub fn published(&mut self) {
        self.replaced.clear();
    }

    /// Another dump is needed; one that is going on is worthless.
    pub fn restart(&mut self) {
        self.tables.values().for_each(|fdb| fdb.set_whole(false));
        self.wanted = true;
        self.reading = None;
        self.not_before = Instant::now();
    }

    /// The kernel could not tell: another dump is needed, after a pause.
    pub fn failed(&mut self) {
        self.restart();
        self.is_failing = true;
        self.not_before += FAILED_PAUSE;
    }

    /// Whether the last dump failed.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// How many dumps were completed.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Whether no dump is wanted or going on.
    pub fn is_settled(&self) -> bool {
        !self.wanted && self.reading.is_none()
    }

    /// Whether there is something to do right now.
    pub fn is_due(&self) -> bool {
        let now = Instant::now();
        let is_audit_due = || !self.tables.is_empty() && self.audit_at <= now;
        self.reading.is_some() || self.not_before <= now && (self.wanted || is_audit_due())
    }

    /// Takes in a notification.
    pub fn event(&mut self, links: &Links, message: Message<'_>) {
        let Some(told) = parse(message) else { return };
        if let Some(reading) = &mut self.reading {
            reading.touched.insert((told.bridge, told.mac, told.vid));
            reading.doubt |= told.gone;
            if reading.touched.len() > TOUCHED_MAX {
                self.restart();
            }
        }
        self.apply(links, told);
    }

    /// What lookups may still find in tables that were replaced.
    fn replaced(&self, bridge: u32) -> impl Iterator<Item = &Fdb> {
        let of_bridge = move |(ifindex, _): &&(u32, Arc<Fdb>)| *ifindex == bridge;
        self.replaced.iter().filter(of_bridge).map(|(_, fdb)| &**fdb)
    }

    fn remove(&mut self, (bridge, mac, vid): Key) {
        for fdb in self.replaced(bridge) {
            fdb.remove(&mac, vid);
        }
        let fdb = self.tables.get(&bridge);
        self.change.decided |= fdb.is_some_and(|fdb| fdb.remove(&mac, vid).is_some());
    }

    fn apply(&mut self, links: &Links, told: Told) {
        let key = (told.bridge, told.mac, told.vid);
        if told.gone {
            return self.remove(key);
        }
        let link = links.get(told.port);
        let Some(port) = link.and_then(|link| link.index) else {
            // Its link comes behind this, in the other socket; or there is no place for it.
            self.wanted |= link.is_none();
            if let Some(fdb) = self.tables.get(&told.bridge) {
                fdb.set_whole(false);
            }
            return self.remove(key);
        };
        let entry = Entry {
            port,
            flags: told.flags,
        };
        for fdb in self.replaced(told.bridge) {
            if fdb.lookup(&told.mac, told.vid).is_some() {
                // It has its place there.
                let _ = fdb.insert(&told.mac, told.vid, entry);
            }
        }
        let Some(fdb) = self.tables.get_mut(&told.bridge) else {
            // Of a bridge that is gone, or of one whose link is still to come: then all is read.
            return;
        };
        loop {
            match fdb.insert(&told.mac, told.vid, entry) {
                Ok(before) => {
                    self.change.decided |= before.is_some_and(|before| before != entry);
                    return;
                }
                Err(_) if fdb.capacity() < ENTRIES_MAX => {
                    let larger = Arc::new(fdb.resized(ENTRIES_MAX.min(fdb.capacity() * GROWTH)));
                    self.replaced.push((told.bridge, std::mem::replace(fdb, larger)));
                    self.change.replaced = true;
                }
                Err(_) => return fdb.refuse(),
            }
        }
    }

    /// Starts a dump if one is due, reads a piece of it, or completes it; `drained`: the event socket was just seen empty. See
    /// the module's head for why it begins and ends only then.
    pub fn step(&mut self, links: &Links, drained: bool) -> Result<(), MirrorError> {
        match &self.reading {
            Some(reading) if reading.dumped => {
                if drained {
                    self.finish();
                }
                return Ok(());
            }
            Some(_) => {}
            None if !drained || !self.is_due() => return Ok(()),
            None => {
                let mut ndmsg = [0; HEADER];
                ndmsg[0] = libc::AF_BRIDGE as u8;
                self.channel.request(libc::RTM_GETNEIGH, &ndmsg)?;
                self.reading = Some(Reading::new(!self.wanted));
                self.wanted = false;
            }
        }
        let end = Instant::now() + STEP;
        let mut told = Vec::new();
        loop {
            let progress = self.channel.read(false, |message| told.extend(parse(message)))?;
            for told in told.drain(..).filter(|told| !told.gone) {
                let key = (told.bridge, told.mac, told.vid);
                let is_news = self.reading.as_mut().is_some_and(|reading| {
                    reading.seen.insert(key);
                    !reading.touched.contains(&key)
                });
                if is_news {
                    self.apply(links, told);
                }
            }
            match progress {
                Progress::More if Instant::now() < end => {}
                Progress::More | Progress::Wait => return Ok(()),
                Progress::Done { .. } => {
                    if let Some(reading) = &mut self.reading {
                        reading.dumped = true;
                    }
                    return Ok(());
                }
            }
        }
    }

    fn finish(&mut self) {
        let Some(reading) = self.reading.take() else { return };
        let is_gone = |key: &Key| !reading.seen.contains(key) && !reading.touched.contains(key);
        let known = self.tables.iter().flat_map(|(&bridge, fdb)| {
            let key = move |(mac, vid, _, _)| (bridge, mac, vid);
            fdb.iter().map(key)
        });
        if !(reading.is_audit && reading.doubt) {
            for key in known.filter(is_gone).collect::<Vec<_>>() {
                self.remove(key);
            }
            self.wanted |= reading.doubt;
        }
        if !self.wanted {
            self.tables.values().for_each(|fdb| fdb.set_whole(true));
        }
        self.completed += 1;
        self.is_failing = false;
        // Reading takes at most a fifth of the time.
        let (now, took) = (Instant::now(), reading.started.elapsed());
        self.not_before = now + (4 * took).max(DOUBT_PAUSE);
        self.audit_at = now + (100 * took).max(AUDIT_EVERY);
    }
}

/// Reads RTM_NEWNEIGH or RTM_DELNEIGH of a bridge.
fn parse(message: Message<'_>) -> Option<Told> {
    let (header, attributes) = message.split(HEADER)?;
    let (state, flags) = (u16_at(header, 8)?, *header.get(10)?);
    if i32::from(header[0]) != libc::AF_BRIDGE || flags & NTF_SELF != 0 {
        return None;
    }
    let (mut mac, mut vid, mut bridge, mut flags_ext) = (None, 0, None, 0);
    for (kind, value) in attributes {
        match kind {
            NDA_LLADDR => mac = <Mac>::try_from(value).ok(),
            NDA_VLAN => vid = u16_at(value, 0).unwrap_or_default(),
            NDA_MASTER => bridge = Some(as_u32(value)),
            NDA_FLAGS_EXT => flags_ext = as_u32(value),
            _ => {}
        }
    }
    let facts = [
        (state & NUD_PERMANENT != 0, EntryFlags::LOCAL),
        (state & NUD_NOARP != 0, EntryFlags::STATIC),
        (flags & NTF_STICKY != 0, EntryFlags::STICKY),
        (flags_ext & NTF_EXT_LOCKED != 0, EntryFlags::LOCKED),
        (flags & NTF_EXT_LEARNED != 0, EntryFlags::EXTERN),
    ];
    let bits = facts.iter().filter(|fact| fact.0).fold(0, |bits, fact| bits | fact.1);
    Some(Told {
        bridge: bridge?,
        port: u32_at(header, 4)?,
        mac: mac?,
        vid,
        flags: EntryFlags(bits),
        gone: message.kind == libc::RTM_DELNEIGH,
    })
}

#[cfg(test)]
mod tests;
