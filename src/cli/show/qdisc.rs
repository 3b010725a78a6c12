//! `show qdisc` as text, in the lines of `tc -s qdisc show` and `tc -s class show`: what bypath shapes by and what it
//! counted, and below, of the same handle, what the kernel itself sent.
//!
//! Rates, sizes and times are written as tc writes them (lib/utils_math.c of iproute2): powers of 1000 for rates where
//! they come out even, of 1024 for sizes where they nearly do.

use crate::control::report::{Qdisc, QdiscCounts};
use serde_json::Value;
use std::fmt::Write as _;

/// All of it, a paragraph each.
pub fn qdiscs(rows: &[Qdisc]) -> String {
    if rows.is_empty() {
        return "no port is shaped or policed by bypath\n".into();
    }
    rows.iter().map(one).collect()
}

fn one(row: &Qdisc) -> String {
    let mut text = format!("{} {} {} dev {}", what(row), row.kind, row.handle, row.dev);
    // Writing to a String cannot fail, here and below.
    let _ = match &row.parent {
        None => write!(text, " root"),
        Some(parent) => write!(text, " parent {parent}"),
    };
    if let Some(leaf) = &row.leaf {
        let _ = write!(text, " leaf {leaf}");
    }
    if let Some(queue) = row.queue {
        let _ = write!(text, " queue {queue}");
    }
    for word in words(row) {
        let _ = write!(text, " {word}");
    }
    text.push('\n');
    let counts = &row.counts;
    let _ = writeln!(text, " {}", sent(counts));
    let _ = writeln!(text, " backlog {} {}p", size(counts.backlog), counts.qlen);
    let is_htb_class = row.class && row.kind == "htb";
    if is_htb_class {
        let QdiscCounts {
            lended,
            borrowed,
            giants,
            ..
        } = counts;
        let _ = writeln!(text, " lended: {lended} borrowed: {borrowed} giants: {giants}");
        if let (Some(tokens), Some(ctokens)) = (counts.tokens, counts.ctokens) {
            let _ = writeln!(text, " tokens: {tokens} ctokens: {ctokens}");
        }
    }
    match row.kind.as_str() {
        "fq_codel" => _ = writeln!(text, " ecn_mark {}", counts.ecn_mark),
        "fq" if counts.ecn_mark > 0 => _ = writeln!(text, " ce_mark {}", counts.ecn_mark),
        _ => {}
    }
    if let Some(kernel) = &row.kernel {
        let _ = writeln!(text, " kernel: {}", sent(kernel));
    }
    text
}

fn what(row: &Qdisc) -> &'static str {
    match row.kind.as_str() {
        "police" => "action",
        _ if row.class => "class",
        _ => "qdisc",
    }
}

fn sent(counts: &QdiscCounts) -> String {
    let QdiscCounts {
        bytes,
        packets,
        drops,
        overlimits,
        ..
    } = counts;
    format!("Sent {bytes} bytes {packets} pkt (dropped {drops}, overlimits {overlimits} requeues 0)")
}

/// The options in tc's order; what it is not told of there comes last.
fn words(row: &Qdisc) -> Vec<String> {
    const ORDER: &[&str] = &[
        "limit_packets",
        "prio",
        "quantum",
        "rate",
        "overhead",
        "mpu",
        "ceil",
        "linklayer",
        "burst",
        "cburst",
        "peakrate",
        "minburst",
        "mtu",
        "action",
        "r2q",
        "default",
        "direct_packets_stat",
        "direct_qlen",
        "bands",
        "priomap",
    ];
    let is_ordered = |name: &str| ORDER.contains(&name);
    let first = ORDER.iter().filter_map(|name| Some((*name, row.options.get(*name)?)));
    let rest = row.options.iter().map(|(name, value)| (name.as_str(), value));
    let all = first.chain(rest.filter(|(name, _)| !is_ordered(name)));
    let mut words: Vec<String> = all.filter_map(|(name, value)| word(&row.kind, name, value)).collect();
    words.extend(latency(row));
    words
}

fn word(kind: &str, name: &str, value: &Value) -> Option<String> {
    Some(match (name, value) {
        ("limit", _) if kind == "tbf" => return None,
        ("mtu", _) if value.as_u64() == Some(u32::MAX.into()) => return None,
        (_, Value::Bool(is_on)) => return is_on.then(|| name.to_owned()),
        ("rate" | "ceil" | "peakrate" | "maxrate" | "low_rate_threshold", _) => {
            format!("{name} {}", rate(value.as_u64()?))
        }
        ("limit_packets", _) => format!("limit {}p", value.as_u64()?),
        ("flow_limit", _) => format!("{name} {}p", value.as_u64()?),
        ("limit" | "burst" | "cburst" | "minburst" | "mpu" | "mtu" | "memory_limit", _) => {
            format!("{name} {}", size(value.as_u64()?))
        }
        ("target" | "interval" | "ce_threshold" | "refill_delay", _) => {
            format!("{name} {}", time(value.as_u64()? as f64))
        }
        ("quantum" | "initial_quantum", _) if matches!(kind, "sfq" | "fq") => {
            format!("{name} {}", size(value.as_u64()?))
        }
        (_, Value::String(text)) => format!("{name} {text}"),
        (_, Value::Array(all)) => {
            let all: Vec<String> = all.iter().map(Value::to_string).collect();
            format!("{name} {}", all.join(" "))
        }
        _ => format!("{name} {value}"),
    })
}

/// tbf's limit is told as the time that the last byte of a full queue waits.
fn latency(row: &Qdisc) -> Option<String> {
    let of = |name: &str| row.options.get(name).and_then(Value::as_u64);
    let waits = |rate: u64, burst: u64| (of("limit").unwrap_or(0) as f64 - burst as f64) * 1e9 / rate.max(1) as f64;
    if row.kind != "tbf" {
        return None;
    }
    let by_rate = waits(of("rate")?, of("burst")?);
    let by_peak = of("peakrate")
        .zip(of("minburst"))
        .map_or(0.0, |(rate, burst)| waits(rate, burst));
    Some(format!("lat {}", time(by_rate.max(by_peak).max(0.0))))
}

/// Of bytes per second, in bits.
fn rate(bytes_per_second: u64) -> String {
    let mut rate = u128::from(bytes_per_second) * 8;
    let mut suffix = "";
    for next in ["K", "M", "G", "T"] {
        if rate < 1000 || (rate % 1000 != 0 && rate < 1_000_000) {
            break;
        }
        (rate, suffix) = (rate / 1000, next);
    }
    format!("{rate}{suffix}bit")
}

fn size(bytes: u64) -> String {
    let nearest = |unit: u64| (bytes + unit / 2) / unit;
    let is_near = |unit: u64, within: u64| bytes >= unit && (nearest(unit) * unit).abs_diff(bytes) < within;
    match bytes {
        _ if is_near(1 << 20, 1024) => format!("{}Mb", nearest(1 << 20)),
        _ if is_near(1 << 10, 16) => format!("{}Kb", nearest(1 << 10)),
        _ => format!("{bytes}b"),
    }
}

fn time(ns: f64) -> String {
    let short = |value: f64| {
        let digits = (2 - value.max(1.0).log10().floor() as i32).max(0) as usize;
        let text = format!("{value:.digits$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    };
    match ns / 1e3 {
        us if us >= 1e6 => format!("{}s", short(us / 1e6)),
        us if us >= 1e3 => format!("{}ms", short(us / 1e3)),
        us => format!("{}us", us.round()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, options: &[(&str, Value)]) -> Qdisc {
        Qdisc {
            dev: "d0".into(),
            kind: kind.into(),
            handle: "1:".into(),
            options: options
                .iter()
                .map(|(name, value)| ((*name).into(), value.clone()))
                .collect(),
            ..Qdisc::default()
        }
    }

    #[test]
    fn numbers_are_written_as_tc_does() {
        let rates = [8_000, 125_000, 1_543_125, 625_000_000, 1].map(rate);
        assert_eq!(rates, ["64Kbit", "1Mbit", "12345Kbit", "5Gbit", "8bit"]);
        assert_eq!(
            [1599, 1600, 10_240, 10_250, 1 << 20].map(size),
            ["1599b", "1600b", "10Kb", "10Kb", "1Mb"]
        );
        assert_eq!(
            [10_000_000.0, 400_000.0, 1.5e9, 4_999_168.0].map(time),
            ["10ms", "400us", "1.5s", "5ms"]
        );
    }

    #[test]
    fn a_qdisc_and_a_class_read_as_tc_shows_them() {
        let tbf = row(
            "tbf",
            &[("rate", 125_000.into()), ("burst", 5000.into()), ("limit", 6250.into())],
        );
        let mut class = row(
            "htb",
            &[
                ("rate", 1_250_000.into()),
                ("ceil", 12_500_000.into()),
                ("burst", 1600.into()),
                ("cburst", 1600.into()),
                ("prio", 1.into()),
                ("quantum", 12_500.into()),
            ],
        );
        class.class = true;
        (class.handle, class.parent, class.leaf) = ("1:10".into(), Some("1:1".into()), Some("20:".into()));
        class.counts.packets = 3;
        [class.counts.tokens, class.counts.ctokens] = [Some(-12), Some(2000)];
        class.kernel = Some(QdiscCounts {
            bytes: 90,
            packets: 1,
            ..QdiscCounts::default()
        });
        let wanted = "qdisc tbf 1: dev d0 root rate 1Mbit burst 5000b lat 10ms\n \
                      Sent 0 bytes 0 pkt (dropped 0, overlimits 0 requeues 0)\n \
                      backlog 0b 0p\n\
                      class htb 1:10 dev d0 parent 1:1 leaf 20: prio 1 quantum 12500 rate 10Mbit \
                      ceil 100Mbit burst 1600b cburst 1600b\n \
                      Sent 0 bytes 3 pkt (dropped 0, overlimits 0 requeues 0)\n \
                      backlog 0b 0p\n \
                      lended: 0 borrowed: 0 giants: 0\n \
                      tokens: -12 ctokens: 2000\n \
                      kernel: Sent 90 bytes 1 pkt (dropped 0, overlimits 0 requeues 0)\n";
        assert_eq!(qdiscs(&[tbf, class]), wanted);
        assert_eq!(qdiscs(&[]), "no port is shaped or policed by bypath\n");
    }

    #[test]
    fn what_is_on_is_a_word_and_what_is_off_is_none() {
        let codel = row(
            "fq_codel",
            &[
                ("limit_packets", 100.into()),
                ("ecn", true.into()),
                ("target", 4_999_168.into()),
            ],
        );
        assert_eq!(words(&codel), ["limit 100p", "ecn", "target 5ms"]);
        let sfq = row("sfq", &[("headdrop", false.into()), ("quantum", 1514.into())]);
        assert_eq!(words(&sfq), ["quantum 1514b"]);
        let fq = row(
            "fq",
            &[
                ("nopacing", false.into()),
                ("flow_limit", 100.into()),
                ("maxrate", 125_000.into()),
                ("weights", [3, 2, 1].to_vec().into()),
            ],
        );
        assert_eq!(words(&fq), ["flow_limit 100p", "maxrate 1Mbit", "weights 3 2 1"]);
    }
}
