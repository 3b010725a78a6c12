//! The forwarding database of one bridge: by which port is this Ethernet address reached? Control enters what the kernel
//! learned, or was told; workers read at the same time, without a lock, and mark the entries whose owners they saw, so that
//! control can keep those alive in the kernel (which does not see the frames that renew them).
//!
//! ```text
//!  slots: | key: address, VLAN | entry: port, flags | seen |  16 bytes, four in a cache line, where the search for a key
//!           0: never used        0: no entry                  begins with the first; open addressing, linear
//! ```
//!
//! One writer. A slot that has a key keeps it until its entry is gone and another key takes it; the order of stores is entry
//! 0, key, entry, and a reader that saw an entry looks at the key again: an entry of another key is never taken for that of
//! one's own. A reader that meets a change in the middle finds nothing, which is a punt.
//!
//! An entry that comes does not end what workers decided, for nothing was decided without it; one that moves or goes does,
//! so whoever changes those must raise the snapshot's generation. Bounded: two entries for three slots, and none farther
//! than `PROBES_MAX` from its place; what has no room is not entered, and its frames are the kernel's. Places are seeded,
//! so that nobody can choose addresses that crowd one.

use super::bridge::Vid;
use super::conntrack::Ticks;
use super::conntrack::table::prefetch;
use super::iface::IfaceIndex;
use crate::wire::Mac;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The link of the port. With [`EntryFlags::LOCAL`], of the port or the bridge that has the address, and of no account:
    /// where several have it, the kernel changes it without a word.
    pub port: IfaceIndex,
    /// Facts, see [`EntryFlags`].
    pub flags: EntryFlags,
}

/// Facts about an entry, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryFlags(pub u8);

impl EntryFlags {
    /// The bridge's or a port's own address (`permanent`): frames to it go up.
    pub const LOCAL: u8 = 1 << 0;
    /// It does not age (`static`).
    pub const STATIC: u8 = 1 << 1;
    /// It does not move (`sticky`).
    pub const STICKY: u8 = 1 << 2;
    /// Its owner is not let in (`locked`).
    pub const LOCKED: u8 = 1 << 3;
    /// Learned by someone beside the kernel (`extern_learn`): does not age.
    pub const EXTERN: u8 = 1 << 4;

    /// Whether any of `bits` is set.
    #[inline]
    pub fn any(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

impl Entry {
    const VALID: u32 = 1 << 31;

    fn to_word(self) -> u32 {
        Self::VALID | u32::from(self.flags.0) << 16 | u32::from(self.port.0)
    }

    #[inline]
    fn of(word: u32) -> Option<Self> {
        (word & Self::VALID != 0).then_some(Self {
            port: IfaceIndex(word as u16),
            flags: EntryFlags((word >> 16) as u8),
        })
    }
}

/// What a lookup found, in its slot.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    /// What is known.
    pub entry: Entry,
    slot: &'a Slot,
}

impl Hit<'_> {
    /// Says that a frame of its owner came by at `now`. Writes once per tick.
    #[inline]
    pub fn see(&self, now: Ticks) {
        if self.slot.seen.load(Ordering::Relaxed) != now {
            self.slot.seen.store(now, Ordering::Relaxed);
        }
    }
}

/// How many slots are looked at for one address: a few cache lines.
const PROBES_MAX: usize = 32;

/// There is no room near the place of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A cache line of slots.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Slot; SLOTS_PER_LINE]);

const SLOTS_PER_LINE: usize = 4;

#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    entry: AtomicU32,
    seen: AtomicU32,
}

/// See the module's head.
#[derive(Debug)]
pub struct Fdb {
    lines: Box<[Line]>,
    seed: u64,
    len: AtomicU32,
    refused: AtomicU64,
    whole: AtomicBool,
}

impl Default for Fdb {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Fdb {
    /// No entry, and room for `entries`, at least 341.
    pub fn new(entries: usize) -> Self {
        let slots = (entries + entries / 2).next_power_of_two().max(512);
        Self {
            lines: (0..slots / SLOTS_PER_LINE).map(|_| Line::default()).collect(),
            seed: RandomState::new().hash_one(slots),
            len: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            whole: AtomicBool::new(false),
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be.
    pub fn capacity(&self) -> usize {
        self.lines.len() * SLOTS_PER_LINE * 2 / 3
    }

    /// How many entries were given up for want of room, ever.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether what is not known here is not known to the kernel either, as far as it told: nothing was given up or missed.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed) && self.refused() == 0
    }

    /// Says that all was read, or that something was missed.
    pub fn set_whole(&self, is_whole: bool) {
        self.whole.store(is_whole, Ordering::Relaxed);
    }

    /// Counts an entry that is given up.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// What is known of `mac` in `vid`.
    #[inline(always)]
    pub fn lookup(&self, mac: &Mac, vid: Vid) -> Option<Hit<'_>> {
        let key = key(mac, vid);
        let first = self.place(key) / SLOTS_PER_LINE;
        for at in first..first + PROBES_MAX / SLOTS_PER_LINE {
            let line = self.lines.get(at & (self.lines.len() - 1))?;
            // In which slot of the line it is, no branch could foresee.
            let keys = line.0.each_ref().map(|slot| slot.key.load(Ordering::Acquire));
            let found = (0..SLOTS_PER_LINE).fold(0u32, |found, at| found | u32::from(keys[at] == key) << at);
            if let Some(slot) = line.0.get(found.trailing_zeros() as usize) {
                let entry = Entry::of(slot.entry.load(Ordering::Acquire));
                let is_still = slot.key.load(Ordering::Relaxed) == key;
                return entry.filter(|_| is_still).map(|entry| Hit { entry, slot });
            }
            if keys.contains(&0) {
                return None;
            }
        }
        None
    }

    /// Asks for the cache line where `mac` in `vid` most likely is.
    #[inline(always)]
    pub fn prefetch(&self, mac: &Mac, vid: Vid) {
        if let Some(line) = self.lines.get(self.place(key(mac, vid)) / SLOTS_PER_LINE) {
            prefetch(line);
        }
    }

    /// Enters or replaces what is known of `mac` in `vid`; what was known before. Only one thread may change a table.
    ///
    /// # Errors
    /// [`Full`]: nothing is changed.
    pub fn insert(&self, mac: &Mac, vid: Vid, entry: Entry) -> Result<Option<Entry>, Full> {
        let key = key(mac, vid);
        let mut free: Option<&Slot> = None;
        for slot in self.probe(key) {
            let found = slot.key.load(Ordering::Relaxed);
            let known = Entry::of(slot.entry.load(Ordering::Relaxed));
            if found == key {
                if known.is_none() {
                    self.grow()?;
                }
                slot.entry.store(entry.to_word(), Ordering::Release);
                return Ok(known);
            }
            if known.is_none() {
                free.get_or_insert(slot);
            }
            if found == 0 {
                break;
            }
        }
        let slot = free.ok_or(Full)?;
        self.grow()?;
        slot.key.store(key, Ordering::Release);
        slot.seen.store(0, Ordering::Relaxed);
        slot.entry.store(entry.to_word(), Ordering::Release);
        Ok(None)
    }

    /// Takes out what is known of `mac` in `vid`, and says it. Only one thread may change a table.
    pub fn remove(&self, mac: &Mac, vid: Vid) -> Option<Entry> {
        let hit = self.lookup(mac, vid)?;
        hit.slot.entry.store(0, Ordering::Release);
        self.len.fetch_sub(1, Ordering::Relaxed);
        self.clean(self.place(key(mac, vid)) + PROBES_MAX);
        Some(hit.entry)
    }

    /// Slots without an entry before one that was never used need no key: nobody looks behind them for anything. Looks at the
    /// slots that end before `end`, from the last one on, as many as a removal may have freed.
    fn clean(&self, end: usize) {
        let mut is_last = false;
        for slot in (end - PROBES_MAX..=end).rev().filter_map(|at| self.slot(at)) {
            let is_free = slot.entry.load(Ordering::Relaxed) == 0;
            if is_last && is_free {
                slot.key.store(0, Ordering::Release);
            }
            is_last = slot.key.load(Ordering::Relaxed) == 0;
        }
    }

    /// All entries, in no order: address, VLAN, what is known, and the tick in which a worker saw its owner last (0: never).
    pub fn iter(&self) -> impl Iterator<Item = (Mac, Vid, Entry, Ticks)> + '_ {
        self.lines.iter().flat_map(|line| &line.0).filter_map(|slot| {
            let entry = Entry::of(slot.entry.load(Ordering::Acquire))?;
            let [a, b, c, d, e, f, high, low] = slot.key.load(Ordering::Relaxed).to_be_bytes();
            let vid = Vid::from_be_bytes([high, low]) & !IN_USE as Vid;
            Some(([a, b, c, d, e, f], vid, entry, slot.seen.load(Ordering::Relaxed)))
        })
    }

    /// A table with room for `entries` that has all entries of this one, marks included; what has no room is left out.
    pub fn resized(&self, entries: usize) -> Self {
        let larger = Self::new(entries);
        larger.refused.store(self.refused(), Ordering::Relaxed);
        larger.set_whole(self.whole.load(Ordering::Relaxed));
        for (mac, vid, entry, seen) in self.iter() {
            if larger.insert(&mac, vid, entry).is_ok()
                && let Some(hit) = larger.lookup(&mac, vid)
            {
                hit.see(seen);
            }
        }
        larger
    }

    fn grow(&self) -> Result<(), Full> {
        if self.len() >= self.capacity() {
            return Err(Full);
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The slots where `key` may be, the likeliest first.
    #[inline]
    fn probe(&self, key: u64) -> impl Iterator<Item = &Slot> {
        let place = self.place(key);
        (place..place + PROBES_MAX).filter_map(|at| self.slot(at))
    }

    /// The first slot follows the last one.
    #[inline]
    fn slot(&self, at: usize) -> Option<&Slot> {
        let line = self.lines.get((at / SLOTS_PER_LINE) & (self.lines.len() - 1))?;
        line.0.get(at % SLOTS_PER_LINE)
    }

    /// Addresses of one vendor differ in a few low bytes: all of them reach the place.
    #[inline]
    fn place(&self, key: u64) -> usize {
        let product = u128::from(key ^ self.seed) * 0xd1b5_4a32_d192_ed03;
        let line = ((product >> 64) as u64 ^ product as u64) as usize & (self.lines.len() - 1);
        line * SLOTS_PER_LINE
    }
}

/// Set in every key, so that none is 0.
const IN_USE: u64 = 1 << 15;

#[inline]
fn key(mac: &Mac, vid: Vid) -> u64 {
    let [a, b, c, d, e, f] = *mac;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0]) | u64::from(vid) & (IN_USE - 1) | IN_USE
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn entry(port: u16) -> Entry {
        Entry {
            port: IfaceIndex(port),
            flags: EntryFlags(EntryFlags::STATIC),
        }
    }

    proptest! {
        #[test]
        fn lookups_are_those_of_a_plain_map(changes in prop::collection::vec((any::<bool>(), 0u8..40, 0u16..3, 0u16..5), 0..600)) {
            let fdb = Fdb::new(256);
            let mut plain = HashMap::new();
            for (insert, last, vid, port) in changes {
                let mac = [2, 0, 0, 0, 0, last];
                if insert {
                    prop_assert_eq!(fdb.insert(&mac, vid, entry(port)), Ok(plain.insert((mac, vid), entry(port))));
                } else {
                    prop_assert_eq!(fdb.remove(&mac, vid), plain.remove(&(mac, vid)));
                }
                prop_assert_eq!(fdb.len(), plain.len());
            }
            for (last, vid) in (0..40).flat_map(|last| (0..3).map(move |vid| (last, vid))) {
                let mac = [2, 0, 0, 0, 0, last];
                prop_assert_eq!(fdb.lookup(&mac, vid).map(|hit| hit.entry), plain.get(&(mac, vid)).copied());
            }
            let all: HashMap<_, _> = fdb.resized(1024).iter().map(|(mac, vid, entry, _)| ((mac, vid), entry)).collect();
            prop_assert_eq!(all, plain);
        }
    }

    #[test]
    fn a_full_table_says_so_and_goes_on() {
        let fdb = Fdb::new(256);
        let mac = |n: usize| [2, 0, 0, 0, (n >> 8) as u8, n as u8];
        let entered: Vec<usize> = (0..2000)
            .filter(|&n| fdb.insert(&mac(n), 0, entry(1)).is_ok())
            .collect();
        assert_eq!(entered.len(), fdb.capacity());
        assert_eq!(fdb.insert(&mac(5000), 0, entry(1)), Err(Full));
        let (moves, goes) = (mac(entered[3]), mac(entered[4]));
        assert_eq!(
            fdb.insert(&moves, 0, entry(2)),
            Ok(Some(entry(1))),
            "a move takes no room"
        );
        fdb.remove(&goes, 0);
        assert_eq!(fdb.insert(&goes, 0, entry(3)), Ok(None));
        assert_eq!(fdb.lookup(&goes, 0).map(|hit| hit.entry), Some(entry(3)));
    }

    /// Addresses that come and go for ever do not fill the table with what is gone.
    #[test]
    fn places_are_used_again() {
        let fdb = Fdb::new(256);
        for n in 0..100_000u32 {
            let [_, a, b, c] = n.to_be_bytes();
            fdb.insert(&[2, 0, 0, a, b, c], 7, entry(1)).unwrap();
            assert_eq!(fdb.remove(&[2, 0, 0, a, b, c], 7), Some(entry(1)));
        }
        assert!(fdb.is_empty() && fdb.iter().next().is_none());
        let keys = fdb
            .lines
            .iter()
            .flat_map(|line| &line.0)
            .filter(|slot| slot.key.load(Ordering::Relaxed) != 0)
            .count();
        assert!(keys < 16, "{keys} slots are still taken for used");
    }

    #[test]
    fn who_was_seen_is_marked() {
        let fdb = Fdb::new(1);
        fdb.insert(&[2, 0, 0, 0, 0, 1], 5, entry(1)).unwrap();
        fdb.lookup(&[2, 0, 0, 0, 0, 1], 5).unwrap().see(77);
        assert_eq!(fdb.iter().collect::<Vec<_>>(), [([2, 0, 0, 0, 0, 1], 5, entry(1), 77)]);
    }

    /// While one thread has two addresses take each other's place, another never finds the wrong entry.
    #[test]
    fn a_reader_never_takes_the_entry_of_another_address() {
        let fdb = Fdb::new(256);
        // Enough addresses that slots change their keys.
        let macs: Vec<Mac> = (0..64).map(|n| [2, 0, 0, 0, 9, n]).collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for mac in &macs {
                        if let Some(hit) = fdb.lookup(mac, 0) {
                            assert_eq!(hit.entry.port.0, u16::from(mac[5]));
                        }
                    }
                }
            });
            for round in 0..2000usize {
                let mac = &macs[round * 7 % macs.len()];
                let _ = fdb.insert(mac, 0, entry(u16::from(mac[5])));
                fdb.remove(&macs[round * 5 % macs.len()], 0);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
