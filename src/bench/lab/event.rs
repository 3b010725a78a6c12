//! What the process inside tells the one outside: a JSON object per line of its stdout, in the order of what happens.

use crate::bench::report::{Entry, OwnError, Rfc2544};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// What is done now, for a person; and a sign of life.
    Doing(String),
    /// A subject's command line.
    Command(String),
    /// A subject's name, and the version that it told.
    Version(String, String),
    /// A measurement of the bench itself.
    OwnError(Box<OwnError>),
    /// A trial.
    Entry(Box<Entry>),
    /// The tests of RFC 2544 on one subject.
    Rfc2544(Box<Rfc2544>),
    /// What a reader must know.
    Note(String),
    /// It ended early, and why: one line that names the remedy.
    Failed(String),
    /// It ended.
    Done,
}

impl Event {
    /// Writes it. When nobody reads any more the process has no reason to live.
    pub fn tell(&self) {
        let line = serde_json::to_string(self).unwrap_or_default();
        let mut stdout = std::io::stdout().lock();
        if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
            std::process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        for event in [
            Event::Doing("round 1".into()),
            Event::Failed("a \"line\"\nand another".into()),
            Event::Done,
        ] {
            let line = serde_json::to_string(&event).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }
}
