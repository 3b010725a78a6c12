//! The token bucket of sch_tbf.c and sch_htb.c: bytes pass as long as there are tokens, which come at a rate and stop when the
//! bucket is full. Over any time T it lets pass at most `size + rate * T`, and under demand no less.
//!
//! The kernel counts tokens in nanoseconds, and cuts off a fraction of one for each packet (psched_l2t_ns): at 5 Gbit/s, 64 bytes
//! last 102.4 ns and are paid with 102, which is 0.4 % too fast. Here the unit is such that both sides are whole numbers:
//!
//! ```text
//!  one byte = 1,000,000,000 tokens      one nanosecond = `bytes_per_second` tokens
//! ```
//!
//! So nothing is ever rounded but the time to wait, which is rounded up; and waiting longer than needed loses no tokens. 128 bits
//! hold any rate over any time. A bucket may be in debt (htb sends while there is no debt, and pays after), bounded by
//! [`DEBT_NS_MAX`] of its rate.

use super::qdisc::Rate;

/// Bytes and packets.
pub type Amount = (u64, u64);

/// What a byte costs.
const BYTE: u64 = 1_000_000_000;

/// The most that a bucket may owe, in nanoseconds of its rate; what is more is forgiven (`mbuffer` of sch_htb.c).
pub const DEBT_NS_MAX: u64 = 60_000_000_000;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: i128,
    size: i128,
    rate: Rate,
    at_ns: u64,
}

impl Bucket {
    /// A full one, for so many nanoseconds of `rate`. A rate of zero is one byte in a nanosecond, as psched_ratecfg_precompute
    /// has it.
    pub fn new(mut rate: Rate, size_ns: u64, now_ns: u64) -> Self {
        if rate.bytes_per_second == 0 {
            rate.bytes_per_second = 1_000_000_000;
        }
        let size = i128::from(size_ns) * i128::from(rate.bytes_per_second);
        Self {
            tokens: size,
            size,
            rate,
            at_ns: now_ns,
        }
    }

    /// Full, and large enough for a frame of `bytes`: what passes a size in nanoseconds that was rounded down on its way must not
    /// wait for ever.
    pub fn holding(mut self, bytes: u32) -> Self {
        self.size = self.size.max(self.rate.cost(bytes));
        self.tokens = self.size;
        self
    }

    /// Goes on by another rate and size: what is in it, or owed, stays so many nanoseconds, as in htb_change_class.
    pub fn set(&mut self, rate: Rate, size_ns: u64, now_ns: u64) {
        let before = *self;
        *self = Self::new(rate, size_ns, before.at_ns);
        let (old, new) = (before.rate.bytes_per_second, self.rate.bytes_per_second);
        self.tokens = if old == new {
            before.tokens
        } else {
            before
                .tokens
                .saturating_mul(i128::from(new))
                .div_euclid(i128::from(old))
        };
        self.tokens = self.tokens.min(self.size);
        self.fill(now_ns);
    }

    /// The tokens that came until now.
    #[inline(always)]
    pub fn fill(&mut self, now_ns: u64) {
        self.fill_for(now_ns, u64::MAX);
    }

    /// The tokens that came until now, but those of no longer a time than `most_ns`.
    #[inline(always)]
    pub fn fill_for(&mut self, now_ns: u64, most_ns: u64) {
        if now_ns > self.at_ns {
            let ns = (now_ns - self.at_ns).min(most_ns);
            let came = i128::from(ns) * i128::from(self.rate.bytes_per_second);
            self.tokens = self.size.min(self.tokens + came);
            self.at_ns = now_ns;
        }
    }

    /// Whether a frame of `bytes` can be paid for without debt.
    #[inline(always)]
    pub fn can_pay(&self, bytes: u32) -> bool {
        self.tokens >= self.rate.cost(bytes)
    }

    /// How long until a frame of `bytes` can be paid for without debt, in nanoseconds from the last [`Bucket::fill`] on: 0 when it
    /// can.
    #[inline]
    pub fn wait_ns(&self, bytes: u32) -> u64 {
        self.until(self.tokens - self.rate.cost(bytes))
    }

    /// How long until nothing is owed, in nanoseconds from the last [`Bucket::fill`] on: 0 when nothing is.
    #[inline]
    pub fn debt_ns(&self) -> u64 {
        self.until(self.tokens)
    }

    /// How many frames of `bytes` can be paid for until it owes so many nanoseconds.
    pub fn lasts_for(&self, bytes: u32, debt_ns: u64) -> u64 {
        let may = self.tokens + i128::from(debt_ns) * i128::from(self.rate.bytes_per_second);
        u64::try_from(may.max(0) / self.rate.cost(bytes).max(1)).unwrap_or(u64::MAX)
    }

    /// Whether something is owed.
    #[inline]
    pub fn is_owing(&self) -> bool {
        self.tokens < 0
    }

    /// Pays for a frame of `bytes`, by debt if need be.
    #[inline(always)]
    pub fn take(&mut self, bytes: u32) {
        self.pay(self.rate.cost(bytes));
    }

    /// Pays for many frames at once, as if all were of one length.
    pub fn take_many(&mut self, frames: Amount) {
        self.pay(i128::from(self.rate.on_wire_of(frames)) * i128::from(BYTE));
    }

    /// What is in it, in nanoseconds of its rate; negative what is owed.
    pub fn tokens_ns(&self) -> i64 {
        let ns = self.tokens.div_euclid(i128::from(self.rate.bytes_per_second));
        ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    #[inline(always)]
    fn pay(&mut self, cost: i128) {
        self.tokens -= cost;
        if self.tokens < 0 {
            let least = 1 - i128::from(DEBT_NS_MAX) * i128::from(self.rate.bytes_per_second);
            self.tokens = self.tokens.max(least);
        }
    }

    #[inline]
    fn until(&self, tokens: i128) -> u64 {
        if tokens >= 0 {
            return 0;
        }
        let (owed, rate) = (tokens.unsigned_abs(), self.rate.bytes_per_second);
        match u64::try_from(owed) {
            Ok(owed) => owed.div_ceil(rate),
            Err(_) => u64::try_from(owed.div_ceil(rate.into())).unwrap_or(u64::MAX),
        }
    }
}

impl Rate {
    /// What a frame of `bytes` costs by it: its bytes, and what it has around (psched_l2t_ns).
    #[inline(always)]
    fn cost(&self, bytes: u32) -> i128 {
        // 32 bits of bytes, and what is around them, cost less than 64 bits hold.
        i128::from(self.on_wire(bytes) * BYTE)
    }

    /// The bytes that a frame of `bytes` counts.
    #[inline(always)]
    pub fn on_wire(&self, bytes: u32) -> u64 {
        let framed = (u64::from(bytes) + u64::from(self.overhead)).max(self.mpu.into());
        if self.atm { framed.div_ceil(48) * 53 } else { framed }
    }

    /// The bytes that many frames count, as if all were of one length, to the byte; just their own where it is not known how many
    /// they are.
    pub fn on_wire_of(&self, (bytes, packets): Amount) -> u64 {
        let has_more = self.overhead > 0 || self.mpu > 0 || self.atm;
        if packets == 0 || !has_more {
            return bytes;
        }
        let (each, longer) = (bytes / packets, bytes % packets);
        let cost = |each: u64| self.on_wire(u32::try_from(each).unwrap_or(u32::MAX));
        let (shorter, longer) = (
            cost(each).saturating_mul(packets - longer),
            cost(each.saturating_add(1)).saturating_mul(longer),
        );
        shorter.saturating_add(longer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rate(bytes_per_second: u64) -> Rate {
        Rate {
            bytes_per_second,
            overhead: 0,
            mpu: 0,
            atm: false,
        }
    }

    #[test]
    fn small_frames_at_a_high_rate_lose_no_fraction() {
        // 102.4 ns each.
        let mut bucket = Bucket::new(rate(625_000_000), 1000, 0);
        let (mut now_ns, mut sent) = (0, 0u64);
        while now_ns < 1_000_000_000 {
            now_ns += bucket.wait_ns(64);
            bucket.fill(now_ns);
            bucket.take(64);
            sent += 64;
        }
        let (fair, burst) = (625_000_000 * now_ns / 1_000_000_000, 625);
        assert!(sent.abs_diff(fair) <= burst + 64, "{sent} bytes of {fair}");
    }

    #[test]
    fn what_is_around_a_frame_counts() {
        let cost = |overhead, mpu, atm, bytes| {
            let rate = Rate {
                overhead,
                mpu,
                atm,
                ..rate(1)
            };
            rate.cost(bytes) / i128::from(BYTE)
        };
        assert_eq!(cost(24, 0, false, 60), 84);
        assert_eq!(cost(4, 84, false, 60), 84);
        assert_eq!(cost(0, 0, true, 48), 53);
        assert_eq!(cost(1, 0, true, 48), 106);
        assert_eq!(cost(10, 100, true, 60), 159);
    }

    #[test]
    fn what_is_around_many_frames_counts_for_each() {
        let of = |overhead, mpu, atm, frames| {
            let rate = Rate {
                overhead,
                mpu,
                atm,
                ..rate(1)
            };
            rate.on_wire_of(frames)
        };
        assert_eq!(of(0, 0, false, (1000, 3)), 1000);
        assert_eq!(of(24, 0, false, (600, 10)), 840);
        assert_eq!(of(24, 0, false, (605, 10)), 845);
        assert_eq!(of(4, 84, false, (600, 10)), 840);
        assert_eq!(of(0, 0, true, (480, 10)), 530);
        // Nine of one cell, and one of two.
        assert_eq!(of(0, 0, true, (481, 10)), 583);
        assert_eq!(of(24, 84, true, (600, 0)), 600);
        assert_eq!(of(24, 0, true, (u64::MAX, u64::MAX)), u64::MAX);
    }

    #[test]
    fn debt_is_bounded_and_is_paid_off() {
        let mut bucket = Bucket::new(rate(1000), 0, 0);
        bucket.take_many((2_000, 2));
        assert_eq!((bucket.debt_ns(), bucket.is_owing()), (2_000_000_000, true));
        bucket.fill(2_000_000_000);
        assert_eq!((bucket.debt_ns(), bucket.is_owing()), (0, false));
        bucket.take_many((u64::MAX, 1));
        assert_eq!(bucket.debt_ns(), DEBT_NS_MAX);
    }

    #[test]
    fn another_rate_leaves_the_same_time() {
        let mut bucket = Bucket::new(rate(1000), 5_000_000, 0);
        bucket.take(15);
        assert_eq!(bucket.tokens_ns(), -10_000_000);
        bucket.set(rate(3000), 1_000_000, 4_000_000);
        assert_eq!((bucket.tokens_ns(), bucket.debt_ns()), (-6_000_000, 6_000_000));
    }

    #[test]
    fn no_rate_is_a_byte_in_a_nanosecond() {
        let mut bucket = Bucket::new(rate(0), 1, 0);
        bucket.take(100);
        assert_eq!(bucket.debt_ns(), 99);
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(rate(1_000_000_000), 10, 100);
        bucket.take(10);
        bucket.fill(50);
        bucket.fill(103);
        assert_eq!(bucket.wait_ns(5), 2);
    }
}
