//! The report as Markdown, for a README: the same tables as on the terminal, and where the numbers are from as a list.
//!
//! Words of the report (names of subjects, command lines) are not Markdown: what a renderer would take for a mark is
//! escaped, and a line break, which would end a row, is a blank.

use super::Report;
use super::grid::{grids, notes, provenance};

/// The whole report; it ends with a line break.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for grid in grids(report) {
        text.push_str(&format!("### {}\n\n", grid.title));
        let head: Vec<String> = grid.head.iter().map(|column| escaped(column.name)).collect();
        let line = grid
            .head
            .iter()
            .map(|column| if column.number { "---:" } else { "---" });
        text.push_str(&row(&head));
        text.push_str(&row(&line.map(str::to_owned).collect::<Vec<_>>()));
        for cells in &grid.rows {
            text.push_str(&row(&cells.iter().map(|cell| escaped(cell)).collect::<Vec<_>>()));
        }
        text.push('\n');
    }
    let notes = notes(report);
    for note in &notes {
        text.push_str(&format!("- {}\n", escaped(note)));
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    for (name, value) in provenance(report) {
        let value = match name {
            "command" => code(&value),
            _ => escaped(&value),
        };
        text.push_str(&format!("- {name}: {value}\n"));
    }
    text
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// Text in which nothing is a mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '|' | '[' | ']' | '#' | '~' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Text as code, in as many backticks as end it nowhere inside.
fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let ticks = "`".repeat(longest + 1);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let pad = if longest > 0 { " " } else { "" };
    format!("{ticks}{pad}{text}{pad}{ticks}")
}
