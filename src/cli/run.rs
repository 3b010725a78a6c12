//! `bypath run PORT PORT...`: the flags become one validated config, and control takes over until a signal.

use super::FAILED;
use super::args::Run;
use super::output::Outcome;
use crate::control::log::{self, Stream};
use crate::control::{self, RunConfig, caps};
use std::process::ExitCode;

/// Runs an instance in the foreground.
pub fn run(args: Run) -> Outcome {
    start(args.options.config(args.ports, false))
}

/// Judges the config before the machine, so that a typing error is not hidden behind a missing capability.
pub fn start(config: RunConfig) -> Outcome {
    config.validate()?;
    caps::require()?;
    let Err(error) = control::run(config) else {
        return Ok(ExitCode::SUCCESS);
    };
    // Not as other commands do it: the end of an instance waits for no reader.
    let error = error.to_string().replace('\n', " ");
    log::line(Stream::Err, format_args!("bypath: error: {error}"));
    log::flush();
    Ok(ExitCode::from(FAILED))
}
