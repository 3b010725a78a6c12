//! The twin over bridges: a fence that is flooded, both forwarding databases compared, and stretches that are not judged.
//!
//! A fence is a frame to an address that nobody has, sent behind each window on the same port: the worker punts it and the
//! kernel floods it, so when it has come out of the tested lab, whatever was before it has been handled, and learned. Each
//! goes to another address, so that none is ever left to the kernel as punted again and again. Where it comes out nowhere (a
//! port that floods nothing, is blocked, or is no port of a bridge), a pause stands for it.
//!
//! The databases are the kernel's, in both labs: bypath learns nothing by itself and keeps entries alive by telling the
//! kernel, so address, port, VLAN, state and flags must be equal; only the times are free.

use super::packet::Mac;
use super::router::Lab;
use super::sys;
use super::twin::{Side, Twin};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A fence that has not come out of the kernel's lab by then does not come.
const FLOODED_WITHIN: Duration = Duration::from_millis(10);
/// What the kernel is told of a database follows a little later.
const FDB_WITHIN: Duration = Duration::from_secs(5);
/// Until the links of both labs are equal, and a carrier that is there in neither is not waited for any more.
const LINKS_WITHIN: Duration = Duration::from_secs(3);
const CARRIER_WITHIN: Duration = Duration::from_millis(400);
/// Entries shown.
const SHOWN_MAX: usize = 12;

/// The address from which fences are sent at `port`.
pub fn fence_mac(port: usize) -> Mac {
    [0x02, 0, 0, 2, 0, port as u8]
}

/// An address that nobody has, one for each `number`.
pub fn unknown_mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    [0x02, 0, 0, 3, high, low]
}

/// A frame of an EtherType that no stack knows (IEEE's for experiments), with `length` bytes of payload.
pub fn plain_frame(dst: Mac, src: Mac, length: usize) -> Vec<u8> {
    let mut frame = [&dst[..], &src, &[0x88, 0xb5]].concat();
    frame.extend((0..length).map(|at| at as u8));
    frame
}

impl Twin {
    /// Behind what was injected at `port`; see the file's head.
    pub(super) fn flood_fence(&mut self, port: usize) -> bool {
        self.fences += 1;
        let number = self.fences as u16;
        let frame = [plain_frame(unknown_mac(number), fence_mac(port), 46)];
        let before = self.kernel.sent();
        self.kernel.lab.wires[port].inject(&frame);
        self.tested.lab.wires[port].inject(&frame);
        let until = Instant::now() + FLOODED_WITHIN;
        let rules = self.rules.clone();
        loop {
            self.kernel.drain(&rules);
            let sent = self.kernel.sent() - before;
            if sent > 0 {
                self.wait_for_tested();
                self.kernel.fences += sent;
                self.tested.fences += sent;
                return true;
            }
            let now = Instant::now();
            if now >= until {
                return true;
            }
            let fds: Vec<_> = self.kernel.lab.wires.iter().map(|wire| wire.fd()).collect();
            sys::wait_readable(&fds, until - now);
        }
    }

    /// Panics unless the forwarding databases of both routers are equal now, or very soon; how many entries were learned.
    pub fn compare_fdbs(&mut self, when: &str) -> usize {
        self.compare_entries(when, |entry| entry)
    }

    /// The same, but whatever VLANs a station is known in behind its port.
    pub fn compare_stations(&mut self, when: &str) -> usize {
        self.compare_entries(when, |entry| Entry { vlan: 0, ..entry })
    }

    fn compare_entries(&mut self, when: &str, as_judged: fn(Entry) -> Entry) -> usize {
        let until = Instant::now() + FDB_WITHIN;
        loop {
            let [kernel, tested] = [&self.kernel.lab, &self.tested.lab]
                .map(|lab| fdb(lab).into_iter().map(as_judged).collect::<BTreeSet<_>>());
            if kernel == tested {
                return kernel.iter().filter(|entry| entry.state.is_empty()).count();
            }
            if Instant::now() >= until {
                self.fail_if_different();
                let list = |one: &BTreeSet<Entry>, other: &BTreeSet<Entry>| -> String {
                    let only = one.difference(other).take(SHOWN_MAX);
                    only.map(|entry| format!("    {entry:?}\n")).collect()
                };
                let replay = self.setup.seed.map(|seed| format!("replay: BYPATH_TWIN_SEED={seed}\n"));
                panic!(
                    "twin {}: {when}: forwarding databases differ:\n{}  only the kernel:\n{}  only with bypath:\n{}\
                     bypath: {:?}\nconfiguration:\n  {}\nchanges:\n  {}",
                    self.setup.name,
                    replay.unwrap_or_default(),
                    list(&kernel, &tested),
                    list(&tested, &kernel),
                    self.bypath().map(|bypath| bypath.totals()),
                    self.setup.config.join("\n  "),
                    self.changes.join("\n  "),
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Injects frames at the far end of `port` of both labs, without waiting for anything: for what is not judged.
    pub fn inject_loosely(&mut self, port: usize, frames: &[Vec<u8>]) {
        self.kernel.lab.wires[port].inject(frames);
        self.tested.lab.wires[port].inject(frames);
        self.injected += frames.len() as u64;
    }

    /// The same in the tested lab alone.
    pub fn inject_tested_loosely(&mut self, port: usize, frames: &[Vec<u8>]) {
        self.tested.lab.wires[port].inject(frames);
        self.injected += frames.len() as u64;
    }

    /// Takes the far end of `port` down, or up again, in both labs, and gives that time to be seen.
    pub fn switch_far_end(&mut self, port: usize, up: bool) {
        self.settle();
        let command = format!("ip link set w{port} {}", if up { "up" } else { "down" });
        for side in [&self.kernel, &self.tested] {
            side.lab.wires[port].namespace.run(&command);
        }
        self.changes.push(command);
        self.wait_in_force();
    }

    /// Waits until the ports of bridges have the same states in both labs, and links that are up a carrier: the kernel tells of a
    /// carrier from a work queue, which waits for whoever configures anything on this machine.
    pub fn settle_links(&self) {
        let since = Instant::now();
        let show = |side: &Side| side.lab.router.run("bridge link show");
        loop {
            let (kernel, tested) = (show(&self.kernel), show(&self.tested));
            let within = match kernel == tested {
                true if !kernel.contains("NO-CARRIER") => return,
                true => CARRIER_WITHIN,
                false => LINKS_WITHIN,
            };
            if since.elapsed() >= within {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Panics if what has come out so far differs: before a stretch that is not judged.
    pub fn fail_if_different_so_far(&mut self) {
        self.fail_if_different();
    }

    /// Settles, stops bypath and compares, whatever bypath dropped before: for a scenario that has more than there is room for.
    pub fn finish_loosely(mut self) {
        self.settle();
        self.fail_if_different();
        if let Some(bypath) = self.bypath.take() {
            let totals = bypath.totals_at_rest();
            totals.assert_balanced();
            println!("twin {}: {} packets, {totals:?}", self.setup.name, self.injected);
            bypath.stop();
        }
        self.fail_if_different();
    }

    /// Runs commands in both routers at once, between frames, without waiting for anything.
    pub fn change_at_once(&mut self, commands: &[&str]) {
        let commands: Vec<String> = commands.iter().map(|command| command.to_string()).collect();
        self.kernel.lab.router.apply(&commands);
        self.tested.lab.router.apply(&commands);
        self.changes.extend(commands);
    }

    /// What has come out so far is not compared: it was sent while something changed, or went round in a loop. Waits until
    /// both labs are quiet.
    pub fn forget(&mut self) {
        let rules = self.rules.clone();
        let mut quiet_since = Instant::now();
        let until = quiet_since + Duration::from_secs(3);
        while quiet_since.elapsed() < Duration::from_millis(100) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
            for side in [&mut self.kernel, &mut self.tested] {
                side.drain(&rules);
                let came: usize = side.lab.wires.iter().map(|wire| wire.captured.len()).sum();
                if came > 0 {
                    quiet_since = Instant::now();
                }
                side.forget();
            }
        }
        self.renamed.fill(0);
    }
}

/// An entry without its times.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    mac: String,
    port: String,
    vlan: u64,
    state: String,
    flags: BTreeSet<String>,
}

/// All entries of all bridges.
fn fdb(lab: &Lab) -> BTreeSet<Entry> {
    let text = lab.router.run("bridge -j fdb show");
    let all: Vec<Value> =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("bridge -j fdb show: {error}: {text}"));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // Those of links themselves (`self`) are the addresses that a card lets in.
    let of_bridges = all.iter().filter(|entry| entry["master"].is_string());
    let entries = of_bridges.map(|entry| Entry {
        mac: word(&entry["mac"]),
        port: word(&entry["ifname"]),
        vlan: entry["vlan"].as_u64().unwrap_or_default(),
        state: word(&entry["state"]),
        flags: entry["flags"].as_array().into_iter().flatten().map(word).collect(),
    });
    entries.collect()
}
