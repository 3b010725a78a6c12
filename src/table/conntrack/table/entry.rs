//! An entry: one connection in two cache lines of words, all of them atomic.
//!
//! ```text
//!  line 0   0      life, see life.rs
//!           1..4   addresses. IPv4: 1 = original src | dst, 2 = reply src | dst.
//!                  IPv6: 1,2 = original src, 3,4 = original dst; the reply's are the inverse. If they are not (NAT),
//!                  4 is the number of an annex, which has the original's last word and the reply's four
//!           5      ports: original src | dst | reply src | dst
//!           6      ct mark (32) | zone (16) | protocol (8) | flags (8)
//!           7      version (24) | protocol state, word 0 (40)
//!  line 1   8..13  protocol state, words 1 to 6
//!           14,15  decisions, by direction
//! ```
//!
//! Words 1 to 6 (but for the mark) are written before the entry is reachable and never again until epochs have freed it:
//! plain loads will do. The protocol state is under the version: an odd one says that a thread is storing (a few
//! instructions), and a commit takes the version it has loaded to the next odd one by compare-and-swap, so of two packets that
//! computed from one state, one commits and the other computes again. A reader that always finds a store under way (its
//! thread was preempted) does not wait: it gets what there is, with a version that never commits.
//!
//! On the free list word 1 is the next one.

use super::life::{Life, Stage};
use super::sync::{AtomicU32, AtomicU64, Ordering, fence, prefetch, spin};
use crate::packet::{Addr, Family};
use crate::table::conntrack::{Counter, Direction, ProtoState, Record, Tuple};
use Ordering::{AcqRel, Acquire, Relaxed, Release};

const ADDRESSES: usize = 1;
const PORTS: usize = 5;
const IDENTITY: usize = 6;
const PROTO: usize = 7;
const DECISION: usize = 14;
/// Where the next entry of the free list stands.
const NEXT: usize = 1;

/// Word 6: it is IPv6.
const IPV6: u64 = 1;
/// Word 6: word 4 is the number of an annex.
const ANNEXED: u64 = 2;
/// Word 6, but for the mark and the annex: what a tuple must have in common with the entry.
const SAME: u64 = 0xffff_fffd;

const VERSION: u64 = 1 << 40;
const STATE_0: u64 = VERSION - 1;
/// How often a reader looks again for a state that nobody is storing.
const SPINS_MAX: u32 = if cfg!(loom) { 1 } else { 64 };

/// See the file's head.
#[repr(C, align(64))]
#[cfg_attr(loom, derive(Default))]
pub struct Entry {
    words: [AtomicU64; 16],
}

/// Packets and bytes by direction, beside the entries: touched only where `nf_conntrack_acct` is on.
#[repr(C)]
#[cfg_attr(loom, derive(Default))]
pub struct Cold {
    counters: [AtomicU64; 4],
}

/// When the kernel's copy of it expires, beside the entries.
#[repr(transparent)]
#[cfg_attr(loom, derive(Default))]
pub struct KernelDeadline(pub AtomicU32);

/// The reply's addresses of an IPv6 connection with NAT, then the original's last word. On its free list word 0 is the next
/// one.
#[repr(C)]
#[cfg_attr(loom, derive(Default))]
pub struct Annex(pub [AtomicU64; 5]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == 128 && align_of::<Entry>() == 64);
#[cfg(not(loom))]
const _: () = assert!(size_of::<Cold>() == 32 && size_of::<Annex>() == 40);

#[cfg(not(loom))]
mod zeroed {
    use super::super::memory::Zeroed;
    use super::{Annex, Cold, Entry, KernelDeadline};
    // SAFETY: made of atomic integers only: zeros are a value, and they need no drop.
    unsafe impl Zeroed for Entry {}
    // SAFETY: made of atomic integers only.
    unsafe impl Zeroed for Cold {}
    // SAFETY: made of atomic integers only.
    unsafe impl Zeroed for Annex {}
    // SAFETY: an atomic integer.
    unsafe impl Zeroed for KernelDeadline {}
}

/// A tuple as it lies in an entry, to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    addresses: [u64; 4],
    ports: u32,
    identity: u32,
}

impl Key {
    /// That of a tuple.
    #[inline(always)]
    pub fn new(tuple: &Tuple) -> Key {
        let addresses = match tuple.family {
            Family::V4 => [(tuple.src as u64) << 32 | tuple.dst as u64 & 0xffff_ffff, 0, 0, 0],
            Family::V6 => {
                let [a, b] = halves(tuple.src);
                let [c, d] = halves(tuple.dst);
                [a, b, c, d]
            }
        };
        let family = if tuple.family == Family::V6 { IPV6 } else { 0 };
        Key {
            addresses,
            ports: u32::from(tuple.sport) << 16 | u32::from(tuple.dport),
            identity: (u64::from(tuple.zone) << 16 | u64::from(tuple.proto) << 8 | family) as u32,
        }
    }

    /// Whether the reply's addresses need an annex beside this original.
    pub fn needs_annex(&self, reply: &Key) -> bool {
        let [a, b, c, d] = self.addresses;
        u64::from(self.identity) & IPV6 != 0 && reply.addresses != [c, d, a, b]
    }
}

fn halves(addr: Addr) -> [u64; 2] {
    [(addr >> 64) as u64, addr as u64]
}

fn joined(high: u64, low: u64) -> Addr {
    u128::from(high) << 64 | u128::from(low)
}

/// What a protocol state was loaded with: hand it back to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

impl Entry {
    #[inline(always)]
    fn get(&self, word: usize) -> u64 {
        self.words[word].load(Relaxed)
    }

    #[inline(always)]
    fn put(&self, word: usize, value: u64) {
        self.words[word].store(value, Relaxed);
    }

    /// Writes a new connection into an entry that is nobody else's; its stage is pending then.
    pub fn fill(&self, record: &Record, keys: &[Key; 2], life: Life, cold: &Cold, annex: Option<(u32, &Annex)>) {
        let [original, reply] = keys;
        let mut flags = 0;
        if u64::from(original.identity) & IPV6 == 0 {
            self.put(ADDRESSES, original.addresses[0]);
            self.put(ADDRESSES + 1, reply.addresses[0]);
        } else {
            for (n, &word) in original.addresses.iter().enumerate() {
                self.put(ADDRESSES + n, word);
            }
            if let Some((number, annex)) = annex {
                flags = ANNEXED;
                let words = reply.addresses.iter().chain(&original.addresses[3..]);
                for (place, &word) in annex.0.iter().zip(words) {
                    place.store(word, Relaxed);
                }
                self.put(ADDRESSES + 3, u64::from(number));
            }
        }
        self.put(PORTS, u64::from(original.ports) << 32 | u64::from(reply.ports));
        self.put(
            IDENTITY,
            u64::from(record.mark) << 32 | u64::from(original.identity) | flags,
        );
        self.put(PROTO, record.proto[0] & STATE_0);
        for (n, &word) in record.proto.iter().enumerate().skip(1) {
            self.put(PROTO + n, word);
        }
        self.put(DECISION, 0);
        self.put(DECISION + 1, 0);
        for (pair, counter) in cold.counters.chunks(2).zip(record.counters) {
            pair[0].store(counter.packets, Relaxed);
            pair[1].store(counter.bytes, Relaxed);
        }
        self.words[0].store(life.at(Stage::Pending).0, Release);
    }

    /// Asks for both lines, to be read soon.
    #[inline(always)]
    pub fn prefetch(&self) {
        prefetch(&self.words[0]);
        prefetch(&self.words[8]);
    }

    /// The word that decides.
    #[inline(always)]
    pub fn life(&self) -> Life {
        Life(self.words[0].load(Acquire))
    }

    /// Takes it from `old`, exactly, to `new`; says what it is if not.
    #[inline]
    pub fn change_life(&self, old: Life, new: Life) -> Result<(), Life> {
        let change = self.words[0].compare_exchange(old.0, new.0, AcqRel, Acquire);
        change.map(drop).map_err(Life)
    }

    /// Gives a dead entry, that nobody holds any more, back.
    pub fn free(&self, next: u32) {
        self.words[0].store(0, Relaxed);
        self.put(IDENTITY, 0);
        self.put(NEXT, u64::from(next));
    }

    /// The number of its annex, if it has one.
    pub fn annex(&self) -> Option<u32> {
        (self.get(IDENTITY) & ANNEXED != 0).then(|| self.get(ADDRESSES + 3) as u32)
    }

    /// The next one of the free list. Anything, if this one is not on it.
    pub fn next_free(&self) -> u32 {
        self.get(NEXT) as u32
    }

    /// Sets bits of the life word; says what it was.
    pub fn set_bits(&self, bits: u64) -> Life {
        // What is set already needs no write: the line stays shared.
        let life = self.life();
        if life.0 & bits == bits {
            return life;
        }
        Life(self.words[0].fetch_or(bits, AcqRel))
    }

    /// Sets bits of the life word, even if they are set: whoever clears them from now on sees what was stored before.
    pub fn raise_bits(&self, bits: u64) {
        self.words[0].fetch_or(bits, AcqRel);
    }

    /// Clears bits of the life word; says what it was.
    pub fn clear_bits(&self, bits: u64) -> Life {
        let life = self.life();
        if life.0 & bits == 0 {
            return life;
        }
        Life(self.words[0].fetch_and(!bits, AcqRel))
    }

    /// Whether `key` is its tuple of that direction. `annex` finds one by its number.
    #[inline(always)]
    pub fn matches<'a>(&self, key: &Key, direction: Direction, annex: impl FnOnce(u32) -> Option<&'a Annex>) -> bool {
        let identity = self.get(IDENTITY);
        let ports = self.get(PORTS);
        let reply = direction == Direction::Reply;
        let ports = if reply { ports as u32 } else { (ports >> 32) as u32 };
        if identity & SAME != u64::from(key.identity) || ports != key.ports {
            return false;
        }
        if identity & IPV6 == 0 {
            return self.get(ADDRESSES + usize::from(reply)) == key.addresses[0];
        }
        self.addresses_v6(reply, identity & ANNEXED != 0, annex) == Some(key.addresses)
    }

    fn addresses_v6<'a>(
        &self,
        reply: bool,
        annexed: bool,
        annex: impl FnOnce(u32) -> Option<&'a Annex>,
    ) -> Option<[u64; 4]> {
        let words = [1, 2, 3, 4].map(|n| self.get(n));
        let [a, b, c, d] = words;
        if annexed {
            let [e, f, g, h, last] = annex(d as u32)?.0.each_ref().map(|word| word.load(Relaxed));
            return Some(if reply { [e, f, g, h] } else { [a, b, c, last] });
        }
        Some(if reply { [c, d, a, b] } else { words })
    }

    /// Its tuple of a direction.
    pub fn tuple<'a>(&self, direction: Direction, annex: impl FnOnce(u32) -> Option<&'a Annex>) -> Tuple {
        let identity = self.get(IDENTITY);
        let reply = direction == Direction::Reply;
        let ports = self.get(PORTS) >> if reply { 0 } else { 32 };
        let (family, src, dst) = if identity & IPV6 == 0 {
            let pair = self.get(ADDRESSES + usize::from(reply));
            (Family::V4, u128::from(pair >> 32), u128::from(pair as u32))
        } else {
            let [a, b, c, d] = self
                .addresses_v6(reply, identity & ANNEXED != 0, annex)
                .unwrap_or_default();
            (Family::V6, joined(a, b), joined(c, d))
        };
        Tuple {
            src,
            dst,
            sport: (ports >> 16) as u16,
            dport: ports as u16,
            proto: (identity >> 8) as u8,
            family,
            zone: (identity >> 16) as u16,
        }
    }

    /// What a TCP or UDP packet of a direction becomes, of IPv4: the inverse of its tuple of the other direction.
    #[inline(always)]
    pub fn target_v4(&self, direction: Direction) -> Tuple {
        let (identity, ports, pair) = (
            self.get(IDENTITY),
            self.get(PORTS),
            match direction {
                Direction::Original => self.get(ADDRESSES + 1),
                Direction::Reply => self.get(ADDRESSES),
            },
        );
        let ports = match direction {
            Direction::Original => ports as u32,
            Direction::Reply => (ports >> 32) as u32,
        };
        Tuple {
            src: u128::from(pair as u32),
            dst: u128::from(pair >> 32),
            sport: ports as u16,
            dport: (ports >> 16) as u16,
            proto: (identity >> 8) as u8,
            family: Family::V4,
            zone: (identity >> 16) as u16,
        }
    }

    /// `ct mark`.
    #[inline]
    pub fn mark(&self) -> u32 {
        (self.get(IDENTITY) >> 32) as u32
    }

    /// Sets it; the rest of its word never changes, so of two stores the later one wins whole.
    pub fn set_mark(&self, mark: u32) {
        let rest = self.get(IDENTITY) & 0xffff_ffff;
        self.put(IDENTITY, u64::from(mark) << 32 | rest);
    }

    /// See the file's head.
    #[inline(always)]
    pub fn proto(&self) -> (Version, ProtoState) {
        let mut spins = 0;
        loop {
            let version = self.words[PROTO].load(Acquire);
            let mut state: ProtoState = [version & STATE_0; 7];
            let mut n = 1;
            while n < state.len() {
                state[n] = self.get(PROTO + n);
                n += 1;
            }
            // The words above are not read later than the version below.
            fence(Acquire);
            let whole = version & VERSION == 0 && self.get(PROTO) == version;
            if whole || spins == SPINS_MAX {
                let version = if whole { version } else { version | VERSION };
                return (Version(version), state);
            }
            spins += 1;
            spin();
        }
    }

    /// Stores a state that was computed from the one of `version`; false if that is no longer the latest.
    #[inline(always)]
    pub fn commit(&self, Version(old): Version, state: &ProtoState) -> bool {
        let word = &self.words[PROTO];
        if old & VERSION != 0
            || word
                .compare_exchange(old, old.wrapping_add(VERSION), Acquire, Relaxed)
                .is_err()
        {
            return false;
        }
        // Whoever reads one of the words below finds the odd version, or a later one, behind its fence.
        fence(Release);
        let mut n = 1;
        while n < state.len() {
            self.put(PROTO + n, state[n]);
            n += 1;
        }
        let version = old.wrapping_add(2 * VERSION) & !STATE_0;
        word.store(version | state[0] & STATE_0, Release);
        true
    }

    /// What the flow stage keeps for a direction; 0 at first.
    #[inline]
    pub fn decision(&self, direction: Direction) -> u64 {
        self.words[DECISION + direction as usize].load(Acquire)
    }

    /// Sets it.
    #[inline]
    pub fn set_decision(&self, direction: Direction, decision: u64) {
        self.words[DECISION + direction as usize].store(decision, Release);
    }
}

impl Cold {
    /// One more packet of `bytes`.
    #[inline]
    pub fn count(&self, direction: Direction, bytes: u32) {
        let at = 2 * direction as usize;
        self.counters[at].fetch_add(1, Relaxed);
        self.counters[at + 1].fetch_add(u64::from(bytes), Relaxed);
    }

    /// By direction.
    pub fn counters(&self) -> [Counter; 2] {
        [0, 2].map(|at| Counter {
            packets: self.counters[at].load(Relaxed),
            bytes: self.counters[at + 1].load(Relaxed),
        })
    }
}
