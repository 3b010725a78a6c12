//! The report as charts and tables want it: subjects in one order, which is their colour and shape wherever they are
//! drawn, and trials of the same work brought together over the rounds.
//!
//! Only what is the same in everything but the round is one group: a paced trial is never averaged with an unpaced one,
//! nor UDP with TCP. So a number on the page is always of one work, and the page says which.

use super::units;
use crate::bench::outcome::{Latency, Outcome, losing_rounds, loss_of_all};
use crate::bench::report::{Entry, Interval, Report};
use crate::bench::statistics;
use crate::bench::work::{Kind, Order, Rate, Size, Work};

/// A report, and its trials in groups.
pub struct Model<'a> {
    /// The report.
    pub report: &'a Report,
    /// Names of subjects.
    pub subjects: Vec<&'a str>,
    /// Groups, in the order of their first trials.
    pub groups: Vec<Group<'a>>,
}

/// What was sent through one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting<'a> {
    /// The case.
    pub case: &'a str,
    /// The kind of frames, their order and new flows, where that is not UDP one after the other.
    pub variant: String,
    /// The size.
    pub size: Size,
    /// The number of flows.
    pub flows: u32,
    /// The rate.
    pub rate: Rate,
}

/// The trials of one subject with one setting, but for those that do not count.
pub struct Group<'a> {
    /// The setting.
    pub setting: Setting<'a>,
    /// The number of the subject.
    pub subject: usize,
    /// The trials.
    pub entries: Vec<&'a Entry>,
}

impl<'a> Model<'a> {
    /// Sorts a report's trials.
    pub fn new(report: &'a Report) -> Model<'a> {
        let named = report.entries.iter().map(|entry| entry.subject.as_str());
        let named = named.chain(report.rfc2544.iter().map(|found| found.subject.as_str()));
        let ratios = report
            .ratios
            .iter()
            .flat_map(|ratio| [ratio.to.as_str(), ratio.of.as_str()]);
        let mut subjects = distinct(named.chain(ratios));
        // The same colours from report to report, for those that nearly all have.
        let known = ["bypath", "kernel", "wire", "bare"];
        subjects.sort_by_key(|name| known.iter().position(|k| k == name).unwrap_or(known.len()));
        let mut groups: Vec<Group> = Vec::new();
        // Trials of RFC 2544 are steps of a search, and no results.
        let results: &[Entry] = if report.kind == "rfc2544" { &[] } else { &report.entries };
        for entry in results.iter().filter(|entry| !entry.outcome.void) {
            let setting = Setting {
                case: &entry.case,
                variant: variant(&entry.work),
                size: entry.work.size,
                flows: entry.work.flows.count,
                rate: entry.work.rate,
            };
            let subject = subjects.iter().position(|name| *name == entry.subject).unwrap_or(0);
            let known = groups
                .iter_mut()
                .find(|group| group.subject == subject && group.setting == setting);
            match known {
                Some(group) => group.entries.push(entry),
                None => groups.push(Group {
                    setting,
                    subject,
                    entries: vec![entry],
                }),
            }
        }
        Model {
            report,
            subjects,
            groups,
        }
    }

    /// The number of a subject.
    pub fn subject(&self, name: &str) -> usize {
        self.subjects.iter().position(|subject| *subject == name).unwrap_or(0)
    }

    /// Groups whose rate says what the path can do: unpaced ones. A paced one only shows what it was given.
    pub fn unpaced(&self) -> Vec<&Group<'a>> {
        self.groups
            .iter()
            .filter(|group| group.setting.rate == Rate::Unpaced)
            .collect()
    }
}

impl Group<'_> {
    /// Frames per second that arrived.
    pub fn pps(&self) -> Option<Interval> {
        self.over(|entry| Some(entry.outcome.received_pps()))
    }

    /// CPU time of all cores per frame.
    pub fn cpu(&self) -> Option<Interval> {
        self.over(|entry| entry.outcome.cpu_ns_per_frame)
    }

    /// A percentile, or whatever else is said of delays.
    pub fn delay(&self, of: impl Fn(&Latency) -> f64) -> Option<Interval> {
        self.over(|entry| entry.outcome.latency.as_ref().map(&of))
    }

    /// The lost share of all that was offered in all rounds.
    pub fn loss(&self) -> f64 {
        loss_of_all(&self.outcomes())
    }

    /// In how many rounds something was lost, where that is not the same in all.
    pub fn losing_rounds(&self) -> Option<String> {
        losing_rounds(&self.outcomes())
    }

    /// The longest delay of all rounds: a median would hide the round that failed.
    pub fn longest_ns(&self) -> Option<u64> {
        self.latencies().iter().map(|latency| latency.max_ns).max()
    }

    fn outcomes(&self) -> Vec<&Outcome> {
        self.entries.iter().map(|entry| &entry.outcome).collect()
    }

    /// The delays of each round.
    pub fn latencies(&self) -> Vec<&Latency> {
        self.entries
            .iter()
            .filter_map(|entry| entry.outcome.latency.as_ref())
            .collect()
    }

    fn over(&self, of: impl Fn(&Entry) -> Option<f64>) -> Option<Interval> {
        let values: Vec<f64> = self.entries.iter().filter_map(|entry| of(entry)).collect();
        statistics::interval(&values)
    }
}

/// Each value once, in the order of their first places.
pub fn distinct<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// A size as it is written in a report: `64`, `imix`.
pub fn size_name(word: &str) -> String {
    if word.eq_ignore_ascii_case("imix") {
        "IMIX".to_owned()
    } else {
        word.to_owned()
    }
}

/// A size as a title.
pub fn bytes_name(word: &str) -> String {
    if word.eq_ignore_ascii_case("imix") {
        "IMIX".to_owned()
    } else if word.parse::<u32>().is_ok() {
        format!("{word} bytes")
    } else {
        // Of a generator of connections, which have none.
        word.to_owned()
    }
}

/// The mean length, by which sizes are sorted.
pub fn mean_bytes(word: &str) -> f64 {
    word.parse().unwrap_or((7.0 * 64.0 + 4.0 * 594.0 + 1518.0) / 12.0)
}

/// Flows as words.
pub fn flows_name(flows: u32) -> String {
    let plural = if flows == 1 { "flow" } else { "flows" };
    format!("{} {plural}", units::count(flows.into()))
}

/// The rate as words.
pub fn rate_name(rate: Rate) -> String {
    match rate {
        Rate::Unpaced => "unpaced".to_owned(),
        Rate::Paced(pps) => units::rate(pps),
    }
}

/// The kind of frames, where that is not UDP.
pub fn kind_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Udp => None,
        Kind::TcpSyn => Some("TCP SYN"),
        Kind::TcpAck => Some("TCP ACK"),
        Kind::Icmp => Some("ICMP echo"),
    }
}

fn variant(work: &Work) -> String {
    let mut parts: Vec<String> = kind_name(work.kind).map(str::to_owned).into_iter().collect();
    if work.dst.is_ipv6() {
        parts.push("IPv6".to_owned());
    }
    match work.flows.order {
        Order::RoundRobin => {}
        Order::Random => parts.push("random order".to_owned()),
        Order::Zipf { exponent } => parts.push(format!("Zipf {exponent}")),
    }
    if work.flows.new_per_second > 0 {
        parts.push(format!(
            "{} new flows/s",
            units::count(work.flows.new_per_second.into())
        ));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_in_order() {
        assert_eq!(distinct([3, 1, 3, 2, 1]), [3, 1, 2]);
    }

    #[test]
    fn a_size_that_is_no_number_of_bytes_is_none() {
        let names = ["64", "imix", "connection"].map(bytes_name);
        assert_eq!(names, ["64 bytes", "IMIX", "connection"]);
    }

    #[test]
    fn sizes_sort_by_their_mean() {
        let mut sizes = ["1518", "imix", "64", "1024", "256"];
        sizes.sort_by(|a, b| mean_bytes(a).total_cmp(&mean_bytes(b)));
        assert_eq!(sizes, ["64", "256", "imix", "1024", "1518"]);
    }
}
