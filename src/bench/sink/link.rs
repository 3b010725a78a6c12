//! The sink that leaves counting to the link: what arrives is in its receive counter, and a rule at ingress drops it
//! there, the earliest place that needs no XDP program. For the lab, whose link bears nothing but frames of the trial.
//!
//! A veth copies each skb that has no room for an XDP program, before the program sees it: frames of AF_XDP senders,
//! but not those of the kernel's forwarding. Where what forwards is compared, the receiver should cost all the same;
//! this one does.

use super::{Found, Sink};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The calling thread's network namespace's counters.
const COUNTERS: &str = "/proc/thread-self/net/dev";

/// A port whose counter is read.
#[derive(Debug)]
pub(super) struct Counter {
    name: String,
    before: u64,
}

impl Counter {
    pub(super) fn open(name: &str) -> Result<Self, String> {
        drop_all(name)?;
        let mut counter = Self {
            name: name.to_owned(),
            before: 0,
        };
        counter.before = counter.read()?;
        Ok(counter)
    }

    fn read(&self) -> Result<u64, String> {
        let text = std::fs::read_to_string(COUNTERS).map_err(|error| format!("{COUNTERS}: {error}: mount /proc"))?;
        packets(&text, &self.name).ok_or_else(|| format!("{} is not in {COUNTERS}: it is gone", self.name))
    }
}

impl Sink for Counter {
    fn begin(&mut self, _run: u16, _flows: u32) -> Result<(), String> {
        self.before = self.read()?;
        Ok(())
    }

    fn turn(&mut self) -> usize {
        0
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(5)
    }

    fn arrived(&mut self) -> Result<u64, String> {
        Ok(self.read()?.saturating_sub(self.before))
    }

    fn end(&mut self) -> Result<Found, String> {
        Ok(Found {
            arrived: self.arrived()?,
            ..Found::default()
        })
    }
}

/// Drops what comes in by the link, in the calling thread's namespace. The link gets GRO, so that it runs NAPI:
/// without, a veth takes nothing that XDP redirects to it.
fn drop_all(name: &str) -> Result<(), String> {
    run("ethtool", &["-K", name, "gro", "on"], "")?;
    let chain = format!("type filter hook ingress device \"{name}\" priority filter; policy drop;");
    let rules = format!("table netdev bypath-bench {{ chain in {{ {chain} }}; }}\n");
    run("nft", &["-f", "-"], &rules)
}

fn run(program: &str, words: &[&str], input: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error: std::io::Error| format!("{program}: {error}: install it, or use --sink count");
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Its exit code says whether it read it.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or_default();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {}: {first}: use --sink count", words.join(" "))),
    }
}

/// Packets received by a link.
fn packets(text: &str, name: &str) -> Option<u64> {
    let counters = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    counters.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_the_links_own() {
        let text = "Inter-|  Receive\n face |bytes packets errs\n    lo: 10 1 0\n  s01: 20 2 0\n   s0:1234 567 0 0\n";
        assert_eq!(packets(text, "s0"), Some(567));
        assert_eq!(packets(text, "lo"), Some(1));
        assert_eq!(packets(text, "s"), None);
        let own = std::fs::read_to_string(COUNTERS).unwrap();
        assert!(packets(&own, "lo").is_some());
    }
}
