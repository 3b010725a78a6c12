//! Lines: throughput by number of flows, loss by offered rate, delay by percentile. A point may have an interval,
//! a line a band around it; points that belong to no line are drawn alone. Axes are the caller's, since only the
//! caller knows which charts stand side by side.

use super::axis::Axis;
use super::bars::interval;
use super::frame::{Frame, HEIGHT, WIDTH};
use super::svg::{Anchor, Svg};

/// A point of a line.
pub struct Point {
    /// Where it lies.
    pub x: f64,
    /// Its value.
    pub y: f64,
    /// Its interval, if it has one.
    pub interval: Option<(f64, f64)>,
    /// What a pointer on it is told.
    pub tip: String,
}

/// What one line is of: a subject by its number, or the measurement itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Of {
    /// A subject.
    Subject(usize),
    /// What the measurement costs where nothing is measured.
    Itself,
}

/// A line.
pub struct Line {
    /// What it is of.
    pub of: Of,
    /// What is connected.
    pub path: Vec<(f64, f64)>,
    /// x, the lower and the upper edge of what is around it.
    pub band: Vec<(f64, f64, f64)>,
    /// Points with shapes.
    pub points: Vec<Point>,
    /// Points without, small.
    pub dots: Vec<Point>,
    /// Where on the x axis a line goes up, and what it says.
    pub rule: Option<(f64, String)>,
}

/// A chart of lines.
pub struct Lines {
    /// What it is to those who do not see it.
    pub label: String,
    /// What the y axis is.
    pub y_title: String,
    /// The y axis, with labels.
    pub y: Axis,
    /// What the x axis is.
    pub x_title: String,
    /// The x axis, with labels.
    pub x: Axis,
    /// The lines, from back to front.
    pub lines: Vec<Line>,
}

impl Of {
    fn class(self) -> String {
        match self {
            Of::Subject(index) => format!("s{} d{}", index % 8, index % 6),
            Of::Itself => "own".to_owned(),
        }
    }
}

impl Lines {
    /// Draws it.
    pub fn draw(&self) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        let frame = Frame::new(&mut svg, &self.y, &self.y_title, &self.x_title);
        // A little room at both ends, so that shapes at an end are whole.
        let inner = Frame {
            left: frame.left + 6.0,
            right: frame.right - 6.0,
            ..frame
        };
        inner.ticks(&mut svg, &self.x);
        let place = |x: f64, y: f64| (inner.x(self.x.at(x)), inner.y(self.y.at(y)));
        for line in &self.lines {
            svg.open(&line.of.class(), "");
            let upper = line.band.iter().map(|&(x, _, high)| place(x, high));
            let lower = line.band.iter().rev().map(|&(x, low, _)| place(x, low));
            svg.area("band", &upper.chain(lower).collect::<Vec<_>>());
            if let Some((x, says)) = &line.rule {
                let at = place(*x, 0.0).0;
                svg.open("", says);
                svg.line("rule", (at, inner.top), (at, inner.bottom));
                svg.close();
            }
            svg.close();
        }
        for line in &self.lines {
            svg.open(&line.of.class(), "");
            let path: Vec<(f64, f64)> = line.path.iter().map(|&(x, y)| place(x, y)).collect();
            svg.path("ln", &straight(&path));
            for dot in &line.dots {
                mark(&mut svg, place(dot.x, dot.y), dot, None);
            }
            for point in &line.points {
                if let Some((low, high)) = point.interval {
                    let (x, low) = place(point.x, low);
                    interval(&mut svg, (x, low, place(point.x, high).1), high > self.y.high());
                }
                mark(&mut svg, place(point.x, point.y), point, Some(line.of));
            }
            svg.close();
        }
        svg.finish(&self.label)
    }
}

fn mark(svg: &mut Svg, at: (f64, f64), point: &Point, shape: Option<Of>) {
    svg.open("", &point.tip);
    match shape {
        Some(Of::Subject(index)) => svg.marker(index, at),
        Some(Of::Itself) => svg.rect("mk", (at.0 - 1.5, at.1 - 1.5), (3.0, 3.0)),
        None => svg.text("dot", (at.0, at.1 + 3.5), Anchor::Middle, "×"),
    }
    svg.close();
}

/// Without the points that lie on the way from the one before to the one behind.
fn straight(path: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut out: Vec<(f64, f64)> = Vec::with_capacity(path.len());
    for (at, &point) in path.iter().enumerate() {
        let level = |other: Option<&(f64, f64)>| other.is_some_and(|other| (other.1 - point.1).abs() < 0.05);
        let between = at > 0 && level(out.last()) && level(path.get(at + 1));
        if !between {
            out.push(point);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_stretches_need_two_points() {
        let path = [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (3.0, 2.0), (4.0, 3.0)];
        assert_eq!(straight(&path), [(0.0, 1.0), (2.0, 1.0), (3.0, 2.0), (4.0, 3.0)]);
        assert!(straight(&[]).is_empty());
    }

    #[test]
    fn a_chart_of_one_point() {
        let point = Point {
            x: 1.0,
            y: 5.0,
            interval: Some((4.0, 500.0)),
            tip: "<tip>".into(),
        };
        let line = Line {
            of: Of::Subject(13),
            path: vec![(1.0, 5.0)],
            band: Vec::new(),
            points: vec![point],
            dots: Vec::new(),
            rule: Some((2.0, "no loss up to here".into())),
        };
        let chart = Lines {
            label: "one".into(),
            y_title: "y".into(),
            y: Axis::linear(6.0, 3).labelled(|value| value.to_string()),
            x_title: "x".into(),
            x: Axis::log(1.0, 10.0).labelled(|value| value.to_string()),
            lines: vec![line],
        };
        let text = chart.draw();
        assert!(text.contains("s5 d1") && text.contains("&lt;tip&gt;"), "{text}");
        assert_eq!(
            text.matches("class=\"wh\"").count(),
            2,
            "an interval beyond the chart has no upper end: {text}"
        );
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
