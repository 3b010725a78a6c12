//! The report as one HTML page that needs nothing else: no font, no script and no picture from elsewhere. All of it is
//! made of a [`Report`], and a page made anew of a kept JSON is the same to the byte.
//!
//! ```text
//!   Report ──> model (subjects, groups of trials) ──> sections, rfc, delays (which charts) ──> bars, lines ──> frame, axis
//!                         └──> ratios, tables (numbers) ──> units                                    └──> svg
//!   page.rs puts it together with style.css and hover.js
//! ```
//!
//! What it promises a reader: every chart of lengths begins at 0; charts side by side have one axis; each number says
//! of how many rounds it is and how wide its 95 % interval is; what was not measured is a dash and not left out; what
//! the measurement itself costs stands beside. It is read without a script (that only makes hovering nicer), in light
//! and dark, on a phone, on paper, and by those who do not see colours. A report's texts are data: all of them are
//! escaped.

mod axis;
mod bars;
mod delays;
mod frame;
mod lines;
mod model;
mod page;
mod percentiles;
mod ratios;
mod rfc;
mod sections;
mod svg;
mod tables;
mod units;

use super::Report;
use std::io::{self, Write};

/// Writes the page.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    out.write_all(text(report).as_bytes())
}

/// The page.
pub fn text(report: &Report) -> String {
    page::page(&model::Model::new(report))
}
