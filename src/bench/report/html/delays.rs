//! The section of delays: one chart for each work that was timed, one line for each subject, on HdrHistogram's scale.
//! Beside them, dashed, what the measurement itself takes on a path where nothing happens: nothing below that line is
//! known, where it is paced as they are.

use super::axis::Axis;
use super::lines::{Line, Lines, Of, Point};
use super::model::{Model, Setting, bytes_name, distinct, mean_bytes};
use super::percentiles::{Delays, delays, value_at};
use super::sections::{Panel, Part, Section, own_delay, sorted, title};
use super::{rfc, units};
use crate::bench::outcome::Latency;
use crate::bench::report::Rfc2544;
use crate::bench::work::Rate;

/// So many charts are seen; more are folded.
const SEEN_MAX: usize = 6;

/// What one chart shows: its title, and each subject's delays.
struct Timed {
    title: String,
    subjects: Vec<(usize, Delays)>,
}

/// The section, if anything was timed.
pub fn section(model: &Model) -> Option<Section> {
    let of_rfc: Vec<Timed> = of_rfc2544(model);
    let (first, rest) = if of_rfc.is_empty() {
        of_trials(model)
    } else {
        (of_rfc, Vec::new())
    };
    let own = own_delay(model.report).map(|(path, latency)| (path, delays(&[latency])));
    let own_curve = own.as_ref().map(|(_, delays)| delays);
    let all = || {
        first
            .iter()
            .chain(&rest)
            .flat_map(|timed| timed.subjects.iter().map(|(_, delays)| delays))
    };
    let curves = || all().chain(own_curve).flat_map(|delays| delays.all.iter());
    let low = curves()
        .map(|(_, ns)| *ns)
        .filter(|ns| *ns > 0.0)
        .fold(f64::INFINITY, f64::min);
    let high = curves().map(|(_, ns)| *ns).fold(0.0, f64::max);
    let count = all().map(|delays| delays.count).max()?;
    let (x, y) = (Axis::percentile(count as f64), Axis::log(low, high));
    let seen = first.len().min(SEEN_MAX);
    let panel = |timed: &Timed| chart(model, timed, own_curve, &x, &y);
    let mut subjects = distinct(
        first
            .iter()
            .chain(&rest)
            .flat_map(|timed| timed.subjects.iter().map(|(s, _)| *s)),
    );
    subjects.sort_unstable();
    Some(Section {
        id: "latency",
        title: "One-way delay by percentile",
        lead: "From the send time in each frame to its arrival at the receiver's XDP hook. The \
               further right, the rarer: each step is one frame in ten, in a hundred, in a \
               thousand; a line ends with its slowest frame. Lines are all rounds as one, the area \
               around them goes from the best round to the worst. Both axes are logarithmic.",
        subjects,
        own: own.as_ref().map(|(path, _)| path.clone()),
        main: first[..seen].iter().map(panel).collect(),
        more: first[seen..].iter().chain(&rest).map(panel).collect(),
    })
}

fn chart(model: &Model, timed: &Timed, own: Option<&Delays>, x: &Axis, y: &Axis) -> Panel {
    // It may have more samples than there is room on the axis.
    let inside = |own: &Delays| own.all.iter().copied().take_while(|(at, _)| *at <= x.high()).collect();
    let itself = own.map(|own| Line {
        of: Of::Itself,
        path: inside(own),
        band: Vec::new(),
        points: points("the measurement itself", own, x),
        dots: Vec::new(),
        rule: None,
    });
    let lines = timed.subjects.iter().map(|(subject, delays)| Line {
        of: Of::Subject(*subject),
        path: delays.all.clone(),
        band: delays.spread.clone(),
        points: points(model.subjects.get(*subject).copied().unwrap_or_default(), delays, x),
        dots: Vec::new(),
        rule: None,
    });
    let chart = Lines {
        label: format!("delay by percentile, {}", timed.title),
        y_title: "one-way delay".into(),
        y: y.clone().labelled(units::short_time),
        x_title: "percentile".into(),
        x: x.clone().labelled(units::percentile),
        lines: itself.into_iter().chain(lines).collect(),
    };
    Panel {
        title: timed.title.clone(),
        svg: chart.draw(),
    }
}

/// A shape at each percentile that has a name, as far as the samples reach, and one at the end.
fn points(name: &str, delays: &Delays, x: &Axis) -> Vec<Point> {
    let named = [2.0].into_iter().chain(x.ticks.iter().copied().skip(1));
    let inner = named.filter(|&at| at < delays.count as f64).filter_map(|at| {
        let ns = value_at(&delays.all, at)?;
        let share = if at == 2.0 {
            "50".to_owned()
        } else {
            units::percentile(at)
        };
        Some((at, ns, format!("{name}\n{share} % within {}", units::time(ns))))
    });
    let last = delays.all.last().map(|&(at, ns)| {
        let frames = units::count(delays.count);
        (at, ns, format!("{name}\nthe slowest of {frames}: {}", units::time(ns)))
    });
    inner
        .chain(last)
        .filter(|(at, ..)| *at <= x.high())
        .map(|(x, y, tip)| Point {
            x,
            y,
            interval: None,
            tip,
        })
        .collect()
}

/// Delays at shares of the throughput, by size and share: the highest share first.
fn of_rfc2544(model: &Model) -> Vec<Timed> {
    let found = &model.report.rfc2544;
    let shares = |one: &Rfc2544| one.latency.iter().map(|(share, _)| *share).collect::<Vec<_>>();
    let all = found.iter().flat_map(|one| {
        shares(one)
            .into_iter()
            .map(move |share| (rfc::key(one), one.size.as_str(), share))
    });
    let mut keys = distinct(all);
    // Cases stay in their order: a sort keeps that of equals.
    keys.sort_by(|a, b| b.2.total_cmp(&a.2).then(mean_bytes(a.1).total_cmp(&mean_bytes(b.1))));
    let timed = |(key, size, share): (rfc::Key, &str, f64)| {
        let here: Vec<&Rfc2544> = found
            .iter()
            .filter(|one| rfc::key(one) == key && one.size == size)
            .collect();
        let of = |subject: usize| {
            let own = here.iter().filter(|one| model.subject(&one.subject) == subject);
            let taken = own
                .flat_map(|one| &one.latency)
                .filter(|(of, latency)| *of == share && latency.count > 0);
            (subject, delays(&taken.map(|(_, latency)| latency).collect::<Vec<_>>()))
        };
        let subjects = sorted(here.iter().map(|one| model.subject(&one.subject)))
            .into_iter()
            .map(of);
        let name = rfc::key_name(key);
        Timed {
            title: format!(
                "{name} · {} · {} of the throughput",
                bytes_name(size),
                units::chosen(share)
            ),
            subjects: subjects.filter(|(_, delays)| delays.count > 0).collect(),
        }
    };
    keys.into_iter()
        .map(timed)
        .filter(|timed| !timed.subjects.is_empty())
        .collect()
}

/// Delays of trials: paced ones, and apart from them unpaced ones, whose delays are those of full queues.
fn of_trials(model: &Model) -> (Vec<Timed>, Vec<Timed>) {
    let has_any = |latencies: &[&Latency]| latencies.iter().any(|latency| latency.count > 0);
    let groups: Vec<_> = model
        .groups
        .iter()
        .filter(|group| has_any(&group.latencies()))
        .collect();
    let settings = distinct(groups.iter().map(|group| &group.setting));
    let timed = |setting: &Setting| {
        let here = groups.iter().filter(|group| group.setting == *setting);
        let mut subjects: Vec<_> = here.map(|group| (group.subject, delays(&group.latencies()))).collect();
        subjects.sort_by_key(|(subject, _)| *subject);
        let mut title = title(setting, &[Part::Size, Part::Flows, Part::Rate]);
        if setting.rate == Rate::Unpaced {
            title.push_str(" · unpaced, so of full queues");
        }
        Timed { title, subjects }
    };
    let (paced, unpaced): (Vec<&Setting>, Vec<_>) =
        settings.into_iter().partition(|setting| setting.rate != Rate::Unpaced);
    let of = |settings: Vec<&Setting>| settings.into_iter().map(&timed).collect();
    match paced.is_empty() {
        true => (of(unpaced), Vec::new()),
        false => (of(paced), of(unpaced)),
    }
}
