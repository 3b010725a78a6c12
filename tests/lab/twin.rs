//! The twin: two equal labs, the same frames into both, the captures compared.
//!
//! ```text
//!   start(setup)  build both, configure both, start bypath in one
//!   inject(..)    a window of frames into both; the next window when bypath's lab has sent as much as the kernel's
//!   change(..)    the same commands in both routers, then time for bypath to see them
//!   finish(share) settle, stop bypath, compare, check the forwarded share
//! ```
//!
//! Nothing may be lost for want of room: at most `WINDOW` frames are in flight (a veth ring holds 256, a backlog 1000), and
//! a capture that lost a frame fails the test. Frames are injected once; no difference is tried again.
//!
//! The forwarded share is bypath's count of forwarded packets over the frames that were *injected*, not over those that it
//! received: what its XDP program left to the kernel counts as not forwarded too.

use super::bypath::{BINARY, Bypath, Totals};
use super::compare::{Rules, Seen};
use super::names::{Ends, Names};
use super::namespace::Namespace;
use super::packet::Mac;
use super::report;
use super::router::Lab;
use super::setup::added_address;
pub use super::setup::{Fence, Mode, Outcome, Setup, Share};
use super::streams::Streams;
use super::sys;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Frames in flight at most.
pub const WINDOW: usize = 64;
/// What one window, and the end, may take before the missing frames are given up (they are then reported).
const WINDOW_WITHIN: Duration = Duration::from_millis(500);
const SETTLE_WITHIN: Duration = Duration::from_secs(3);
/// Nothing has arrived for this long: settled.
const QUIET: Duration = Duration::from_millis(60);
/// Time for a change to be in force: the design says 100 ms, which `tests/instance/live.rs` judges; a busy machine takes more.
const CHANGE_IN_FORCE: Duration = Duration::from_millis(300);
/// Why bypath loses packets that no rule drops.
const OVERLOAD: [&str; 7] = [
    "tx_ring_full",
    "handoff_full",
    "punt_queue_full",
    "punt_failed",
    "port_gone",
    "oversize",
    "qdisc_memory",
];
/// Pause for each frame of a window that the kernel answered with nothing, so that windows of such frames do not pile up.
const SILENT_PAUSE: Duration = Duration::from_micros(20);

/// One lab, and how much of its captures has been counted.
pub(super) struct Side {
    pub(super) lab: Lab,
    counted: Vec<usize>,
    frames: Vec<usize>,
    /// Of the frames those that are fences.
    pub(super) fences: usize,
}

impl Side {
    fn new(setup: &Setup) -> Self {
        let lab = Lab::new(&setup.layout);
        lab.apply(&setup.config);
        let ports = setup.layout.ports;
        Side {
            lab,
            counted: vec![0; ports],
            frames: vec![0; ports],
            fences: 0,
        }
    }

    /// Frames that were sent to far ends, noise and fences aside.
    pub(super) fn sent(&self) -> usize {
        self.frames.iter().sum::<usize>() - self.fences
    }

    /// What has come so far is not compared.
    pub(super) fn forget(&mut self) {
        self.lab.wires.iter_mut().for_each(|wire| {
            wire.captured.clear();
            // Reading them resets them.
            wire.lost();
        });
        self.counted.fill(0);
        self.frames.fill(0);
        self.fences = 0;
    }

    /// Takes what has arrived; counts what is compared frame by frame.
    pub(super) fn drain(&mut self, rules: &Rules) {
        self.lab.drain();
        for ((wire, counted), frames) in self.lab.wires.iter().zip(&mut self.counted).zip(&mut self.frames) {
            *frames += wire.captured[*counted..]
                .iter()
                .filter(|f| matches!(rules.see(f), Seen::Frame(_)))
                .count();
            *counted = wire.captured.len();
        }
    }
}

/// Two equal labs.
pub struct Twin {
    pub(super) setup: Setup,
    pub(super) mode: Mode,
    pub(super) kernel: Side,
    pub(super) tested: Side,
    pub(super) bypath: Option<Bypath>,
    pub(super) rules: Rules,
    pub(super) injected: u64,
    pub(super) fences: u64,
    pub(super) fenced: Instant,
    pub(super) handed_over: bool,
    /// Injected at each port, where connections are tracked, in the order of all; fences aside.
    pub(super) sequence: Vec<(usize, Vec<u8>)>,
    pub(super) changes: Vec<String>,
    pub(super) streams: Streams,
    /// Whether nothing tells that the last window has been handled.
    is_open: bool,
    pub(super) names: Names,
    /// How many of the tested lab's captured frames bear the kernel's names, by port.
    pub(super) renamed: Vec<usize>,
}

impl Twin {
    /// Builds and configures both labs, and starts bypath in the second.
    pub fn start(setup: Setup) -> Self {
        let mode = Mode::from_env();
        let (kernel, tested) = (Side::new(&setup), Side::new(&setup));
        let bypath = (mode == Mode::Bypath).then(|| {
            let bypath = Bypath::start(&tested.lab.router, &setup.ports(), &setup.arguments);
            tested.lab.switch_offloads_off();
            bypath
        });
        let added = setup.config.iter().filter_map(|line| added_address(line));
        let own = kernel.lab.own_addresses().into_iter().chain(added).collect();
        let rules = Rules {
            own,
            clock_free: setup.clock_free,
            reassembles: setup.filters,
        };
        let renamed = vec![0; setup.layout.ports];
        let mut twin = Twin {
            setup,
            mode,
            kernel,
            tested,
            bypath,
            rules,
            injected: 0,
            fences: 0,
            fenced: Instant::now(),
            handed_over: false,
            sequence: Vec::new(),
            changes: Vec::new(),
            streams: Streams::default(),
            is_open: false,
            names: Names::default(),
            renamed,
        };
        if matches!(twin.setup.fence, Fence::V4 | Fence::V6) {
            twin.begin_fences();
        }
        twin
    }

    /// The router without bypath, to be asked (`ip route get`), never changed alone.
    pub fn kernel_router(&self) -> &Namespace {
        &self.kernel.lab.router
    }

    /// The router that is judged, to be looked at, or spoilt where a test wants a difference.
    pub fn tested_router(&self) -> &Namespace {
        &self.tested.lab.router
    }

    /// The running bypath, if this mode has one.
    pub fn bypath(&self) -> Option<&Bypath> {
        self.bypath.as_ref()
    }

    /// Injects frames at the far end of `port`, in order, into both labs; how many frames the kernel's sent for them.
    pub fn inject(&mut self, port: usize, frames: &[Vec<u8>]) -> usize {
        self.inject_each(port, [frames, frames])
    }

    /// The same with other frames for the tested lab than for the kernel's, as many: answers to what NAT made of packets.
    pub fn inject_each(&mut self, port: usize, [frames, tested]: [&[Vec<u8>]; 2]) -> usize {
        assert_eq!(frames.len(), tested.len(), "as many frames for both labs");
        let sent = self.kernel.sent();
        for (window, tested) in frames.chunks(WINDOW).zip(tested.chunks(WINDOW)) {
            if self.setup.filters {
                self.streams.keep_off(window);
            }
            let sent_before = self.kernel.sent();
            self.kernel.lab.wires[port].inject(window);
            self.tested.lab.wires[port].inject(tested);
            self.injected += window.len() as u64;
            if self.setup.filters {
                self.sequence.extend(window.iter().map(|frame| (port, frame.clone())));
            }
            self.kernel.drain(&self.rules);
            self.wait_for_tested();
            let answered = self.kernel.sent() - sent_before;
            let is_answered = answered >= window.len() && self.setup.fence != Fence::Flood;
            self.is_open = !is_answered && !self.fence(port);
            if self.is_open && self.bypath.is_some() {
                std::thread::sleep(SILENT_PAUSE * window.len().saturating_sub(answered) as u32);
            }
        }
        self.kernel.sent() - sent
    }

    /// What has arrived at the far end of `port`, as it stands: of the kernel's lab and of the tested.
    pub fn captured(&self, port: usize) -> [&[Vec<u8>]; 2] {
        [&self.kernel, &self.tested].map(|side| &side.lab.wires[port].captured[..])
    }

    /// What has come from the two names is the same; see `names`. Frames that arrived before are those of earlier names.
    pub fn is_same(&mut self, kernel: Ends, tested: Ends) {
        self.names.add(kernel, tested);
    }

    /// What arrived as `seen` was sent as `sent`, so that both are of one connection.
    pub fn is_translated(&mut self, seen: &[u8], sent: &[u8]) {
        self.streams.is_also(seen, sent);
    }

    /// Gives the tested lab's frames that have arrived by now the kernel's names.
    pub fn rename_captured(&mut self) {
        for (wire, renamed) in self.tested.lab.wires.iter_mut().zip(&mut self.renamed) {
            wire.captured[*renamed..]
                .iter_mut()
                .for_each(|frame| self.names.rename(frame));
            *renamed = wire.captured.len();
        }
    }

    /// Packets from this address are written by the router itself, though it is not one of its own.
    pub fn answers_as(&mut self, address: IpAddr) {
        self.rules.own.insert(address);
    }

    /// Builds and injects packets that are addressed from the far end of `port`.
    pub fn send(&mut self, port: usize, packets: impl IntoIterator<Item = super::packet::Packet>) {
        let frames: Vec<_> = packets.into_iter().map(|packet| packet.at(port).build()).collect();
        self.inject(port, &frames);
    }

    /// Waits until the tested lab has sent as many frames as the kernel's, or what it lacks is given up.
    pub(super) fn wait_for_tested(&mut self) {
        let until = Instant::now() + WINDOW_WITHIN;
        loop {
            self.tested.drain(&self.rules);
            let behind = self
                .tested
                .frames
                .iter()
                .zip(&self.kernel.frames)
                .any(|(tested, kernel)| tested < kernel);
            if !behind {
                return;
            }
            let now = Instant::now();
            if now >= until {
                // Lost for good: report it now rather than wait again at every window.
                self.fail_if_different();
                return;
            }
            let fds: Vec<_> = self.tested.lab.wires.iter().map(|wire| wire.fd()).collect();
            sys::wait_readable(&fds, until - now);
        }
    }

    /// Runs the same commands in both routers and gives them time to be in force.
    pub fn change(&mut self, commands: &[&str]) {
        self.settle();
        if std::mem::take(&mut self.is_open) {
            // What was punted and is dropped there without a word might meet the change.
            self.wait_in_force();
        }
        let commands: Vec<String> = commands.iter().map(|command| command.to_string()).collect();
        self.kernel.lab.apply(&commands);
        self.tested.lab.apply(&commands);
        self.rules.own.extend(self.kernel.lab.own_addresses());
        self.changes.extend(commands);
        self.wait_in_force();
    }

    /// Gives what the kernels were told, or have learned, time to be in force.
    pub fn wait_in_force(&self) {
        std::thread::sleep(CHANGE_IN_FORCE);
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// From now on the far end of `port` answers for `address`, in both labs.
    pub fn answer_for(&mut self, port: usize, address: IpAddr, mac: Mac) {
        self.kernel.lab.wires[port].answer_for(address, mac);
        self.tested.lab.wires[port].answer_for(address, mac);
    }

    /// Waits until both labs are quiet and have sent equally many frames, within a bound.
    pub fn settle(&mut self) {
        let until = Instant::now() + SETTLE_WITHIN;
        let mut quiet_since = Instant::now();
        let mut before = (Vec::new(), Vec::new());
        loop {
            self.kernel.drain(&self.rules);
            self.tested.drain(&self.rules);
            let now = Instant::now();
            let counts = (self.kernel.frames.clone(), self.tested.frames.clone());
            if counts != before {
                quiet_since = now;
                before = counts;
            }
            let settled = now - quiet_since >= QUIET && before.0 == before.1;
            if settled || now >= until {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Settles, stops bypath, and panics unless the captures are equal and the share is reached.
    pub fn finish(mut self, share: Share) -> Outcome {
        self.settle();
        let totals = self.bypath.as_ref().map(Bypath::totals_at_rest);
        if let Some(bypath) = self.bypath.take() {
            bypath.stop();
        }
        self.fail_if_different();
        let outcome = Outcome {
            injected: self.injected,
            sent: self.kernel.sent() as u64,
            totals: totals.unwrap_or_default(),
        };
        if self.mode == Mode::Bypath {
            self.check_totals(&outcome, share);
        }
        outcome
    }

    fn check_totals(&self, outcome: &Outcome, share: Share) {
        let (name, totals) = (&self.setup.name, &outcome.totals);
        totals.assert_balanced();
        let may_drop = self.setup.filters || self.setup.drops;
        let lost = |reason: &str| !may_drop || OVERLOAD.contains(&reason);
        let lost = totals.dropped.iter().filter(|(reason, _)| lost(reason));
        assert_eq!(
            lost.map(|(_, count)| count).sum::<u64>(),
            0,
            "{name}: bypath dropped packets: {totals:?}"
        );
        match share {
            Share::Nothing => {
                assert_eq!(
                    totals.forwarded, 0,
                    "{name}: forwarded what the kernel should have seen: {totals:?}"
                );
            }
            Share::AtLeast(least) => assert!(
                outcome.share() >= least,
                "{name}: forwarded {} of {} ({:.1} %), wanted {:.1} %; received {}, punted: {}\n{}",
                totals.forwarded,
                outcome.injected,
                outcome.share() * 100.0,
                least * 100.0,
                totals.received,
                Totals::list(&totals.punted),
                self.stays(),
            ),
        }
        println!(
            "twin {name}: {} packets, 0 divergences, {:.1} % forwarded, punted: {}",
            outcome.injected,
            outcome.share() * 100.0,
            Totals::list(&totals.punted)
        );
    }

    /// What bypath says that it leaves to the kernel.
    fn stays(&self) -> String {
        let ports = self.setup.ports().join(" ");
        let output = self.tested_router().output(&format!("{BINARY} check {ports}"), "");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Panics with a report when the captures differ, or when the harness itself lost a frame.
    pub(super) fn fail_if_different(&mut self) {
        self.settle();
        self.rename_captured();
        for (wire, other) in self.kernel.lab.wires.iter().zip(&self.tested.lab.wires) {
            assert_eq!(
                (wire.lost(), other.lost()),
                (0, 0),
                "{}: a capture lost frames",
                self.setup.name
            );
            assert_eq!(
                wire.refused, other.refused,
                "{}: refused injections differ",
                self.setup.name
            );
        }
        let sides = self.kernel.lab.wires.iter().zip(&self.tested.lab.wires);
        let differences: Vec<_> = sides
            .map(|(kernel, tested)| {
                self.rules
                    .compare(&kernel.captured, &tested.captured, self.setup.ordered)
            })
            .collect();
        if differences.iter().any(|difference| !difference.is_empty()) {
            self.report(&differences);
        }
    }

    /// Where the two kernels themselves are configured differently, which no bypath can make good.
    fn configurations_differ(&self) -> String {
        const SHOWN: [&str; 6] = [
            "ip -o -4 route show table all",
            "ip -o -6 route show table all",
            "ip -o nexthop",
            "ip -4 rule",
            "ip -6 rule",
            "ip -o neigh show nud all",
        ];
        let differs = |command: &&str| {
            let lines = |side: &Side| -> BTreeSet<String> {
                let output = side.lab.router.run(command);
                output
                    .lines()
                    .filter(|line| !line.contains("bypath"))
                    .map(str::to_string)
                    .collect()
            };
            let (kernel, tested) = (lines(&self.kernel), lines(&self.tested));
            let only = |one: &BTreeSet<String>, other: &BTreeSet<String>, who: &str| -> String {
                one.difference(other)
                    .map(|line| format!("  only in the {who} lab: {line}\n"))
                    .collect()
            };
            let text = only(&kernel, &tested, "kernel's") + &only(&tested, &kernel, "tested");
            if text.is_empty() {
                text
            } else {
                format!("`{command}` differs:\n{text}")
            }
        };
        SHOWN.iter().map(differs).collect()
    }

    fn report(&self, differences: &[super::compare::Difference]) -> ! {
        let Setup { name, seed, config, .. } = &self.setup;
        let captures = |side: &Side, which: &str| {
            let frames: Vec<&[Vec<u8>]> = side.lab.wires.iter().map(|wire| &wire.captured[..]).collect();
            report::write_pcap(&format!("{name}-{which}"), &frames)
        };
        let (kernel, tested) = (captures(&self.kernel, "kernel"), captures(&self.tested, "bypath"));
        self.write_sequence();
        let count: usize = differences.iter().map(|difference| difference.count()).sum();
        let described: Vec<String> = differences
            .iter()
            .enumerate()
            .filter(|(_, difference)| !difference.is_empty())
            .map(|(port, difference)| report::describe(port, difference))
            .collect();
        let config_file = report::folder().join(format!("{name}.config"));
        std::fs::write(&config_file, config.join("\n")).expect("write the configuration");
        let shown: Vec<&str> = config.iter().take(60).map(String::as_str).collect();
        let replay = seed
            .map(|seed| format!("replay: BYPATH_TWIN_SEED={seed}\n"))
            .unwrap_or_default();
        let (totals, said) = match &self.bypath {
            Some(bypath) => (format!("{:?}", bypath.totals()), bypath.said()),
            None => ("not running".into(), String::new()),
        };
        let said = format!("{said}{}", self.configurations_differ());
        panic!(
            "twin {name}: {count} divergences after {} packets\n{replay}{}captures: {} {}\nbypath: {totals}\n{said}\
             configuration ({} lines, all in {}):\n  {}\nchanges:\n  {}",
            self.injected,
            described.concat(),
            kernel.display(),
            tested.display(),
            config.len(),
            config_file.display(),
            shown.join("\n  "),
            self.changes.join("\n  "),
        );
    }
}
