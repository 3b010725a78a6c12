//! What may be concluded from a few noisy rounds: the median, an interval that has the true one in 95 of 100 runs, and
//! the ratio of two subjects within each round.
//!
//! - From six samples on the interval is that of the sign test: the k-th smallest and the k-th largest value, with the
//!   largest k that still covers 95 %. It supposes nothing about how rounds vary.
//! - Two to five samples cannot say so much: even the smallest and the largest of five hold the median between them in
//!   only 15 of 16 runs, and no resampling of the five comes out of that range. There it is Student's interval on the
//!   logarithms, which supposes that rounds vary by factors, evenly up and down. It is wide, and should be.
//! - Of one sample there is none: both ends are the sample, and `samples` says why.
//! - A round in which a subject forwarded nothing is a sample of rates like any other: 0 where it is above the line, and
//!   [`UNBOUNDED`] below it. Ranks take that; Student's interval cannot, so that below six samples there is no ratio then,
//!   and that is said. A round in which both forwarded nothing has none.
//!
//! Rounds are paired: what disturbs this machine for a minute disturbs both subjects of a round, and cancels in their
//! ratio.

use super::outcome::Outcome;
use super::report::{Entry, Interval, Ratio, Rfc2544};
use super::work::{Flows, Kind, Rate, Size};
use std::collections::{BTreeMap, BTreeSet};

/// Student's t for 95 % of both sides, by degrees of freedom from 1.
const STUDENT: [f64; 4] = [12.706_204_736, 4.302_652_730, 3.182_446_305, 2.776_445_105];
/// From so many samples on nothing need be supposed of them.
const ENOUGH: usize = STUDENT.len() + 2;

/// A ratio to nothing, and the highest end of an interval. No infinity, for which JSON has no number.
pub const UNBOUNDED: f64 = 1e300;

/// The median; nothing of none. What is not finite is left out.
pub fn median(values: &[f64]) -> Option<f64> {
    middle(&sorted(values))
}

/// The median with its 95 % interval; nothing of no sample. What is not finite is left out.
pub fn interval(values: &[f64]) -> Option<Interval> {
    let sorted = sorted(values);
    let median = middle(&sorted)?;
    let (low, high) = match sorted.len() {
        1 => (median, median),
        few if few < ENOUGH => student(&sorted),
        many => {
            let k = sign_test_rank(many);
            (sorted[k - 1], sorted[many - k])
        }
    };
    // Logarithms and back may round away from a median that all samples share.
    Some(Interval {
        median,
        low: low.min(median),
        high: high.max(median),
        samples: sorted.len() as u32,
    })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[half]),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

/// The largest k so that the k-th smallest and the k-th largest of `n` have the median between them in 95 % of all
/// runs: of n throws of a coin fewer than k are heads in at most 2.5 %. At least 1; `n` is [`ENOUGH`] or more.
fn sign_test_rank(n: usize) -> usize {
    // The binomial's terms by their logarithms, for 0.5^n is nothing from n = 1075 on.
    let mut term = n as f64 * 0.5f64.ln();
    let mut tail = 0.0;
    for k in 0..n / 2 {
        tail += term.exp();
        if tail > 0.025 {
            return k.max(1);
        }
        term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (n / 2).max(1)
}

/// Student's interval of two to five values: on their logarithms, or on themselves where one is not positive.
fn student(values: &[f64]) -> (f64, f64) {
    let by_factors = values.iter().all(|&value| value > 0.0);
    let scaled: Vec<f64> = values.iter().map(|v| if by_factors { v.ln() } else { *v }).collect();
    let n = scaled.len() as f64;
    let mean = scaled.iter().sum::<f64>() / n;
    let variance = scaled.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = STUDENT[scaled.len() - 2] * (variance / n).sqrt();
    let back = |v: f64| if by_factors { v.exp().min(UNBOUNDED) } else { v };
    (back(mean - half), back(mean + half))
}

/// The numbers of an outcome that ratios are made of, and of which kind of trial: those of frames per second where the
/// source went as fast as it could (else all that forward keep up), delays where it was paced (else they are those of
/// full queues). CPU time too is of unpaced trials: at a given rate whoever polls has its whole core, and the ratio would
/// be one of cores that spin.
const COMPARED: [(&str, Of); 5] = [
    ("received_pps", Of::Unpaced),
    ("p50_ns", Of::Paced),
    ("p99_ns", Of::Paced),
    ("p999_ns", Of::Paced),
    ("cpu_ns_per_frame", Of::Unpaced),
];

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Paced,
    Unpaced,
}

/// A number of an outcome by the name that [`Ratio::what`] has for it; nothing where it was not measured.
pub fn value(outcome: &Outcome, what: &str) -> Option<f64> {
    let latency = outcome.latency.as_ref().filter(|latency| latency.count > 0);
    match what {
        "received_pps" => Some(outcome.received_pps()),
        "p50_ns" => latency.map(|l| l.p50_ns as f64),
        "p99_ns" => latency.map(|l| l.p99_ns as f64),
        "p999_ns" => latency.map(|l| l.p999_ns as f64),
        "cpu_ns_per_frame" => outcome.cpu_ns_per_frame,
        _ => None,
    }
}

/// What must be equal for two entries to be of one kind, whoever is measured and in whichever round. Addresses are not
/// part of it: each round may have links of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Same {
    case: String,
    kind: Kind,
    size: Size,
    flows: Flows,
    rate: Rate,
}

impl Same {
    /// Of an entry.
    pub fn of(entry: &Entry) -> Self {
        let work = &entry.work;
        Same {
            case: entry.case.clone(),
            kind: work.kind,
            size: work.size,
            flows: work.flows,
            rate: work.rate,
        }
    }
}

/// What must be equal for two searches to be of one kind: case, kind of frames, size, number of flows.
pub type Searched<'a> = (&'a str, Option<Kind>, &'a str, u32);

/// Of a search.
pub fn searched(one: &Rfc2544) -> Searched<'_> {
    (&one.case, one.kind, &one.size, one.flows)
}

/// How one subject compares with another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// All ratios that there are.
    pub ratios: Vec<Ratio>,
    /// What is to be said of them, and of those that there are not.
    pub notes: Vec<String>,
    /// What one of them has done without the other, in lines as those of the notes. A lab knows it: it says how it ended.
    pub alone: Vec<String>,
}

/// What is compared, for a note.
fn named((case, kind, size, flows): Searched<'_>, of: &str, to: &str) -> String {
    let kind = kind.map(|kind| format!("{kind}, ")).unwrap_or_default();
    format!("{case}, {of} to {to}, {kind}size {size}, flows {flows}")
}

impl Compared {
    /// Adds one, of which all but the interval is known: of pairs of rounds, above and below the line.
    fn add(&mut self, ratio: Ratio, pairs: &[(f64, f64)]) {
        let rates = ratio.what.ends_with("_pps");
        let quotients: Vec<f64> = pairs
            .iter()
            .filter_map(|&(above, below)| {
                if rates {
                    of_rates(above, below)
                } else {
                    Some(above / below)
                }
            })
            .collect();
        let failed = pairs
            .iter()
            .filter(|(above, below)| *above <= 0.0 || *below <= 0.0)
            .count();
        let found = match rates && failed > 0 && quotients.len() < ENOUGH {
            true => None,
            false => interval(&quotients),
        };
        if rates && failed > 0 {
            let (of, to, what) = (&ratio.of, &ratio.to, &ratio.what);
            let named = named((&ratio.case, ratio.kind, &ratio.size, ratio.flows), of, to);
            let outcome = match found {
                Some(_) => "a round of the former counts as 0, of the latter as beyond all bounds, of both not at all",
                None => "no ratio",
            };
            self.notes.push(format!(
                "{named}, {what}: {failed} of {} rounds without a rate: {outcome}",
                pairs.len()
            ));
        }
        self.ratios.extend(found.map(|found| Ratio { ratio: found, ..ratio }));
    }

    /// Says which rounds, of `of` and of `to`, have no partner.
    fn add_alone(&mut self, named: &str, [of, to]: [&str; 2], rounds: [usize; 2]) {
        for (rounds, who, other) in [(rounds[0], of, to), (rounds[1], to, of)] {
            if rounds > 0 {
                let s = if rounds == 1 { "" } else { "s" };
                self.alone.push(format!(
                    "{named}: {rounds} run{s} of {who} left out: {other} has none beside"
                ));
            }
        }
    }
}

/// How many rounds only the first has, and only the second.
fn alone<'a, T: 'a>(rounds: impl Iterator<Item = &'a [Option<T>; 2]> + Clone) -> [usize; 2] {
    let without = |side: usize| rounds.clone().filter(|pair| pair[side].is_none()).count();
    [without(1), without(0)]
}

/// A ratio of rates; nothing where neither of them is one.
fn of_rates(above: f64, below: f64) -> Option<f64> {
    match (above > 0.0, below > 0.0) {
        (_, true) => Some(above / below),
        (true, false) => Some(UNBOUNDED),
        (false, false) => None,
    }
}

/// Who is compared with whom, `(of, to)`: every subject with the kernel (or the first, where the kernel is not measured), and bypath
/// with every other.
pub fn pairs<'a>(names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let Some(&base) = names.iter().find(|&&name| name == "kernel").or(names.first()) else {
        return Vec::new();
    };
    let others = |not: &'static str| names.iter().copied().filter(move |&name| name != base && name != not);
    let of_bypath = others("bypath").filter(|_| names.contains(&"bypath"));
    let to_base = others("").map(|name| (name, base));
    to_base.chain(of_bypath.map(|name| ("bypath", name))).collect()
}

/// How subject `of` compares with subject `to` in all that both were measured in, each ratio within its round. Rounds in which
/// one of them is missing are left out, and those of which one does not count; both is said. So are those that have no delay or no CPU
/// time to divide.
pub fn ratios(entries: &[Entry], of: &str, to: &str) -> Compared {
    // In the order of the report, which is that in which they were measured first.
    let mut order: Vec<Same> = Vec::new();
    let mut rounds: BTreeMap<(usize, u32), [Option<&Outcome>; 2]> = BTreeMap::new();
    let mut void: BTreeSet<(usize, u32)> = BTreeSet::new();
    for entry in entries {
        let side = match &entry.subject {
            subject if subject == of => 0,
            subject if subject == to => 1,
            _ => continue,
        };
        let same = Same::of(entry);
        let at = order.iter().position(|known| *known == same).unwrap_or_else(|| {
            order.push(same);
            order.len() - 1
        });
        if entry.outcome.void {
            void.insert((at, entry.round));
        }
        rounds.entry((at, entry.round)).or_default()[side] = Some(&entry.outcome);
    }
    rounds.retain(|round, _| !void.contains(round));
    let mut found = Compared::default();
    for (at, same) in order.iter().enumerate() {
        let size = same.size.to_string();
        let named = named((&same.case, Some(same.kind), &size, same.flows.count), of, to);
        let left_out = void.range((at, 0)..=(at, u32::MAX)).count();
        if left_out > 0 {
            let s = if left_out == 1 { "" } else { "s" };
            found.notes.push(format!(
                "{named}: {left_out} round{s} left out, of which a trial does not count (its clock)"
            ));
        }
        let here = rounds.range((at, 0)..=(at, u32::MAX)).map(|(_, pair)| pair);
        found.add_alone(&named, [of, to], alone(here.clone()));
        let (trial, wanted_pps) = match same.rate {
            Rate::Paced(pps) => (Of::Paced, Some(pps)),
            Rate::Unpaced => (Of::Unpaced, None),
        };
        for (what, of_trial) in COMPARED {
            if of_trial != trial {
                continue;
            }
            let pairs: Vec<(f64, f64)> = here
                .clone()
                .filter_map(|pair| Some((value(pair[0]?, what)?, value(pair[1]?, what)?)))
                .collect();
            let ratio = Ratio {
                case: same.case.clone(),
                kind: Some(same.kind),
                size: size.clone(),
                flows: same.flows.count,
                wanted_pps,
                of: of.to_owned(),
                to: to.to_owned(),
                what: what.to_owned(),
                ratio: Interval::default(),
            };
            found.add(ratio, &pairs);
        }
    }
    found
}

/// The same of throughputs by RFC 2544, each ratio within its round.
pub fn throughput_ratios(results: &[Rfc2544], of: &str, to: &str) -> Compared {
    let mut order: Vec<Searched> = Vec::new();
    let mut rounds: BTreeMap<(usize, u32), [Option<f64>; 2]> = BTreeMap::new();
    for one in results {
        let side = match &one.subject {
            subject if subject == of => 0,
            subject if subject == to => 1,
            _ => continue,
        };
        let at = order
            .iter()
            .position(|known| *known == searched(one))
            .unwrap_or_else(|| {
                order.push(searched(one));
                order.len() - 1
            });
        rounds.entry((at, one.round)).or_default()[side] = Some(one.throughput_pps);
    }
    let mut found = Compared::default();
    for (at, &same) in order.iter().enumerate() {
        let here = rounds.range((at, 0)..=(at, u32::MAX)).map(|(_, pair)| pair);
        found.add_alone(&named(same, of, to), [of, to], alone(here.clone()));
        let pairs: Vec<(f64, f64)> = here.filter_map(|pair| Some((pair[0]?, pair[1]?))).collect();
        let (case, kind, size, flows) = same;
        let ratio = Ratio {
            case: case.to_owned(),
            kind,
            size: size.to_owned(),
            flows,
            wanted_pps: None,
            of: of.to_owned(),
            to: to.to_owned(),
            what: "throughput_pps".to_owned(),
            ratio: Interval::default(),
        };
        found.add(ratio, &pairs);
    }
    found
}

#[cfg(test)]
mod tests;
