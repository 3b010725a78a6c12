//! Bars from 0, side by side in groups, each with its interval: throughput and CPU time by size. A subject
//! without a value in a group keeps its place there, with a dash in it, so that what is missing is seen. All bars
//! begin at 0: one that does not makes small differences look large.

use super::axis::Axis;
use super::frame::{CHARACTER, Frame, HEIGHT, WIDTH};
use super::svg::{Anchor, Svg};
use super::units::{NONE, Unit, rough, tick};
use crate::bench::report::Interval;

/// One bar.
pub struct Bar {
    /// Its value and interval.
    pub value: Interval,
    /// What a pointer on it is told.
    pub tip: String,
}

/// A chart of bars.
pub struct Bars {
    /// What it is to those who do not see it.
    pub label: String,
    /// What the y axis is; the unit is put behind it.
    pub y_title: &'static str,
    /// The unit of the values.
    pub unit: Unit,
    /// What the groups are.
    pub x_title: &'static str,
    /// The numbers of the subjects, as they stand in each group.
    pub subjects: Vec<usize>,
    /// The groups: their names, and a bar for each subject.
    pub groups: Vec<(String, Vec<Option<Bar>>)>,
}

/// How far an axis must reach for values with these intervals: a wide interval of few rounds may leave the chart at its
/// top, or nothing else would be seen.
pub fn reach<'a>(values: impl IntoIterator<Item = &'a Interval>) -> f64 {
    let (mut median, mut high) = (0.0f64, 0.0f64);
    for value in values {
        median = median.max(value.median);
        high = high.max(value.high);
    }
    high.min(1.5 * median).max(median) * 1.04
}

/// How far the axes of charts side by side reach, given how far each must: all as far as the farthest. But where a few
/// would leave nothing to see of the others, those have axes of their own, and say so.
pub fn reaches(each: &[f64]) -> Vec<(f64, bool)> {
    let mut sorted = each.to_vec();
    sorted.sort_by(f64::total_cmp);
    let limit = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0) * 4.0;
    let common = sorted.iter().copied().filter(|top| *top <= limit).fold(0.0, f64::max);
    each.iter()
        .map(|&top| if top > limit { (top, true) } else { (common, false) })
        .collect()
}

impl Bars {
    /// How far its axis must reach.
    pub fn reach(&self) -> f64 {
        reach(
            self.groups
                .iter()
                .flat_map(|(_, bars)| bars.iter().flatten())
                .map(|bar| &bar.value),
        )
    }

    /// Draws it with a y axis up to `top`, so that charts side by side have the same.
    pub fn draw(&self, top: f64) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        let axis = Axis::linear(top / self.unit.size, 5);
        let step = axis.step();
        let axis = axis.labelled(|value| tick(value, step));
        let title = format!("{}, {}", self.y_title, self.unit.name);
        let frame = Frame::new(&mut svg, &axis, &title, self.x_title);
        let room = (frame.right - frame.left) / self.groups.len().max(1) as f64;
        let slot = (room * 0.84 / self.subjects.len().max(1) as f64).min(46.0);
        let values = self.groups.iter().flat_map(|(_, bars)| bars.iter().flatten());
        let longest = values.map(|bar| self.rough(bar).len()).max().unwrap_or(0);
        let lettered = longest as f64 * 5.6 <= slot;
        for (n, (name, bars)) in self.groups.iter().enumerate() {
            let middle = frame.left + room * (n as f64 + 0.5);
            let name = fitting(name, room);
            svg.text("tick", (middle, frame.bottom + 16.0), Anchor::Middle, &name);
            let first = middle - slot * bars.len() as f64 / 2.0;
            for (k, (bar, subject)) in bars.iter().zip(&self.subjects).enumerate() {
                let at = first + slot * (k as f64 + 0.5);
                match bar {
                    Some(bar) => self.bar(&mut svg, (&frame, &axis), (at, slot * 0.82), *subject, bar, lettered),
                    None => {
                        svg.open(&format!("s{}", subject % 8), "not measured");
                        svg.text("none", (at, frame.bottom - 4.0), Anchor::Middle, NONE);
                        svg.close();
                    }
                }
            }
        }
        svg.finish(&self.label)
    }

    fn rough(&self, bar: &Bar) -> String {
        rough(bar.value.median / self.unit.size)
    }

    fn bar(&self, svg: &mut Svg, on: (&Frame, &Axis), at: (f64, f64), subject: usize, bar: &Bar, lettered: bool) {
        let ((frame, axis), (x, width)) = (on, at);
        let place = |value: f64| frame.y(axis.at(value / self.unit.size));
        let (median, low, high) = (place(bar.value.median), place(bar.value.low), place(bar.value.high));
        svg.open(&format!("s{}", subject % 8), &bar.tip);
        svg.rect("bar", (x - width / 2.0, median), (width, frame.bottom - median));
        if bar.value.samples > 1 {
            interval(svg, (x, low, high), bar.value.high / self.unit.size > axis.high());
        }
        if lettered {
            svg.text("val", (x, high.min(median) - 4.0), Anchor::Middle, &self.rough(bar));
        }
        svg.close();
    }
}

/// An interval as a line with ends; one that goes on beyond the chart has no upper end.
pub fn interval(svg: &mut Svg, at: (f64, f64, f64), beyond: bool) {
    let (x, low, high) = at;
    svg.line("wh", (x, low), (x, high));
    svg.line("wh", (x - 3.0, low), (x + 3.0, low));
    if !beyond {
        svg.line("wh", (x - 3.0, high), (x + 3.0, high));
    }
}

/// A name, cut to what fits.
fn fitting(name: &str, room: f64) -> String {
    let most = (room / CHARACTER).floor().max(2.0) as usize;
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(median: f64, low: f64, high: f64) -> Interval {
        Interval {
            median,
            low,
            high,
            samples: 5,
        }
    }

    #[test]
    fn a_wide_interval_does_not_flatten_all_others() {
        assert!(reach(&[interval(1.0, 0.9, 1.1), interval(2.0, 1.9, 2.2)]) < 2.4);
        assert!(reach(&[interval(1.0, 0.1, f64::MAX)]) < 1.7);
        assert_eq!(reach(&[]), 0.0);
    }

    #[test]
    fn one_chart_does_not_flatten_all_others() {
        let own = |top| (top, true);
        let common = |top| (top, false);
        assert_eq!(reaches(&[1.0, 2.0, 3.0]), [common(3.0); 3]);
        assert_eq!(
            reaches(&[1.0, 75.0, 2.0, 3.0]),
            [common(3.0), own(75.0), common(3.0), common(3.0)]
        );
        assert_eq!(reaches(&[5.0]), [common(5.0)]);
        assert!(reaches(&[]).is_empty());
    }

    #[test]
    fn what_is_missing_keeps_its_place() {
        let bar = Bar {
            value: interval(1e6, 0.9e6, 1.1e6),
            tip: "a tip".into(),
        };
        let chart = Bars {
            label: "two & more".into(),
            y_title: "received",
            unit: Unit::rate(1e6),
            x_title: "bytes",
            subjects: vec![0, 9],
            groups: vec![("64".into(), vec![Some(bar), None])],
        };
        let text = chart.draw(1.1e6);
        assert_eq!(text.matches("class=\"bar\"").count(), 1, "{text}");
        assert!(text.contains("<title>not measured</title>"), "{text}");
        assert!(
            text.contains("received, Mpps") && text.contains("two &amp; more"),
            "{text}"
        );
    }

    #[test]
    fn names_are_cut_to_what_fits() {
        assert_eq!(fitting("nat-1000-rules", 200.0), "nat-1000-rules");
        assert_eq!(fitting("nat-1000-rules", 40.0), "nat-…");
    }
}
