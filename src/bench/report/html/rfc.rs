//! The sections of RFC 2544: throughput by size, and what was lost at each offered rate. Where a search was made once
//! there is no interval, and that is said; the trials of the search are drawn into the loss chart, where a search that
//! noise led astray is seen.

use super::axis::Axis;
use super::bars::{Bar, Bars};
use super::lines::{Line, Lines, Of, Point};
use super::model::{Model, bytes_name, distinct, flows_name, kind_name, mean_bytes, size_name};
use super::sections::{Panel, Section, sorted};
use super::units::{self, Unit};
use crate::bench::report::Rfc2544;
use crate::bench::statistics;
use crate::bench::work::Kind;

/// What a chart is of: a case, a kind of frames and a number of flows.
pub type Key<'a> = (&'a str, Option<Kind>, u32);

/// The key of one result.
pub fn key(one: &Rfc2544) -> Key<'_> {
    (one.case.as_str(), one.kind, one.flows)
}

/// A key as a title.
pub fn key_name(key: Key) -> String {
    let (case, kind, flows) = key;
    let kind = kind.and_then(kind_name).map(str::to_owned);
    let flows = (flows > 0).then(|| flows_name(flows));
    let parts = [Some(case.to_owned()), kind, flows];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// Throughput by size, one chart for each case, kind and number of flows.
pub fn throughput(model: &Model) -> Option<Section> {
    let found = &model.report.rfc2544;
    let charts: Vec<(Key, Bars)> = distinct(found.iter().map(key))
        .into_iter()
        .map(|key| (key, throughput_of(model, key)))
        .collect();
    let top = charts.iter().fold(0.0, |top: f64, (_, chart)| top.max(chart.reach()));
    let unit = Unit::rate(top);
    let panel = |(key, chart): (Key, Bars)| Panel {
        title: key_name(key),
        svg: Bars { unit, ..chart }.draw(top),
    };
    (!found.is_empty()).then(|| Section {
        id: "ndr",
        title: "RFC 2544: throughput",
        lead: "Section 26.1: the highest offered rate at which no more frames were lost than \
               accepted, found by binary search; of several searches the median with its 95 % \
               interval, of a single one there is none. Trials of the search are in the loss chart.",
        subjects: sorted(found.iter().map(|one| model.subject(&one.subject))),
        main: charts.into_iter().map(panel).collect(),
        ..Section::default()
    })
}

fn throughput_of(model: &Model, of: Key) -> Bars {
    let found: Vec<&Rfc2544> = model.report.rfc2544.iter().filter(|one| key(one) == of).collect();
    let subjects = sorted(found.iter().map(|one| model.subject(&one.subject)));
    let bar = |size: &str, subject: usize| {
        let same = found
            .iter()
            .filter(|one| one.size == size && model.subject(&one.subject) == subject);
        let value = statistics::interval(&same.map(|one| one.throughput_pps).collect::<Vec<_>>())?;
        let name = model.subjects.get(subject).copied().unwrap_or_default();
        let searches = match value.samples {
            1 => "one search".to_owned(),
            many => format!(
                "({} – {}), {many} searches",
                units::rate(value.low),
                units::rate(value.high)
            ),
        };
        let tip = format!(
            "{name} · {}\n{} {searches}",
            bytes_name(size),
            units::rate(value.median)
        );
        Some(Bar { value, tip })
    };
    let groups = sizes(&found)
        .into_iter()
        .map(|size| (size_name(size), subjects.iter().map(|&s| bar(size, s)).collect()))
        .collect();
    Bars {
        label: format!("RFC 2544 throughput by frame size, {}", key_name(of)),
        y_title: "no-drop rate",
        unit: Unit::rate(0.0),
        x_title: "bytes in a frame",
        subjects,
        groups,
    }
}

fn sizes<'a>(found: &[&'a Rfc2544]) -> Vec<&'a str> {
    let mut sizes = distinct(found.iter().map(|one| one.size.as_str()));
    sizes.sort_by(|a, b| mean_bytes(a).total_cmp(&mean_bytes(b)));
    sizes
}

/// Loss by offered rate, one chart for each case and size.
pub fn loss(model: &Model) -> Option<Section> {
    let found: Vec<&Rfc2544> = model
        .report
        .rfc2544
        .iter()
        .filter(|one| !one.loss_curve.is_empty())
        .collect();
    let keys = distinct(found.iter().map(|one| key(one)));
    let trials = || found.iter().flat_map(|one| one.loss_curve.iter().chain(&one.search));
    let fastest = trials().fold(0.0, |top: f64, (pps, _)| top.max(*pps));
    let worst = trials().fold(0.001, |top: f64, (_, loss)| top.max(*loss)) * 100.0;
    let unit = Unit::rate(fastest);
    let chart = |of: Key, size: &str| {
        let here = found.iter().filter(|one| key(one) == of && one.size == size);
        let lines = here.map(|one| {
            let point = |&(pps, loss): &(f64, f64)| Point {
                x: pps / unit.size,
                y: loss * 100.0,
                interval: None,
                tip: format!(
                    "{} · offered {} · lost {}",
                    one.subject,
                    units::rate(pps),
                    units::percent(loss)
                ),
            };
            let mut curve = one.loss_curve.clone();
            curve.sort_by(|a, b| a.0.total_cmp(&b.0));
            let says = format!("{} · throughput {}", one.subject, units::rate(one.throughput_pps));
            Line {
                of: Of::Subject(model.subject(&one.subject)),
                path: curve
                    .iter()
                    .map(|(pps, loss)| (pps / unit.size, loss * 100.0))
                    .collect(),
                band: Vec::new(),
                points: curve.iter().map(point).collect(),
                dots: one.search.iter().map(point).collect(),
                rule: Some((one.throughput_pps / unit.size, says)),
            }
        });
        let (x, y) = (Axis::linear(fastest / unit.size, 6), Axis::linear(worst, 5));
        let (across, up) = (x.step(), y.step());
        let chart = Lines {
            label: format!("frames lost by offered rate, {}, {}", key_name(of), bytes_name(size)),
            y_title: "frames lost, %".into(),
            y: y.labelled(|value| units::tick(value, up)),
            x_title: format!("offered, {}", unit.name),
            x: x.labelled(|value| units::tick(value, across)),
            lines: lines.collect(),
        };
        Panel {
            title: format!("{} · {}", key_name(of), bytes_name(size)),
            svg: chart.draw(),
        }
    };
    (!found.is_empty()).then(|| Section {
        id: "loss",
        title: "RFC 2544: frame loss",
        lead: "Section 26.3: the share of frames lost at each offered rate. × are trials of the \
               search for the throughput, the vertical line is where that ended.",
        subjects: sorted(found.iter().map(|one| model.subject(&one.subject))),
        main: keys
            .into_iter()
            .flat_map(|of| {
                let here: Vec<&Rfc2544> = found.iter().filter(|one| key(one) == of).copied().collect();
                sizes(&here).into_iter().map(|size| chart(of, size)).collect::<Vec<_>>()
            })
            .collect(),
        ..Section::default()
    })
}
