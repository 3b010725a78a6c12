//! The twin's view of tracked connections: a fence behind packets that nobody answers, and both tables compared.
//!
//! A fence is a packet of a flow of its own that is always punted (IPv4 options, or an IPv6 extension header), sent behind a
//! window on the same port: when it has come out, worker and punt thread have handled what was before it. Without it a
//! packet that is dropped leaves no sign of when, and the next one, at another port, may overtake it.
//!
//! Fences are not counted as injected, and their connections are not compared: they go over and over between bypath and the
//! kernel, which a scenario of its own is about (`kernel_answers`). Their flow goes from port 0 to each other port and back, and needs a ruleset that lets
//! it begin at port 0.

use super::bypath::BINARY;
use super::conntrack::{Connection, Free, Listing};
use super::packet::{Packet, udp};
use super::plan;
use super::report;
use super::setup::Fence;
use super::sys;
use super::twin::{Mode, Side, Twin};
use std::time::{Duration, Instant};

const FENCE_WITHIN: Duration = Duration::from_secs(10);
/// A fence's connection is there for so long.
const FENCE_LIVES: Duration = Duration::from_millis(1000);
/// bypath tells the kernel of deletions a little later.
const TABLES_WITHIN: Duration = Duration::from_secs(5);
/// The host behind each port that fences go between.
const FENCE_HOST: u16 = 0xfafa;
const FENCE_PORTS: (u16, u16) = (7, 7);
/// Differences shown.
const SHOWN_MAX: usize = 12;

impl Twin {
    /// Has the flows of fences begin.
    pub(super) fn begin_fences(&mut self) {
        for port in 1..self.setup.layout.ports {
            self.fence_to(0, port);
            self.fence_to(port, 0);
        }
    }

    /// Waits until both labs have handled what was injected at `port`; false where the setup has no fences.
    pub fn fence(&mut self, port: usize) -> bool {
        match self.setup.fence {
            Fence::None => return false,
            Fence::Flood => return self.flood_fence(port),
            Fence::V4 | Fence::V6 => {}
        }
        // A connection of datagrams does not live long where a scenario shortens timeouts.
        if self.fenced.elapsed() > FENCE_LIVES || port == 0 {
            self.fence_to(0, port.max(1));
        }
        if port != 0 {
            self.fence_to(port, 0);
        }
        true
    }

    /// Connections are about to be handed over to the kernel: see `Free::handed_over`.
    pub fn hand_over(&mut self) {
        self.handed_over = true;
    }

    /// From now on windows are followed so: a scenario's rules or routes would lose a fence, or do so no more.
    pub fn set_fence(&mut self, fence: Fence) {
        self.setup.fence = fence;
    }

    fn fence_to(&mut self, from: usize, to: usize) {
        self.fences += 1;
        let packet = self.fence_packet(from, to).at(from);
        let mark = packet.id;
        let frame = [packet.build()];
        let seen = [&self.kernel, &self.tested].map(|side| side.lab.wires[to].captured.len());
        self.kernel.lab.wires[from].inject(&frame);
        self.tested.lab.wires[from].inject(&frame);
        let until = Instant::now() + FENCE_WITHIN;
        for (which, seen) in seen.into_iter().enumerate() {
            while !self.fence_came(which, to, seen, mark) {
                let now = Instant::now();
                if now >= until {
                    self.fail_if_different();
                    panic!(
                        "{}: fence {mark} from {from} to {to} was lost in both labs",
                        self.setup.name
                    );
                }
                let fds = [self.kernel.lab.wires[to].fd(), self.tested.lab.wires[to].fd()];
                sys::wait_readable(&fds[which..=which], until - now);
            }
        }
        self.fenced = Instant::now();
        self.kernel.fences += 1;
        self.tested.fences += 1;
    }

    /// Injects frames at ports 0 and 1 of both labs, with no more time between them than it takes.
    pub fn inject_at_once(&mut self, frames: [&[Vec<u8>]; 2]) {
        frames.iter().for_each(|frames| self.streams.keep_off(frames));
        for side in [&mut self.kernel, &mut self.tested] {
            for (wire, frames) in side.lab.wires.iter_mut().zip(frames) {
                wire.inject(frames);
            }
        }
        self.injected += frames.iter().map(|frames| frames.len() as u64).sum::<u64>();
        let rules = self.rules.clone();
        self.kernel.drain(&rules);
        self.wait_for_tested();
    }

    fn fence_packet(&self, from: usize, to: usize) -> Packet {
        let (src, dst) = plan::pairs(from, to, FENCE_HOST)[usize::from(self.setup.fence == Fence::V6)];
        udp(src, dst, FENCE_PORTS, 4).with(|packet| {
            packet.id = self.fences as u16;
            packet.body[8..10].copy_from_slice(&packet.id.to_be_bytes());
            match self.setup.fence {
                Fence::V6 => packet.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])],
                _ => packet.options = vec![1, 1, 1, 0],
            }
        })
    }

    /// Whether the fence marked so has arrived at port `to` of a lab behind the first `seen` frames.
    fn fence_came(&mut self, which: usize, to: usize, seen: usize, mark: u16) -> bool {
        let rules = self.rules.clone();
        let head = if self.setup.fence == Fence::V6 { 48 } else { 24 };
        let side: &mut Side = if which == 0 { &mut self.kernel } else { &mut self.tested };
        side.drain(&rules);
        let ports = [FENCE_PORTS.0.to_be_bytes(), FENCE_PORTS.1.to_be_bytes()].concat();
        side.lab.wires[to].captured[seen..].iter().any(|frame| {
            let body = frame.get(14 + head..).unwrap_or_default();
            body.starts_with(&ports) && body.get(8..10) == Some(&mark.to_be_bytes())
        })
    }

    /// Both tables, the kernel lab's first.
    pub fn tables(&self) -> [Listing; 2] {
        let kernel = |side: &Side| side.lab.router.run("conntrack -L");
        let ours = || match self.mode {
            Mode::Bypath => vec![self.tested_router().run(&format!("{BINARY} show conntrack"))],
            Mode::Kernel => Vec::new(),
        };
        let mut tables = [
            Listing::take(|| vec![kernel(&self.kernel)]),
            Listing::take(|| {
                let mut texts = ours();
                texts.push(kernel(&self.tested));
                texts
            }),
        ];
        tables[1].rename(&self.names);
        let hosts = plan::pairs(0, 1, FENCE_HOST);
        let is_fence = |text: &str| hosts.iter().any(|(host, _)| text.starts_with(&format!("src={host} ")));
        for table in &mut tables {
            table
                .connections
                .retain(|_, connection| !is_fence(&connection.tuples[0]));
        }
        tables
    }

    /// Panics unless both tables are equal now, or very soon. Returns the kernel lab's.
    pub fn compare_tables(&mut self, when: &str, free: Free) -> Listing {
        let until = Instant::now() + TABLES_WITHIN;
        let (kernel, differences) = loop {
            let [kernel, tested] = self.tables();
            let free = Free {
                handed_over: free.handed_over || self.handed_over,
                ..free
            };
            let differences = kernel.compare(&tested, free);
            if differences.is_empty() {
                return kernel;
            }
            if Instant::now() >= until {
                break (kernel, differences);
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // A frame that went astray says more.
        self.fail_if_different();
        self.write_sequence();
        let shown: Vec<String> = differences
            .iter()
            .take(SHOWN_MAX)
            .map(|difference| format!("  {difference}\n"))
            .collect();
        let seed = self.setup.seed.map(|seed| format!("replay: BYPATH_TWIN_SEED={seed}\n"));
        panic!(
            "twin {}: {when}: {} differences between tables, of {} connections:\n{}{}bypath: {:?}\n{}changes:\n  {}",
            self.setup.name,
            differences.len(),
            kernel.connections.len(),
            shown.concat(),
            seed.unwrap_or_default(),
            self.bypath().map(|bypath| bypath.totals()),
            self.bypath().map(|bypath| bypath.said()).unwrap_or_default(),
            self.changes.join("\n  "),
        );
    }

    /// Writes what was injected, in its order, as `NAME-injected.pcapng`: what a tracker has seen.
    pub(super) fn write_sequence(&self) {
        if !self.sequence.is_empty() {
            report::write_sequence(&format!("{}-injected", self.setup.name), &self.sequence);
        }
    }

    /// What the kernel's table says of the connections between two addresses, in brief.
    pub fn briefs(listing: &Listing, number: u8, one: std::net::IpAddr, other: std::net::IpAddr) -> Vec<String> {
        let found = listing.between(number, one, other);
        found.into_iter().map(Connection::brief).collect()
    }
}
