//! The command line: what an operator types and reads. Layer 6, the top.
//!
//! ```text
//!  args.rs  raw flags (clap) -> run.rs wire.rs               -> one validated control::RunConfig -> control::run
//!                            -> show/ trace.rs conntrack.rs  -> the control socket of the running instance
//!                            -> check.rs doctor/             -> the kernel, without an instance
//!                            -> bench/                       -> the bench library, and the report in its forms
//! ```
//!
//! A contract that scripts rely on: exit code 0; 1 with one line `bypath: error: what, where, and what to do` on stderr; 2
//! for a usage error, in one line too; 3 from `check` when something stays in the kernel. A reader that closes the pipe
//! (`| head`) ends the command quietly.

mod args;
mod bench;
mod check;
mod conntrack;
mod doctor;
mod output;
mod run;
mod show;
mod trace;
mod wire;

use args::{Args, Command};
use clap::Parser;
use clap::error::ErrorKind;
use output::{Failure, Outcome};
use std::io::Write;
use std::process::ExitCode;

/// Exit code of an operator's or the machine's error.
const FAILED: u8 = 1;
/// Exit code of a command line that is not understood.
const USAGE: u8 = 2;
/// Exit code of `check` when something stays in the kernel.
const STAYS: u8 = 3;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if crate::bench::lab::called_inside() {
        return crate::bench::lab::inside();
    }
    let result = match Args::try_parse() {
        Ok(args) => command(args.command),
        Err(error) => unparsed(&error),
    };
    match result {
        Ok(code) => code,
        Err(Failure::PipeClosed) => ExitCode::SUCCESS,
        Err(Failure::Error(message)) => fail(FAILED, &message),
        Err(Failure::Usage(message)) => fail(USAGE, &message),
    }
}

fn command(command: Command) -> Outcome {
    match command {
        Command::Run(args) => run::run(args),
        Command::Wire(args) => wire::wire(args),
        Command::Show(args) => show::show(&args),
        Command::Trace(args) => trace::trace(args),
        Command::Conntrack(args) => conntrack::conntrack(&args),
        Command::Check(args) => check::check(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Bench(args) => bench::bench(*args),
    }
}

/// Says what is wrong, in one line. If stderr is gone too, the exit code has to do.
fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "bypath: error: {}", message.replace('\n', " "));
    ExitCode::from(code)
}

/// Help and version as clap has them; a usage error in one line.
fn unparsed(error: &clap::Error) -> Outcome {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            error.print()?;
            std::io::stdout().flush()?;
            Ok(ExitCode::SUCCESS)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.print()?;
            Ok(ExitCode::from(USAGE))
        }
        _ => {
            let command = std::env::args().nth(1);
            Err(Failure::Usage(one_line(&error.to_string(), command.as_deref())))
        }
    }
}

/// Clap's text up to the usage, without its line breaks, and where to read more.
fn one_line(text: &str, command: Option<&str>) -> String {
    let what = text
        .split("\n\nUsage:")
        .next()
        .unwrap_or(text)
        .split("\n\nFor more information")
        .next()
        .unwrap_or(text);
    let words: Vec<&str> = what.trim_start_matches("error: ").split_whitespace().collect();
    let command = command
        .filter(|name| args::is_command(name))
        .map(|name| format!("{name} "))
        .unwrap_or_default();
    format!("{}: see `bypath {command}--help`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str]) -> String {
        let error = Args::try_parse_from(args).err().map(|error| error.to_string()).unwrap();
        one_line(&error, args.get(1).copied())
    }

    #[test]
    fn usage_errors_are_one_line_with_a_way_out() {
        let unknown = line(&["bypath", "run", "d0", "--frobnicate"]);
        assert!(
            unknown.starts_with("unexpected argument '--frobnicate' found"),
            "{unknown}"
        );
        assert!(
            unknown.ends_with(": see `bypath run --help`") && !unknown.contains('\n'),
            "{unknown}"
        );
        let missing = line(&["bypath", "wire", "d0"]);
        assert!(
            missing.contains("required") && missing.contains("<B>") && !missing.contains('\n'),
            "{missing}"
        );
        let value = line(&["bypath", "run", "d0", "--mode", "fast"]);
        assert!(value.contains("[possible values: auto, zerocopy, copy]"), "{value}");
        assert!(line(&["bypath", "fly"]).ends_with(": see `bypath --help`"));
    }
}
