//! The answers as text. Pure: rows in, lines out.
//!
//! For a person: what never happened is left out, numbers are grouped, durations have a unit that fits. Routes and
//! neighbours read like the lines of `ip`. Scripts take `--json`, whose form does not change with taste.

use crate::cli::output::{duration, grouped, table};
use crate::control::report::{ByReason, DropRow, Latency, Neighbor, Nexthop, Port, Queue, Route, Rule, Totals, Worker};
use crate::table::fib::table_name;
use std::fmt::Write as _;

/// `show totals`: one line per verdict, its reasons below it. Reasons that never happened are left out.
pub fn totals(totals: &Totals) -> String {
    let Totals {
        received,
        forwarded,
        punted,
        dropped,
        held,
        stale_workers,
    } = totals;
    let mut rows = vec![("received", *received), ("forwarded", *forwarded)];
    for (verdict, counts) in [("punted", punted), ("dropped", dropped)] {
        rows.push((verdict, counts.values().sum()));
        rows.extend(seen(counts));
    }
    rows.push(("held", *held));
    let width = rows.iter().map(|row| grouped(row.1).len()).max().unwrap_or(0);
    let mut text = String::new();
    for (word, count) in rows {
        let verdict = ["received", "forwarded", "punted", "dropped", "held"].contains(&word);
        let word = if verdict { word.to_owned() } else { format!("  {word}") };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{word:<22} {:>width$}", grouped(count));
    }
    for worker in stale_workers {
        let _ = writeln!(text, "worker {worker} did not answer, its numbers are old");
    }
    text
}

/// The reasons that happened, most frequent first.
fn seen(counts: &ByReason) -> Vec<(&str, u64)> {
    let mut seen: Vec<_> = counts.iter().map(|(word, &count)| (word.as_str(), count)).collect();
    seen.retain(|&(_, count)| count > 0);
    seen.sort_by_key(|&(word, count)| (std::cmp::Reverse(count), word));
    seen
}

/// `show ports`: one row per queue that has a socket, then what steer decided.
pub fn ports(ports: &[Port]) -> String {
    let head = [
        "port", "state", "driver", "attach", "mode", "mtu", "queue", "worker", "rx", "tx", "kicks",
    ];
    let mut rows = Vec::new();
    for port in ports {
        let Port {
            port,
            state,
            driver,
            mode,
            attach,
            mtu,
            ..
        } = port;
        let facts = [
            port.clone(),
            state.clone(),
            driver.clone(),
            attach.clone(),
            mode.clone(),
            mtu.to_string(),
        ];
        rows.push(facts.to_vec());
    }
    let mut cells = Vec::new();
    for (facts, port) in rows.iter().zip(ports) {
        if port.queues.is_empty() {
            let none = std::iter::repeat_n("-".to_owned(), head.len() - facts.len());
            cells.push(facts.iter().cloned().chain(none).collect());
        }
        for queue in &port.queues {
            let Queue {
                queue,
                worker,
                rx,
                tx,
                kicks,
                ..
            } = *queue;
            let counts = [u64::from(queue), worker as u64, rx, tx, kicks].map(grouped);
            cells.push(facts.iter().cloned().chain(counts).collect());
        }
    }
    let mut text = table(&head, &cells);
    for port in ports {
        let steer: Vec<String> = seen(&port.steer)
            .iter()
            .map(|&(word, n)| format!("{word} {}", grouped(n)))
            .collect();
        if !steer.is_empty() {
            let _ = writeln!(text, "{} steer: {}", port.port, steer.join(", "));
        }
    }
    text
}

/// `show workers`: one row each.
pub fn workers(workers: &[Worker]) -> String {
    let head = [
        "worker",
        "cpu",
        "received",
        "forwarded",
        "punted",
        "dropped",
        "rounds",
        "sleeps",
        "heartbeat",
        "frames free",
        "of",
        "queues",
    ];
    let row = |worker: &Worker| {
        let sum = |counts: &ByReason| grouped(counts.values().sum());
        vec![
            worker.worker.to_string(),
            worker.cpu.map_or("-".into(), |cpu| cpu.to_string()),
            grouped(worker.totals.received),
            grouped(worker.totals.forwarded),
            sum(&worker.totals.punted),
            sum(&worker.totals.dropped),
            grouped(worker.rounds),
            grouped(worker.sleeps),
            format!(
                "{} ms{}",
                worker.heartbeat_age_ms,
                if worker.stale { ", old numbers" } else { "" }
            ),
            grouped(worker.frames.free),
            grouped(worker.frames.all),
            worker.queues.join(" "),
        ]
    };
    table(&head, &workers.iter().map(row).collect::<Vec<_>>())
}

/// `show drops`: where frames were lost.
pub fn drops(rows: &[DropRow]) -> String {
    let lost: Vec<&DropRow> = rows.iter().filter(|row| row.frames > 0).collect();
    if lost.is_empty() {
        return "no frame was lost\n".into();
    }
    let row = |row: &&DropRow| vec![row.place.clone(), row.reason.clone(), grouped(row.frames)];
    table(
        &["place", "reason", "frames"],
        &lost.iter().map(row).collect::<Vec<_>>(),
    )
}

/// `show latency`: one row per egress port.
pub fn latency(rows: &[Latency]) -> String {
    let row = |row: &Latency| {
        let times = [row.min_ns, row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.max_ns].map(duration);
        [row.port.clone(), grouped(row.count)]
            .into_iter()
            .chain(times)
            .collect()
    };
    table(
        &["port", "count", "min", "p50", "p90", "p99", "p99.9", "max"],
        &rows.iter().map(row).collect::<Vec<_>>(),
    )
}

/// `show routes`: a line like that of `ip route`.
pub fn route(route: &Route) -> String {
    let Route {
        table,
        destination,
        kind,
        nexthops,
        mtu,
        left,
        ..
    } = route;
    let mut words = Vec::new();
    if kind != "unicast" {
        words.push(kind.clone());
    }
    words.push(destination.clone());
    match nexthops.as_slice() {
        [one] => words.push(hop(one)),
        several => words.extend(several.iter().map(|each| format!("nexthop {}", hop(each)))),
    }
    words.push(format!("table {}", table_name(*table)));
    words.extend(mtu.map(|mtu| format!("mtu {mtu}")));
    words.extend(left.as_ref().map(|why| format!("left to the kernel: {why}")));
    words.join(" ")
}

fn hop(hop: &Nexthop) -> String {
    hop.via
        .as_ref()
        .map_or(format!("dev {}", hop.dev), |via| format!("via {via} dev {}", hop.dev))
}

/// `show neighbors`: a line like that of `ip neigh`.
pub fn neighbor(neighbor: &Neighbor) -> String {
    format!("{} dev {} lladdr {}", neighbor.address, neighbor.dev, neighbor.lladdr)
}

/// `show rules`: one row per rule, by its handle, per policy that counts, and per named counter.
pub fn rules(rules: &[Rule]) -> String {
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), grouped);
    let row = |rule: &Rule| {
        let (place, number) = match rule.object.as_str() {
            "" if rule.handle == 0 => (format!("chain {}", rule.chain), "policy".into()),
            "" => (format!("chain {}", rule.chain), format!("handle {}", rule.handle)),
            object => (format!("counter {object}"), "-".to_owned()),
        };
        let run = match rule.why.as_str() {
            "" => rule.run.clone(),
            why => format!("{}: {why}", rule.run),
        };
        let table = format!("{} {}", rule.family, rule.table);
        vec![table, place, number, count(rule.packets), count(rule.bytes), run]
    };
    let rows: Vec<_> = rules.iter().map(row).collect();
    table(&["table", "of", "rule", "packets", "bytes", "run"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report;

    #[test]
    fn rules_are_named_by_chain_and_handle() {
        let rule = Rule {
            family: "inet".into(),
            table: "fw".into(),
            chain: "forward".into(),
            handle: 4,
            run: "punted".into(),
            why: "log".into(),
            packets: Some(1200),
            ..Rule::default()
        };
        let counter = Rule {
            object: "all".into(),
            run: "per_packet".into(),
            ..rule.clone()
        };
        let counter = Rule {
            why: String::new(),
            ..counter
        };
        let policy = Rule {
            handle: 0,
            object: String::new(),
            ..counter.clone()
        };
        let text = rules(&[rule, counter, policy]);
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1].join(" "), "inet fw chain forward handle 4 1,200 - punted: log");
        assert_eq!(lines[2].join(" "), "inet fw counter all - 1,200 - per_packet");
        assert_eq!(lines[3].join(" "), "inet fw chain forward policy 1,200 - per_packet");
    }

    #[test]
    fn totals_name_what_happened() {
        let counts = Totals {
            received: 1500,
            forwarded: 1490,
            punted: report::punted(&[0, 2, 7]),
            dropped: report::dropped(&[]),
            held: 1,
            stale_workers: vec![3],
        };
        let lines: Vec<String> = totals(&counts)
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let reason = |at: usize| crate::packet::PuntReason::ALL[at].word();
        let wanted = [
            "received 1,500",
            "forwarded 1,490",
            "punted 9",
            &format!("{} 7", reason(2)),
            &format!("{} 2", reason(1)),
            "dropped 0",
            "held 1",
            "worker 3 did not answer, its numbers are old",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn routes_read_as_ip_prints_them() {
        let hop = |via: Option<&str>| Nexthop {
            via: via.map(str::to_owned),
            dev: "d1".into(),
        };
        let base = Route {
            table: 254,
            destination: "10.0.0.0/8".into(),
            kind: "unicast".into(),
            ..Route::default()
        };
        let one = Route {
            nexthops: vec![hop(Some("10.1.0.1"))],
            mtu: Some(1400),
            ..base.clone()
        };
        assert_eq!(route(&one), "10.0.0.0/8 via 10.1.0.1 dev d1 table main mtu 1400");
        let two = Route {
            nexthops: vec![hop(None), hop(Some("fe80::1"))],
            table: 7,
            ..base.clone()
        };
        assert_eq!(
            route(&two),
            "10.0.0.0/8 nexthop dev d1 nexthop via fe80::1 dev d1 table 7"
        );
        let refused = Route {
            kind: "refused".into(),
            left: Some("why".into()),
            ..base
        };
        assert_eq!(route(&refused), "refused 10.0.0.0/8 table main left to the kernel: why");
    }

    #[test]
    fn every_table_prints_with_and_without_rows() {
        let port = Port {
            port: "d0".into(),
            steer: ByReason::from([("redirect".into(), 3)]),
            ..Port::default()
        };
        let with = Port {
            queues: vec![Queue {
                rx: 1234,
                ..Queue::default()
            }],
            ..port.clone()
        };
        let text = ports(&[port, with]);
        assert!(
            text.contains("1,234") && text.contains("d0 steer: redirect 3"),
            "{text}"
        );
        assert_eq!(ports(&[]).lines().count(), 1);
        assert_eq!(workers(&[Worker::default()]).lines().count(), 2);
        assert_eq!(
            drops(&[DropRow {
                frames: 0,
                ..DropRow::default()
            }]),
            "no frame was lost\n"
        );
        assert!(
            drops(&[DropRow {
                place: "d0:0".into(),
                frames: 2,
                ..DropRow::default()
            }])
            .contains("d0:0")
        );
        assert!(
            latency(&[Latency {
                port: "d1".into(),
                p50_ns: 1500,
                ..Latency::default()
            }])
            .contains("1.5 us")
        );
    }
}
