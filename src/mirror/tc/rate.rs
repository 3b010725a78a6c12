//! Rates and bursts from the kernel's form (struct tc_ratespec, include/uapi/linux/pkt_sched.h) into bytes and
//! nanoseconds.
//!
//! The kernel computes with a multiplier and a shift (psched_ratecfg_precompute, net/sched/sch_generic.c), and tells
//! of times in ticks of 64 ns (PSCHED_SHIFT). htb keeps its bursts in ticks, so they are told exactly. tbf is given
//! its burst in bytes and tells ticks: up to 15.6 MB/s a byte lasts longer than a tick, and the bytes can be computed
//! back; above, several bursts give the same ticks, at most 64 ns of the rate apart ([`burst`]).

use super::super::nlattr::{get_u16, get_u32};
use crate::table::qdisc::Rate;

/// Bytes of a `struct tc_ratespec`.
pub const SPEC_LEN: usize = 12;
/// TC_LINKLAYER_MASK, TC_LINKLAYER_ATM.
const LINKLAYER: u8 = 0x0f;
const ATM: u8 = 2;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// No frame that passes a port is longer.
const FRAME_MAX: u32 = 16 << 10;

/// Nanoseconds of a time in ticks.
pub const fn ns(ticks: u32) -> u64 {
    (ticks as u64) << 6
}

/// A rate as it is told, and its attribute of 64 bits where it has one.
pub fn rate(spec: &[u8], wide: Option<u64>) -> Option<Rate> {
    let linklayer = *spec.get(1)?;
    let narrow = u64::from(get_u32(spec.get(8..)?)?);
    Some(Rate {
        bytes_per_second: narrow.max(wide.unwrap_or(0)),
        overhead: get_u16(spec.get(2..)?)?,
        mpu: get_u16(spec.get(6..)?)?,
        atm: linklayer & LINKLAYER == ATM,
    })
}

/// A burst that `ticks` of `rate` stand for: in bytes, and how long they last, rounded up so that a frame of the
/// burst's size passes. Where several would do it is the longest, for a frame must not be too long here that is none
/// in the kernel; and of those that are longer than any frame a round one, as people give them.
pub fn burst(rate: &Rate, ticks: u32) -> (u32, u64) {
    let (least_ns, most_ns) = (ns(ticks), ns(ticks) + 63);
    let least = first(|len| kernel_ns(rate, len) >= least_ns);
    let most = first(|len| kernel_ns(rate, len) > most_ns).saturating_sub(1);
    if least > most {
        // No number of bytes lasts so long: it was given as a time.
        return (bytes(rate, least_ns), least_ns);
    }
    let round = [1024, 1000, 100, 10].into_iter().find_map(|step| {
        let multiple = most / step * step;
        (least > FRAME_MAX && multiple >= least).then_some(multiple)
    });
    let len = round.unwrap_or(most);
    (len, lasts_ns(rate, len).max(least_ns))
}

/// The first length for which `holds`, which holds for all longer ones; u32::MAX if for none.
fn first(holds: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, u32::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// What a frame of `len` bytes counts, in bytes.
fn counted(rate: &Rate, len: u32) -> u64 {
    let len = (u64::from(len) + u64::from(rate.overhead)).max(u64::from(rate.mpu));
    if rate.atm { len.div_ceil(48) * 53 } else { len }
}

/// How long `len` bytes last, rounded up.
fn lasts_ns(rate: &Rate, len: u32) -> u64 {
    let ns = u128::from(counted(rate, len)) * u128::from(NS_PER_SECOND);
    let ns = ns.div_ceil(u128::from(rate.bytes_per_second.max(1)));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// How long the kernel takes them to last (psched_l2t_ns).
fn kernel_ns(rate: &Rate, len: u32) -> u64 {
    let (mut factor, mut shift) = (NS_PER_SECOND, 0);
    let mut mult = factor / rate.bytes_per_second.max(1);
    while mult as u32 & 1 << 31 == 0 && factor & 1 << 63 == 0 {
        factor <<= 1;
        shift += 1;
        mult = factor / rate.bytes_per_second.max(1);
    }
    let ns = (u128::from(counted(rate, len)) * u128::from(mult as u32)) >> shift;
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// How many bytes a time is good for (psched_ns_t2l).
fn bytes(rate: &Rate, ns: u64) -> u32 {
    let mut len = u128::from(ns) * u128::from(rate.bytes_per_second) / u128::from(NS_PER_SECOND);
    if rate.atm {
        len = len / 53 * 48;
    }
    u32::try_from(len.saturating_sub(u128::from(rate.overhead))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes_per_second: u64) -> Rate {
        Rate {
            bytes_per_second,
            ..Rate::default()
        }
    }

    #[test]
    fn a_rate_is_read_with_what_is_around_a_frame() {
        let spec = [3, 0x12, 4, 0, 0xff, 0xff, 64, 0, 0x20, 0xbc, 0xbe, 0];
        let wanted = Rate {
            bytes_per_second: 12_500_000,
            overhead: 4,
            mpu: 64,
            atm: true,
        };
        assert_eq!(rate(&spec, None), Some(wanted));
        let wide = rate(&spec, Some(5_000_000_000)).unwrap();
        assert_eq!(wide.bytes_per_second, 5_000_000_000);
        assert_eq!(rate(&spec[..11], None), None);
    }

    #[test]
    fn bursts_of_rates_up_to_a_byte_per_tick_are_exact() {
        for bytes_per_second in [1_000, 8_000, 125_000, 375_000, 1_250_000, 12_500_000, 15_600_000] {
            let rate = plain(bytes_per_second);
            for len in [1, 64, 1514, 1599, 1600, 5000, 10_240, 100_003] {
                let ticks = u32::try_from(kernel_ns(&rate, len) >> 6).unwrap();
                let (found, ns) = burst(&rate, ticks);
                assert_eq!(found, len, "at {bytes_per_second}");
                assert!(
                    ns >= lasts_ns(&rate, len),
                    "a frame of {len} bytes passes at {bytes_per_second}"
                );
            }
        }
    }

    #[test]
    fn bursts_of_higher_rates_are_no_shorter_and_hardly_longer() {
        let rate = plain(625_000_000);
        for len in [1514, 1600, 9014, 100_000, 65_536, 1 << 20] {
            let ticks = u32::try_from(kernel_ns(&rate, len) >> 6).unwrap();
            let (found, _) = burst(&rate, ticks);
            assert!((len..=len + 40).contains(&found), "{len}: {found}");
            if len > FRAME_MAX {
                assert_eq!(found, len, "as people give it");
            }
        }
    }

    #[test]
    fn cells_and_overhead_count() {
        let rate = Rate {
            overhead: 10,
            mpu: 100,
            atm: true,
            ..plain(125_000)
        };
        assert_eq!(
            (counted(&rate, 10), counted(&rate, 134), counted(&rate, 135)),
            (159, 159, 212)
        );
        let ticks = u32::try_from(kernel_ns(&rate, 1500) >> 6).unwrap();
        let (found, ns) = burst(&rate, ticks);
        assert_eq!(counted(&rate, found), counted(&rate, 1500));
        assert_eq!(ns, lasts_ns(&rate, 1500));
    }

    #[test]
    fn a_time_that_no_bytes_last_stays_one() {
        let (len, ns) = burst(&plain(1_000), 12_345);
        assert_eq!((len, ns), (0, 12_345 * 64));
        assert_eq!(burst(&plain(u64::MAX), u32::MAX).0, u32::MAX);
    }
}
