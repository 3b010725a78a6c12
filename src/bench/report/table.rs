//! The report for a terminal: aligned columns, then notes, then where the numbers are from.
//!
//! What stands in it may come from a file that somebody else wrote: control characters, which a terminal would obey,
//! are shown as `?`.

use super::Report;
use super::grid::{Grid, grids, notes, provenance};

/// The whole report as text; it ends with a line break.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for grid in grids(report) {
        text.push_str(grid.title);
        text.push('\n');
        lay_out(&grid, &mut text);
        text.push('\n');
    }
    for note in notes(report) {
        text.push_str(&format!("note: {}\n", plain(&note)));
    }
    for (name, value) in provenance(report) {
        text.push_str(&format!("{name:<11}  {}\n", plain(&value)));
    }
    text
}

fn lay_out(grid: &Grid, text: &mut String) {
    let head: Vec<String> = grid.head.iter().map(|column| column.name.to_owned()).collect();
    let rows: Vec<Vec<String>> = grid
        .rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let all = || std::iter::once(&head).chain(&rows);
    let width = |at: usize| all().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in all() {
        let mut line = String::from("  ");
        for ((cell, &width), column) in row.iter().zip(&widths).zip(&grid.head) {
            line.push_str(&match column.number {
                true => format!("{cell:>width$}  "),
                false => format!("{cell:<width$}  "),
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
