//! `bypath bench rfc2544`: the tests of RFC 2544, by ports or in the lab.

use super::super::args::bench::Rfc2544;
use super::super::output::{Failure, Outcome};

/// Runs the tests.
pub fn rfc2544(_args: Rfc2544) -> Outcome {
    Err(Failure::Error(
        "rfc2544 is not part of this build: use `bypath bench` with --rate".into(),
    ))
}
