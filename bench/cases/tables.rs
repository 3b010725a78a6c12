//! Cases of what stages look up: fib, neighbor, conntrack, sets, rules, fdb, bucket, police, filter.

use super::connections::{Keys, LIFE, NOW, filled, find, insert_burst};
use super::rulesets::{Hook, linear, router, ruleset};
use super::{Count, lab, routes};
use bypath::packet::{BURST, Family};
use bypath::table::bucket::Bucket;
use bypath::table::conntrack::CtState;
use bypath::table::conntrack::table::Table;
use bypath::table::fdb::{Entry, EntryFlags, Fdb};
use bypath::table::fib::{Fib, FibKey, Found, Lpm, TABLE_MAIN};
use bypath::table::filter::flower::{Field, Flower, Rule};
use bypath::table::filter::u32::{Key, Node, Table as U32Table, U32};
use bypath::table::filter::{Facts, Filter, Marks, Match, PROTOCOL_ALL, classify};
use bypath::table::iface::IfaceIndex;
use bypath::table::neighbor::Neighbors;
use bypath::table::police::{Act, Limit, Police, Policer};
use bypath::table::qdisc::{Handle, Rate};
use bypath::table::rules::expr::{Expr, Verdict};
use bypath::table::rules::set::{Data, Element, Kind, Set, SetSpec};
use std::hint::black_box;

/// All of them.
pub fn all(count: &mut Count) {
    fib(count);
    neighbor(count);
    conntrack(count);
    set(count);
    rules(count);
    fdb(count);
    bucket(count);
    police(count);
    filter(count);
}

fn fib(count: &mut Count) {
    const LOOKUPS: usize = 64 * BURST;
    if !count.is_group_wanted("fib") {
        return;
    }
    for (name, family, prefixes) in [
        ("fib/ipv4/1k", Family::V4, routes::routes_v4(1_000, &routes::BGP_V4)),
        ("fib/ipv4/100k", Family::V4, routes::routes_v4(100_000, &routes::BGP_V4)),
        ("fib/ipv6/20k", Family::V6, routes::routes_v6(20_000)),
    ] {
        let values = routes::values();
        let mut lpm = Lpm::new(family.bits());
        for (n, &(addr, len)) in prefixes.iter().enumerate() {
            lpm.insert(addr, len, values[n % values.len()].clone());
        }
        let to = routes::destinations(family, &prefixes, false);
        let to = &to[..LOOKUPS];
        count.case(&format!("{name}/lookup"), LOOKUPS, || {
            for &addr in to {
                black_box(lpm.lookup(black_box(addr)).map(|(_, route)| route.mtu));
            }
        });
        count.case(&format!("{name}/warm"), LOOKUPS, || {
            to.chunks(BURST).for_each(|burst| lpm.warm(burst))
        });
        let mut at = 0;
        count.case(&format!("{name}/remove+insert"), 100, || {
            for _ in 0..100 {
                let (addr, len) = prefixes[at];
                at = (at + 7) % prefixes.len();
                lpm.remove(addr, len);
                lpm.insert(addr, len, values[at % values.len()].clone());
            }
        });
        if family == Family::V4 {
            let mut fib = Fib::with_default_rules(family);
            let main = fib.table(TABLE_MAIN);
            fib.tables[main].1 = lpm;
            count.case(&format!("{name}/rules"), LOOKUPS, || {
                for &dst in to {
                    let key = FibKey {
                        src: 0xc000_0201,
                        dst,
                        iif: None,
                        tos: 0,
                    };
                    black_box(matches!(fib.lookup(black_box(&key)), Found::Route(..)));
                }
            });
        }
    }
}

fn neighbor(count: &mut Count) {
    let mut neighbors = Neighbors::default();
    let addr = |n: u32| 0x0a00_0000 | u128::from(n);
    (0..1000).for_each(|n| neighbors.insert(IfaceIndex(1), Family::V4, addr(n), lab::FAR));
    count.case("neighbor/lookup/1k", 1000, || {
        for n in 0..1000 {
            black_box(neighbors.lookup(IfaceIndex(1), Family::V4, black_box(addr(n))));
        }
    });
}

fn conntrack(count: &mut Count) {
    const CONNECTIONS: u32 = 20_000;
    if !count.is_group_wanted("conntrack") {
        return;
    }
    let table = filled(CONNECTIONS);
    let keys = Keys {
        connections: CONNECTIONS,
        seed: 1,
        lookups: 64 * BURST,
        both: true,
    };
    let bursts: Vec<_> = keys.bursts().collect();
    let handle = table.register();
    count.case("conntrack/find", 64 * BURST, || {
        for burst in &bursts {
            assert_eq!(find(&table, &handle, burst), BURST);
        }
    });
    let table = Table::new(CONNECTIONS);
    let handle = table.register();
    let (mut from, mut now) = (0, NOW);
    // As many live as fit, and as many that expire as come.
    let per_tick = CONNECTIONS / 2 / LIFE;
    let mut insert = || {
        for _ in 0..64 {
            now = NOW + from / per_tick;
            let guard = handle.pin();
            insert_burst(&table, from, now, &guard);
            table.sweep(now, 256, &guard);
            from += BURST as u32;
        }
    };
    (0..10).for_each(|_| insert());
    count.case("conntrack/insert+sweep", 64 * BURST, insert);
}

fn set(count: &mut Count) {
    let keys: Vec<[u8; 4]> = (0..10_000u32)
        .map(|n| n.wrapping_mul(0x9e37_79b1).to_be_bytes())
        .collect();
    let element = |key: &[u8; 4]| Element {
        kind: Kind::Key,
        key: key[..].into(),
        key_end: None,
        data: Data::Nothing,
        expires_ns: None,
        states: Box::default(),
    };
    if !count.is_group_wanted("set") {
        return;
    }
    let spec = SetSpec {
        key_len: 4,
        ..SetSpec::default()
    };
    let set = Set::new(spec, keys.iter().map(element).collect()).expect("a set");
    count.case("set/lookup/10k", keys.len(), || {
        for key in &keys {
            assert!(black_box(set.lookup(black_box(key), 0)).is_some());
        }
    });
}

fn rules(count: &mut Count) {
    if !count.is_group_wanted("rules") {
        return;
    }
    let accept = || ruleset(vec![vec![Expr::Verdict(Verdict::Accept)]]);
    let cases = ["saddr", "both", "prefixes", "iif-saddr", "dport", "unlike"]
        .map(|kind| (format!("rules/linear/{kind}/1k"), linear(kind, 1_000), CtState::NEW));
    let routers = [
        ("rules/router/first".to_owned(), router(), CtState::NEW),
        ("rules/router/established".to_owned(), router(), CtState::ESTABLISHED),
        ("rules/accept".to_owned(), accept(), CtState::NEW),
    ];
    for (name, ruleset, state) in cases.into_iter().chain(routers) {
        let mut hook = Hook::new(ruleset, state);
        count.case(&name, 100, || (0..100).for_each(|_| hook.run(true)));
        if !name.contains("linear") {
            count.case(&format!("{name}/interpreted"), 100, || {
                (0..100).for_each(|_| hook.run(false))
            });
        }
    }
}

fn fdb(count: &mut Count) {
    const STATIONS: u32 = 10_000;
    if !count.is_group_wanted("fdb") {
        return;
    }
    let fdb = Fdb::new(STATIONS as usize);
    let entry = |n: u32| Entry {
        port: IfaceIndex((n % 4) as u16),
        flags: EntryFlags(0),
    };
    let stations: Vec<_> = (0..STATIONS).map(super::walks::station).collect();
    for (station, n) in stations.iter().zip(0..) {
        fdb.insert(station, 0, entry(n)).expect("room");
    }
    count.case("fdb/lookup/10k", stations.len(), || {
        for station in &stations {
            assert!(black_box(fdb.lookup(black_box(station), 0)).is_some());
        }
    });
}

fn bucket(count: &mut Count) {
    let rate = Rate {
        bytes_per_second: 125_000_000,
        ..Rate::default()
    };
    let mut bucket = Bucket::new(rate, 1_000_000, 0);
    let mut now_ns = 0;
    count.case("bucket/fill+wait+take", 1000, || {
        for _ in 0..1000 {
            now_ns += 600;
            bucket.fill(black_box(now_ns));
            if black_box(bucket.wait_ns(64)) == 0 {
                bucket.take(64);
            }
        }
    });
}

fn police(count: &mut Count) {
    let rate = Rate {
        bytes_per_second: 125_000_000,
        ..Rate::default()
    };
    let policer = Policer::new(Police {
        index: 1,
        limit: Some(Limit::Bytes(rate)),
        burst_ns: 1_000_000,
        peak: None,
        mtu: 2040,
        conforming: Act::Pass,
        exceeding: Act::Drop,
    });
    let mut now_ns = 1 << 40;
    for (name, step_ns) in [("police/conforms", 8_000), ("police/exceeds", 0)] {
        count.case(name, 1000, || {
            for _ in 0..1000 {
                now_ns += step_ns;
                black_box(policer.police(black_box(1000), black_box(now_ns)));
            }
        });
    }
}

fn filter(count: &mut Count) {
    let frame = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    let ask = |count: &mut Count, name: &str, mark: u32, filters: &[Filter]| {
        count.case(name, 1000, || {
            for _ in 0..1000 {
                let facts = Facts {
                    bytes: black_box(&frame),
                    mark,
                    priority: 0,
                };
                assert!(black_box(classify(filters, &facts)).is_some());
            }
        });
    };
    let of = |what| {
        [Filter {
            protocol: PROTOCOL_ALL,
            what,
        }]
    };
    let marks = (0..1000).map(|mark| (mark, Handle(mark + 1))).collect();
    ask(
        count,
        "filter/fw/1k",
        777,
        &of(Match::Mark(Marks::new(u32::MAX, marks))),
    );
    // The last one matches: the destination.
    let node = |n: u32| {
        let key = Key {
            value: if n == 9 { lab::gateway(Family::V4) as u32 } else { n },
            mask: u32::MAX,
            offset: 16,
            offset_mask: 0,
        };
        Node {
            keys: [key].into(),
            class: Some(Handle(n + 1)),
            ..Node::default()
        }
    };
    let root = U32Table {
        buckets: vec![(0..10).map(node).collect()],
    };
    ask(
        count,
        "filter/u32/10",
        0,
        &of(Match::U32(U32::new(vec![root]).expect("right tables"))),
    );
    let rule = |n: u32| {
        let mut rule = Rule {
            class: Handle(n + 1),
            ..Rule::default()
        };
        let dst = if n == 999 { lab::gateway(Family::V4) as u32 } else { n };
        rule.fields.set(&Field::IPV4_DST, &dst.to_be_bytes());
        rule.mask.set(&Field::IPV4_DST, &[0xff; 4]);
        rule
    };
    let flower = Flower::new((0..1000).map(rule).collect()).expect("distinct rules");
    ask(count, "filter/flower/1k", 0, &of(Match::Flower(flower)));
}
