//! What `tc` says about what arrives by a port: filters at its ingress, and the policers of these (net/sched/act_police.c). A
//! policer lets pass what its token bucket has tokens for, and never has anything wait.
//!
//! ```text
//!  filters --class n--> policer n --tokens?--> conforms: pass | exceeds: dropped      no filter, or class 0: pass
//! ```
//!
//! One policer may be that of several filters and of several ports (`police index N`), and a port's queues may be of several
//! workers, so a bucket is one word: the time at which it will be full. What a frame costs puts that off; a frame exceeds
//! where it would be put off by more than the bucket's size:
//!
//! ```text
//!  now        full                     now + size           in parts of a nanosecond, 64 each
//!   |---------->|------cost------>|      |
//!   |  missing  |                 | <= now + size: conforms
//! ```
//!
//! What a frame costs is rounded up to a part, where the kernel cuts off a fraction of a nanosecond: over any time T a policer
//! lets pass at most `burst + rate * T`. The kernel counts what is behind the Ethernet header, and behind a tag, which it has
//! beside the frame by then; for `mtu` the header counts.
//!
//! What is punted has paid here, and meets the kernel's own policer next, which lets pass what else it gets as well. So now and then
//! the two settle ([`Policer::settle`]): what the kernel's passed beyond what has paid is taken from the bucket as of the time since
//! then, and what has paid and did not pass is given back. What is taken so late may be owed for as long as it took (`slack`), or
//! frames that conform would be lost for it.
//!
//! Configuration but for the buckets and counts: these live as long as what the kernel told of the policer stays the same.

pub use super::bucket::Amount;
use super::filter::Filter;
use super::qdisc::{Handle, Rate};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of an Ethernet header.
const HEADER_LEN: u32 = 14;
/// Parts of a nanosecond, as a shift. 64 bits of them are nine years since the machine began.
const PARTS: u32 = 6;
/// What a byte per second, or a packet, costs by a rate of one per second.
const SECOND: u64 = 1_000_000_000 << PARTS;
/// No bucket holds more, in nanoseconds: two years.
const SIZE_NS_MAX: u64 = 1 << 56;
/// What the kernel passed is owed for so long at most, in nanoseconds.
const DEBT_NS_MAX: u64 = 60_000_000_000;

/// What polices what arrives by a port.
#[derive(Clone, Debug, PartialEq)]
pub struct Policing {
    /// The qdisc at ingress: `ingress`, `clsact`.
    pub kind: Arc<str>,
    /// Its handle.
    pub handle: Handle,
    /// The filters there. Class 0 is no policer, n the one at n - 1 of `policers`.
    pub filters: Vec<Filter>,
    /// The policers.
    pub policers: Vec<Arc<Policer>>,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It goes on (`ok`, or `pipe` with nothing behind).
    Pass,
    /// It is dropped.
    Drop,
}

/// What a policer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Police {
    /// Its number, unique in the namespace.
    pub index: u32,
    /// What it bounds, if anything but the length.
    pub limit: Option<Limit>,
    /// How much may pass at once, in nanoseconds of the limit.
    pub burst_ns: u64,
    /// The second bucket: its rate, and its size in nanoseconds of that.
    pub peak: Option<(Rate, u64)>,
    /// The longest frame that conforms, in bytes with the Ethernet header.
    pub mtu: u32,
    /// What becomes of frames that conform.
    pub conforming: Act,
    /// ... that exceed.
    pub exceeding: Act,
}

/// What a policer bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes.
    Bytes(Rate),
    /// Packets, in a second.
    Packets(u64),
}

/// A policer at work. Two are equal that were told the same.
#[derive(Debug)]
pub struct Policer {
    /// What it was told.
    pub config: Police,
    bucket: Bucket,
    peak: Bucket,
    bytes: AtomicU64,
    packets: AtomicU64,
    exceeded: AtomicU64,
    /// Of what was punted since the kernel and we settled: bytes and packets.
    paid: [AtomicU64; 2],
}

/// What a policer counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes that met it, without Ethernet headers.
    pub bytes: u64,
    /// Packets that met it.
    pub packets: u64,
    /// ... of which exceeded.
    pub exceeded: u64,
}

impl Limit {
    /// What a frame costs that counts `bytes`, in parts.
    #[inline]
    fn cost(self, bytes: u32) -> u64 {
        match self {
            // What is around them included, 32 bits of bytes hold what 20 do here.
            Limit::Bytes(rate) => (rate.on_wire(bytes).min(1 << 28) * SECOND).div_ceil(rate.bytes_per_second.max(1)),
            Limit::Packets(per_second) => SECOND.div_ceil(per_second.max(1)),
        }
    }

    /// What so much costs together, in parts; all packets count as long as each other.
    fn cost_of(self, (bytes, packets): Amount) -> u64 {
        let each = u32::try_from(bytes / packets.max(1)).unwrap_or(u32::MAX);
        match self {
            Limit::Bytes(rate) if rate.on_wire(each) == u64::from(each) => {
                let parts = u128::from(bytes) * u128::from(SECOND) / u128::from(rate.bytes_per_second.max(1));
                u64::try_from(parts).unwrap_or(u64::MAX)
            }
            _ => self.cost(each).saturating_mul(packets),
        }
    }
}

impl PartialEq for Policer {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl Policer {
    /// One with full buckets.
    pub fn new(config: Police) -> Self {
        Self {
            config,
            bucket: Bucket::default(),
            peak: Bucket::default(),
            bytes: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            exceeded: AtomicU64::new(0),
            paid: Default::default(),
        }
    }

    /// What becomes of a frame that counts `bytes`, which are those behind its Ethernet header. Takes tokens if it conforms.
    #[inline]
    pub fn police(&self, bytes: u32, now_ns: u64) -> Act {
        self.packets.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes.into(), Relaxed);
        if self.conforms(bytes, now_ns) {
            return self.config.conforming;
        }
        self.exceeded.fetch_add(1, Relaxed);
        self.config.exceeding
    }

    #[inline]
    fn conforms(&self, bytes: u32, now_ns: u64) -> bool {
        let Police {
            limit,
            burst_ns,
            peak,
            mtu,
            ..
        } = &self.config;
        if bytes.saturating_add(HEADER_LEN) > *mtu {
            return false;
        }
        let Some(limit) = limit else { return true };
        let cost = limit.cost(bytes);
        if !self.bucket.take(cost, *burst_ns, now_ns) {
            return false;
        }
        if let Some((rate, size_ns)) = peak
            && !self.peak.take(Limit::Bytes(*rate).cost(bytes), *size_ns, now_ns)
        {
            self.bucket.give_back(cost);
            return false;
        }
        true
    }

    /// A frame that [`Policer::police`] has passed is the kernel's, whose policer counts it.
    pub fn punted(&self, bytes: u32) {
        self.packets.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes.into(), Relaxed);
        // Of others it is not known whether it conformed, and nothing hangs on it.
        if self.config.is_bound() {
            self.paid[0].fetch_add(bytes.into(), Relaxed);
            self.paid[1].fetch_add(1, Relaxed);
        }
    }

    /// Settles with the kernel, whose own policer has passed so much since then; `None` where nobody knows.
    pub fn settle(&self, passed: Option<Amount>, since_ns: u64, now_ns: u64) {
        let [bytes, packets] = self.paid.each_ref().map(|paid| paid.swap(0, Relaxed));
        let Some(passed) = passed else { return };
        let settle = |bucket: &Bucket, limit: Limit, size_ns| {
            let (passed, paid) = (limit.cost_of(passed), limit.cost_of((bytes, packets)));
            bucket.give_back(paid.saturating_sub(passed));
            bucket.charge(passed.saturating_sub(paid), size_ns, since_ns, now_ns);
        };
        if let Some(limit) = self.config.limit {
            settle(&self.bucket, limit, self.config.burst_ns);
        }
        if let Some((rate, size_ns)) = self.config.peak {
            settle(&self.peak, Limit::Bytes(rate), size_ns);
        }
    }

    /// What it counted.
    pub fn counts(&self) -> Counts {
        Counts {
            bytes: self.bytes.load(Relaxed),
            packets: self.packets.load(Relaxed),
            exceeded: self.exceeded.load(Relaxed),
        }
    }
}

impl Police {
    /// Whether it drops what exceeds, and nothing else.
    pub fn is_bound(&self) -> bool {
        (self.conforming, self.exceeding) == (Act::Pass, Act::Drop)
    }
}

/// See the module's head.
#[derive(Debug, Default)]
struct Bucket {
    /// The time at which it will be full, in parts; any that is past for one that is.
    full: AtomicU64,
    /// By how much more than its size it may be put off, in parts.
    slack: AtomicU64,
}

impl Bucket {
    /// Takes `cost` if it is there.
    #[inline]
    fn take(&self, cost: u64, size_ns: u64, now_ns: u64) -> bool {
        let (now, size) = (now_ns << PARTS, size_ns.min(SIZE_NS_MAX) << PARTS);
        let latest = now.saturating_add(size).saturating_add(self.slack.load(Relaxed));
        let mut full = self.full.load(Relaxed);
        loop {
            let after = full.max(now).saturating_add(cost);
            if after > latest {
                return false;
            }
            match self.full.compare_exchange_weak(full, after, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) => full = other,
            }
        }
    }

    fn give_back(&self, cost: u64) {
        let _ = self
            .full
            .fetch_update(Relaxed, Relaxed, |full| Some(full.saturating_sub(cost)));
    }

    /// Takes what was used since then, by debt if need be. Who has the bucket later may owe as much, and half of what it was before.
    fn charge(&self, cost: u64, size_ns: u64, since_ns: u64, now_ns: u64) {
        let (since, now) = (since_ns << PARTS, now_ns << PARTS);
        let most = now.saturating_add((size_ns.min(SIZE_NS_MAX) + DEBT_NS_MAX) << PARTS);
        let _ = self.full.fetch_update(Relaxed, Relaxed, |full| {
            Some(full.max(since).saturating_add(cost).min(most.max(full)))
        });
        let slack = cost.min(now.saturating_sub(since)).max(self.slack.load(Relaxed) / 2);
        self.slack.store(slack, Relaxed);
    }
}

#[cfg(test)]
mod tests;
