//! The rounds: case by case, size by size, each number of flows; in each round every subject once, every other round in
//! reverse, since a subject may feel who ran before it. What disturbs the machine for a while disturbs all of a round.
//!
//! ```text
//!   start the subject, wait until ready ── warm up ── [counters] trial [counters] ── stop it, let the kernel settle
//! ```
//!
//! What was forwarded by whom is looked at, since a subject that leaves everything to the kernel would measure the
//! kernel: bypath's own totals, against what it took and against what arrived (what a bridge of the kernel forwards it
//! counts nowhere), and for all the datagrams that the router's kernel says it forwarded.

use super::case::Case;
use super::event::Event;
use super::plan::{Plan, Test, WARM_SECONDS_MAX, WARM_SECONDS_MIN, warm_frames};
use super::program::{output, run};
use super::subject::{Subject, own_path};
use super::topology::Topology;
use super::traffic;
use crate::bench::loopback::{Through, own_error_through};
use crate::bench::outcome::Trial;
use crate::bench::report::Entry;
use crate::bench::rfc2544;
use crate::bench::trial::{OnTick, Pair};
use crate::bench::work::{Size, Work};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Connections that the kernel has room for; of the machine, a network namespace has no say in it.
const CONNECTIONS_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// Below this share a subject did not do what is measured.
const OWN_SHARE_MIN: f64 = 0.95;

/// Carries out the plan.
pub fn measure(plan: &Plan) -> Result<(), String> {
    let source = if plan.xsk_source { "xsk" } else { "live" };
    Event::Note(format!(
        "source {source} on CPU {}, sink {} on CPU {}, forwarding on CPU {}",
        plan.source_cpu,
        plan.sink.word(),
        plan.sink_cpu,
        plan.cpu
    ))
    .tell();
    let _load = plan.loaded.then(|| load(plan.cpu)).transpose()?;
    if plan.loaded {
        Event::Note(format!(
            "a second process (sh, a loop without end, same priority) loaded CPU {}, the forwarding core, all the time",
            plan.cpu
        ))
        .tell();
    }
    for (n, &case) in plan.cases.iter().enumerate() {
        let subjects = plan.subjects_of(case);
        if !subjects.is_empty() {
            measure_case(plan, case, &subjects, n == 0)?;
        }
    }
    Ok(())
}

fn measure_case(plan: &Plan, case: Case, subjects: &[&Subject], first: bool) -> Result<(), String> {
    Event::Doing(format!("{case}: making the namespaces")).tell();
    let lab = Topology::build(case)?;
    for subject in subjects {
        if let Some(line) = subject.line(case, &lab, plan.cpu)? {
            Event::Command(line).tell();
        }
    }
    if first && plan.own_error {
        own_errors(plan, case, &lab);
    }
    let (&size, &flows) = (
        plan.sizes.first().ok_or("no size")?,
        plan.flows.first().ok_or("no flows")?,
    );
    let mut pair = traffic::open(plan, &lab, plan.work(case, size, flows, lab.next_hop(case)))?;
    let mut measured = Measured {
        plan,
        case,
        lab: &lab,
        pair: &mut pair,
    };
    measured.all(subjects)
}

/// What the same work comes to where nobody forwards, and where nothing but `bypath wire` does. A run is no worse for
/// not knowing it.
fn own_errors(plan: &Plan, case: Case, lab: &Topology) {
    for &size in &plan.sizes {
        let work = plan.work(case, size, plan.flows[0], lab.next_hop(case));
        for through in [Through::Veth, Through::Wire] {
            Event::Doing(format!("what the bench itself gets wrong, size {size}")).tell();
            match own_error_through(through, traffic::ends(plan), &work) {
                Ok(own) => Event::OwnError(Box::new(own)).tell(),
                Err(error) => Event::Note(format!("the own error is not known: {error}")).tell(),
            }
        }
    }
}

/// All that is measured in one topology.
struct Measured<'a> {
    plan: &'a Plan,
    case: Case,
    lab: &'a Topology,
    pair: &'a mut Pair,
}

impl Measured<'_> {
    fn all(&mut self, subjects: &[&Subject]) -> Result<(), String> {
        for &flows in &self.plan.flows {
            if self.case.tracks() {
                note_room(flows);
            }
            match &self.plan.test {
                Test::Trials => self.trials(subjects, flows)?,
                Test::Rfc2544(rfc2544) => self.rfc2544(subjects, flows, rfc2544)?,
            }
        }
        Ok(())
    }

    /// A trial of each size, in rounds.
    fn trials(&mut self, subjects: &[&Subject], flows: u32) -> Result<(), String> {
        for &size in &self.plan.sizes {
            self.rounds(subjects, |measured, subject, round| {
                measured.doing(subject, size, flows, round);
                let entry = measured.trial(subject, size, flows, round)?;
                Event::Entry(Box::new(entry)).tell();
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Every subject once in each round, in the order of the plan and in reverse by turns.
    fn rounds(
        &mut self,
        subjects: &[&Subject],
        mut measure: impl FnMut(&mut Self, &Subject, u32) -> Result<(), String>,
    ) -> Result<(), String> {
        for round in 0..self.plan.rounds {
            let mut order = subjects.to_vec();
            if round % 2 == 1 {
                order.reverse();
            }
            for subject in order {
                measure(self, subject, round)?;
            }
        }
        Ok(())
    }

    fn trial(&mut self, subject: &Subject, size: Size, flows: u32, round: u32) -> Result<Entry, String> {
        let seconds = self.plan.seconds;
        let outcome = self.with(subject, size, flows, |pair, counted, warm| {
            let before = counted(subject)?;
            let mut outcome = pair.send(size, pair.work().rate, seconds)?;
            let after = counted(subject)?;
            outcome
                .notes
                .extend(after.since(&before).notes(subject, outcome.received));
            outcome.notes.extend(warm);
            Ok(outcome)
        })?;
        Ok(Entry {
            case: self.case.word().to_owned(),
            subject: subject.name().to_owned(),
            round,
            work: self.pair.work().clone(),
            outcome,
        })
    }

    /// The tests of RFC 2544, all sizes of a subject from one start to its end.
    fn rfc2544(&mut self, subjects: &[&Subject], flows: u32, plan: &rfc2544::Plan) -> Result<(), String> {
        let Some(&size) = plan.sizes.first() else { return Ok(()) };
        self.rounds(subjects, |measured, subject, round| {
            measured.doing(subject, size, flows, round);
            let case = measured.case;
            measured.with(subject, size, flows, |pair, counted, warm| {
                let before = counted(subject)?;
                let (work, mut received) = (pair.work().clone(), 0);
                let mut watch = |step: rfc2544::Step<'_>| {
                    received += step.outcome.received;
                    Event::Entry(Box::new(entry(case, subject, round, &work, &step))).tell();
                };
                let (results, ended) = rfc2544::run(plan, case.word(), subject.name(), pair, &mut watch);
                // Of a subject that died nothing is counted any more.
                let counted = counted(subject).map(|now| now.since(&before).notes(subject, received));
                for mut result in results {
                    (result.round, result.kind, result.flows) = (round, Some(work.kind), flows);
                    result.notes.extend(counted.iter().flatten().chain(&warm).cloned());
                    Event::Rfc2544(Box::new(result)).tell();
                }
                ended.and(counted.map(drop))
            })
        })
    }

    /// Has frames sent until each connection has begun; what is to be said where not.
    fn warm_up(&mut self, size: Size, flows: u32) -> Result<Option<String>, String> {
        let wanted = warm_frames(self.case, flows);
        if wanted == 0 {
            self.pair.send(size, self.plan.rate, WARM_SECONDS_MIN)?;
            return Ok(None);
        }
        self.pair.on_tick(until(wanted));
        let sent = self.pair.send(size, self.plan.rate, WARM_SECONDS_MAX);
        self.pair.on_tick(Box::new(|_| true));
        Ok(begun(sent?.received, wanted, flows))
    }

    fn doing(&self, subject: &Subject, size: Size, flows: u32, round: u32) {
        let (case, name, of) = (self.case, subject.name(), self.plan.rounds);
        Event::Doing(format!(
            "{case}, size {size}, {flows} flows, round {} of {of}: {name}",
            round + 1
        ))
        .tell();
    }

    /// Starts a subject, warms it up, has `work` measure it, and stops it. `work` is told what is to be said of the warming up.
    fn with<T>(
        &mut self,
        subject: &Subject,
        size: Size,
        flows: u32,
        work: impl FnOnce(&mut Pair, &dyn Fn(&Subject) -> Result<Counters, String>, Option<String>) -> Result<T, String>,
    ) -> Result<T, String> {
        if self.case.tracks() {
            // Also what bypath gave back at its end.
            run("conntrack -F", "")?;
        }
        let (plan, case) = (self.plan, self.case);
        self.pair
            .set_work(plan.work(case, size, flows, self.lab.next_hop(case)));
        let mut running = subject.start(case, self.lab, plan.cpu)?;
        if let Some(version) = running.version() {
            Event::Version(subject.name().to_owned(), version).tell();
        }
        let done = self
            .warm_up(size, flows)
            .and_then(|warm| work(self.pair, &Counters::read, warm));
        // Of a subject that died its own words are the better ones.
        running.check()?;
        let stopped = running.stop();
        let done = done.map_err(|error| format!("{case}, subject {}: {error}", subject.name()))?;
        stopped?;
        Ok(done)
    }
}

/// Ends a trial once so many frames have come, but not before a third of a second.
fn until(frames: u64) -> OnTick {
    Box::new(move |tick| tick.elapsed < WARM_SECONDS_MIN || tick.arrived < frames)
}

/// What is to be said of a warming up that did not come to its end.
fn begun(received: u64, wanted: u64, flows: u32) -> Option<String> {
    (received < wanted).then(|| {
        format!(
            "{received} frames came within the {WARM_SECONDS_MAX} s of warming up, for {flows} flows: connections begin in what was \
             measured, too"
        )
    })
}

/// A trial of RFC 2544.
fn entry(case: Case, subject: &Subject, round: u32, work: &Work, step: &rfc2544::Step<'_>) -> Entry {
    let work = Work {
        size: step.size,
        rate: step.rate,
        duration: Duration::try_from_secs_f64(step.outcome.seconds).unwrap_or_default(),
        ..work.clone()
    };
    Entry {
        case: case.word().to_owned(),
        subject: subject.name().to_owned(),
        round,
        work,
        outcome: step.outcome.clone(),
    }
}

/// Who forwarded how much, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    /// Of bypath: frames received, and forwarded.
    own: Option<(u64, u64)>,
    /// Datagrams that the router's kernel forwarded.
    kernel: u64,
}

impl Counters {
    /// Read by a thread of the router.
    fn read(subject: &Subject) -> Result<Self, String> {
        let own = subject.counts_itself().then(totals).transpose()?;
        let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
        Ok(Self {
            own,
            kernel: forwarded(&snmp).unwrap_or(0),
        })
    }

    fn since(self, before: &Self) -> Self {
        let own = self.own.zip(before.own);
        Self {
            own: own.map(|(now, then)| (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1))),
            kernel: self.kernel.saturating_sub(before.kernel),
        }
    }

    /// What is to be said of a trial of which so many frames arrived.
    fn notes(self, subject: &Subject, received: u64) -> Vec<String> {
        let mut notes = Vec::new();
        let name = subject.name();
        if let Some((taken, forwarded)) = self.own {
            let share = forwarded as f64 / taken.max(1) as f64;
            let warning = match share < OWN_SHARE_MIN {
                true => ": this measures the kernel too",
                false => "",
            };
            notes.push(format!(
                "{name} forwarded {:.2} % of the {taken} frames that it took{warning}",
                share * 100.0
            ));
        }
        let kernel = matches!(subject, Subject::Kernel | Subject::KernelRps);
        let share = self.kernel as f64 / received.max(1) as f64;
        if !kernel && share > 1.0 - OWN_SHARE_MIN {
            notes.push(format!(
                "the kernel forwarded {} of the {received} frames that came, not {name}: this measures the kernel too",
                self.kernel
            ));
        } else if let Some((_, forwarded)) = self.own
            && (forwarded as f64) < OWN_SHARE_MIN * received as f64
        {
            notes.push(format!(
                "{name} forwarded {forwarded} of the {received} frames that came, and somebody else the others: this measures \
                 the kernel too"
            ));
        }
        notes
    }
}

/// `bypath show totals` in the router: received, forwarded.
fn totals() -> Result<(u64, u64), String> {
    let path = own_path()?;
    let text = output(&format!("{} show totals --json", path.display()), "")?;
    let totals: Value = serde_json::from_str(&text).unwrap_or_default();
    let count = |name: &str| totals[name].as_u64();
    count("received").zip(count("forwarded")).ok_or_else(|| {
        format!("`bypath show totals --json` said {text}, not what it counts: use one version of bypath")
    })
}

/// ForwDatagrams of /proc/net/snmp.
fn forwarded(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == "ForwDatagrams")?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// More flows than the connection table has room for are a case of their own, and said.
fn note_room(flows: u32) {
    let room = std::fs::read_to_string(CONNECTIONS_MAX).ok();
    let room: Option<u64> = room.and_then(|text| text.trim().parse().ok());
    if let Some(room) = room.filter(|&room| u64::from(flows) > room) {
        Event::Note(format!(
            "{flows} flows are more than the machine's connection table has room for ({room}, nf_conntrack_max): \
             kernel and bypath drop or replace what does not fit, each in its way"
        ))
        .tell();
    }
}

/// A process that never sleeps, on one core, until it is dropped.
struct Load(Child);

fn load(cpu: usize) -> Result<Load, String> {
    let spinning = std::thread::spawn(move || {
        // The child inherits the core of this thread.
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
        let mut command = Command::new("sh");
        command
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.spawn()
    });
    match spinning.join() {
        Ok(Ok(child)) => Ok(Load(child)),
        Ok(Err(error)) => Err(format!("cannot start sh, {error}: it is to load the forwarding core")),
        Err(_) => Err("the thread that starts the load died: try once more".into()),
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::trial::Tick;

    #[test]
    fn warming_up_ends_when_each_connection_has_begun() {
        let tick = |elapsed, arrived| Tick {
            elapsed,
            arrived,
            ..Tick::default()
        };
        let wanted = warm_frames(Case::Nat, 1_000);
        let mut goes_on = until(wanted);
        assert!(goes_on(&tick(0.2, wanted)) && goes_on(&tick(7.9, wanted - 1)));
        assert!(!goes_on(&tick(0.3, wanted)));
        assert_eq!(begun(wanted, wanted, 1_000), None);
        let note = begun(700, wanted, 1_000).unwrap();
        assert!(
            note.starts_with("700 frames came") && note.contains("for 1000 flows"),
            "{note}"
        );
        assert_eq!(warm_frames(Case::Route, 1_000), 0);
    }

    #[test]
    fn the_kernels_count_is_found_by_its_name() {
        let snmp = "Ip: Forwarding DefaultTTL ForwDatagrams InUnknownProtos\nIp: 1 64 4711 0\nIcmp: InMsgs\nIcmp: 3\n";
        assert_eq!(forwarded(snmp), Some(4711));
        assert_eq!(forwarded("Icmp: InMsgs\nIcmp: 3\n"), None);
    }

    #[test]
    fn who_leaves_it_to_the_kernel_is_told_on() {
        let counters = |own, kernel| Counters { own, kernel };
        let after = counters(Some((1_100, 1_090)), 7).since(&counters(Some((100, 100)), 7));
        assert_eq!(after, counters(Some((1_000, 990)), 0));
        assert_eq!(
            after.notes(&Subject::Bypath, 990),
            ["bypath forwarded 99.00 % of the 1000 frames that it took"]
        );
        let notes = counters(Some((1_000, 10)), 900).notes(&Subject::Bypath, 910);
        assert!(notes.len() == 2 && notes.iter().all(|note| note.ends_with("measures the kernel too")));
        // What a bridge of the kernel forwards is in no counter of IP.
        let bridged = counters(Some((500, 500)), 0);
        assert_eq!(bridged.notes(&Subject::Bypath, 510).len(), 1);
        let notes = bridged.notes(&Subject::Bypath, 1_000);
        assert!(
            notes.len() == 2 && notes[1].contains("500 of the 1000") && notes[1].ends_with("measures the kernel too"),
            "{notes:?}"
        );
        assert!(counters(None, 1_000).notes(&Subject::Kernel, 1_000).is_empty());
        assert_eq!(counters(None, 1_000).notes(&Subject::Bare, 1_000).len(), 1);
    }
}
