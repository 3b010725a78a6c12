//! What came of it, in numbers: the medians of each work, RFC 2544 by size, and what the measurement itself costs.
//! Every row says of how many rounds it is; what was not measured is a dash, and what went wrong stands beside the
//! number.

use super::model::{Group, Model, flows_name, mean_bytes, rate_name, size_name};
use super::rfc;
use super::svg::escape;
use super::units::{self, NONE, Unit};
use crate::bench::outcome::{Latency, Outcome};
use crate::bench::report::{Interval, Rfc2544};
use crate::bench::work::Rate;

/// A table that may be wider than the page.
pub fn wide(class: &str, heads: &[&str], body: &str) -> String {
    let heads: String = heads.iter().map(|head| header(head)).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table class=\"{class}\"><thead><tr>{heads}</tr></thead>\n\
         <tbody>{body}</tbody></table></div>\n"
    )
}

/// Numbers stand to the right; a head that ends in a `#` is one of numbers.
fn header(head: &str) -> String {
    match head.strip_suffix('#') {
        Some(head) => format!("<th scope=\"col\" class=\"num\">{head}</th>"),
        None => format!("<th scope=\"col\">{head}</th>"),
    }
}

/// A cell of text.
pub fn text(value: &str) -> String {
    format!("<td>{}</td>", escape(value))
}

/// A cell of what is to be said of a row.
fn said(value: &str) -> String {
    format!("<td class=\"said\">{}</td>", escape(value))
}

/// A cell of a number; the dash of none is grey.
pub fn number(value: &str) -> String {
    let class = if value == NONE { "num none" } else { "num" };
    format!("<td class=\"{class}\">{}</td>", escape(value))
}

/// The medians of each work and subject.
pub fn results(model: &Model) -> String {
    let pps = model.groups.iter().filter_map(Group::pps);
    let unit = Unit::rate(pps.fold(0.0, |max: f64, pps| max.max(pps.median)));
    let mut groups: Vec<&Group> = model.groups.iter().collect();
    // By the work, not by the time: subjects of one work stand together.
    let first = |group: &Group| model.groups.iter().position(|other| other.setting == group.setting);
    groups.sort_by_key(|group| (first(group), group.subject));
    let mut body = String::new();
    let mut last = None;
    for group in groups {
        let setting = &group.setting;
        let new = last.replace(setting) != Some(setting);
        let class = if new { " class=\"first\"" } else { "" };
        let case = match setting.variant.as_str() {
            "" => setting.case.to_owned(),
            variant => format!("{} · {variant}", setting.case),
        };
        let delay = |of: fn(&Latency) -> f64| {
            group
                .delay(of)
                .map_or(NONE.to_owned(), |value| units::time(value.median))
        };
        let cells = [
            text(&case),
            number(&size_name(&setting.size.to_string())),
            number(&units::count(setting.flows.into())),
            text(&rate_name(setting.rate)),
            format!(
                "<th scope=\"row\">{}</th>",
                escape(model.subjects.get(group.subject).unwrap_or(&""))
            ),
            number(&group.entries.len().to_string()),
            with_interval(group.pps(), |value| unit.of(value)),
            number(&units::percent(group.loss())),
            number(&delay(|latency| latency.p50_ns as f64)),
            number(&delay(|latency| latency.p99_ns as f64)),
            number(&delay(|latency| latency.p999_ns as f64)),
            number(&group.longest_ns().map_or(NONE.to_owned(), |ns| units::time(ns as f64))),
            with_interval(group.cpu(), units::digits),
            said(&beside(group)),
        ];
        body.push_str(&format!("<tr{class}>{}</tr>\n", cells.concat()));
    }
    let received = format!("received, {}#", unit.name);
    let heads = [
        "case",
        "bytes#",
        "flows#",
        "rate",
        "subject",
        "rounds#",
        &received,
        "lost#",
        "p50#",
        "p99#",
        "p99.9#",
        "max#",
        "CPU, ns/frame#",
        "beside",
    ];
    wide("results", &heads, &body)
}

fn with_interval(value: Option<Interval>, name: impl Fn(f64) -> String) -> String {
    match value {
        None => number(NONE),
        Some(value) if value.samples < 2 => number(&name(value.median)),
        Some(value) => format!(
            "<td class=\"num\"><b>{}</b><small>{} – {}</small></td>",
            name(value.median),
            name(value.low),
            name(value.high)
        ),
    }
}

/// What else happened to the frames of all rounds, and how many trials have something to say.
fn beside(group: &Group) -> String {
    let sum = |of: fn(&Outcome) -> u64| group.entries.iter().map(|entry| of(&entry.outcome)).sum::<u64>();
    let noted = group
        .entries
        .iter()
        .filter(|entry| !entry.outcome.notes.is_empty())
        .count() as u64;
    let parts = [
        (sum(|outcome| outcome.reordered), "reordered"),
        (sum(|outcome| outcome.duplicated), "twice"),
        (sum(|outcome| outcome.corrupted), "corrupted"),
        (
            noted,
            if noted == 1 {
                "trial with a note"
            } else {
                "trials with notes"
            },
        ),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(number, word)| format!("{} {word}", units::count(number)))
        .collect();
    let lost = group.losing_rounds().map(|rounds| format!("lost {rounds}"));
    lost.into_iter().chain(parts).collect::<Vec<_>>().join(", ")
}

/// RFC 2544 by subject and size.
pub fn rfc2544(model: &Model) -> String {
    let mut found: Vec<&Rfc2544> = model.report.rfc2544.iter().collect();
    let case = |one: &Rfc2544| found_case(model, one);
    found.sort_by(|a, b| {
        (case(a).cmp(&case(b)))
            .then(mean_bytes(&a.size).total_cmp(&mean_bytes(&b.size)))
            .then(model.subject(&a.subject).cmp(&model.subject(&b.subject)))
    });
    let row = |one: &&Rfc2544| {
        let delays = |latency: Option<&(f64, Latency)>| match latency {
            Some((share, latency)) => [
                number(&units::chosen(*share)),
                number(&units::time(latency.p50_ns as f64)),
                number(&units::time(latency.p99_ns as f64)),
                number(&units::time(latency.max_ns as f64)),
            ]
            .concat(),
            None => number(NONE).repeat(4),
        };
        let rows = one.latency.len().max(1);
        let span = |cell: String| cell.replacen("<td", &format!("<td rowspan=\"{rows}\""), 1);
        let head = format!("<th scope=\"row\" rowspan=\"{rows}\">{}</th>", escape(&one.subject));
        let first = [
            span(text(&rfc::key_name(rfc::key(one)))),
            span(number(&size_name(&one.size))),
            head,
            span(no_drop_rate(one.throughput_pps)),
            span(number(&bursts(&one.back_to_back))),
            delays(one.latency.first()),
            span(said(&one.notes.join("; "))),
        ];
        let more = one
            .latency
            .iter()
            .skip(1)
            .map(|latency| format!("<tr>{}</tr>\n", delays(Some(latency))));
        format!(
            "<tr class=\"first\">{}</tr>\n{}",
            first.concat(),
            more.collect::<String>()
        )
    };
    let heads = [
        "case",
        "bytes#",
        "subject",
        "throughput#",
        "back-to-back, frames#",
        "delay at#",
        "p50#",
        "p99#",
        "max#",
        "notes",
    ];
    wide("results", &heads, &found.iter().map(row).collect::<String>())
}

fn found_case(model: &Model, one: &Rfc2544) -> Option<usize> {
    model.report.rfc2544.iter().position(|other| other.case == one.case)
}

/// A search that found no rate without loss has found something, too.
fn no_drop_rate(pps: f64) -> String {
    if pps > 0.0 {
        format!("<td class=\"num\"><b>{}</b></td>", units::rate(pps))
    } else {
        "<td class=\"num\">none without loss</td>".to_owned()
    }
}

fn bursts(frames: &[u64]) -> String {
    let (Some(least), Some(most)) = (frames.iter().min(), frames.iter().max()) else {
        return NONE.to_owned();
    };
    if least == most {
        return units::count(*least);
    }
    format!("{} – {}", units::count(*least), units::count(*most))
}

/// What the measurement itself costs and gets wrong.
pub fn own_error(model: &Model) -> String {
    let rows = model.report.own_error.iter().map(|own| {
        let outcome = &own.outcome;
        let delay = |of: fn(&Latency) -> u64| {
            outcome
                .latency
                .as_ref()
                .map_or(NONE.to_owned(), |latency| units::time(of(latency) as f64))
        };
        let cells = [
            format!("<th scope=\"row\">{}</th>", escape(&own.path)),
            number(&units::rate(outcome.offered_pps())),
            number(&units::rate(outcome.received_pps())),
            number(&units::percent(outcome.loss())),
            number(&delay(|latency| latency.p50_ns)),
            number(&delay(|latency| latency.p99_ns)),
            number(&delay(|latency| latency.p999_ns)),
            number(&delay(|latency| latency.max_ns)),
            number(&outcome.cpu_ns_per_frame.map_or(NONE.to_owned(), units::digits)),
            said(&outcome.notes.join("; ")),
        ];
        format!("<tr>{}</tr>\n", cells.concat())
    });
    let heads = [
        "path",
        "offered#",
        "received#",
        "lost#",
        "p50#",
        "p99#",
        "p99.9#",
        "max#",
        "CPU, ns/frame#",
        "notes",
    ];
    wide("results", &heads, &rows.collect::<String>())
}

/// Every trial, in the order they were made.
pub fn trials(model: &Model) -> String {
    let entries = &model.report.entries;
    let unit = Unit::rate(
        entries
            .iter()
            .fold(0.0, |max, entry| entry.outcome.offered_pps().max(max)),
    );
    let row = |(at, entry): (usize, &crate::bench::report::Entry)| {
        let (work, outcome) = (&entry.work, &entry.outcome);
        let delay = |of: fn(&Latency) -> u64| {
            outcome
                .latency
                .as_ref()
                .map_or(NONE.to_owned(), |latency| units::time(of(latency) as f64))
        };
        let wanted = match (outcome.wanted_pps, work.rate) {
            (Some(pps), _) | (None, Rate::Paced(pps)) => units::rate(pps),
            (None, Rate::Unpaced) => "unpaced".to_owned(),
        };
        let cells = [
            number(&(at + 1).to_string()),
            number(&entry.round.to_string()),
            text(&entry.case),
            text(&entry.subject),
            number(&size_name(&work.size.to_string())),
            number(&units::count(work.flows.count.into())),
            number(&wanted),
            number(&unit.of(outcome.offered_pps())),
            number(&unit.of(outcome.received_pps())),
            number(&units::count(outcome.lost)),
            number(&units::percent(outcome.loss())),
            number(&units::count(outcome.refused)),
            number(&units::count(outcome.reordered)),
            number(&units::count(outcome.duplicated)),
            number(&units::count(outcome.corrupted)),
            number(&units::count(outcome.foreign)),
            number(&format!("{:.2}", outcome.seconds)),
            number(&delay(|latency| latency.p50_ns)),
            number(&delay(|latency| latency.p99_ns)),
            number(&delay(|latency| latency.p999_ns)),
            number(&delay(|latency| latency.max_ns)),
            number(&outcome.cpu_ns_per_frame.map_or(NONE.to_owned(), units::digits)),
            said(&outcome.notes.join("; ")),
        ];
        format!("<tr>{}</tr>\n", cells.concat())
    };
    let (offered, received) = (format!("offered, {}#", unit.name), format!("received, {}#", unit.name));
    let heads = [
        "##",
        "round#",
        "case",
        "subject",
        "bytes#",
        "flows#",
        "wanted#",
        &offered,
        &received,
        "lost#",
        "share#",
        "refused#",
        "reordered#",
        "twice#",
        "corrupted#",
        "foreign#",
        "seconds#",
        "p50#",
        "p99#",
        "p99.9#",
        "max#",
        "CPU, ns/frame#",
        "notes",
    ];
    wide(
        "trials",
        &heads,
        &model.report.entries.iter().enumerate().map(row).collect::<String>(),
    )
}

/// What was sent, in a line.
pub fn scope(model: &Model) -> String {
    use super::model::distinct;
    let entries = &model.report.entries;
    let found = &model.report.rfc2544;
    let mut parts = Vec::new();
    let cases = entries.iter().map(|entry| entry.case.as_str());
    let cases = distinct(cases.chain(found.iter().map(|one| one.case.as_str())));
    if !cases.is_empty() {
        parts.push(cases.join(", "));
    }
    let own = entries.iter().map(|entry| entry.work.size.to_string());
    let mut sizes = distinct(own.chain(found.iter().map(|one| one.size.clone())));
    sizes.sort_by(|a, b| mean_bytes(a).total_cmp(&mean_bytes(b)));
    if !sizes.is_empty() {
        parts.push(format!(
            "{} bytes",
            sizes.iter().map(|size| size_name(size)).collect::<Vec<_>>().join(", ")
        ));
    }
    let flows = entries.iter().map(|entry| entry.work.flows.count);
    let mut flows = distinct(flows.chain(found.iter().map(|one| one.flows)));
    flows.retain(|flows| *flows > 0);
    flows.sort_unstable();
    match flows[..] {
        [] => {}
        [one] => parts.push(flows_name(one)),
        _ => {
            let flows: Vec<String> = flows.iter().map(|&flows| units::count(flows.into())).collect();
            parts.push(format!("{} flows", flows.join(", ")));
        }
    }
    let rounds = distinct(entries.iter().map(|entry| entry.round)).len();
    if rounds > 1 {
        parts.push(format!("{rounds} rounds"));
    }
    if !entries.is_empty() {
        let plural = if entries.len() == 1 { "trial" } else { "trials" };
        parts.push(format!("{} {plural}", units::count(entries.len() as u64)));
    }
    parts.join(" · ")
}
