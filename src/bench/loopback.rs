//! What the measurement itself costs and gets wrong: the same work by a path on which nothing happens, made for it in a network
//! namespace of its own.
//!
//! ```text
//!   veth    sender ── bypath-x ====== veth ====== bypath-y ── receiver
//!   wire    sender ── bypath-x ====== bypath-a  [bypath wire]  bypath-b ====== bypath-y ── receiver
//! ```
//!
//! A loss on the first is one of the sender, the pair or the receiver, and a delay there is part of every delay that is measured
//! elsewhere with the same ends. The second adds the least that a forwarder on AF_XDP does. The namespace is gone with the
//! last thread in it, and `wire` with its stdin, however this process ends.

use super::ends::Ends;
use super::outcome::{Trial, made_to_count};
use super::place::Place;
use super::report::OwnError;
use super::work::Work;
use crate::port::netns::Netns;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const X: &str = "bypath-x";
const Y: &str = "bypath-y";
const A: &str = "bypath-a";
const B: &str = "bypath-b";
/// Longer says no more.
const SECONDS_MAX: f64 = 1.0;
/// A wire that is not ready by then is none.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// What is between both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// One veth pair.
    Veth,
    /// `bypath wire` between two.
    Wire,
}

/// Measures `work` on a veth pair, by ends that are opened as those of the trials are.
///
/// # Errors
/// One line for the operator; nothing that was measured elsewhere is wrong for it.
pub fn own_error(ends: Ends, work: &Work) -> Result<OwnError, String> {
    own_error_through(Through::Veth, ends, work)
}

/// The same through one or the other.
///
/// # Errors
/// As [`own_error`].
pub fn own_error_through(through: Through, ends: Ends, work: &Work) -> Result<OwnError, String> {
    let netns = Netns::new().map_err(failed)?;
    let pairs = match through {
        Through::Veth => vec![(X, Y)],
        Through::Wire => vec![(X, A), (B, Y)],
    };
    netns.run(move || make_pairs(&pairs)).map_err(failed)??;
    let place = |name| Ok::<_, String>(Place::new(netns.share().map_err(failed)?, name));
    let (from, to) = (place(X)?, place(Y)?);
    let work = Work {
        src_mac: None,
        dst_mac: to.link()?.mac,
        ..work.clone()
    };
    let _wire = match through {
        Through::Veth => None,
        Through::Wire => Some(Wire::start(&netns)?),
    };
    let mut pair = ends.open(&from, &to, work.clone())?;
    let seconds = work.duration.as_secs_f64().min(SECONDS_MAX);
    let outcome = made_to_count(|| pair.send(work.size, work.rate, seconds))?;
    let path = match through {
        Through::Veth => "veth",
        Through::Wire => "wire",
    };
    Ok(OwnError {
        path: format!("{path}, {}", work.size),
        outcome,
    })
}

fn failed(error: io::Error) -> String {
    format!("making a network namespace for the own error: {error}; run as root, or use --no-own-error")
}

/// Makes pairs in the calling thread's namespace.
fn make_pairs(pairs: &[(&str, &str)]) -> Result<(), String> {
    // Without IPv6 nobody speaks there but the sender.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let mut lines = vec!["link set lo up".to_owned()];
    for (one, other) in pairs {
        lines.push(format!("link add {one} type veth peer name {other}"));
        lines.extend([one, other].map(|name| format!("link set {name} up")));
    }
    for line in lines {
        let output = Command::new("ip").args(line.split(' ')).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("ip: {error}: install iproute2, or use --no-own-error"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`ip {line}`: {}: use --no-own-error", said.trim()));
        }
    }
    Ok(())
}

/// `bypath wire` between A and B, until this is dropped or this process is no more: then its stdin ends.
struct Wire(Child);

impl Wire {
    fn start(netns: &Netns) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("where bypath is: {error}"))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", r#""$0" wire "$1" "$2" 2>&1 & read -r _; kill $!; wait"#])
            .arg(program)
            .args([A, B])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let child = netns.run(|| command.spawn()).and_then(|spawned| spawned);
        let mut wire = Wire(child.map_err(|error| format!("starting bypath wire: {error}: use --no-own-error"))?);
        wire.wait_ready()?;
        Ok(wire)
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let Some(stdout) = self.0.stdout.take() else {
            return Ok(());
        };
        let (to, lines) = channel();
        // It reads on, so that nothing that is written waits; it ends with the wire.
        thread::spawn(move || {
            let mut said = BufReader::new(stdout).lines().map_while(Result::ok);
            said.all(|line| {
                let _ = to.send(line);
                true
            })
        });
        loop {
            match lines.recv_timeout(READY_WITHIN) {
                Ok(line) if line == "bypath: ready" => return Ok(()),
                Ok(line) if line.starts_with("bypath: error: ") => return Err(format!("bypath wire: {line}")),
                Ok(_) => {}
                Err(_) => return Err("bypath wire does not get ready: use --no-own-error".into()),
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.stdin = None;
        let _ = self.0.wait();
    }
}
