//! Which charts there are. A section is one question (how fast by size, by flows, how late, at which cost) and holds a
//! chart for each work it was asked of; all its charts have one y axis, so that they can be compared by eye, and one that
//! has its own says so. What only repeats the same for other sizes or numbers of flows is folded away under them.

use super::axis::Axis;
use super::bars::{Bar, Bars, reach, reaches};
use super::lines::{Line, Lines, Of, Point};
use super::model::{Group, Model, Setting, bytes_name, distinct, flows_name, mean_bytes, rate_name, size_name};
use super::units::{self, Unit};
use crate::bench::outcome::Latency;
use crate::bench::report::{Interval, OwnError, Report};
use crate::bench::work::Rate;

/// A chart with its title.
pub struct Panel {
    /// The title.
    pub title: String,
    /// The chart.
    pub svg: String,
}

/// A question and its charts.
#[derive(Default)]
pub struct Section {
    /// Its name in addresses.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// How to read it.
    pub lead: &'static str,
    /// The numbers of subjects in it.
    pub subjects: Vec<usize>,
    /// Whose own costs are drawn beside: the path of [`crate::bench::report::OwnError`].
    pub own: Option<String>,
    /// Charts that are seen.
    pub main: Vec<Panel>,
    /// Charts that are folded.
    pub more: Vec<Panel>,
}

type Measured<'m> = Vec<(&'m Group<'m>, Interval)>;

/// Frames per second by size, of unpaced trials.
pub fn by_size(model: &Model) -> Option<Section> {
    let measured = measured(model.unpaced(), Group::pps);
    let section = Section {
        id: "size",
        title: "Throughput by frame size",
        lead: "Frames per second that arrived while more was offered than the path forwards. Bars \
               are the median of the rounds, the line on each its 95 % interval.",
        ..Section::default()
    };
    bars(model, &measured, section, "received", Unit::rate)
}

/// CPU time per frame by size, of unpaced trials: at a given rate it is the cores that spin.
pub fn cpu(model: &Model) -> Option<Section> {
    let measured = measured(model.unpaced(), Group::cpu);
    let section = Section {
        id: "cpu",
        title: "CPU time per frame",
        lead: "Time that all cores together were not idle while frames were sent, for each frame that \
               arrived: user, system and softirq. Sender and receiver are in it. An unpaced sender has a \
               core all the time, and so has a subject that polls: then this is the number of busy cores \
               divided by frames per second, and not what a frame costs.",
        ..Section::default()
    };
    bars(model, &measured, section, "CPU time", |_| Unit {
        name: "ns",
        size: 1.0,
    })
}

/// Frames per second by number of flows, of unpaced trials.
pub fn by_flows(model: &Model) -> Option<Section> {
    let measured = measured(model.unpaced(), Group::pps);
    let key = |setting: &Setting<'_>| (setting.case.to_owned(), setting.variant.clone(), setting.size);
    let mut keys = distinct(measured.iter().map(|(group, _)| key(&group.setting)));
    let here = |wanted: &(String, String, _)| -> Measured {
        let same = measured.iter().filter(|(group, _)| key(&group.setting) == *wanted);
        same.copied().collect()
    };
    keys.retain(|key| distinct(here(key).iter().map(|(group, _)| group.setting.flows)).len() > 1);
    let shown: Vec<Measured> = keys.iter().map(here).collect();
    let top = reach(shown.iter().flatten().map(|(_, value)| value));
    let unit = Unit::rate(top);
    let panel = |measured: &Measured| {
        let flows = || measured.iter().map(|(group, _)| f64::from(group.setting.flows));
        let lines = sorted(measured.iter().map(|(group, _)| group.subject))
            .into_iter()
            .map(|subject| {
                let own = measured.iter().filter(|(group, _)| group.subject == subject);
                let mut points: Vec<Point> = own
                    .map(|(group, value)| Point {
                        x: group.setting.flows.into(),
                        y: value.median / unit.size,
                        interval: (value.samples > 1).then_some((value.low / unit.size, value.high / unit.size)),
                        tip: tip(model, group, value, units::rate),
                    })
                    .collect();
                points.sort_by(|a, b| a.x.total_cmp(&b.x));
                Line {
                    of: Of::Subject(subject),
                    path: points.iter().map(|point| (point.x, point.y)).collect(),
                    band: Vec::new(),
                    points,
                    dots: Vec::new(),
                    rule: None,
                }
            });
        let y = Axis::linear(top / unit.size, 5);
        let step = y.step();
        let title = measured
            .first()
            .map(|(group, _)| title(&group.setting, &[Part::Size]))
            .unwrap_or_default();
        let chart = Lines {
            label: format!("received by number of flows, {title}"),
            y_title: format!("received, {}", unit.name),
            y: y.labelled(|value| units::tick(value, step)),
            x_title: "flows".into(),
            x: Axis::log(flows().fold(f64::MAX, f64::min), flows().fold(1.0, f64::max)).labelled(units::short),
            lines: lines.collect(),
        };
        (
            measured.first().map(|(group, _)| group.setting.size),
            Panel {
                title,
                svg: chart.draw(),
            },
        )
    };
    // The smallest frames are the hardest to forward: they are what is seen.
    let panels: Vec<_> = shown.iter().map(panel).collect();
    let by_mean = |size: &crate::bench::work::Size| mean_bytes(&size.to_string());
    let least = panels
        .iter()
        .filter_map(|(size, _)| *size)
        .min_by(|a, b| by_mean(a).total_cmp(&by_mean(b)));
    let (main, more): (Vec<_>, Vec<_>) = panels.into_iter().partition(|(size, _)| *size == least);
    (!main.is_empty()).then(|| Section {
        id: "flows",
        title: "Throughput by number of flows",
        lead: "The same, by how many flows take turns. Medians of the rounds with their 95 % \
               intervals.",
        subjects: sorted(shown.iter().flatten().map(|(group, _)| group.subject)),
        main: main.into_iter().map(|(_, panel)| panel).collect(),
        more: more.into_iter().map(|(_, panel)| panel).collect(),
        ..Section::default()
    })
}

/// Charts of bars by size, one for each case and number of flows; those of the number of flows that most is known of
/// are seen.
fn bars(
    model: &Model,
    measured: &Measured,
    section: Section,
    y_title: &'static str,
    unit: fn(f64) -> Unit,
) -> Option<Section> {
    let unit = unit(reach(measured.iter().map(|(_, value)| value)));
    let key = |s: &Setting<'_>| (s.case.to_owned(), s.variant.clone(), s.flows, s.rate);
    let keys = distinct(measured.iter().map(|(group, _)| key(&group.setting)));
    let chart = |wanted: &(String, String, u32, Rate)| {
        let same = measured.iter().filter(|(group, _)| key(&group.setting) == *wanted);
        bars_of(model, &same.copied().collect(), y_title, unit)
    };
    let charts: Vec<(String, Bars)> = keys.iter().map(chart).collect();
    let tops: Vec<f64> = charts.iter().map(|(_, chart)| chart.reach()).collect();
    let panels = charts
        .into_iter()
        .zip(reaches(&tops))
        .map(|((title, chart), (top, own))| Panel {
            title: if own {
                format!("{title} (axis of its own)")
            } else {
                title
            },
            svg: chart.draw(top),
        });
    let flows = distinct(keys.iter().map(|key| key.2));
    // Of equals the first: max_by_key takes the last, so the order is turned.
    let most = flows
        .iter()
        .rev()
        .max_by_key(|flows| measured.iter().filter(|(g, _)| g.setting.flows == **flows).count());
    let (main, more): (Vec<_>, Vec<_>) = keys
        .iter()
        .zip(panels)
        .partition(|(key, _)| Some(&key.2) == most || key.3 != Rate::Unpaced);
    (!main.is_empty()).then(|| Section {
        subjects: sorted(measured.iter().map(|(group, _)| group.subject)),
        main: main.into_iter().map(|(_, panel)| panel).collect(),
        more: more.into_iter().map(|(_, panel)| panel).collect(),
        ..section
    })
}

/// One of them, and its title.
fn bars_of(model: &Model, here: &Measured, y_title: &'static str, unit: Unit) -> (String, Bars) {
    let mut sizes = distinct(here.iter().map(|(group, _)| group.setting.size.to_string()));
    sizes.sort_by(|a, b| mean_bytes(a).total_cmp(&mean_bytes(b)));
    let subjects = sorted(here.iter().map(|(group, _)| group.subject));
    let bar = |size: &str, subject: usize| {
        let mut own = here.iter().filter(|(group, _)| group.subject == subject);
        let (group, value) = own.find(|(group, _)| group.setting.size.to_string() == size)?;
        let tip = tip(model, group, value, |v| format!("{} {}", unit.of(v), unit.name));
        Some(Bar { value: *value, tip })
    };
    let groups = sizes
        .iter()
        .map(|size| (size_name(size), subjects.iter().map(|&s| bar(size, s)).collect()))
        .collect();
    let first = here.first().map(|(group, _)| &group.setting);
    let title = first.map_or(String::new(), |setting| title(setting, &[Part::Flows, Part::Rate]));
    let chart = Bars {
        label: format!("{y_title} by frame size, {title}"),
        y_title,
        unit,
        x_title: "bytes in a frame",
        subjects,
        groups,
    };
    (title, chart)
}

fn measured<'m>(groups: Vec<&'m Group<'m>>, of: fn(&Group<'m>) -> Option<Interval>) -> Measured<'m> {
    groups
        .into_iter()
        .filter_map(|group| Some((group, of(group)?)))
        .collect()
}

/// What of a setting a title names beside the case.
#[derive(PartialEq)]
pub enum Part {
    /// The size.
    Size,
    /// The number of flows.
    Flows,
    /// The rate, where it is paced.
    Rate,
}

/// A setting as a title.
pub fn title(setting: &Setting, parts: &[Part]) -> String {
    let mut words = vec![setting.case.to_owned()];
    if !setting.variant.is_empty() {
        words.push(setting.variant.clone());
    }
    if parts.contains(&Part::Size) {
        words.push(bytes_name(&setting.size.to_string()));
    }
    if parts.contains(&Part::Flows) {
        words.push(flows_name(setting.flows));
    }
    if parts.contains(&Part::Rate) && setting.rate != Rate::Unpaced {
        words.push(format!("at {}", rate_name(setting.rate)));
    }
    words.join(" · ")
}

/// What a value is and how sure it is, in a line.
fn tip(model: &Model, group: &Group, value: &Interval, name: impl Fn(f64) -> String) -> String {
    let subject = model.subjects.get(group.subject).copied().unwrap_or_default();
    let setting = &group.setting;
    let size = bytes_name(&setting.size.to_string());
    let head = format!(
        "{subject} · {size} · {}\n{}",
        flows_name(setting.flows),
        name(value.median)
    );
    match value.samples {
        0 | 1 => format!("{head}, one round"),
        rounds => format!("{head} ({} – {}), {rounds} rounds", name(value.low), name(value.high)),
    }
}

/// Numbers of subjects, each once, upwards.
pub fn sorted(subjects: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut subjects = distinct(subjects);
    subjects.sort_unstable();
    subjects
}

/// Delays that the measurement itself has, and where: of the first paced path that has any, else of the first. Unpaced
/// they are those of full queues, and no floor of paced ones, which the name says.
pub fn own_delay(report: &Report) -> Option<(String, &Latency)> {
    let timed = |own: &&OwnError| own.outcome.latency.as_ref().is_some_and(|latency| latency.count > 0);
    let paths = || report.own_error.iter().filter(timed);
    let paced = paths().find(|own| own.outcome.wanted_pps.is_some());
    let own = paced.or(paths().next())?;
    let unpaced = if paced.is_none() {
        ", unpaced, so of full queues"
    } else {
        ""
    };
    Some((format!("{}{unpaced}", own.path), own.outcome.latency.as_ref()?))
}
