//! Numbers for people: three or four digits that matter, and a unit. Programs read the JSON or the CSV, which round
//! nothing.
//! What is small is never rounded to nothing (a loss of one in a million is not 0), and what is beyond all sense (a ratio
//! to a round that forwarded nothing) is no row of digits.

use super::Interval;

/// What a size is; said in each report, since `bench/pktgen` and `bench/trex` write into the same form the sizes of RFC 2544.
pub const SIZES: &str =
    "sizes are bytes in memory, without the frame check sequence: 64 is 68 on the wire, where RFC 2544 has 64";

/// How trials of `bypath bench rfc2544` differ from the RFC's; said in each report of them.
pub const RFC2544: &str = "otherwise than in RFC 2544: frames go one way; a trial is over 0.3 s after the last frame that came, \
    2 s at most after the last that was sent, and the next one follows at once (the RFC waits 2 s, and 5 s in between); all \
    frames of one trial are timed (one frame of a trial of 120 s, 20 times); no frames for the device to learn by, no modifiers \
    (sections 11 and 23); sizes, seconds and bursts are those of the command line";

/// Frames per second: `950`, `123.4k`, `1.234M`.
pub fn frames_per_second(pps: f64) -> String {
    match pps {
        pps if pps >= 999_950.0 => format!("{:.3}M", pps / 1e6),
        pps if pps >= 999.5 => format!("{:.1}k", pps / 1e3),
        pps => format!("{pps:.0}"),
    }
}

/// Nanoseconds: `950 ns`, `12.3 us`, `4.56 ms`, `1.23 s`.
pub fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns >= 999_995_000.0 => format!("{:.2} s", ns / 1e9),
        ns if ns >= 999_950.0 => format!("{:.2} ms", ns / 1e6),
        ns if ns >= 999.5 => format!("{:.1} us", ns / 1e3),
        ns => format!("{ns:.0} ns"),
    }
}

/// A lost share: `0` where nothing at all was lost, parts per million up to a tenth of a percent, then percent.
pub fn loss(share: f64) -> String {
    match share {
        share if share <= 0.0 => "0".into(),
        share if share < 0.000_000_1 => "<0.1 ppm".into(),
        share if share < 0.001 => format!("{:.1} ppm", share * 1e6),
        share => format!("{:.2} %", share * 100.0),
    }
}

/// A ratio; what is beyond all sense is short.
pub fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio > 9_999.0 => ">9999".into(),
        ratio => format!("{ratio:.2}"),
    }
}

/// A median with its interval in brackets; without one where there was but one sample.
pub fn interval(of: &Interval, unit: &dyn Fn(f64) -> String) -> String {
    match of.samples {
        0 | 1 => unit(of.median),
        _ => format!("{} [{}, {}]", unit(of.median), unit(of.low), unit(of.high)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_matter_across_units() {
        let pps = [0.0, 950.4, 999.6, 123_449.0, 999_949.0, 999_950.0, 1_234_499.0].map(frames_per_second);
        assert_eq!(pps, ["0", "950", "1.0k", "123.4k", "999.9k", "1.000M", "1.234M"]);
        let ns = [0.0, 950.0, 12_345.0, 999_960.0, 4_560_000.0, 1_230_000_000.0].map(nanoseconds);
        assert_eq!(ns, ["0 ns", "950 ns", "12.3 us", "1.00 ms", "4.56 ms", "1.23 s"]);
    }

    #[test]
    fn a_loss_is_never_rounded_to_none() {
        let said = [0.0, 1e-9, 1.24e-5, 0.01234, 1.0].map(loss);
        assert_eq!(said, ["0", "<0.1 ppm", "12.4 ppm", "1.23 %", "100.00 %"]);
    }

    #[test]
    fn a_ratio_to_nothing_is_no_row_of_digits() {
        assert_eq!([0.0, 1.5, 1e300].map(times), ["0.00", "1.50", ">9999"]);
    }

    #[test]
    fn one_sample_shows_no_interval() {
        let of = |samples| Interval {
            median: 1.5,
            low: 1.25,
            high: 2.0,
            samples,
        };
        assert_eq!(interval(&of(1), &|v| format!("{v:.1}")), "1.5");
        assert_eq!(interval(&of(6), &|v| format!("{v:.2}")), "1.50 [1.25, 2.00]");
    }
}
