//! `bypath doctor PORT...`: what of hardware, driver, kernel and permissions is in the way, and the command that mends it.
//!
//! ```text
//!   host.rs  capabilities, kernel, tun, an instance, forwarding   \  facts from control and port::link
//!   port.rs  kind, queues, MTU, offloads, XDP                     /  -> findings (pure, tested) -> lines
//! ```
//!
//! `fail` would stop `bypath run`, and makes the exit code 1; `note` costs speed or changes what is seen; `ok` is said so
//! that an operator knows it was looked at.

mod host;
mod port;

use super::args::Doctor;
use super::output::{Failure, Outcome};
use crate::control::config::is_bridge;
use crate::port::link::{self, Link, LinkError, XdpFeatures};
use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Note,
    Fail,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// What holds for all ports of a question.
#[derive(Clone, Copy, Debug)]
struct About {
    /// An instance runs.
    instance: bool,
    /// Some port has zero-copy.
    zero_copy: bool,
}

/// Looks at the host and at each port, and prints what it finds.
pub fn doctor(args: &Doctor) -> Outcome {
    let mut ports: Vec<String> = Vec::new();
    for name in &args.ports {
        ports.push(name.clone());
        ports.extend(ports_of(name).into_iter().filter(|port| !args.ports.contains(port)));
    }
    let facts = host::facts();
    let has_zero_copy =
        |port: &String| Link::query(port).is_ok_and(|link| link.xdp.is_some_and(XdpFeatures::zero_copy));
    let about = About {
        instance: facts.instance.is_some(),
        zero_copy: ports.iter().any(has_zero_copy),
    };
    let mut found = vec![("host", host::findings(&facts))];
    found.extend(ports.iter().map(|port| (port.as_str(), examine(port, about))));
    let mut out = std::io::stdout().lock();
    let rows = found
        .iter()
        .flat_map(|(subject, findings)| findings.iter().map(|finding| Row { subject, finding }));
    if args.json {
        serde_json::to_writer(&mut out, &rows.collect::<Vec<_>>())?;
        writeln!(out)?;
    } else {
        for row in rows {
            row.print(&mut out)?;
        }
    }
    out.flush()?;
    let fails = |finding: &&Finding| finding.level == Level::Fail;
    match found.iter().flat_map(|(_, findings)| findings).filter(fails).count() {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Failure::Error(
            "1 check failed on this machine: mend what stands behind `fail` above".into(),
        )),
        n => Err(Failure::Error(format!(
            "{n} checks failed on this machine: mend what stands behind `fail` above"
        ))),
    }
}

fn examine(name: &str, about: About) -> Vec<Finding> {
    let link = match Link::query(name) {
        Ok(link) => link,
        Err(LinkError::Missing { .. }) => {
            return vec![Finding::fail("there is no such interface in this network namespace").fix("ip -br link")];
        }
        Err(error) => return vec![Finding::fail(error.to_string())],
    };
    if is_bridge(name) {
        return vec![Finding::ok(match ports_of(name).len() {
            0 => "a bridge without ports; each that it gets is taken up".to_owned(),
            1 => "a bridge with one port, which follows".to_owned(),
            n => format!("a bridge with {n} ports, which follow"),
        })];
    }
    let peer = link.below.as_deref().filter(|_| link.kind == "veth");
    let facts = port::Facts {
        features: link.features().unwrap_or_default(),
        peer: peer
            .and_then(|peer| Link::query(peer).ok())
            .and_then(|peer| Some((peer.features().ok()?, peer.name)))
            .map(|(features, name)| port::Peer { name, features }),
        instance: about.instance,
        zero_copy: about.zero_copy,
        bridged: link.master.as_deref().is_some_and(is_bridge),
        link,
    };
    port::findings(&facts)
}

/// The ports that the name of a bridge stands for; none for another link.
fn ports_of(name: &str) -> Vec<String> {
    match link::ifindex(name) {
        Some(ifindex) if is_bridge(name) => link::members(ifindex).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// A finding with what it is about: the fields are those of `--json`.
#[derive(Serialize)]
struct Row<'a> {
    subject: &'a str,
    #[serde(flatten)]
    finding: &'a Finding,
}

impl Row<'_> {
    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Finding { level, what, fix } = self.finding;
        let level = match level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Fail => "fail",
        };
        let fix = fix.as_ref().map(|fix| format!(": {fix}")).unwrap_or_default();
        writeln!(out, "{level:<5} {:<8} {what}{fix}", self.subject)
    }
}
