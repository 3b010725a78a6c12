//! The running instance: what starts in which order, the loop that keeps it in line with the kernel, and how it ends.
//!
//! ```text
//!  start: punt device (the lock) -> UMEM -> steer -> mirror, guard -> workers, punt and oracle threads -> ports -> ready
//!  loop:  events of links, routes, rules, qdiscs; 20 times a second what gives no event -> Snapshot -> workers, steer
//!  end:   steer lets go -> rings run empty -> detach -> threads stop -> sockets close -> summary
//! ```
//!
//! The loop is the only writer of configuration. What leaves traffic to the kernel reaches steer before workers, what gives
//! it back reaches workers before steer; between the two the worker punts, so the kernel decides in any case.

mod watch;

use super::api::{self, Backend, ServerHandle};
use super::backend::Running;
use super::bridges::Bridges;
use super::carrying::{both, carry, leave_tracked, lets_go_of_connections, local_addresses, why_left};
use super::config::RunConfig;
use super::exchange::Exchange;
use super::metrics::{self, MetricsHandle};
use super::neighbors::Neighbors;
use super::plan::Plan;
use super::policing::Policing;
use super::ports::{Carry, Ports};
use super::punt_device::{PUNT_DEVICE, PuntDevice};
use super::punt_thread::PuntCounts;
use super::roster::Roster;
use super::shaping::Charging;
use super::steer::{HEARTBEAT_LIMIT, LocalKind, Steer};
use super::threads::{DeviceSink, spawn, spawn_helpers, spawn_workers};
use super::{Error, caps, obstacles, signals, tap};
use crate::mirror::guard::{self, Guard};
use crate::mirror::oracle::Oracle;
use crate::mirror::{LinkInfo, Mirror};
use crate::packet::{Family, PortIndex};
use crate::port::umem::Umem;
use crate::port::wait::{monotonic_ns, wait};
use crate::port::xsk::XskQueue;
use crate::table::Snapshot;
use crate::worker::{CONTROL_LIMIT, Command, Report, Shared};
use crossbeam::channel::bounded;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often what gives no event is read again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The least time between two snapshots: a storm of route changes is published in batches.
const PUBLISH_EVERY: Duration = Duration::from_millis(5);

/// How long the rings may take to run empty at the end.
const DRAIN: Duration = Duration::from_millis(50);

/// How long connections may be exported before a family is left to the kernel, at most: most of them were before.
const EXPORT: Duration = Duration::from_millis(300);

/// How long a worker may take to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// See the module's head.
pub struct Instance {
    wire: bool,
    mirror: Mirror,
    guard: Guard,
    findings: guard::Findings,
    bridges: Bridges,
    neighbors: Neighbors,
    charging: Charging,
    policing: Policing,
    ports: Ports,
    steer: Arc<Steer>,
    shared: Arc<Shared<XskQueue>>,
    running: Arc<Running<XskQueue>>,
    workers: Vec<JoinHandle<()>>,
    helpers: Vec<JoinHandle<()>>,
    exchange: Arc<Exchange>,
    punt_ifindex: u32,
    stop: Arc<AtomicBool>,
    retired: Vec<Arc<Snapshot>>,
    local: Vec<(IpAddr, LocalKind)>,
    /// The mirror has more to take in at once.
    more: bool,
    /// ... and nothing of it is what the kernel had told when it was last asked.
    drained: bool,
    /// The last turn but for which it was said that the configuration cannot be read.
    said_ns: u64,
    /// Workers that gave no sign of life in time, when last looked.
    stalled: Vec<usize>,
    _api: ServerHandle,
    _metrics: Option<MetricsHandle>,
}

impl Instance {
    /// Starts everything but the ports; see [`serve`](Self::serve).
    ///
    /// # Errors
    /// What stops the start, with its remedy.
    pub fn start(config: &RunConfig) -> Result<Self, Error> {
        config.validate()?;
        caps::require()?;
        let device = PuntDevice::create()?;
        let punt_ifindex = device.ifindex();
        let mirror = Mirror::open().map_err(|e| Error::Other(e.to_string()))?;
        let links: Vec<LinkInfo> = mirror.links().cloned().collect();
        let roster = Roster::new(config, &links);
        let plan = Plan::new(config, &roster, &links);
        plan.say(&roster);
        let umem = Umem::create(plan.umem(config.mode())).map_err(|e| Error::Other(e.to_string()))?;
        let steer = Arc::new(Steer::open(HEARTBEAT_LIMIT).map_err(|e| Error::Other(e.to_string()))?);
        let guard = Guard::open().map_err(|e| Error::Other(e.to_string()))?;
        let no_socket = |source| no_descriptor("cannot make a netlink socket", source);
        let bridges = Bridges::open().map_err(no_socket)?;
        let neighbors = Neighbors::open().map_err(no_socket)?;
        let oracle = Oracle::open().map_err(|e| Error::Other(e.to_string()))?;

        let (shared, punt_parker, oracle_parker) = Shared::new(plan.limits, Snapshot::default()).map_err(no_eventfd)?;
        let shared = Arc::new(shared);
        let ports = Ports::new(config, roster, plan.room.clone(), steer.clone(), shared.clone(), umem)?;
        let counts = Arc::new(PuntCounts::default());
        let of_steer = steer.clone();
        let running = Arc::new(Running {
            shared: shared.clone(),
            ports: ports.table(),
            punts: counts.clone(),
            steer: Box::new(move |port: PortIndex| {
                let counts = of_steer.stats(port.0).unwrap_or_default();
                counts
                    .iter()
                    .map(|(decision, frames)| (decision.word().to_owned(), frames))
                    .collect()
            }),
            cpus: plan.cpus.clone(),
            closed: ports.closed(),
            last: Mutex::default(),
            subscribers: Arc::default(),
            exchanged: Arc::default(),
        });
        let (subscribers, exchanged) = (running.subscribers.clone(), running.exchanged.clone());
        let exchange = Exchange::new(shared.conntrack.clone(), subscribers, exchanged).map_err(no_eventfd)?;
        let exchange = Arc::new(exchange);
        let api = api::serve(running.clone(), config.control.as_deref())?;
        let metrics = config
            .metrics
            .map(|addr| {
                let running = running.clone();
                metrics::serve(move || running.scrape(), addr)
            })
            .transpose()?;

        let stop = Arc::new(AtomicBool::new(false));
        let wires: &[_] = if config.wire {
            &[(PortIndex(0), PortIndex(1))]
        } else {
            &[]
        };
        let workers = spawn_workers(&plan, &shared, &steer, umem, config.poll, wires)?;
        let sink = DeviceSink {
            device,
            steer: steer.clone(),
            shared: shared.clone(),
            generic: ports.generic(),
            exporter: exchange.exporter().ok(),
        };
        let mut helpers = spawn_helpers(&shared, sink, counts, oracle, (punt_parker, oracle_parker), &stop)?;
        let of_exchange = exchange.clone();
        helpers.push(spawn("bypath-exchange".into(), move || of_exchange.run())?);
        Ok(Self {
            wire: config.wire,
            mirror,
            guard,
            findings: guard::Findings::default(),
            bridges,
            neighbors,
            charging: Charging::default(),
            policing: Policing::default(),
            ports,
            steer,
            shared,
            running,
            workers,
            helpers,
            exchange,
            punt_ifindex,
            stop,
            retired: Vec::new(),
            local: Vec::new(),
            more: false,
            drained: false,
            said_ns: 0,
            stalled: Vec::new(),
            _api: api,
            _metrics: metrics,
        })
    }

    /// Opens the ports, says `bypath: ready` when all of them are open and those with a carrier forward, and keeps everything in
    /// line with the kernel until a signal ends it.
    ///
    /// # Errors
    /// A port that cannot be opened at the start; a thread that died; a punt device that is gone.
    pub fn serve(&mut self, signal: &signals::Termination) -> Result<(), Error> {
        if signal.came() {
            return Ok(());
        }
        self.reconcile(true)?;
        // The start of the last turn that took in all that the kernel had told; none yet.
        let mut told_ns = 0;
        self.look();
        self.publish();
        let mut ready = false;
        let (mut looked, mut published, mut stale) = (Instant::now(), Instant::now(), false);
        let mut behind = false;
        loop {
            match self.mirror.trouble().map(str::to_owned) {
                None if !stale => self.beat(told_ns),
                None => {}
                Some(why) => self.say_trouble(&why),
            }
            if !ready && !stale && self.ports.all_open() {
                ready = true;
                announce!("bypath: ready");
                signals::tell_systemd_ready();
            }
            let fds = self
                .mirror
                .fds()
                .into_iter()
                .chain(self.guard.fds())
                .chain([signal.fd()]);
            let timeout = match (self.more, stale || behind) {
                (true, _) => Duration::ZERO,
                (false, true) => PUBLISH_EVERY,
                (false, false) => LOOK_EVERY,
            };
            // Rounded up, and never 0, so that what is due is due then.
            let retry = self.ports.retry_at();
            let retry = retry.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
            wait(fds, timeout.min(retry.unwrap_or(timeout)).as_millis() as u32);
            let began_ns = monotonic_ns();
            if signal.came() {
                return Ok(());
            }
            self.watch_threads()?;
            self.watch_workers();
            stale |= self.follow()?;
            if self.drained {
                told_ns = began_ns;
            }
            behind = self.bridges.turn(&self.mirror) | self.neighbors.turn(&self.mirror);
            for ifindex in self.charging.turn(&self.shared.snapshot.load(), &self.shared) {
                self.leave_contended(ifindex);
            }
            for ifindex in self.policing.turn(&self.shared.snapshot.load()) {
                self.leave_policed(ifindex);
            }
            if looked.elapsed() >= LOOK_EVERY || super::signals::readable(&self.guard.fds()) {
                looked = Instant::now();
                stale |= self.mirror.poll_some_sysctls();
                stale |= self.look();
            }
            if stale && published.elapsed() >= PUBLISH_EVERY {
                self.publish();
                (stale, published) = (false, Instant::now());
            }
            self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        }
    }

    /// Tells workers that they have what the kernel said by `told_ns`; see [`CONTROL_LIMIT`].
    fn beat(&self, told_ns: u64) {
        let before = self.shared.control_ns.swap(told_ns, Ordering::Relaxed);
        let late = Duration::from_nanos(told_ns.saturating_sub(before));
        if before != 0 && late > CONTROL_LIMIT {
            let late = late.as_secs_f32();
            say!("bypath: changes of configuration were not heard of for {late:.1} s: the kernel forwarded meanwhile");
        }
    }

    /// Says once why workers will not be told that they have what the kernel said, when that has its effect.
    fn say_trouble(&mut self, why: &str) {
        let last = self.shared.control_ns.load(Ordering::Relaxed);
        let late = Duration::from_nanos(monotonic_ns().saturating_sub(last));
        if late > CONTROL_LIMIT && std::mem::replace(&mut self.said_ns, last) != last {
            say!("bypath: the configuration cannot be read, again and again ({why}): the kernel forwards until it can");
        }
    }

    /// Takes in what the kernel told, and opens or closes ports that came or went.
    fn follow(&mut self) -> Result<bool, Error> {
        let changed = self.mirror.process().map_err(|e| Error::Other(e.to_string()))?;
        (self.more, self.drained) = (changed.more, changed.drained);
        if changed.links {
            self.watch_punt_device()?;
        }
        let is_due = self.ports.retry_at().is_some_and(|at| at <= Instant::now());
        let ports_changed = (changed.links || is_due) && self.reconcile(false)?;
        if ports_changed {
            // A new port must not be published before what stands in its path is known.
            self.look();
        }
        Ok(ports_changed || changed.any())
    }

    /// Without the punt device all is lost that workers punt: it is set up again, or the kernel forwards alone.
    fn watch_punt_device(&self) -> Result<(), Error> {
        let link = self.mirror.links().find(|link| link.ifindex == self.punt_ifindex);
        let why = match link {
            Some(link) if link.is_admin_up() => return Ok(()),
            Some(link) => match tap::set_up(&link.name) {
                Ok(()) => {
                    say!("bypath: {PUNT_DEVICE} was set down, and is set up again: what was punted meanwhile is lost");
                    return Ok(());
                }
                // One that goes is set down first.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => "gone".into(),
                Err(error) => format!("down and cannot be set up again ({error})"),
            },
            // Links that were listed while others went may lack one.
            None if tap::set_up(PUNT_DEVICE).is_ok() => return Ok(()),
            None => "gone".into(),
        };
        Err(Error::Other(format!(
            "{PUNT_DEVICE} is {why}, by which frames go back to the kernel: leave it alone, and start bypath again"
        )))
    }

    fn reconcile(&mut self, starting: bool) -> Result<bool, Error> {
        let links: Vec<LinkInfo> = self.mirror.links().cloned().collect();
        if self.ports.gives_back(&links) {
            // Its link goes on in the kernel, which meets our connections then, and so do replies by other ports: all is the
            // kernel's until the workers know.
            self.leave_all();
        }
        let changed = self.ports.reconcile(&links, starting)?;
        if changed {
            // A worker answers after a turn, so after it filled the rings of what it was given: before steer redirects there.
            self.ports.settle();
            self.mirror
                .set_ports(self.ports.open().map(|(port, ifindex)| (ifindex, port)));
        }
        Ok(changed)
    }

    /// The kernel itself fills a rate of this link's, so ours shares its queue for a while.
    fn leave_contended(&mut self, ifindex: u32) {
        let name = self.name(ifindex);
        say!(
            "bypath: the kernel itself sends nearly all of a rate of {name}: what leaves there is left to it for a while"
        );
        self.guard.leave_contended(ifindex);
    }

    /// The same of what it takes of a policer's rate.
    fn leave_policed(&mut self, ifindex: u32) {
        let name = self.name(ifindex);
        say!(
            "bypath: the kernel itself takes nearly all that a policer of {name} lets pass: what arrives is left to it for a while"
        );
        self.guard.leave_policed(ifindex);
    }

    fn name(&self, ifindex: u32) -> String {
        let link = self.mirror.links().find(|link| link.ifindex == ifindex);
        link.map_or_else(|| ifindex.to_string(), |link| link.name.to_string())
    }

    /// Looks for what could stand in the path; whether that changed.
    fn look(&mut self) -> bool {
        if self.wire {
            return false;
        }
        self.ports.watch();
        let findings = obstacles::look(&mut self.guard, &self.mirror, &self.ports.unasked());
        if findings == self.findings {
            return false;
        }
        obstacles::tell(&mut self.mirror, &findings);
        self.findings = findings;
        true
    }

    /// Gives the current configuration to steer and to the workers.
    fn publish(&mut self) {
        let mut snapshot = self.mirror.snapshot();
        let local = local_addresses(&snapshot);
        if local != self.local {
            let own = local.iter().filter(|(_, kind)| *kind == LocalKind::Unicast);
            self.exchange.set_local(own.map(|&(ip, _)| Family::of(ip)).collect());
            if let Err(error) = self.steer.set_local(local.iter().copied()) {
                say!("bypath: local addresses: {error}");
            }
            self.local = local;
        }
        if let Err(error) = self.exchange.follow(&snapshot) {
            leave_tracked(
                &mut snapshot,
                &format!("the kernel's connections cannot be read: {error}"),
            );
        }
        let snapshot = Arc::new(snapshot);
        // Steer first lets go of what is to be left, and takes up what is to be carried after the workers know it.
        let before = self.shared.snapshot.load_full();
        let lets_go = lets_go_of_connections(&before, &snapshot);
        if lets_go != [false; 2] {
            say!("bypath: connections go to the kernel: {}", why_left(&snapshot, lets_go));
            self.exchange.export_all(EXPORT);
        }
        self.tell_steer(|port| {
            carry(&snapshot, port)
                .zip(carry(&before, port))
                .map(|(new, old)| both(new, old))
        });
        // What is left from now on is left by it.
        self.steer.set_generation(snapshot.generation);
        self.retired.push(self.shared.snapshot.swap(snapshot.clone()));
        if lets_go != [false; 2] {
            self.exchange.let_go(lets_go);
        }
        self.tell_steer(|port| carry(&snapshot, port));
    }

    fn tell_steer(&mut self, carry: impl Fn(PortIndex) -> Option<Carry>) {
        if self.stalled.is_empty() {
            self.ports.steer(carry);
        }
    }

    /// Ends: lets go of the traffic, carries on what is in the rings, detaches, and says where all packets went. Where a part
    /// has `failed`, so that packets are lost, connections are given up soon.
    pub fn end(mut self, failed: bool) {
        let (before, after) = if failed { (EXPORT, FAREWELL) } else { (FAREWELL, EXPORT) };
        self.exchange.export_all(before);
        self.ports.let_go();
        thread::sleep(DRAIN);
        // What began while the others were exported.
        self.exchange.export_all(after);
        let totals = self.running.totals();
        let mut gone = self.shared.stalled(monotonic_ns(), HEARTBEAT_LIMIT.as_nanos() as u64);
        gone.extend((0..self.workers.len()).filter(|&index| self.workers[index].is_finished()));
        self.ports.close_all(&gone);
        let mut reports: Vec<Report> = Vec::new();
        for (index, thread) in self.workers.drain(..).enumerate() {
            if thread.is_finished() {
                say!("bypath: worker {index} has ended before; what it held is lost");
                continue;
            }
            let (reply, last) = bounded(1);
            self.shared.order(index, Command::Stop(reply));
            match last.recv_timeout(FAREWELL) {
                Ok((report, _)) => {
                    reports.push(report);
                    let _ = thread.join();
                }
                // It is not waited for: it ends with the process.
                Err(_) => say!("bypath: worker {index} does not end; what it holds is lost"),
            }
        }
        self.stop.store(true, Ordering::Release);
        self.shared.punt_waker.unpark();
        self.shared.oracle_waker.unpark();
        self.exchange.stop();
        for thread in self.helpers.drain(..) {
            let _ = thread.join();
        }
        let totals = if reports.len() == self.shared.limits.workers {
            self.running.totals_of(&reports)
        } else {
            totals
        };
        announce!("bypath: ended, {}", super::report::summary(&totals));
    }
}

fn no_eventfd(source: std::io::Error) -> Error {
    no_descriptor("cannot make an eventfd", source)
}

fn no_descriptor(what: &str, source: std::io::Error) -> Error {
    Error::System {
        what: what.into(),
        source,
        remedy: "raise the limit of open files (ulimit -n)".into(),
    }
}
