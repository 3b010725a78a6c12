//! Trees of qdiscs as rows of `show qdisc`: what they were told is in the snapshot, what they counted in the workers'
//! reports, and what the kernel's own counted in its dumps. Fifos that the kernel made by itself have no handle, and
//! no row, as with tc.

use crate::control::report::{Qdisc as Row, QdiscCounts};
use crate::mirror::tc::{Counts, Record};
use crate::packet::PortIndex;
use crate::stage::shape::Stats;
use crate::table::Snapshot;
use crate::table::qdisc::{
    Class, Fifo, Fq, FqCodel, Handle, Htb, Kind, Limit, Prio, Qdisc, ROOT, Rate, Sfq, Shaping, Tbf,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// What the qdiscs and classes of a port's queue counted.
pub type Counted = (PortIndex, u32, Vec<(Handle, Stats)>);

type Options = BTreeMap<String, Value>;

/// Every qdisc and class that shapes a port. `kernel` has the kernel's records of a link.
pub fn qdiscs(snapshot: &Snapshot, counted: &[Counted], kernel: &mut dyn FnMut(u32) -> Vec<Record>) -> Vec<Row> {
    let mut rows = Vec::new();
    for port in (0..snapshot.ports.len()).map(|port| PortIndex(port as u16)) {
        let Some((_, iface)) = snapshot.port(port) else {
            continue;
        };
        let roots: Vec<_> = match &iface.shaping {
            Shaping::Unshaped => continue,
            Shaping::Root(root) => vec![(None, root)],
            Shaping::Queues(queues) => {
                let queues = queues.iter().zip(0..);
                queues
                    .filter_map(|(root, at)| Some((Some(at), root.as_ref()?)))
                    .collect()
            }
        };
        let records = kernel(iface.ifindex);
        let of_kernel = records.iter().map(|record| (record.handle, record.counts));
        let of_kernel: HashMap<Handle, Counts> = of_kernel.filter(|(handle, _)| handle.0 != 0).collect();
        for (queue, root) in roots {
            let ours = counted
                .iter()
                .filter(|of| of.0 == port && queue.is_none_or(|queue| of.1 == queue));
            let mut walk = Walk {
                rows: &mut rows,
                dev: &iface.name,
                queue,
                ours: ours.flat_map(|of| of.2.iter().copied()).collect(),
                kernel: &of_kernel,
            };
            walk.qdisc(root);
        }
    }
    rows
}

struct Walk<'a> {
    rows: &'a mut Vec<Row>,
    dev: &'a str,
    queue: Option<u32>,
    ours: HashMap<Handle, Stats>,
    kernel: &'a HashMap<Handle, Counts>,
}

impl Walk<'_> {
    fn qdisc(&mut self, qdisc: &Qdisc) {
        if qdisc.handle.0 != 0 {
            let mut row = self.row(qdisc.handle, qdisc.parent, &qdisc.kind);
            row.options = options(&qdisc.kind);
            if let Kind::Htb(_) = qdisc.kind {
                // Where a class counts giants, the qdisc itself counts what went by its direct queue.
                let direct = std::mem::take(&mut row.counts.giants);
                row.options.insert("direct_packets_stat".into(), direct.into());
            }
            self.rows.push(row);
        }
        match &qdisc.kind {
            Kind::Tbf(tbf) => self.qdisc(&tbf.child),
            Kind::Prio(prio) => prio.bands.iter().for_each(|band| self.qdisc(band)),
            Kind::Htb(htb) => htb.classes.iter().for_each(|class| self.class(class, qdisc)),
            Kind::Fifo(_) | Kind::FqCodel(_) | Kind::Sfq(_) | Kind::Fq(_) => {}
        }
    }

    fn class(&mut self, class: &Class, of: &Qdisc) {
        let mut row = self.row(class.id, class.parent, &of.kind);
        if let Some(stats) = self.ours.get(&class.id) {
            let tokens = [stats.tokens_ns, stats.ctokens_ns].map(ticks);
            [row.counts.tokens, row.counts.ctokens] = tokens.map(Some);
        }
        if let (Some(row), Some(counts)) = (&mut row.kernel, self.kernel.get(&class.id)) {
            [row.tokens, row.ctokens] = counts.htb_tokens.map(Some);
        }
        let leaf = class.leaf.as_ref().filter(|leaf| leaf.handle.0 != 0);
        self.rows.push(Row {
            class: true,
            parent: row.parent.filter(|_| class.parent != of.handle),
            leaf: leaf.map(|leaf| leaf.handle.to_string()),
            options: of_class(class),
            ..row
        });
        if let Some(leaf) = leaf {
            self.qdisc(leaf);
        }
    }

    fn row(&self, handle: Handle, parent: Handle, kind: &Kind) -> Row {
        let ours = self.ours.get(&handle).copied().unwrap_or_default();
        Row {
            dev: self.dev.into(),
            queue: self.queue,
            kind: kind.word().into(),
            handle: handle.to_string(),
            parent: (parent != ROOT).then(|| parent.to_string()),
            counts: counts(&ours, kind),
            kernel: self.kernel.get(&handle).map(of_kernel),
            ..Row::default()
        }
    }
}

/// PSCHED_NS2TICKS, as htb_dump_class_stats has it.
fn ticks(ns: i64) -> i32 {
    const TICK_SHIFT: u32 = 6;
    (ns >> TICK_SHIFT).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

fn counts(stats: &Stats, kind: &Kind) -> QdiscCounts {
    let marks = matches!(kind, Kind::FqCodel(_) | Kind::Fq(_));
    QdiscCounts {
        bytes: stats.bytes,
        packets: stats.packets,
        drops: stats.drops,
        overlimits: stats.overlimits,
        backlog: stats.backlog_bytes,
        qlen: stats.backlog_packets,
        lended: stats.lended,
        borrowed: stats.borrowed,
        giants: if marks { 0 } else { stats.special },
        tokens: None,
        ctokens: None,
        ecn_mark: if marks { stats.special } else { 0 },
    }
}

fn of_kernel(counts: &Counts) -> QdiscCounts {
    let [lended, borrowed, giants] = counts.htb.map(u64::from);
    QdiscCounts {
        bytes: counts.bytes,
        packets: counts.packets,
        drops: counts.drops.into(),
        overlimits: counts.overlimits.into(),
        backlog: counts.backlog_bytes.into(),
        qlen: counts.backlog_packets.into(),
        lended,
        borrowed,
        giants,
        tokens: None,
        ctokens: None,
        ecn_mark: 0,
    }
}

fn options(kind: &Kind) -> Options {
    match kind {
        Kind::Fifo(fifo) => of_fifo(fifo),
        Kind::Prio(prio) => of_prio(prio),
        Kind::Tbf(tbf) => of_tbf(tbf),
        Kind::Htb(htb) => of_htb(htb),
        Kind::FqCodel(codel) => of_fq_codel(codel),
        Kind::Sfq(sfq) => of_sfq(sfq),
        Kind::Fq(fq) => of_fq(fq),
    }
}

fn named<const N: usize>(options: [(&str, Value); N]) -> Options {
    let named = options.into_iter().filter(|(_, value)| !value.is_null());
    named.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_rate(rate: &Rate) -> Options {
    let unless_zero = |value: u16| if value == 0 { Value::Null } else { value.into() };
    named([
        ("rate", rate.bytes_per_second.into()),
        ("overhead", unless_zero(rate.overhead)),
        ("mpu", unless_zero(rate.mpu)),
        ("linklayer", if rate.atm { "atm".into() } else { Value::Null }),
    ])
}

fn of_fifo(fifo: &Fifo) -> Options {
    match fifo.limit {
        Limit::Packets(limit) => named([("limit_packets", limit.into())]),
        Limit::Bytes(limit) => named([("limit", limit.into())]),
    }
}

fn of_prio(prio: &Prio) -> Options {
    named([
        ("bands", prio.bands.len().into()),
        ("priomap", prio.priomap.to_vec().into()),
    ])
}

fn of_tbf(tbf: &Tbf) -> Options {
    let (peak, minburst) = tbf.peak.map_or((Value::Null, Value::Null), |(rate, ns)| {
        (rate.bytes_per_second.into(), bytes_in(&rate, ns).into())
    });
    let mut options = of_rate(&tbf.rate);
    options.extend(named([
        ("burst", bytes_in(&tbf.rate, tbf.buffer_ns).into()),
        ("peakrate", peak),
        ("minburst", minburst),
        ("limit", tbf.limit.into()),
    ]));
    options
}

fn of_htb(htb: &Htb) -> Options {
    named([
        ("r2q", htb.rate2quantum.into()),
        ("default", format!("{:#x}", htb.default).into()),
        ("direct_qlen", htb.direct_qlen.into()),
    ])
}

fn of_class(class: &Class) -> Options {
    let is_leaf = class.leaf.is_some();
    let of_leaf = |value: u32| if is_leaf { value.into() } else { Value::Null };
    let time = |ns: i64| u64::try_from(ns).unwrap_or_default();
    let mut options = of_rate(&class.rate);
    options.extend(named([
        ("ceil", class.ceil.bytes_per_second.into()),
        ("burst", bytes_in(&class.rate, time(class.buffer_ns)).into()),
        ("cburst", bytes_in(&class.ceil, time(class.cbuffer_ns)).into()),
        ("prio", of_leaf(class.prio.into())),
        ("quantum", of_leaf(class.quantum)),
    ]));
    options
}

fn of_fq_codel(codel: &FqCodel) -> Options {
    named([
        ("limit_packets", codel.limit.into()),
        ("flows", codel.flows.into()),
        ("quantum", codel.quantum.into()),
        ("target", codel.target_ns.into()),
        ("interval", codel.interval_ns.into()),
        ("memory_limit", codel.memory_limit.into()),
        ("ecn", codel.ecn.into()),
        ("drop_batch", codel.drop_batch.into()),
        ("ce_threshold", codel.ce_threshold_ns.into()),
    ])
}

fn of_sfq(sfq: &Sfq) -> Options {
    named([
        ("limit_packets", sfq.limit.into()),
        ("quantum", sfq.quantum.into()),
        ("depth", sfq.depth.into()),
        ("headdrop", sfq.drops_head.into()),
        ("divisor", sfq.divisor.into()),
        ("flows", sfq.flows.into()),
        ("perturb", sfq.perturb_s.into()),
    ])
}

fn of_fq(fq: &Fq) -> Options {
    named([
        ("limit_packets", fq.limit.into()),
        ("flow_limit", fq.flow_limit.into()),
        ("orphan_mask", fq.orphan_mask.into()),
        ("bands", Fq::BANDS.into()),
        ("priomap", fq.priomap.to_vec().into()),
        ("weights", fq.weights.to_vec().into()),
        ("nopacing", (!fq.paces).into()),
        ("quantum", fq.quantum.into()),
        ("initial_quantum", fq.initial_quantum.into()),
        ("maxrate", fq.max_rate.into()),
        ("low_rate_threshold", fq.low_rate_threshold.into()),
        ("refill_delay", fq.refill_delay_ns.into()),
        ("ce_threshold", fq.ce_threshold_ns.into()),
    ])
}

/// How many bytes a rate lets pass in a time.
fn bytes_in(rate: &Rate, ns: u64) -> u64 {
    let bytes = u128::from(rate.bytes_per_second) * u128::from(ns) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::iface::{Iface, IfaceIndex};
    use std::sync::Arc;

    fn leaf(handle: Handle, parent: Handle) -> Arc<Qdisc> {
        Arc::new(Qdisc {
            generation: 0,
            overhead: 0,
            handle,
            parent,
            kind: Kind::Fifo(Fifo {
                limit: Limit::Packets(5),
                drops_head: false,
            }),
            filters: Vec::new(),
        })
    }

    fn mbit(mbit: u64) -> Rate {
        Rate {
            bytes_per_second: mbit * 125_000,
            ..Rate::default()
        }
    }

    fn class(id: u32, parent: u32, leaf: Option<Arc<Qdisc>>) -> Class {
        Class {
            id: Handle(id),
            parent: Handle(parent),
            generation: 0,
            rate: mbit(1),
            ceil: mbit(10),
            buffer_ns: 12_800_000,
            cbuffer_ns: 1_280_000,
            prio: 2,
            quantum: 1514,
            leaf,
            filters: Vec::new(),
        }
    }

    fn snapshot(shaping: Shaping) -> Snapshot {
        let iface = Iface {
            ifindex: 3,
            name: "d0".into(),
            shaping,
            ..Iface::default()
        };
        Snapshot {
            ifaces: Arc::new(vec![iface]),
            ports: Arc::new(vec![Some(IfaceIndex(0))]),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_tree_is_told_from_its_root_with_what_each_side_counted() {
        let classes = vec![
            class(0x1_0001, 0x1_0000, None),
            class(0x1_0010, 0x1_0001, Some(leaf(Handle::qdisc(0x10), Handle(0x1_0010)))),
            class(0x1_0020, 0x1_0001, Some(leaf(Handle(0), Handle(0x1_0020)))),
        ];
        let root = Qdisc {
            generation: 0,
            overhead: 0,
            handle: Handle::qdisc(1),
            parent: ROOT,
            kind: Kind::Htb(Htb {
                default: 0x20,
                rate2quantum: 10,
                direct_qlen: 1000,
                classes,
            }),
            filters: Vec::new(),
        };
        let stats = Stats {
            bytes: 700,
            lended: 7,
            special: 1,
            tokens_ns: -65,
            ctokens_ns: 1 << 40,
            ..Stats::default()
        };
        let record = Record {
            handle: Handle(0x1_0010),
            counts: Counts {
                bytes: 90,
                htb: [1, 0, 0],
                htb_tokens: [5, -6],
                ..Counts::default()
            },
            ..Record::default()
        };
        let counted = [(PortIndex(0), 0, vec![(Handle(0x1_0010), stats)])];
        let rows = qdiscs(&snapshot(Shaping::Root(Arc::new(root))), &counted, &mut |ifindex| {
            assert_eq!(ifindex, 3);
            vec![record.clone()]
        });
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.handle.as_str(), row.parent.as_deref(), row.class))
            .collect();
        let wanted = [
            ("1:", None, false),
            ("1:1", None, true),
            ("1:10", Some("1:1"), true),
            ("10:", Some("1:10"), false),
            ("1:20", Some("1:1"), true),
        ];
        assert_eq!(seen, wanted);
        let row = &rows[2];
        assert_eq!(
            (row.leaf.as_deref(), row.counts.lended, row.counts.giants),
            (Some("10:"), 7, 1)
        );
        assert_eq!(row.kernel.map(|kernel| (kernel.bytes, kernel.lended)), Some((90, 1)));
        // In ticks of 64 ns, rounded down, as many as 32 bits hold.
        let tokens = |counts: &QdiscCounts| (counts.tokens, counts.ctokens);
        assert_eq!(tokens(&row.counts), (Some(-2), Some(i32::MAX)));
        assert_eq!(row.kernel.as_ref().map(tokens), Some((Some(5), Some(-6))));
        assert_eq!(
            (tokens(&rows[0].counts), tokens(&rows[3].counts)),
            ((None, None), (None, None))
        );
        assert_eq!(
            (&row.options["burst"], &row.options["cburst"]),
            (&1600.into(), &1600.into())
        );
        assert_eq!((rows[4].leaf.as_deref(), rows[4].kernel), (None, None));
        assert_eq!(rows[1].options.get("quantum"), None);
    }

    #[test]
    fn below_mq_a_queue_has_its_own_counts() {
        let root = leaf(Handle::qdisc(3), Handle(0x2_0002));
        let of = |packets| {
            let stats = Stats {
                packets,
                ..Stats::default()
            };
            vec![(Handle::qdisc(3), stats)]
        };
        let counted = [(PortIndex(0), 0, of(1)), (PortIndex(0), 1, of(2))];
        let rows = qdiscs(
            &snapshot(Shaping::Queues(vec![None, Some(root)])),
            &counted,
            &mut |_| Vec::new(),
        );
        assert_eq!((rows.len(), rows[0].queue, rows[0].counts.packets), (1, Some(1), 2));
        assert_eq!(rows[0].parent.as_deref(), Some("2:2"));
    }
}
