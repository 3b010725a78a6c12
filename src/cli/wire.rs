//! `bypath wire A B`: `run` with two ports that are joined instead of routed.

use super::args::Wire;
use super::output::Outcome;
use super::run;

/// Runs a wire in the foreground.
pub fn wire(args: Wire) -> Outcome {
    run::start(args.options.config(vec![args.a, args.b], true))
}
