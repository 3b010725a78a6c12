//! Delays as a curve over HdrHistogram's scale: the whole histogram where the report has it, else the percentiles that
//! are written out beside it. A curve ends at the last sample: what 10,000 frames cannot say of the 99.999th percentile
//! is not drawn.

use crate::bench::outcome::Latency;
use hdrhistogram::Histogram;

/// Points per power of ten of 1/(1-p).
const STEPS: i32 = 16;

/// A curve: 1/(1-p), nanoseconds.
pub type Curve = Vec<(f64, f64)>;

/// Delays of several rounds.
pub struct Delays {
    /// All rounds as one.
    pub all: Curve,
    /// At each place: the lowest and the highest of the rounds; empty where there is one round.
    pub spread: Vec<(f64, f64, f64)>,
    /// Frames timed, of all rounds.
    pub count: u64,
}

/// Brings rounds together.
pub fn delays(rounds: &[&Latency]) -> Delays {
    let count = rounds.iter().map(|latency| latency.count).sum();
    let histograms: Result<Vec<Histogram<u64>>, String> = rounds.iter().map(|latency| latency.histogram()).collect();
    let curves: Vec<Curve> = match &histograms {
        Ok(histograms) => histograms.iter().map(curve).collect(),
        Err(_) => rounds.iter().map(|latency| written(latency)).collect(),
    };
    let all = match histograms {
        Ok(histograms) => merged(histograms).map(|all| curve(&all)).unwrap_or_default(),
        Err(_) => middle(&curves),
    };
    Delays {
        spread: spread(&curves),
        all,
        count,
    }
}

fn merged(histograms: Vec<Histogram<u64>>) -> Option<Histogram<u64>> {
    let mut histograms = histograms.into_iter();
    let mut all = histograms.next()?;
    all.auto(true);
    for other in histograms {
        all.add(&other).ok()?;
    }
    Some(all)
}

fn curve(histogram: &Histogram<u64>) -> Curve {
    let count = histogram.len() as f64;
    if count < 1.0 {
        return Vec::new();
    }
    let places = (0i32..).map(|step| 10f64.powf(f64::from(step) / f64::from(STEPS)));
    let mut curve: Curve = places
        .take_while(|&x| x < count)
        .map(|x| (x, histogram.value_at_quantile(1.0 - 1.0 / x) as f64))
        .collect();
    curve.push((count, histogram.max() as f64));
    curve
}

/// The percentiles that are written out, as far as the samples carry them.
fn written(latency: &Latency) -> Curve {
    let count = latency.count as f64;
    let named = [
        (1.0, latency.min_ns),
        (2.0, latency.p50_ns),
        (10.0, latency.p90_ns),
        (100.0, latency.p99_ns),
        (1e3, latency.p999_ns),
        (1e4, latency.p9999_ns),
    ];
    let mut curve: Curve = named
        .into_iter()
        .filter(|(x, _)| *x < count)
        .map(|(x, ns)| (x, ns as f64))
        .collect();
    if count >= 1.0 {
        curve.push((count, latency.max_ns as f64));
    }
    curve
}

/// The value of a curve at `x`, if it reaches so far.
pub fn value_at(curve: &Curve, x: f64) -> Option<f64> {
    let behind = curve.iter().position(|(at, _)| *at >= x * (1.0 - 1e-9))?;
    let (x1, y1) = curve[behind];
    if behind == 0 || (x1 - x).abs() <= 1e-9 * x {
        return Some(y1);
    }
    let (x0, y0) = curve[behind - 1];
    let share = (x / x0).ln() / (x1 / x0).ln();
    Some(y0 + (y1 - y0) * share)
}

/// At each place of the longest curve, the middle of those that reach it.
fn middle(curves: &[Curve]) -> Curve {
    places(curves)
        .into_iter()
        .map(|x| {
            let mut values: Vec<f64> = curves.iter().filter_map(|curve| value_at(curve, x)).collect();
            values.sort_by(f64::total_cmp);
            (x, values.get(values.len() / 2).copied().unwrap_or(0.0))
        })
        .collect()
}

/// As far as all rounds reach.
fn spread(curves: &[Curve]) -> Vec<(f64, f64, f64)> {
    if curves.len() < 2 {
        return Vec::new();
    }
    let at = |x: f64| {
        let values: Option<Vec<f64>> = curves.iter().map(|curve| value_at(curve, x)).collect();
        let values = values?;
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        Some((x, low, high))
    };
    places(curves).into_iter().map_while(at).collect()
}

fn places(curves: &[Curve]) -> Vec<f64> {
    let longest = curves.iter().max_by_key(|curve| curve.len());
    longest
        .map(|curve| curve.iter().map(|(x, _)| *x).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::latency::recorder;

    fn latency(values: impl Iterator<Item = u64>) -> Latency {
        let mut histogram = recorder();
        values.for_each(|value| histogram.saturating_record(value));
        Latency::of(&histogram)
    }

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() <= 0.02 * b)
    }

    #[test]
    fn a_curve_is_the_histogram() {
        let delays = delays(&[&latency(1..=10_000)]);
        assert_eq!(delays.count, 10_000);
        assert!(delays.spread.is_empty());
        for (x, value) in [(2.0, 5_000.0), (10.0, 9_000.0), (100.0, 9_900.0), (10_000.0, 10_000.0)] {
            assert!(
                close(value_at(&delays.all, x), value),
                "{x}: {:?}",
                value_at(&delays.all, x)
            );
        }
        assert_eq!(delays.all.last().map(|(x, _)| *x), Some(10_000.0));
        assert!(
            delays
                .all
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1)
        );
    }

    #[test]
    fn rounds_are_added_and_their_spread_is_kept() {
        let (fast, slow) = (
            latency((1..=1_000).map(|n| 1_000 + n)),
            latency((1..=1_000).map(|n| 3_000 + n)),
        );
        let delays = delays(&[&fast, &slow]);
        assert!(close(value_at(&delays.all, 1_999.0), 4_000.0));
        assert!(close(delays.spread.first().map(|(_, low, _)| *low), 1_001.0));
        assert!(close(delays.spread.last().map(|(_, _, high)| *high), 4_000.0));
        assert_eq!(
            delays.spread.last().map(|(x, ..)| *x),
            Some(1_000.0),
            "no further than each round reaches"
        );
    }

    #[test]
    fn without_a_histogram_the_written_percentiles_serve() {
        let mut bare = latency(1..=5_000);
        for broken in ["", "no base64 !", "AAAA"] {
            bare.hdr = broken.to_owned();
            let delays = delays(&[&bare]);
            assert_eq!(delays.all.len(), 6, "{broken:?}: {:?}", delays.all);
            assert!(close(value_at(&delays.all, 100.0), 4_950.0));
            assert_eq!(delays.all.last().map(|(x, _)| *x), Some(5_000.0));
        }
    }

    #[test]
    fn nothing_timed_is_no_curve() {
        assert!(delays(&[]).all.is_empty());
        assert!(delays(&[&Latency::default()]).all.is_empty());
    }
}
