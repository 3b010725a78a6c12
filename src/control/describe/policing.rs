//! Policers at the ingress of ports as rows of `show qdisc`: the qdisc there, then each policer that its filters name, once for
//! each port. What a policer counted is of all ports that share it, as with tc; the kernel's own counts are beside it.
//! net/sched/act_police.c. As many rows as the operator has configured.

use crate::control::report::{Qdisc as Row, QdiscCounts};
use crate::mirror::filters::Passed;
use crate::packet::PortIndex;
use crate::table::Snapshot;
use crate::table::police::{Act, Limit, Police, Policer};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Where ingress and clsact hang, as tc has it.
const PARENT: &str = "ffff:fff1";

/// Every qdisc and policer at the ingress of a port. `kernel` has what the kernel's own counted, by their numbers.
pub fn policers(snapshot: &Snapshot, kernel: &mut dyn FnMut(u32) -> HashMap<u32, Passed>) -> Vec<Row> {
    let mut rows = Vec::new();
    for port in (0..snapshot.ports.len()).map(|port| PortIndex(port as u16)) {
        let Some((_, iface)) = snapshot.port(port) else {
            continue;
        };
        let Some(policing) = &iface.policing else { continue };
        let of_kernel = kernel(iface.ifindex);
        let counts = policing.policers.iter().map(|policer| counted(policer));
        rows.push(Row {
            dev: iface.name.to_string(),
            kind: policing.kind.to_string(),
            handle: policing.handle.to_string(),
            parent: Some(PARENT.into()),
            counts: counts.fold(QdiscCounts::default(), |sum, one| QdiscCounts {
                bytes: sum.bytes + one.bytes,
                packets: sum.packets + one.packets,
                drops: sum.drops + one.drops,
                overlimits: sum.overlimits + one.overlimits,
                ..sum
            }),
            ..Row::default()
        });
        rows.extend(policing.policers.iter().map(|policer| Row {
            dev: iface.name.to_string(),
            kind: "police".into(),
            handle: format!("{:#x}", policer.config.index),
            parent: Some(policing.handle.to_string()),
            options: options(&policer.config),
            counts: counted(policer),
            kernel: of_kernel.get(&policer.config.index).map(|passed| {
                counts_of(
                    &policer.config,
                    passed.bytes,
                    passed.packets.into(),
                    passed.exceeded.into(),
                )
            }),
            ..Row::default()
        }));
    }
    rows
}

fn counted(policer: &Policer) -> QdiscCounts {
    let counts = policer.counts();
    counts_of(&policer.config, counts.bytes, counts.packets, counts.exceeded)
}

fn counts_of(police: &Police, bytes: u64, packets: u64, exceeded: u64) -> QdiscCounts {
    let dropped = |act, packets| if act == Act::Drop { packets } else { 0 };
    QdiscCounts {
        bytes,
        packets,
        drops: dropped(police.exceeding, exceeded) + dropped(police.conforming, packets.saturating_sub(exceeded)),
        overlimits: exceeded,
        ..QdiscCounts::default()
    }
}

/// In tc's words; what is not there is not said.
fn options(police: &Police) -> BTreeMap<String, Value> {
    let mut options = BTreeMap::new();
    let mut say = |name: &str, value: Value| drop(options.insert(name.to_owned(), value));
    let per_second = |rate: u64, ns: u64| {
        let amount = u128::from(rate) * u128::from(ns) / 1_000_000_000;
        u64::try_from(amount).unwrap_or(u64::MAX)
    };
    match police.limit {
        Some(Limit::Bytes(rate)) => {
            say("rate", rate.bytes_per_second.into());
            say("burst", per_second(rate.bytes_per_second, police.burst_ns).into());
            if rate.overhead != 0 {
                say("overhead", rate.overhead.into());
            }
            if rate.mpu != 0 {
                say("mpu", rate.mpu.into());
            }
            if rate.atm {
                say("linklayer", "atm".into());
            }
        }
        Some(Limit::Packets(rate)) => {
            say("pkts_rate", rate.into());
            say("pkts_burst", per_second(rate, police.burst_ns).into());
        }
        None => {}
    }
    if let Some((rate, _)) = police.peak {
        say("peakrate", rate.bytes_per_second.into());
    }
    say("mtu", police.mtu.into());
    let word = |act| if act == Act::Drop { "drop" } else { "pass" };
    say(
        "action",
        format!("{}/{}", word(police.exceeding), word(police.conforming)).into(),
    );
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::iface::{Iface, IfaceIndex};
    use crate::table::police::Policing;
    use crate::table::qdisc::{Handle, Rate};
    use std::sync::Arc;

    #[test]
    fn a_policer_is_told_with_what_each_side_counted() {
        let rate = Rate {
            bytes_per_second: 1_250_000,
            ..Rate::default()
        };
        let policer = Policer::new(Police {
            index: 26,
            limit: Some(Limit::Bytes(rate)),
            burst_ns: 81_920_000,
            peak: None,
            mtu: 1000,
            conforming: Act::Pass,
            exceeding: Act::Drop,
        });
        [100, 1000].iter().for_each(|&bytes| _ = policer.police(bytes, 5));
        let iface = Iface {
            ifindex: 3,
            name: "d0".into(),
            policing: Some(Arc::new(Policing {
                kind: "clsact".into(),
                handle: Handle::qdisc(0xffff),
                filters: Vec::new(),
                policers: vec![Arc::new(policer)],
            })),
            ..Iface::default()
        };
        let snapshot = Snapshot {
            ifaces: Arc::new(vec![iface]),
            ports: Arc::new(vec![Some(IfaceIndex(0))]),
            ..Snapshot::default()
        };
        let passed = Passed {
            bytes: 300,
            packets: 3,
            exceeded: 1,
        };
        let rows = policers(&snapshot, &mut |ifindex| HashMap::from([(23 + ifindex, passed)]));
        let [qdisc, police] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (qdisc.kind.as_str(), qdisc.handle.as_str(), qdisc.counts.packets),
            ("clsact", "ffff:", 2)
        );
        assert_eq!(
            (police.handle.as_str(), police.parent.as_deref()),
            ("0x1a", Some("ffff:"))
        );
        assert_eq!(
            (police.counts.bytes, police.counts.packets, police.counts.drops),
            (1100, 2, 1)
        );
        assert_eq!(police.kernel.map(|kernel| (kernel.packets, kernel.drops)), Some((3, 1)));
        assert_eq!(
            (&police.options["burst"], &police.options["action"]),
            (&102_400.into(), &"drop/pass".into())
        );
    }
}
