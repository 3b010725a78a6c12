//! `bypath bench --lab`: subjects compared in namespaces that are made here.

use super::super::args::bench::Bench;
use super::super::output::{Failure, Outcome};

/// Compares subjects.
pub fn lab(_args: Bench) -> Outcome {
    Err(Failure::Error(
        "--lab is not part of this build: name two ports with --port".into(),
    ))
}
