//! The frame of a chart: its edges, the grid, the numbers at it and the names of the axes. All charts have the same
//! size, in which their texts are as large as those of the page, on a phone and in three columns alike.
//!
//! ```text
//!   y title
//!   1.5 ┼────────────────┐ top
//!   1.0 ┼                │
//!   0.0 ┼───┬───┬───┬────┘ bottom
//!      left 1   2   3  right
//!            x title
//! ```

use super::axis::Axis;
use super::svg::{Anchor, Svg};

/// Width of a chart.
pub const WIDTH: f64 = 400.0;
/// Height of a chart.
pub const HEIGHT: f64 = 256.0;
/// How wide a character of the numbers at an axis is, at most.
pub const CHARACTER: f64 = 6.7;

/// The edges of the room where things are drawn.
pub struct Frame {
    /// Its left.
    pub left: f64,
    /// Its right.
    pub right: f64,
    /// Its top.
    pub top: f64,
    /// Its bottom.
    pub bottom: f64,
}

impl Frame {
    /// Draws the grid and the numbers of the y axis, and what both axes are.
    pub fn new(svg: &mut Svg, y: &Axis, y_title: &str, x_title: &str) -> Frame {
        let longest = y.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let left = longest as f64 * CHARACTER + 12.0;
        let frame = Frame {
            left,
            right: WIDTH - 14.0,
            top: 28.0,
            bottom: HEIGHT - 40.0,
        };
        svg.text("at", (2.0, 13.0), Anchor::Start, y_title);
        svg.text(
            "at",
            ((frame.left + frame.right) / 2.0, HEIGHT - 6.0),
            Anchor::Middle,
            x_title,
        );
        for (&tick, label) in y.ticks.iter().zip(&y.labels) {
            let at = frame.y(y.at(tick));
            svg.line("grid", (frame.left, at), (frame.right, at));
            svg.text("tick", (frame.left - 6.0, at + 3.7), Anchor::End, label);
        }
        svg.line("base", (frame.left, frame.bottom), (frame.right, frame.bottom));
        frame
    }

    /// Draws the numbers of the x axis, with lines up from them. Those that would touch the one before are left out.
    pub fn ticks(&self, svg: &mut Svg, x: &Axis) {
        let mut free = f64::NEG_INFINITY;
        for (&tick, label) in x.ticks.iter().zip(&x.labels) {
            let at = self.x(x.at(tick));
            svg.line("grid", (at, self.top), (at, self.bottom));
            let half = label.chars().count() as f64 * CHARACTER / 2.0;
            let middle = at.min(WIDTH - 1.0 - half);
            if middle - half > free {
                svg.text("tick", (middle, self.bottom + 16.0), Anchor::Middle, label);
                free = middle + half + 3.0;
            }
        }
    }

    /// The place of a share of the x axis.
    pub fn x(&self, share: f64) -> f64 {
        self.left + share * (self.right - self.left)
    }

    /// The place of a share of the y axis.
    pub fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }
}
