//! The report as one table for a spreadsheet: a row for each trial and for each thing concluded, the first column
//! saying which, and a column for all that any of them has. Nothing is rounded; what a row does not have is empty.
//!
//! | record       | one row for each |
//! |---|---|
//! | `trial`      | trial, in the order they were made; of one that does not count `void` is true |
//! | `own-error`  | trial on a path that does nothing |
//! | `ratio`      | pair of subjects: `subject` to `to`, of `what`, the median in `value`, its interval in `low` and `high` |
//! | `throughput` | subject and size: frames per second in `value` |
//! | `search`     | trial of a search: `offered_pps` and `loss` |
//! | `latency`    | share of the throughput, which is in `value` |
//! | `loss`       | rate of the loss curve: `offered_pps` and `loss` |
//! | `burst`      | search of a burst: frames in `value` |

use super::{Entry, Report, Rfc2544};
use crate::bench::outcome::{Latency, Outcome};
use crate::bench::work::{Kind, Order, Rate};
use serde::Serialize;

/// The columns, in their order.
#[derive(Default, Serialize)]
struct Row<'a> {
    record: &'static str,
    case: &'a str,
    subject: &'a str,
    round: Option<u32>,
    kind: Option<Kind>,
    size: String,
    flows: Option<u32>,
    order: String,
    new_flows_per_second: Option<u32>,
    wanted_pps: Option<f64>,
    seconds: Option<f64>,
    offered: Option<u64>,
    refused: Option<u64>,
    missed: Option<u64>,
    received: Option<u64>,
    lost: Option<u64>,
    reordered: Option<u64>,
    duplicated: Option<u64>,
    corrupted: Option<u64>,
    foreign: Option<u64>,
    offered_pps: Option<f64>,
    received_pps: Option<f64>,
    loss: Option<f64>,
    cpu_ns_per_frame: Option<f64>,
    timed: Option<u64>,
    min_ns: Option<u64>,
    mean_ns: Option<f64>,
    p50_ns: Option<u64>,
    p90_ns: Option<u64>,
    p99_ns: Option<u64>,
    p999_ns: Option<u64>,
    p9999_ns: Option<u64>,
    max_ns: Option<u64>,
    to: &'a str,
    what: &'a str,
    value: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    samples: Option<u32>,
    notes: String,
    void: Option<bool>,
}

/// The whole report.
pub fn text(report: &Report) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| format!("the report is no CSV: {error}");
    for row in rows(report) {
        writer.serialize(row).map_err(failed)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| format!("the report is no CSV: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("the report is no CSV: {error}"))
}

fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = report.entries.iter().map(trial).collect();
    rows.extend(report.own_error.iter().map(|own| {
        Row {
            record: "own-error",
            case: &own.path,
            ..Row::default()
        }
        .with(&own.outcome)
    }));
    rows.extend(report.ratios.iter().map(|ratio| Row {
        record: "ratio",
        case: &ratio.case,
        subject: &ratio.of,
        kind: ratio.kind,
        size: ratio.size.clone(),
        flows: Some(ratio.flows),
        wanted_pps: ratio.wanted_pps,
        to: &ratio.to,
        what: &ratio.what,
        value: Some(ratio.ratio.median),
        low: Some(ratio.ratio.low),
        high: Some(ratio.ratio.high),
        samples: Some(ratio.ratio.samples),
        ..Row::default()
    }));
    report.rfc2544.iter().for_each(|one| rfc2544(one, &mut rows));
    rows
}

fn trial(entry: &Entry) -> Row<'_> {
    let work = &entry.work;
    Row {
        record: "trial",
        case: &entry.case,
        subject: &entry.subject,
        round: Some(entry.round),
        kind: Some(work.kind),
        size: work.size.to_string(),
        flows: Some(work.flows.count),
        order: match work.flows.order {
            Order::RoundRobin => "round-robin".into(),
            Order::Random => "random".into(),
            Order::Zipf { exponent } => format!("zipf:{exponent}"),
        },
        new_flows_per_second: Some(work.flows.new_per_second),
        wanted_pps: match work.rate {
            Rate::Paced(pps) => Some(pps),
            Rate::Unpaced => None,
        },
        ..Row::default()
    }
    .with(&entry.outcome)
}

fn rfc2544<'a>(one: &'a Rfc2544, rows: &mut Vec<Row<'a>>) {
    rows.push(Row {
        value: (!one.search.is_empty()).then_some(one.throughput_pps),
        notes: one.notes.join("; "),
        ..concluded(one, "throughput")
    });
    let rates = [("search", &one.search), ("loss", &one.loss_curve)];
    for (record, trials) in rates {
        rows.extend(trials.iter().map(|&(pps, loss)| Row {
            offered_pps: Some(pps),
            loss: Some(loss),
            ..concluded(one, record)
        }));
    }
    for (share, delays) in &one.latency {
        let row = Row {
            value: Some(*share),
            ..concluded(one, "latency")
        };
        rows.push(row.timed(delays));
    }
    rows.extend(one.back_to_back.iter().map(|&frames| Row {
        value: Some(frames as f64),
        ..concluded(one, "burst")
    }));
}

fn concluded<'a>(one: &'a Rfc2544, record: &'static str) -> Row<'a> {
    Row {
        record,
        case: &one.case,
        subject: &one.subject,
        round: Some(one.round),
        kind: one.kind,
        size: one.size.clone(),
        flows: Some(one.flows).filter(|&flows| flows > 0),
        ..Row::default()
    }
}

impl Row<'_> {
    fn with(mut self, outcome: &Outcome) -> Self {
        self.wanted_pps = outcome.wanted_pps.or(self.wanted_pps);
        self.seconds = Some(outcome.seconds);
        self.offered = Some(outcome.offered);
        self.refused = Some(outcome.refused);
        self.missed = Some(outcome.missed);
        self.received = Some(outcome.received);
        self.lost = Some(outcome.lost);
        self.reordered = Some(outcome.reordered);
        self.duplicated = Some(outcome.duplicated);
        self.corrupted = Some(outcome.corrupted);
        self.foreign = Some(outcome.foreign);
        self.offered_pps = Some(outcome.offered_pps());
        self.received_pps = Some(outcome.received_pps());
        self.loss = Some(outcome.loss());
        self.cpu_ns_per_frame = outcome.cpu_ns_per_frame;
        self.notes = outcome.notes.join("; ");
        self.void = Some(outcome.void);
        match &outcome.latency {
            Some(latency) => self.timed(latency),
            None => self,
        }
    }

    fn timed(mut self, delays: &Latency) -> Self {
        self.timed = Some(delays.count);
        self.min_ns = Some(delays.min_ns);
        self.mean_ns = Some(delays.mean_ns);
        self.p50_ns = Some(delays.p50_ns);
        self.p90_ns = Some(delays.p90_ns);
        self.p99_ns = Some(delays.p99_ns);
        self.p999_ns = Some(delays.p999_ns);
        self.p9999_ns = Some(delays.p9999_ns);
        self.max_ns = Some(delays.max_ns);
        self
    }
}
