//! `bypath bench`: what the flags ask for, each in a file of its own.
//!
//! ```text
//!   send.rs      one work, one trial for each size        rfc2544.rs   the tests of RFC 2544
//!   lab.rs       namespaces of its own, subjects compared     work.rs  flags -> bench::work::Work
//!   ports.rs     flags -> bench::place, bench::ends         forms.rs   the report's files
//!   progress.rs  the line on stderr while a trial runs     report.rs the forms of a report that was kept
//! ```

mod forms;
mod lab;
mod ports;
mod progress;
mod report;
mod rfc2544;
mod send;
mod work;

use super::args::bench::{Bench, BenchCommand};
use super::output::Outcome;

/// Runs what was asked for.
pub fn bench(args: Bench) -> Outcome {
    match args.command {
        Some(BenchCommand::Rfc2544(args)) if args.lab.lab => lab::rfc2544(&args, rfc2544::plan(&args)),
        Some(BenchCommand::Rfc2544(args)) => rfc2544::rfc2544(*args),
        Some(BenchCommand::Report(args)) => report::report(&args),
        None if args.lab.lab => lab::lab(&args),
        None => send::send(args),
    }
}
