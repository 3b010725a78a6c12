//! Delays of a trial: the histogram that a receiver fills, the summary that a report keeps, and the way between them.
//!
//! ```text
//!   recorder() ── record ──> Histogram ── Latency::of ──> summary + histogram as text ── histogram() ──> Histogram
//! ```
//!
//! A histogram has three significant digits from 1 ns to a minute, in 221 kB; what takes longer is counted as a minute.
//! Its text is HdrHistogram's V2 encoding, compressed, in base64, as its log format and its tools have it, so that a
//! report keeps the whole distribution and any share can be asked for later.

use super::outcome::Latency;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// The longest delay that is told apart, in nanoseconds.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant decimal digits of a delay.
pub const DIGITS: u8 = 3;

/// An empty histogram of delays in nanoseconds; record with `saturating_record`.
pub fn recorder() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("bounds that the crate allows, as a test shows")
}

impl Latency {
    /// The summary of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        let hdr = match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
            Ok(_) => STANDARD.encode(&bytes),
            // Only counts beyond an i64 cannot be written; the summary stands without them.
            Err(_) => String::new(),
        };
        Latency {
            count: histogram.len(),
            min_ns: histogram.min(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            p9999_ns: histogram.value_at_quantile(0.9999),
            max_ns: histogram.max(),
            mean_ns: histogram.mean(),
            hdr,
        }
    }

    /// The histogram that this is the summary of.
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        let unread = |what: String| format!("the histogram of a report cannot be read ({what}): take the report anew");
        let bytes = STANDARD
            .decode(&self.hdr)
            .map_err(|error| unread(format!("base64: {error}")))?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| unread(error.to_string()))?;
        if histogram.len() != self.count {
            return Err(unread(format!(
                "it has {} delays, the summary {}",
                histogram.len(),
                self.count
            )));
        }
        Ok(histogram)
    }

    /// The delays of several trials as those of one; nothing of none.
    pub fn together<'a>(several: impl IntoIterator<Item = &'a Latency>) -> Result<Option<Latency>, String> {
        let mut sum: Option<Histogram<u64>> = None;
        for latency in several {
            let histogram = latency.histogram()?;
            match &mut sum {
                None => sum = Some(histogram),
                Some(sum) => sum
                    .add(&histogram)
                    .map_err(|error| format!("histograms of unlike ranges: {error}"))?,
            }
        }
        Ok(sum.map(|histogram| Latency::of(&histogram)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = recorder();
        values.into_iter().for_each(|ns| histogram.saturating_record(ns));
        histogram
    }

    #[test]
    fn a_summary_has_the_shares_of_what_was_recorded_to_three_digits() {
        let latency = Latency::of(&filled(1..=100_000));
        let near = |found: u64, right: u64| found.abs_diff(right) <= right / 1000;
        assert_eq!((latency.count, latency.min_ns), (100_000, 1));
        for (found, right) in [
            (latency.p50_ns, 50_000),
            (latency.p90_ns, 90_000),
            (latency.p99_ns, 99_000),
            (latency.p999_ns, 99_900),
            (latency.p9999_ns, 99_990),
            (latency.max_ns, 100_000),
            (latency.mean_ns as u64, 50_000),
        ] {
            assert!(near(found, right), "{found} for {right}: {latency:?}");
        }
    }

    #[test]
    fn a_histogram_comes_back_whole_from_its_text() {
        let before = filled((0..1000).map(|n| 800 + n * n));
        let latency = Latency::of(&before);
        assert!(
            latency.hdr.starts_with("HISTFAAA"),
            "the mark of a compressed V2: {}",
            latency.hdr
        );
        assert_eq!(latency.histogram().unwrap(), before);
    }

    #[test]
    fn what_no_frame_has_passed_is_empty_and_readable() {
        let latency = Latency::of(&recorder());
        assert_eq!((latency.count, latency.p50_ns, latency.max_ns), (0, 0, 0));
        assert!(latency.mean_ns.is_finite());
        assert!(latency.histogram().unwrap().is_empty());
    }

    #[test]
    fn more_than_a_minute_counts_as_a_minute() {
        let latency = Latency::of(&filled([u64::MAX]));
        assert!(latency.max_ns >= LATENCY_NS_MAX && latency.max_ns < LATENCY_NS_MAX + LATENCY_NS_MAX / 500);
    }

    #[test]
    fn a_broken_text_is_named_and_not_taken_for_another() {
        let good = Latency::of(&filled(1..=9));
        let half = &good.hdr[..good.hdr.len() / 8 * 4];
        for hdr in ["", "HISTF", "no base64!", "AAAA", half] {
            let broken = Latency {
                hdr: hdr.into(),
                ..good.clone()
            };
            let error = broken.histogram().unwrap_err();
            assert!(error.contains("take the report anew"), "{hdr}: {error}");
        }
        let other = Latency { count: 8, ..good };
        assert!(other.histogram().unwrap_err().contains("9 delays, the summary 8"));
    }

    #[test]
    fn trials_together_are_as_if_all_delays_were_of_one() {
        let (a, b) = (Latency::of(&filled(1..=500)), Latency::of(&filled(501..=1000)));
        assert_eq!(
            Latency::together([&a, &b]).unwrap(),
            Some(Latency::of(&filled(1..=1000)))
        );
        assert_eq!(Latency::together([]).unwrap(), None);
    }
}
