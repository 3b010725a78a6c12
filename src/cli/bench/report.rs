//! `bypath bench report FILE`: the forms of a report that was kept as JSON, made anew. Nothing is measured, so it needs no
//! rights and no ports; what it writes is what the run itself would have written.

use super::super::args::bench::ReportOf;
use super::super::output::{Failure, Outcome};
use super::forms::Files;
use super::send::written;
use crate::bench::report::json;
use std::fs;
use std::process::ExitCode;

/// Reads the report and writes what was asked for.
pub fn report(args: &ReportOf) -> Outcome {
    let name = args.file.display().to_string();
    let text = fs::read_to_string(&args.file)
        .map_err(|error| Failure::Error(format!("cannot read {name}, {error}: name a file that --json wrote")))?;
    let report = json::read(&name, &text).map_err(Failure::Error)?;
    written(Files::open(&args.forms)?, &report)?;
    Ok(ExitCode::SUCCESS)
}
