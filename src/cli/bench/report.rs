//! `bypath bench report FILE...`: the forms of a report that was kept as JSON, made anew, and of several one. Nothing is measured, so it needs no
//! rights and no ports; what it writes is what the run itself would have written.

use super::super::args::bench::ReportOf;
use super::super::output::{Failure, Outcome};
use super::forms::Files;
use super::send::written;
use crate::bench::report::join::joined;
use crate::bench::report::{Report, json};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// Reads the reports and writes what was asked for.
pub fn report(args: &ReportOf) -> Outcome {
    let reports: Result<Vec<_>, String> = args.files.iter().map(|path| read(path)).collect();
    let report = reports.and_then(joined).map_err(Failure::Error)?;
    written(Files::open(&args.forms)?, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<(String, Report), String> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {name}, {error}: name a file that --json wrote"))?;
    let report = json::read(&name, &text)?;
    Ok((name, report))
}
