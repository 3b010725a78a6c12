//! Delays in the two forms of HdrHistogram that other tools read.
//!
//! - `.hgrm`, one text for each distribution: its percentiles, finer the nearer they come to 100 %, as HdrHistogram's
//!   plotter (plotFiles.html) and others draw it. Values are microseconds: choose that unit in the plotter.
//! - the interval log (V2, compressed), one for a whole run: each trial is an interval with a tag. A report does not
//!   keep when a trial began, so intervals follow one another without the pauses between trials.

use super::Report;
use crate::bench::outcome::Latency;
use crate::bench::work::Rate;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Lines for each halving of what is left to 100 %.
const TICKS: u32 = 5;
/// Nanoseconds of a unit of `.hgrm`.
const UNIT_NS: f64 = 1000.0;
/// The tools take the longest delay of an interval to be milliseconds.
const LOG_UNIT_NS: f64 = 1e6;

/// One distribution of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Delays<'a> {
    /// What was measured: case, subject, size, flows, rate and round; without blanks or commas, and fit for a file's
    /// name.
    pub name: String,
    /// For how long, in seconds.
    pub seconds: f64,
    /// The delays.
    pub latency: &'a Latency,
}

/// All distributions of a report that count, in order. Of an RFC 2544 run those of section 26.2, not those of each search.
pub fn delays(report: &Report) -> Vec<Delays<'_>> {
    let mut found = Vec::new();
    for one in &report.rfc2544 {
        found.extend(one.latency.iter().map(|(share, latency)| Delays {
            name: name(&[
                "rfc2544",
                &one.case,
                &one.subject,
                &one.size,
                &one.flows.to_string(),
                &format!("{:.0}pct", share * 100.0),
            ]),
            seconds: 0.0,
            latency,
        }));
    }
    let counting = report.entries.iter().filter(|entry| !entry.outcome.void);
    for entry in counting.filter(|_| report.kind != "rfc2544") {
        let Some(latency) = &entry.outcome.latency else {
            continue;
        };
        let work = &entry.work;
        let rate = match work.rate {
            Rate::Paced(pps) => format!("{pps:.0}pps"),
            Rate::Unpaced => "max".into(),
        };
        let (size, flows, round) = (
            work.size.to_string(),
            work.flows.count.to_string(),
            entry.round.to_string(),
        );
        found.push(Delays {
            name: name(&[&entry.case, &entry.subject, &size, &flows, &rate, &round]),
            seconds: entry.outcome.seconds,
            latency,
        });
    }
    tell_apart(&mut found);
    found
}

/// Numbers those of one name, so that no file is written over by another.
fn tell_apart(all: &mut [Delays<'_>]) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for delays in all {
        let times = seen.entry(delays.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            delays.name = format!("{}_{times}", delays.name);
        }
    }
}

fn name(parts: &[&str]) -> String {
    let fit = |c: char| c.is_ascii_alphanumeric() || "+.".contains(c);
    let part = |part: &&str| part.chars().map(|c| if fit(c) { c } else { '-' }).collect::<String>();
    parts.iter().map(part).collect::<Vec<_>>().join("_")
}

/// One distribution as `.hgrm`.
pub fn text(latency: &Latency) -> Result<String, String> {
    Ok(percentiles(&latency.histogram()?))
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for point in histogram.iter_quantiles(TICKS) {
        count += point.count_since_last_iteration();
        let value = point.value_iterated_to() as f64 / UNIT_NS;
        let share = point.quantile_iterated_to();
        let _ = write!(text, "{value:12.3} {share:14.12} {count:10}");
        // 100 % has no place on the plotter's scale, and no fourth column.
        let _ = match share < 1.0 {
            true => writeln!(text, " {:14.2}", 1.0 / (1.0 - share)),
            false => writeln!(text),
        };
    }
    let buckets = u32::from(histogram.buckets());
    // The first bucket has all of its parts, each other one the upper half.
    let parts = histogram.distinct_values() * 2 / (buckets as usize + 1);
    let (mean, deviation) = (histogram.mean() / UNIT_NS, histogram.stdev() / UNIT_NS);
    let longest = histogram.max() as f64 / UNIT_NS;
    let total = histogram.len();
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(text, "#[Max     = {longest:12.3}, Total count    = {total:12}]");
    let _ = writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {parts:12}]");
    let _ = writeln!(text, "#[Unit    = microseconds]");
    text
}

/// All distributions of a report as an interval log.
pub fn log(report: &Report) -> Result<String, String> {
    let failed = |error: String| format!("the delays are no interval log: {error}");
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(report.provenance.started);
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Logged by bypath bench; delays are nanoseconds, Interval_Max is milliseconds]")
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(LOG_UNIT_NS)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| failed(error.to_string()))?;
    let mut begin = Duration::ZERO;
    for delays in delays(report) {
        let length = Duration::try_from_secs_f64(delays.seconds).unwrap_or_default();
        log.write_histogram(&delays.latency.histogram()?, begin, length, Tag::new(&delays.name))
            .map_err(|error| failed(error.to_string()))?;
        begin += length;
    }
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}
