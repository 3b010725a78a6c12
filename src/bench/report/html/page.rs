//! The page itself, from its head to its foot. The first screen says what was measured, on what, and how it
//! ended; then come the charts, each section with its legend; then all numbers, and where they are from. A
//! section without anything to show is left out, and so is its link.

use super::model::Model;
use super::sections::{self, Section};
use super::svg::{Svg, escape};
use super::units::{self, NONE};
use super::{delays, ratios, rfc, tables};
use crate::bench::report::{Provenance, grid};

const STYLE: &str = include_str!("style.css");
/// From this load on, something else ran beside what was measured, and a reader must know.
const BUSY: f64 = 1.0;
/// So many notes are seen; more are folded.
const NOTES_MAX: usize = 8;
const HOVER: &str = include_str!("hover.js");

/// The whole page.
pub fn page(model: &Model) -> String {
    let report = model.report;
    let (headline, more_ratios) = ratios::tables(model);
    let charts: Vec<Section> = [
        sections::by_size(model),
        sections::by_flows(model),
        rfc::throughput(model),
        rfc::loss(model),
        delays::section(model),
        sections::cpu(model),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut parts: Vec<(&str, &str, String)> = Vec::new();
    let searched = !report.rfc2544.is_empty();
    match headline {
        Some(headline) => parts.push(("ratios", "Side by side", headline)),
        None if searched => parts.push(("rfc2544", "RFC 2544 in numbers", tables::rfc2544(model))),
        None if !model.groups.is_empty() => parts.push(("results", "All results", results(model))),
        None => {}
    }
    let notes = grid::notes(report);
    if !notes.is_empty() {
        parts.push(("notes", "To know before reading on", list(&notes)));
    }
    parts.extend(
        charts
            .iter()
            .map(|section| (section.id, section.title, chart_section(model, section))),
    );
    if !more_ratios.is_empty() {
        parts.push(("more-ratios", "More ratios", more_ratios.concat()));
    }
    if searched && !report.ratios.is_empty() {
        parts.push(("rfc2544", "RFC 2544 in numbers", tables::rfc2544(model)));
    }
    if !model.groups.is_empty() && !report.ratios.is_empty() {
        parts.push(("results", "All results", results(model)));
    }
    parts.push(("error", "The measurement itself", own_error(model)));
    if !report.entries.is_empty() {
        parts.push(("trials", "Every trial", trials(model)));
    }
    parts.push((
        "provenance",
        "Where the numbers are from",
        provenance(&report.provenance),
    ));
    let links: String = parts
        .iter()
        .map(|(id, title, _)| format!("<a href=\"#{id}\">{}</a> ", short(id, title)))
        .collect();
    let body: String = parts
        .iter()
        .map(|(id, title, body)| format!("<section id=\"{id}\"><h2>{title}</h2>\n{body}</section>\n"))
        .collect();
    let title = title(model);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>bypath bench: {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<p class=\"over\">bypath bench · {}</p>\n<h1>{title}</h1>\n<p class=\"scope\">{}</p>\n{}</header>\n\
         <nav>{links}</nav>\n<main>\n{body}</main>\n\
         <footer>Made by <code>bypath bench</code> of its JSON report, version {}. A page made of the same report is \
         the same.</footer>\n\
         <script>\n{HOVER}</script>\n</body>\n</html>\n",
        escape(kind(&report.kind)),
        escape(&tables::scope(model)),
        facts(&report.provenance),
        report.version,
    )
}

/// A title, in the row of links.
fn short<'a>(id: &str, title: &'a str) -> &'a str {
    let known = [
        ("notes", "Notes"),
        ("size", "By size"),
        ("flows", "By flows"),
        ("ndr", "No-drop rate"),
        ("loss", "Loss"),
        ("latency", "Delay"),
        ("cpu", "CPU time"),
        ("error", "Own error"),
        ("trials", "Trials"),
        ("provenance", "Provenance"),
    ];
    known.iter().find(|(of, _)| *of == id).map_or(title, |(_, short)| short)
}

fn kind(kind: &str) -> &str {
    match kind {
        "send" => "one path",
        "rfc2544" => "RFC 2544",
        "lab" => "lab of network namespaces",
        "compare" => "comparison with peers",
        other => other,
    }
}

/// Who was measured, escaped.
fn title(model: &Model) -> String {
    let names: Vec<String> = model.subjects.iter().map(|name| escape(name)).collect();
    match names.split_last() {
        None => "nothing was measured".to_owned(),
        Some((only, [])) => format!("{only}, measured"),
        Some((last, others)) => format!("{} and {last}, side by side", others.join(", ")),
    }
}

/// What a number of this page depends on most.
fn facts(from: &Provenance) -> String {
    let started = if from.started > 0 {
        units::date(from.started)
    } else {
        String::new()
    };
    let driver = match (from.driver.as_str(), from.mode.as_str()) {
        (driver, "") => driver.to_owned(),
        ("", mode) => mode.to_owned(),
        (driver, mode) => format!("{driver}, {mode}"),
    };
    let load = match from.load {
        busy if busy >= BUSY => format!("{busy:.2}: not a quiet machine"),
        quiet => format!("{quiet:.2}"),
    };
    let facts: [(&str, &str); 6] = [
        ("Machine", from.machine.as_str()),
        ("Kernel", &from.kernel),
        ("Ports", &driver),
        ("bypath", &from.commit),
        ("Begun", &started),
        ("Load then", &load),
    ];
    let facts = facts.into_iter().map(|(name, value)| {
        let value = if value.is_empty() { NONE } else { value };
        format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value))
    });
    format!("<dl class=\"facts\">{}</dl>\n", facts.collect::<String>())
}

fn list(lines: &[String]) -> String {
    let (seen, folded) = lines.split_at(lines.len().min(NOTES_MAX));
    let list = |lines: &[String]| {
        let lines: String = lines.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
        format!("<ul class=\"notes\">{lines}</ul>\n")
    };
    let folded = match folded.len() {
        0 => String::new(),
        count => format!("<details><summary>{count} more</summary>{}</details>\n", list(folded)),
    };
    list(seen) + &folded
}

fn chart_section(model: &Model, section: &Section) -> String {
    let figures = |panels: &[sections::Panel]| -> String {
        let figure = |panel: &sections::Panel| {
            format!(
                "<figure><figcaption>{}</figcaption>{}</figure>\n",
                escape(&panel.title),
                panel.svg
            )
        };
        panels.iter().map(figure).collect()
    };
    let more = match section.more.len() {
        0 => String::new(),
        count => format!(
            "<details><summary>{count} more of these charts</summary><div class=\"charts\">{}</div></details>\n",
            figures(&section.more)
        ),
    };
    format!(
        "<p class=\"lead\">{}</p>\n{}<div class=\"charts\">{}</div>\n{more}",
        section.lead,
        legend(model, section),
        figures(&section.main)
    )
}

/// Who is which colour and shape.
fn legend(model: &Model, section: &Section) -> String {
    let swatch = |class: &str, index: Option<usize>| {
        let mut svg = Svg::new(30.0, 12.0);
        svg.open(class, "");
        svg.line("ln", (1.0, 6.0), (29.0, 6.0));
        if let Some(index) = index {
            svg.marker(index, (15.0, 6.0));
        }
        svg.close();
        svg.finish("")
            .replace(" role=\"img\" aria-label=\"\"", " aria-hidden=\"true\"")
    };
    let subjects = section.subjects.iter().map(|&index| {
        let class = format!("s{} d{}", index % 8, index % 6);
        let name = escape(model.subjects.get(index).unwrap_or(&""));
        format!("<li>{}{name}</li>", swatch(&class, Some(index)))
    });
    let own = section.own.iter().map(|path| {
        let path = escape(path);
        format!("<li>{}the measurement itself ({path})</li>", swatch("own", None))
    });
    format!(
        "<ul class=\"legend\">{}</ul>\n",
        subjects.chain(own).collect::<String>()
    )
}

fn results(model: &Model) -> String {
    let lead = "Medians of the rounds, with 95 % intervals where there is more than one round. “lost” is of all \
                that was offered in all rounds: an unpaced source offers more than any path forwards. “max” is \
                the longest delay of all rounds.";
    format!("<p class=\"lead\">{lead}</p>\n{}", tables::results(model))
}

fn own_error(model: &Model) -> String {
    if model.report.own_error.is_empty() {
        return "<p class=\"lead warn\">Not measured in this run: what sender and receiver themselves cost is unknown, \
                and in every number above.</p>\n"
            .to_owned();
    }
    let lead = "The same sender and receiver on a path where nothing happens. A rate near the one received here, \
                or a delay near the one here, says more of the measurement than of what was measured.";
    format!("<p class=\"lead\">{lead}</p>\n{}", tables::own_error(model))
}

fn trials(model: &Model) -> String {
    let count = model.report.entries.len();
    let noted = model
        .report
        .entries
        .iter()
        .filter(|entry| !entry.outcome.notes.is_empty())
        .count();
    let noted = match noted {
        0 => String::new(),
        noted => format!(", {noted} with notes"),
    };
    format!(
        "<details><summary>{} in the order they were made{noted}</summary>{}</details>\n",
        if count == 1 {
            "one trial".to_owned()
        } else {
            format!("{} trials", units::count(count as u64))
        },
        tables::trials(model)
    )
}

fn provenance(from: &Provenance) -> String {
    let versions = from.versions.iter().map(|(name, version)| {
        format!(
            "<tr><th scope=\"row\">{}</th>{}</tr>\n",
            escape(name),
            tables::text(version)
        )
    });
    let versions = match from.versions.is_empty() {
        true => String::new(),
        false => format!(
            "<h3>Versions</h3>{}",
            tables::wide("versions", &["what", "version"], &versions.collect::<String>())
        ),
    };
    let commands: String = from
        .commands
        .iter()
        .map(|line| format!("<pre>{}</pre>\n", escape(line)))
        .collect();
    let commands = match commands.is_empty() {
        true => String::new(),
        false => format!("<h3>Commands</h3>\n{commands}"),
    };
    format!("{}{versions}{commands}", facts(from))
}
