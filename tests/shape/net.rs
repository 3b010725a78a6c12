//! Two equal routers with traffic control, one with bypath, and packets of numbered flows through both at once.
//!
//! ```text
//!   w0 --\                       far ends, as in `lab`: what arrives bears the time at which the
//!   w2 ---> router, tc on d1 --> w1      driver handed it over, so a reader that is late spoils nothing
//! ```
//!
//! A packet tells its flow and number, and what arrives is kept as (when, flow, number, length, a hash of the frame): frames of
//! one number must be equal in both labs. One scenario runs at a time, since two would take each other's time. When frames were
//! sent is known from before the call that sends them; all times are CLOCK_REALTIME in nanoseconds.

use crate::flow::read;
pub use crate::flow::{Arrival, Demand, Flow, behind};
use crate::lab::bypath::{BINARY, Bypath, Totals};
use crate::lab::namespace::Namespace;
use crate::lab::plan;
use crate::lab::router::{Lab, Layout};
use crate::lab::setup::Mode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// From this flow on packets are written by the box itself, which draws identifications for them.
pub const OWN: u16 = 90;
/// How often a paced source sends.
const TICK: Duration = Duration::from_millis(1);
/// Frames that a paced source sends at once: a veth's ring holds 256.
const AT_ONCE: u64 = 64;
/// Time for a change to be in force.
const CHANGE_IN_FORCE: Duration = Duration::from_millis(300);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held while a scenario runs.
pub fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame that was sent into a lab.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Just before the call that sent it.
    pub at_ns: u64,
    pub flow: u16,
    pub seq: u32,
    pub bytes: u32,
}

/// One lab.
pub struct Side {
    pub lab: Lab,
    pub sent: Vec<Sent>,
    pub came: Vec<Arrival>,
}

impl Side {
    fn new(layout: &Layout, config: &[String]) -> Self {
        let lab = Lab::new(layout);
        lab.apply(config);
        lab.wires.iter().for_each(|wire| wire.stamp());
        Side {
            lab,
            sent: Vec::new(),
            came: Vec::new(),
        }
    }

    fn inject(&mut self, flows: &[(Flow, u32)], frames: &[Vec<u8>]) {
        let at_ns = now_ns();
        // What goes in by one port goes in at once.
        let mut rest = 0;
        while rest < flows.len() {
            let from = flows[rest].0.from;
            let count = flows[rest..].iter().take_while(|(flow, _)| flow.from == from).count();
            self.lab.wires[from].inject(&frames[rest..rest + count]);
            rest += count;
        }
        let sent = |&(flow, seq): &(Flow, u32)| Sent {
            at_ns,
            flow: flow.id,
            seq,
            bytes: flow.bytes as u32,
        };
        self.sent.extend(flows.iter().map(sent));
    }

    /// Takes what has arrived; whether anything had.
    fn drain(&mut self) -> bool {
        let before = self.came.len();
        for (port, wire) in self.lab.wires.iter_mut().enumerate() {
            wire.drain_each(|frame, at_ns| self.came.extend(read(&frame, port, at_ns)));
        }
        self.came.len() > before
    }

    /// What came, in the order of time.
    pub fn in_order(&self) -> Vec<Arrival> {
        let mut came = self.came.clone();
        came.sort_by_key(|arrival| arrival.at_ns);
        came
    }

    /// What came of one flow, in the order of time.
    pub fn of(&self, flow: u16) -> Vec<Arrival> {
        self.in_order()
            .into_iter()
            .filter(|arrival| arrival.flow == flow)
            .collect()
    }

    /// When the first frame was sent.
    pub fn began_ns(&self) -> u64 {
        self.sent.first().map_or(0, |sent| sent.at_ns)
    }
}

/// Two equal labs: the kernel's and the tested.
pub struct Shaped {
    pub name: String,
    pub kernel: Side,
    pub tested: Side,
    bypath: Option<Bypath>,
    numbers: std::collections::HashMap<u16, u32>,
    _alone: MutexGuard<'static, ()>,
}

impl Shaped {
    /// `ports` ports with the plan's IPv4 addresses and more commands; bypath runs in one lab.
    pub fn start(name: &str, ports: usize, more: &[&str]) -> Self {
        let plan = plan::config(ports).into_iter();
        // What IPv6 tells its neighbourhood by timers of its own would take tokens.
        let off = (0..ports).map(|port| format!("sysctl net.ipv6.conf.d{port}.disable_ipv6=1"));
        let config = plan.filter(|line| !line.contains("fd00:") && !line.contains("fe80:"));
        let config = config
            .chain(off)
            .chain(more.iter().map(|line| line.to_string()))
            .collect();
        Self::with(name, Layout::ports(ports), config, "")
    }

    /// Both families. Begins when what IPv6 tells its neighbourhood is over.
    pub fn start_both(name: &str, ports: usize, more: &[&str]) -> Self {
        let config = plan::config_with(ports, more);
        let mut shaped = Self::with(name, Layout::ports(ports), config, "");
        shaped.wait(Duration::from_secs(2));
        shaped
    }

    /// Links, a configuration and arguments of `bypath run`.
    pub fn with(name: &str, layout: Layout, config: Vec<String>, arguments: &str) -> Self {
        let alone = alone();
        let mode = Mode::from_env();
        let (kernel, tested) = (Side::new(&layout, &config), Side::new(&layout, &config));
        let bypath = (mode == Mode::Bypath).then(|| {
            let names: Vec<String> = (0..layout.ports).map(|port| format!("d{port}")).collect();
            let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
            let bypath = Bypath::start(&tested.lab.router, &names, &arguments);
            tested.lab.switch_offloads_off();
            bypath
        });
        Shaped {
            name: name.into(),
            kernel,
            tested,
            bypath,
            numbers: Default::default(),
            _alone: alone,
        }
    }

    /// Both, the kernel's first.
    pub fn sides(&self) -> [&Side; 2] {
        [&self.kernel, &self.tested]
    }

    /// The running bypath, if this mode has one.
    pub fn bypath(&self) -> Option<&Bypath> {
        self.bypath.as_ref()
    }

    /// Whether bypath itself must have shaped what was sent.
    pub fn is_carried(&self) -> bool {
        self.bypath.is_some()
    }

    fn numbered(&mut self, flow: Flow, count: u64) -> impl Iterator<Item = (Flow, u32)> + use<> {
        let next = self.numbers.entry(flow.id).or_default();
        let first = *next;
        *next += count as u32;
        (first..*next).map(move |seq| (flow, seq))
    }

    fn inject(&mut self, flows: &[(Flow, u32)]) {
        let frames: Vec<Vec<u8>> = flows.iter().map(|(flow, seq)| flow.frame(*seq)).collect();
        self.kernel.inject(flows, &frames);
        self.tested.inject(flows, &frames);
    }

    /// Sends so many frames of each flow at once, one flow after the other.
    pub fn burst(&mut self, flows: &[(Flow, u64)]) {
        let mut all = Vec::new();
        for &(flow, count) in flows {
            all.extend(self.numbered(flow, count));
        }
        self.inject(&all);
    }

    /// The same from a core, whose number is that of the queue which a far end sends by.
    pub fn burst_on(&mut self, core: usize, flow: Flow, count: u64) {
        let flows: Vec<_> = self.numbered(flow, count).collect();
        let (kernel, tested) = (&mut self.kernel, &mut self.tested);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let id = core_affinity::CoreId { id: core };
                assert!(core_affinity::set_for_current(id), "no core {core}");
                let frames: Vec<Vec<u8>> = flows.iter().map(|(flow, seq)| flow.frame(*seq)).collect();
                kernel.inject(&flows, &frames);
                tested.inject(&flows, &frames);
            });
        });
    }

    /// Sends what is demanded, for so long.
    pub fn offer(&mut self, demands: &[Demand], time: Duration) {
        let begin = Instant::now();
        let mut given = vec![0; demands.len()];
        loop {
            let at = begin.elapsed().min(time);
            let mut due = Vec::new();
            for (demand, given) in demands.iter().zip(&mut given) {
                let count = (demand.due(at) - *given).min(AT_ONCE);
                *given += count;
                due.push(self.numbered(demand.flow, count).collect::<Vec<_>>());
            }
            // Flows take turns, frame by frame.
            let longest = due.iter().map(Vec::len).max().unwrap_or(0);
            let turns = (0..longest).flat_map(|turn| due.iter().filter_map(move |flow| flow.get(turn).copied()));
            let turns: Vec<_> = turns.collect();
            turns.chunks(AT_ONCE as usize).for_each(|turns| self.inject(turns));
            self.drain();
            if at == time {
                return;
            }
            std::thread::sleep(TICK);
        }
    }

    /// Takes what has arrived; whether anything had.
    pub fn drain(&mut self) -> bool {
        let [kernel, tested] = [self.kernel.drain(), self.tested.drain()];
        kernel || tested
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.drain();
            std::thread::sleep(Duration::from_millis(5).min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Waits until nothing has arrived for so long.
    pub fn rest(&mut self, quiet: Duration) {
        let mut since = Instant::now();
        while since.elapsed() < quiet {
            if self.drain() {
                since = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the same commands in both routers. Returns when they are in force.
    pub fn change(&mut self, commands: &[&str]) {
        self.change_now(commands);
        self.wait(CHANGE_IN_FORCE);
    }

    /// Runs the same commands in both routers, at the same time: frames leave meanwhile.
    pub fn change_now(&mut self, commands: &[&str]) {
        let commands: Vec<String> = commands.iter().map(|command| command.to_string()).collect();
        let routers = self.routers();
        std::thread::scope(|scope| {
            for router in routers {
                scope.spawn(|| router.apply(&commands));
            }
        });
    }

    /// The routers, the kernel's first.
    pub fn routers(&self) -> [&Namespace; 2] {
        [&self.kernel.lab.router, &self.tested.lab.router]
    }

    /// Nothing of this can be carried, and bypath says so: `words` are in what `bypath check` prints.
    pub fn stays(&self, words: &str) {
        if self.bypath.is_some() {
            let said = self.check();
            assert!(
                said.contains(words),
                "{}: check does not say `{words}`:\n{said}",
                self.name
            );
        }
    }

    /// What bypath says that it leaves to the kernel.
    fn check(&self) -> String {
        let ports: Vec<String> = (0..self.tested.lab.wires.len())
            .map(|port| format!("d{port}"))
            .collect();
        let output = self
            .tested
            .lab
            .router
            .output(&format!("{BINARY} check {}", ports.join(" ")), "");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends bypath.
    pub fn stop(&mut self) {
        if let Some(bypath) = self.bypath.take() {
            bypath.stop();
        }
    }

    /// At rest: every frame has one verdict, none is held, no capture lost any, frames of one number are equal, and bypath
    /// carried at least this part of what was sent: by forwarding it, or dropping it as the qdisc says.
    pub fn finish(mut self, least: f64) -> Totals {
        self.drain();
        for side in self.sides() {
            for wire in &side.lab.wires {
                assert_eq!(
                    (wire.lost(), wire.refused),
                    (0, 0),
                    "{}: the lab lost frames",
                    self.name
                );
            }
        }
        self.equal_frames();
        let totals = self.bypath.as_ref().map(Bypath::totals_at_rest).unwrap_or_default();
        totals.assert_balanced();
        assert_eq!(totals.held, 0, "{}: frames are held at rest: {totals:?}", self.name);
        let injected = self.tested.sent.len() as f64;
        let carried = (totals.forwarded + totals.dropped.values().sum::<u64>()) as f64 / injected;
        if self.is_carried() {
            let (punted, said) = (Totals::list(&totals.punted), self.check());
            let dropped = Totals::list(&totals.dropped);
            assert!(
                carried >= least,
                "{}: carried {:.1} %, wanted {:.1} %; forwarded {}, dropped: {dropped}; punted: {punted}\n{said}",
                self.name,
                carried * 100.0,
                least * 100.0,
                totals.forwarded,
            );
        }
        self.stop();
        println!(
            "twin {}: {injected} frames, {} came, {:.1} % carried",
            self.name,
            self.tested.came.len(),
            carried * 100.0
        );
        totals
    }

    /// Panics if a frame that came in both labs is not the same in both, or came twice.
    fn equal_frames(&self) {
        let by_number = |side: &Side| {
            let mut all = std::collections::HashMap::new();
            for arrival in &side.came {
                let known = all.insert((arrival.flow, arrival.seq), (arrival.hash, arrival.port));
                assert!(known.is_none(), "{}: came twice: {arrival:?}", self.name);
            }
            all
        };
        let (kernel, tested) = (by_number(&self.kernel), by_number(&self.tested));
        for (number, frame) in tested.iter().filter(|((flow, _), _)| *flow < OWN) {
            let other = kernel.get(number);
            assert!(
                other.is_none_or(|other| other == frame),
                "{}: (flow, number) {number:?} left differently: {frame:?}, of the kernel {other:?}",
                self.name
            );
        }
    }
}

/// The time of day, as frames are stamped with.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
