//! The report's forms as files: which text goes where, and the one line for an operator when it does not get there.
//!
//! What was measured for an hour must not be lost to a full disk at its end: write each form by itself, and go on with
//! the others when one fails.

use super::{Report, csv, hgrm, html, json, markdown, table};
use std::fs;
use std::path::{Path, PathBuf};

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For a terminal.
    Table,
    /// Everything, for programs.
    Json,
    /// One table, for a spreadsheet.
    Csv,
    /// For a README.
    Markdown,
    /// One page with charts.
    Html,
    /// Percentiles of delays, one file for each distribution.
    Hgrm,
    /// HdrHistogram's interval log of all delays.
    Hlog,
}

/// What is to be written for a form at `path`. That of percentiles is a file for each distribution, whose name is put
/// before the extension where there are several.
pub fn files(report: &Report, form: Form, path: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let text = match form {
        Form::Table => table::text(report),
        Form::Json => json::text(report)?,
        Form::Csv => csv::text(report)?,
        Form::Markdown => markdown::text(report),
        Form::Html => html::text(report),
        Form::Hlog => hgrm::log(report)?,
        Form::Hgrm => return distributions(report, path),
    };
    Ok(vec![(path.to_owned(), text)])
}

fn distributions(report: &Report, path: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let all = hgrm::delays(report);
    if all.is_empty() {
        return Err(format!(
            "no delays were taken, {} would be empty: use the xsk sink",
            path.display()
        ));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path
        .extension()
        .map_or("hgrm".into(), |extension| extension.to_string_lossy());
    let named = |name: &str| match all.len() {
        1 => path.to_owned(),
        _ => path.with_file_name(format!("{stem}-{name}.{extension}")),
    };
    all.iter()
        .map(|delays| Ok((named(&delays.name), hgrm::text(delays.latency)?)))
        .collect()
}

/// Writes a file.
pub fn save(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| {
        format!(
            "cannot write the report to {}, {error}: make room there or name another file",
            path.display()
        )
    })
}
