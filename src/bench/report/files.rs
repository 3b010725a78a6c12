//! The report's forms as files: which text goes where, and the one line for an operator when it does not get there.
//!
//! What was measured for an hour must not be lost to a full disk at its end: write each form by itself, and go on with
//! the others when one fails. Nor must what the run before has left there be lost to it.

use super::{Report, csv, hgrm, html, json, markdown, table};
use std::ffi::OsString;
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

/// Writes a file whole or not at all: beside it at first (`.NAME.PID.part`), then in its place, so that what the run before has
/// left there outlives a full disk. Mode, owner and group stay. What is no regular file is written into. So is a file beside which none
/// of its owner, group and mode can be begun (in a folder that may not be written, of somebody else, with a name that has no room for
/// more), or in whose place none may be put (mounted by itself): that one does not outlive it.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    if !is_replaced(path) {
        return write_into(path, text);
    }
    // Not in the place of a symbolic link, but of the file that it leads to.
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let beside = beside(&place);
    let begun = match begin(&beside, &place) {
        Err(error) if is_full(error.kind()) => return Err(error),
        Err(_) => return write_into(path, text),
        Ok(file) => file,
    };
    let written = finish(begun, text).map(|()| fs::rename(&beside, &place));
    if !matches!(written, Ok(Ok(()))) {
        let _ = fs::remove_file(&beside);
    }
    match written? {
        Err(error) if may_not(error.kind()) => write_into(path, text),
        renamed => renamed,
    }
}

/// A name that no file of the user's has, and that no other process takes.
fn beside(place: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    place.with_file_name(name)
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

/// An empty file with the owner, the group and the mode of the one that it shall replace; nothing is left of one that cannot have them.
/// One of its name that is there already, or a link, is not ours.
fn begin(beside: &Path, place: &Path) -> io::Result<File> {
    let file = File::options().write(true).create_new(true).open(beside)?;
    let as_it_was = || match place.metadata() {
        Ok(was) => {
            fchown(&file, Some(was.uid()), Some(was.gid())).and_then(|()| file.set_permissions(was.permissions()))
        }
        Err(_) => Ok(()),
    };
    if let Err(error) = as_it_was() {
        let _ = fs::remove_file(beside);
        return Err(error);
    }
    Ok(file)
}

fn finish(mut file: File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whoever has no room for a new file has none for the text either.
fn is_full(why: ErrorKind) -> bool {
    matches!(why, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
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
