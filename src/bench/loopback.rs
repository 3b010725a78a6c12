//! What the measurement itself costs and gets wrong: the same work by a path on which nothing happens, a veth pair that is made
//! for it in a network namespace of its own.
//!
//! ```text
//!   sender ── bypath-x ====== veth ====== bypath-y ── receiver
//! ```
//!
//! A loss here is a loss of the sender, the pair or the receiver, and a delay here is part of every delay that is measured
//! elsewhere with the same ends. The namespace is gone with the last thread in it.

use super::ends::Ends;
use super::outcome::Trial;
use super::place::Place;
use super::report::OwnError;
use super::work::Work;
use crate::port::netns::Netns;
use std::process::{Command, Stdio};

const X: &str = "bypath-x";
const Y: &str = "bypath-y";
/// Longer says no more.
const SECONDS_MAX: f64 = 1.0;

/// Measures `work` on a veth pair, by ends that are opened as those of the trials are.
///
/// # Errors
/// One line for the operator; nothing that was measured elsewhere is wrong for it.
pub fn own_error(ends: Ends, work: &Work) -> Result<OwnError, String> {
    let failed = |error: std::io::Error| {
        format!("making a network namespace for the own error: {error}; run as root, or use --no-own-error")
    };
    let netns = Netns::new().map_err(failed)?;
    netns.run(make_pair).map_err(failed)??;
    let place = |name| Ok::<_, String>(Place::new(netns.share().map_err(failed)?, name));
    let (from, to) = (place(X)?, place(Y)?);
    let dst_mac = to.link()?.mac;
    let seconds = work.duration.as_secs_f64().min(SECONDS_MAX);
    let work = Work {
        src_mac: None,
        dst_mac,
        ..work.clone()
    };
    let mut pair = ends.open(&from, &to, work.clone())?;
    let outcome = pair.send(work.size, work.rate, seconds)?;
    Ok(OwnError {
        path: format!("veth, {}", work.size),
        outcome,
    })
}

/// Makes the pair in the calling thread's namespace.
fn make_pair() -> Result<(), String> {
    // Without IPv6 nobody speaks there but the sender.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    for line in [
        format!("link add {X} type veth peer name {Y}"),
        format!("link set {X} up"),
        format!("link set {Y} up"),
    ] {
        let output = Command::new("ip").args(line.split(' ')).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("ip: {error}: install iproute2, or use --no-own-error"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`ip {line}`: {}: use --no-own-error", said.trim()));
        }
    }
    Ok(())
}
