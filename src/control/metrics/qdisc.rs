//! Metrics of the qdiscs and classes by which ports are shaped, and of policers: those of `show qdisc`, by port and handle.
//!
//! As many samples as there are classes, which the operator has bounded by configuring them.

use super::{escaped, metric};
use crate::control::report::{Qdisc, QdiscCounts};

/// One counter or gauge of a qdisc: its name, its kind, what it counts, and where it stands in the report.
type QdiscCount = (&'static str, &'static str, &'static str, fn(&QdiscCounts) -> u64);

const QDISC_COUNTS: [QdiscCount; 5] = [
    (
        "qdisc_bytes_total",
        "counter",
        "Bytes that a qdisc or class sent, or that met a policer.",
        |counts| counts.bytes,
    ),
    (
        "qdisc_packets_total",
        "counter",
        "Packets that a qdisc or class sent, or that met a policer.",
        |counts| counts.packets,
    ),
    (
        "qdisc_drops_total",
        "counter",
        "Packets that a qdisc, class or policer dropped.",
        |counts| counts.drops,
    ),
    (
        "qdisc_overlimits_total",
        "counter",
        "Times that a packet had to wait for tokens, or exceeded.",
        |counts| counts.overlimits,
    ),
    ("qdisc_backlog_bytes", "gauge", "Bytes that wait.", |counts| {
        counts.backlog
    }),
];

/// Appends them.
pub fn qdiscs(text: &mut String, qdiscs: &[Qdisc]) {
    let label = |row: &Qdisc| {
        let queue = row.queue.map_or(String::new(), |queue| format!(",queue=\"{queue}\""));
        format!(
            "{{port=\"{}\",kind=\"{}\",handle=\"{}\"{queue}}}",
            escaped(&row.dev),
            row.kind,
            row.handle
        )
    };
    for (name, kind, help, read) in QDISC_COUNTS {
        let samples = qdiscs.iter().map(|row| (label(row), read(&row.counts)));
        metric(text, name, kind, help, samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_qdisc_and_class_has_its_samples() {
        let row = Qdisc {
            dev: "d0".into(),
            kind: "tbf".into(),
            handle: "1:".into(),
            counts: QdiscCounts {
                bytes: 4,
                backlog: 2,
                ..QdiscCounts::default()
            },
            ..Qdisc::default()
        };
        let below_mq = Qdisc {
            queue: Some(3),
            ..row.clone()
        };
        let mut text = String::new();
        qdiscs(&mut text, &[row, below_mq]);
        for line in [
            "# TYPE bypath_qdisc_backlog_bytes gauge",
            "bypath_qdisc_bytes_total{port=\"d0\",kind=\"tbf\",handle=\"1:\"} 4",
            "bypath_qdisc_backlog_bytes{port=\"d0\",kind=\"tbf\",handle=\"1:\"} 2",
            "bypath_qdisc_drops_total{port=\"d0\",kind=\"tbf\",handle=\"1:\",queue=\"3\"} 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }
}
