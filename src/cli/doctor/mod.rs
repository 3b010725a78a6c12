//! `bypath doctor PORT...`: what of hardware, driver, kernel and permissions is in the way, and the command that mends it.
//!
//! ```text
//!   host.rs  capabilities, kernel, another instance, forwarding   \  facts from control::probe
//!   port.rs  kind, queues, MTU, offloads, XDP                     /  -> findings (pure, tested) -> lines
//! ```
//!
//! `fail` would stop `bypath run`, and makes the exit code 1; `note` costs speed or changes what is seen; `ok` is said so
//! that an operator knows it was looked at.

mod host;
mod port;

use super::args::Doctor;
use super::output::{Failure, Outcome};
use crate::control::Error;
use crate::control::probe::{self, ethtool::Ethtool};
use std::io::Write;
use std::process::ExitCode;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Note,
    Fail,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    what: String,
    fix: Option<String>,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what: what.into(),
            fix: None,
        }
    }

    fn note(what: impl Into<String>) -> Self {
        Self {
            level: Level::Note,
            ..Self::ok(what)
        }
    }

    fn fail(what: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::ok(what)
        }
    }

    /// The command, or what else to do about it.
    fn fix(self, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..self
        }
    }
}

/// Looks at the host and at each port, and prints what it finds.
pub fn doctor(args: &Doctor) -> Outcome {
    let mut out = std::io::stdout().lock();
    let facts = host::facts();
    let mut fails = print(&mut out, "host", &host::findings(&facts))?;
    for name in &args.ports {
        fails += print(&mut out, name, &examine(name, facts.instance))?;
    }
    out.flush()?;
    match fails {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Failure::Error(
            "1 check failed on this machine: mend what stands behind `fail` above".into(),
        )),
        n => Err(Failure::Error(format!(
            "{n} checks failed on this machine: mend what stands behind `fail` above"
        ))),
    }
}

fn examine(name: &str, instance: bool) -> Vec<Finding> {
    let link = match probe::link(name) {
        Ok(link) => link,
        Err(Error::PortMissing { .. }) => {
            return vec![Finding::fail("there is no such interface in this network namespace").fix("ip -br link")];
        }
        Err(error) => return vec![Finding::fail(error.to_string())],
    };
    let ethtool = Ethtool::new(&link.name).ok();
    let facts = port::Facts {
        driver: ethtool.as_ref().and_then(|ethtool| ethtool.driver().ok()),
        channels: ethtool.as_ref().and_then(|ethtool| ethtool.channels().ok()),
        features: ethtool.and_then(|ethtool| ethtool.features().ok()).unwrap_or_default(),
        xdp: probe::xdp_features(link.index),
        instance,
        link,
    };
    port::findings(&facts)
}

/// Prints findings about one subject; how many of them fail.
fn print(out: &mut impl Write, subject: &str, findings: &[Finding]) -> std::io::Result<usize> {
    for Finding { level, what, fix } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Fail => "fail",
        };
        let fix = fix.as_ref().map(|fix| format!(": {fix}")).unwrap_or_default();
        writeln!(out, "{level:<5} {subject:<8} {what}{fix}")?;
    }
    Ok(findings.iter().filter(|finding| finding.level == Level::Fail).count())
}
