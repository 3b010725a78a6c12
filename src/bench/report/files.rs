//! The report's forms as files: which text goes where, and the one line for an operator when it does not get there.
//!
//! What was measured for an hour must not be lost to a full disk at its end: write each form by itself, and go on with
//! the others when one fails. Nor must what the run before has left there be lost to it.

use super::{Report, csv, hgrm, html, json, markdown, table};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, fchown};
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

/// Writes a file whole or not at all: beside it at first (`NAME.part`), then in its place, so that what the run before has left
/// there outlives a full disk. Mode and owner stay. What is no regular file is written into, and so is a file beside which or in
/// whose place none may be put: in a folder that may not be written, or mounted by itself.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    if !is_replaced(path) {
        return write_into(path, text);
    }
    // Not in the place of a symbolic link, but of the file that it leads to.
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let beside = place.with_file_name(name);
    let saved = write_beside(&beside, &place, text);
    if saved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    match saved {
        Err(error) if may_not(error.kind()) => write_into(path, text),
        saved => saved,
    }
}

/// Whether the file is replaced by a new one of its name: a regular one, or none yet. Not one that is reached as a descriptor of
/// this process: whoever gave it goes on with the file that he has open.
pub fn is_replaced(path: &Path) -> bool {
    let descriptors = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    !descriptors.iter().any(|of| path.starts_with(of)) && path.metadata().map_or(true, |is| is.is_file())
}

fn write_into(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn write_beside(beside: &Path, place: &Path, text: &str) -> io::Result<()> {
    // One that an earlier run left; and nobody's link is followed from here.
    let _ = fs::remove_file(beside);
    let mut file = File::options().write(true).create_new(true).open(beside)?;
    if let Ok(was) = place.metadata() {
        // The owner is given by root alone: others keep what is theirs.
        let _ = fchown(&file, Some(was.uid()), Some(was.gid()));
        file.set_permissions(was.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, place)
}

fn may_not(why: ErrorKind) -> bool {
    matches!(
        why,
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
    )
}
