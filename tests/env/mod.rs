//! Numbers that the environment gives to tests: seeds, and how much is tried. CONTRIBUTING.md has those for all.

/// The number that `variable` holds, or `default` where it is not set. One that is no number fails the test: a seed that was
/// mistyped would else replay another run.
pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}
