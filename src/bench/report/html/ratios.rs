//! The headline: who is how many times as fast as whom, as the median over paired rounds with its 95 % interval. One
//! table for each thing that was divided; a row is a subject in a case, a column a size, a number of flows, a rate and a kind of frames.
//!
//! A cell is called better or worse only where its whole interval is: where that holds 1, no difference is shown, and
//! with one round there is nothing to say. Colour, sign and number say the same, each enough alone.

use super::model::{Model, distinct, kind_name, mean_bytes, size_name};
use super::svg::escape;
use super::units::{self, NONE};
use crate::bench::report::{Interval, Ratio};
use crate::bench::work::Kind;

/// What may be divided: its name in a report, what it is called here, and whether more is better.
const KNOWN: [(&str, &str, bool); 6] = [
    ("received_pps", "Throughput", true),
    ("throughput_pps", "Throughput by RFC 2544", true),
    ("p50_ns", "Median delay", false),
    ("p99_ns", "Delay, 99th percentile", false),
    ("p999_ns", "Delay, 99.9th percentile", false),
    ("cpu_ns_per_frame", "CPU time per frame", false),
];

/// What an interval says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Better,
    Worse,
    Same,
    Nothing,
}

impl Says {
    fn of(ratio: &Interval, more_is_better: bool) -> Says {
        if ratio.samples < 2 || !ratio.median.is_finite() {
            Says::Nothing
        } else if ratio.low <= 1.0 && ratio.high >= 1.0 {
            Says::Same
        } else if (ratio.low > 1.0) == more_is_better {
            Says::Better
        } else {
            Says::Worse
        }
    }

    /// The class, the sign, and what that sign is.
    fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Says::Better => ("good", "▲", "better: the whole interval is"),
            Says::Worse => ("bad", "▼", "worse: the whole interval is"),
            Says::Same => ("even", "≈", "no difference shown: the interval holds 1"),
            Says::Nothing => ("even", "", "one round: nothing is known of its spread"),
        }
    }
}

/// The first table, with what it says in a sentence; and all others.
pub fn tables(model: &Model) -> (Option<String>, Vec<String>) {
    let ratios = &model.report.ratios;
    let mut keys = distinct(ratios.iter().map(|ratio| (ratio.what.as_str(), ratio.to.as_str())));
    keys.sort_by_key(|(what, _)| {
        KNOWN
            .iter()
            .position(|(known, ..)| known == what)
            .unwrap_or(KNOWN.len())
    });
    let mut tables = keys.into_iter().map(|(what, to)| {
        let here: Vec<&Ratio> = ratios
            .iter()
            .filter(|ratio| ratio.what == what && ratio.to == to)
            .collect();
        table(what, to, &here)
    });
    (tables.next(), tables.collect())
}

fn table(what: &str, to: &str, ratios: &[&Ratio]) -> String {
    let known = KNOWN.iter().find(|(known, ..)| *known == what);
    let (name, more) = known.map_or((what, true), |(_, name, more)| (*name, *more));
    let mut columns = distinct(ratios.iter().map(|ratio| column_of(ratio)));
    columns.sort_by(|a, b| {
        let paced = |wanted: Option<f64>| wanted.unwrap_or(0.0);
        (paced(a.2).total_cmp(&paced(b.2)))
            .then(a.1.cmp(&b.1))
            .then(mean_bytes(a.0).total_cmp(&mean_bytes(b.0)))
    });
    let heads: String = columns.iter().map(|&column| head(column)).collect();
    let mut body = String::new();
    for case in distinct(ratios.iter().map(|ratio| ratio.case.as_str())) {
        let here: Vec<&Ratio> = ratios.iter().filter(|ratio| ratio.case == case).copied().collect();
        let width = columns.len() + 1;
        let name = escape(case);
        body.push_str(&format!(
            "<tr class=\"case\"><th scope=\"rowgroup\" colspan=\"{width}\"><span>{name}</span></th></tr>\n"
        ));
        for subject in distinct(here.iter().map(|ratio| ratio.of.as_str())) {
            let of = |column: &Column| {
                let same = |ratio: &&&Ratio| ratio.of == subject && column_of(ratio) == *column;
                let none = format!("<td class=\"num none\">{NONE}</td>");
                here.iter().find(same).map_or(none, |ratio| cell(&ratio.ratio, more))
            };
            let cells: String = columns.iter().map(of).collect();
            body.push_str(&format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(subject)));
        }
    }
    let better = if more { "more is better" } else { "less is better" };
    let to_name = escape(to);
    format!(
        "<div class=\"block\"><h3>{} <small>{to_name} = 1; {better}</small></h3>\n{}\
         <div class=\"scroll fit\" tabindex=\"0\"><table class=\"ratios\">\
         <thead><tr><th scope=\"col\">case, subject</th>{heads}</tr></thead>\n\
         <tbody>{body}</tbody></table></div></div>\n",
        escape(name),
        summary(to, ratios, more),
    )
}

/// A column: the size, the number of flows, the rate that was asked for, the kind of frames.
type Column<'a> = (&'a str, u32, Option<f64>, Option<Kind>);

fn column_of(ratio: &Ratio) -> Column<'_> {
    (&ratio.size, ratio.flows, ratio.wanted_pps, ratio.kind)
}

fn head((size, flows, wanted, kind): Column) -> String {
    let kind = kind.and_then(kind_name).map(|kind| format!("<small>{kind}</small>"));
    let bytes = if size.eq_ignore_ascii_case("imix") { "" } else { " B" };
    let paced = wanted
        .map(|pps| format!("<small>at {}</small>", units::rate(pps)))
        .unwrap_or_default();
    let flows = match flows {
        0 => String::new(),
        1 => "<small>1 flow</small>".to_owned(),
        flows => format!("<small>{} flows</small>", units::short(flows.into())),
    };
    let size = escape(&size_name(size));
    format!(
        "<th scope=\"col\" class=\"num\">{size}{bytes}{flows}{paced}{}</th>",
        kind.unwrap_or_default()
    )
}

fn cell(ratio: &Interval, more_is_better: bool) -> String {
    let (class, sign, says) = Says::of(ratio, more_is_better).shown();
    let interval = match ratio.samples {
        0 | 1 => "one round".to_owned(),
        _ => format!("{} – {}", times(ratio.low), times(ratio.high)),
    };
    let title = format!("{says}; {} rounds", ratio.samples);
    let sign = match sign {
        "" => String::new(),
        sign => format!(" <span class=\"sign\">{sign}</span>"),
    };
    let median = times(ratio.median);
    format!("<td class=\"num {class}\" title=\"{title}\"><b>{median}<i>×</i></b>{sign}<small>{interval}</small></td>")
}

/// A factor; an end of an interval of few rounds may be beyond all sense.
fn times(value: f64) -> String {
    if value > 9_999.0 {
        "≫ 9,999".to_owned()
    } else {
        units::digits(value)
    }
}

/// Of how many works each subject is better, no different and worse: a line for each.
fn summary(to: &str, ratios: &[&Ratio], more: bool) -> String {
    let subjects = distinct(ratios.iter().map(|ratio| ratio.of.as_str()));
    let line = |subject: &&str| {
        let own: Vec<&&Ratio> = ratios.iter().filter(|ratio| ratio.of == **subject).collect();
        let count = |says: Says| own.iter().filter(|ratio| Says::of(&ratio.ratio, more) == says).count();
        let medians = || {
            own.iter()
                .map(|ratio| ratio.ratio.median)
                .filter(|median| median.is_finite())
        };
        let (low, high) = (medians().fold(f64::INFINITY, f64::min), medians().fold(0.0, f64::max));
        let range = match own.len() {
            1 => times(low),
            _ => format!("{} to {}", times(low), times(high)),
        };
        let counts: Vec<String> = [
            (Says::Better, "better"),
            (Says::Same, "with no difference shown"),
            (Says::Worse, "worse"),
            (Says::Nothing, "of one round"),
        ]
        .into_iter()
        .map(|(says, word)| (count(says), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
        let all = if own.len() == 1 {
            "1 comparison".to_owned()
        } else {
            format!("{} comparisons", own.len())
        };
        let (subject, to, counts) = (escape(subject), escape(to), counts.join(", "));
        format!("<p class=\"says\"><b>{subject}</b>: {range} times {to}; of {all} {counts}.</p>\n")
    };
    subjects.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(low: f64, median: f64, high: f64, samples: u32) -> Interval {
        Interval {
            median,
            low,
            high,
            samples,
        }
    }

    #[test]
    fn only_a_whole_interval_says_something() {
        assert_eq!(Says::of(&of(1.1, 1.2, 1.3, 7), true), Says::Better);
        assert_eq!(Says::of(&of(1.1, 1.2, 1.3, 7), false), Says::Worse);
        assert_eq!(Says::of(&of(0.7, 0.8, 0.9, 7), true), Says::Worse);
        assert_eq!(Says::of(&of(0.7, 0.8, 0.9, 7), false), Says::Better);
        assert_eq!(Says::of(&of(0.9, 1.2, 1.3, 7), true), Says::Same);
        assert_eq!(Says::of(&of(1.0, 1.2, 1.3, 7), true), Says::Same);
        assert_eq!(Says::of(&of(1.2, 1.2, 1.2, 1), true), Says::Nothing);
        assert_eq!(Says::of(&of(f64::NAN, f64::NAN, f64::NAN, 3), true), Says::Nothing);
    }

    #[test]
    fn an_interval_beyond_all_sense_is_short() {
        assert!(cell(&of(0.0, 1.5, f64::MAX, 2), true).contains("0 – ≫ 9,999"));
    }
}
