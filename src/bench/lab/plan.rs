//! What the lab measures: every case, size and number of flows, of each every round, in each round every subject. Plain
//! data, checked here and told to the process inside as JSON.
//!
//! What cannot be is refused here, in one line, before anything is made: no case, a subject twice, a rate of nothing.

use super::case::Case;
use super::subject::Subject;
use crate::bench::rfc2544;
use crate::bench::sink::SinkKind;
use crate::bench::work::{Flows, Kind, Order, Rate, Size, Work};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The first source address; the router's network has 250 more.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// Warming up: a third of a second, and in a case that tracks connections until [`WARM_FRAMES`] have come for each.
pub(super) const WARM_SECONDS_MIN: f64 = 0.3;
/// But no longer than this.
pub(super) const WARM_SECONDS_MAX: f64 = 8.0;
/// Where frames are lost by chance, however many, of three that came for each flow 95 of 100 flows have one.
pub(super) const WARM_FRAMES: u64 = 3;
/// About what comes through meanwhile, to say beforehand how long it takes.
const WARM_PER_SECOND: f64 = 500_000.0;
/// Starting a subject, ending it, letting the kernel settle.
const BETWEEN_SECONDS: f64 = 2.0;
/// Making a topology; a million routes take some more.
const BUILD_SECONDS: f64 = 2.0;

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What the router does.
    pub cases: Vec<Case>,
    /// Who the router is, in the order of the even rounds.
    pub subjects: Vec<Subject>,
    /// Sizes of frames.
    pub sizes: Vec<Size>,
    /// Numbers of flows.
    pub flows: Vec<u32>,
    /// What the frames are.
    pub kind: Kind,
    /// Which flow is next.
    pub order: Order,
    /// Flows a second that are new.
    pub new_per_second: u32,
    /// Of random orders.
    pub seed: u64,
    /// How fast: paced trials are for delays, unpaced ones for frames per second.
    pub rate: Rate,
    /// Length of a trial.
    pub seconds: f64,
    /// Rounds.
    pub rounds: u32,
    /// The core that forwards.
    pub cpu: usize,
    /// The core that sends.
    pub source_cpu: usize,
    /// The core of the receiver's thread.
    pub sink_cpu: usize,
    /// Whether frames come from an AF_XDP ring; else from the kernel's live-frame source.
    pub xsk_source: bool,
    /// How what arrives is judged.
    pub sink: SinkKind,
    /// Keep the forwarding core busy with another process.
    pub loaded: bool,
    /// Measure first what the bench itself gets wrong.
    pub own_error: bool,
    /// What is done with each subject.
    pub test: Test,
}

/// What is done with each subject, in each case, with each number of flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// A trial of each size, in rounds.
    Trials,
    /// The tests of RFC 2544, which say themselves which sizes and rates.
    Rfc2544(rfc2544::Plan),
}

impl Plan {
    /// Whether it can be carried out by a process that may use these CPUs.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn validate(&self, allowed: &[usize]) -> Result<(), String> {
        if allowed.len() < 2 {
            return Err(
                "the lab needs two CPUs, one that sends and one that forwards: allow this process another".into(),
            );
        }
        for (what, cpu) in [
            ("forward", self.cpu),
            ("send", self.source_cpu),
            ("receive", self.sink_cpu),
        ] {
            if !allowed.contains(&cpu) {
                let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
                return Err(format!(
                    "CPU {cpu}, which is to {what}, is not there: name CPUs of {}",
                    allowed.join(",")
                ));
            }
        }
        if self.cpu == self.source_cpu {
            return Err(format!(
                "CPU {} is to send and to forward: name two CPUs, for either would measure the other",
                self.cpu
            ));
        }
        for (n, subject) in self.subjects.iter().enumerate() {
            if self.subjects[..n].iter().any(|other| other.name() == subject.name()) {
                return Err(format!("subject {} is named twice: name each once", subject.name()));
            }
        }
        let empty = |what: &str| Err(format!("no {what} is named: name one at least"));
        if let Test::Rfc2544(plan) = &self.test {
            plan.validate()?;
        }
        match self {
            Plan { cases, .. } if cases.is_empty() => empty("case"),
            Plan { subjects, .. } if subjects.is_empty() => empty("subject"),
            Plan { sizes, .. } if sizes.is_empty() => empty("size"),
            Plan { flows, .. } if flows.is_empty() => empty("number of flows"),
            _ if self.trials() == 0 => Err(
                "no subject takes part in these cases (the kernel has no wire): name another case or subject".into(),
            ),
            _ => Ok(()),
        }
    }

    /// Those that are measured in a case.
    pub fn subjects_of(&self, case: Case) -> Vec<&Subject> {
        self.subjects.iter().filter(|subject| subject.takes(case)).collect()
    }

    /// How many trials there are.
    pub fn trials(&self) -> usize {
        let pairs: usize = self.cases.iter().map(|&case| self.subjects_of(case).len()).sum();
        pairs * self.sizes.len() * self.flows.len() * self.rounds as usize
    }

    /// About how long it takes.
    pub fn seconds_expected(&self) -> f64 {
        let of = |case: Case, flows: u32| {
            let trial = self.seconds + self.warm_seconds(case, flows) + BETWEEN_SECONDS;
            trial * (self.subjects_of(case).len() * self.sizes.len() * self.rounds as usize) as f64
        };
        let cases = self.cases.iter();
        cases
            .map(|&case| BUILD_SECONDS + self.flows.iter().map(|&flows| of(case, flows)).sum::<f64>())
            .sum()
    }

    /// About how long a subject is warmed up.
    fn warm_seconds(&self, case: Case, flows: u32) -> f64 {
        let frames = warm_frames(case, flows) as f64;
        let begin = frames / self.pace().unwrap_or(WARM_PER_SECOND).min(WARM_PER_SECOND);
        begin.clamp(WARM_SECONDS_MIN, WARM_SECONDS_MAX)
    }

    /// The longest silence of a process inside that is well: a trial, and whatever is started and stopped around it.
    pub fn silence_max(&self) -> Duration {
        let trial = match &self.test {
            Test::Trials => self.seconds,
            Test::Rfc2544(plan) => plan.seconds.max(plan.search_seconds),
        };
        Duration::from_secs_f64(trial.clamp(0.0, 86_400.0) + WARM_SECONDS_MAX + 150.0)
    }

    /// The rate where it is paced.
    pub fn pace(&self) -> Option<f64> {
        match self.rate {
            Rate::Paced(pps) => Some(pps),
            Rate::Unpaced => None,
        }
    }

    /// What is sent in a case, to this Ethernet address.
    pub fn work(&self, case: Case, size: Size, flows: u32, dst_mac: [u8; 6]) -> Work {
        Work {
            kind: self.kind,
            size,
            flows: Flows {
                count: flows,
                order: self.order,
                new_per_second: self.new_per_second,
            },
            rate: self.rate,
            duration: Duration::from_secs_f64(self.seconds),
            seed: self.seed,
            src_mac: None,
            dst_mac,
            src: IpAddr::V4(CLIENT),
            dst: IpAddr::V4(super::case::DESTINATION.into()),
            dsts: case.destinations(flows),
            sport: 1024,
            dport: 9,
        }
    }
}

/// So many frames are to come through before anything is measured.
pub(super) fn warm_frames(case: Case, flows: u32) -> u64 {
    if case.tracks() {
        WARM_FRAMES * u64::from(flows)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cases: &[Case], subjects: &[&str]) -> Plan {
        Plan {
            cases: cases.to_vec(),
            subjects: subjects.iter().map(|text| Subject::parse(text).unwrap()).collect(),
            sizes: vec![Size::Bytes(64), Size::Imix],
            flows: vec![1, 1_000_000],
            kind: Kind::Udp,
            order: Order::RoundRobin,
            new_per_second: 0,
            seed: 1,
            rate: Rate::Unpaced,
            seconds: 1.0,
            rounds: 3,
            cpu: 1,
            source_cpu: 0,
            sink_cpu: 0,
            xsk_source: false,
            sink: SinkKind::Link,
            loaded: false,
            own_error: true,
            test: Test::Trials,
        }
    }

    #[test]
    fn trials_are_counted_where_a_subject_takes_part() {
        let plan = plan(&[Case::Wire, Case::Route], &["kernel", "bypath", "x@route=x"]);
        // wire: bypath alone; route: all three.
        assert_eq!(plan.trials(), (1 + 3) * 2 * 2 * 3);
        assert!(plan.seconds_expected() > plan.trials() as f64 * 3.0);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let fine = plan(&[Case::Route], &["kernel", "bypath"]);
        assert_eq!(fine.validate(&[0, 1]), Ok(()));
        let wrong = |change: fn(&mut Plan), says: &str| {
            let mut plan = fine.clone();
            change(&mut plan);
            let error = plan.validate(&[0, 1]).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        wrong(|plan| plan.cpu = 2, "name CPUs of 0,1");
        wrong(|plan| plan.cpu = 0, "name two CPUs");
        wrong(|plan| plan.subjects.push(Subject::Bypath), "bypath is named twice");
        wrong(|plan| plan.sizes.clear(), "no size");
        wrong(|plan| plan.cases.clear(), "no case");
        wrong(
            |plan| (plan.cases, plan.subjects) = (vec![Case::Wire], vec![Subject::Kernel]),
            "no wire",
        );
        assert!(fine.validate(&[1]).unwrap_err().contains("two CPUs"));
    }

    #[test]
    fn connections_are_begun_before_they_are_measured() {
        let plan = plan(&[Case::Nat], &["kernel"]);
        assert_eq!(plan.warm_seconds(Case::Route, 1_000_000), 0.3);
        assert_eq!(plan.warm_seconds(Case::Nat, 1_000), 0.3);
        assert_eq!(plan.warm_seconds(Case::Nat, 1_000_000), 6.0);
        assert_eq!(plan.warm_seconds(Case::Nat, 10_000_000), 8.0);
    }

    #[test]
    fn it_is_read_back_as_it_was_told() {
        let plan = plan(&Case::ALL, &["kernel", "bypath", "x@nat-1000-rules,route-1m=x {a}"]);
        let line = serde_json::to_string(&plan).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Plan>(&line).unwrap(), plan);
    }
}
