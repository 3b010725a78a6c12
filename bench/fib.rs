//! Route lookup, loading and churn, beside two well-known crates: ip_network_table (Tree Bitmap) and prefix-trie.
//!
//! `cargo bench --no-default-features --bench fib` (about half a minute). A lookup is timed in bursts of 64 destinations, as
//! a worker does them; the time given is for the burst, the rate for one lookup. Tables: 1, 1,000 and 1,000,000 IPv4 routes
//! and 200,000 IPv6 routes, whose prefix lengths are distributed about as in the Internet's tables ("bgp") or more
//! evenly ("even"). Destinations lie in prefixes of the table: evenly ("random"), or nine of ten in one prefix of a thousand
//! ("skewed"). Everything comes from fixed seeds, and all three tables must find the same before anything is timed.
//!
//! Time is the thread's CPU time, not the clock on the wall: other work on the machine then disturbs only the caches.
//! Memory is the growth of the resident set while a table is loaded, and only a hint: too low where a table
//! finds room that was given back before (the prefixes are generated first, which takes some).

mod cpu_time;
#[path = "setup/routes.rs"]
mod routes;

use bypath::packet::{Addr, BURST, Family};
use bypath::table::fib::{Fib, FibKey, Found, Lpm, TABLE_LOCAL, TABLE_MAIN};
use cpu_time::CpuTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use ip_network::{IpNetwork, Ipv4Network, Ipv6Network};
use ip_network_table::IpNetworkTable;
use prefix_trie::PrefixMap;
use routes::{BGP_V4, EVEN_V4, Prefix, Random, Value, destinations, routes_v4, routes_v6, values};
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The three tables, each loaded with the same routes; prints what that took.
struct Tables {
    family: Family,
    lpm: Lpm<Value>,
    bitmap: IpNetworkTable<Value>,
    trie4: PrefixMap<(u32, u8), Value>,
    trie6: PrefixMap<(u128, u8), Value>,
}

impl Tables {
    fn load(name: &str, family: Family, routes: &[Prefix]) -> Self {
        let values = values();
        let each = || {
            routes
                .iter()
                .enumerate()
                .map(|(i, &(addr, len))| (addr, len, values[i % 64].clone()))
        };
        let mut tables = Tables {
            family,
            lpm: Lpm::new(family.bits()),
            bitmap: IpNetworkTable::new(),
            trie4: PrefixMap::new(),
            trie6: PrefixMap::new(),
        };
        measure(name, "lpm", routes.len(), || {
            each().for_each(|(addr, len, value)| drop(tables.lpm.insert(addr, len, value)));
        });
        measure(name, "ip_network_table", routes.len(), || {
            for (addr, len, value) in each() {
                let network: IpNetwork = match family {
                    Family::V4 => Ipv4Network::new(Ipv4Addr::from(addr as u32), len)
                        .expect("a prefix")
                        .into(),
                    Family::V6 => Ipv6Network::new(Ipv6Addr::from(addr), len).expect("a prefix").into(),
                };
                tables.bitmap.insert(network, value);
            }
        });
        measure(name, "prefix-trie", routes.len(), || {
            for (addr, len, value) in each() {
                match family {
                    Family::V4 => tables.trie4.insert((addr as u32, len), value),
                    Family::V6 => tables.trie6.insert((addr, len), value),
                };
            }
        });
        tables
    }

    fn lpm(&self, addr: Addr) -> Option<(u8, &Value)> {
        self.lpm.lookup(addr)
    }

    fn bitmap(&self, addr: Addr) -> Option<(u8, &Value)> {
        match self.family {
            Family::V4 => {
                let (network, value) = self.bitmap.longest_match_ipv4(Ipv4Addr::from(addr as u32))?;
                Some((network.netmask(), value))
            }
            Family::V6 => {
                let (network, value) = self.bitmap.longest_match_ipv6(Ipv6Addr::from(addr))?;
                Some((network.netmask(), value))
            }
        }
    }

    fn trie(&self, addr: Addr) -> Option<(u8, &Value)> {
        match self.family {
            Family::V4 => self
                .trie4
                .get_lpm(&(addr as u32, 32))
                .map(|(prefix, value)| (prefix.1, value)),
            Family::V6 => self
                .trie6
                .get_lpm(&(addr, 128))
                .map(|(prefix, value)| (prefix.1, value)),
        }
    }

    fn assert_agree(&self, destinations: &[Addr]) {
        for &addr in destinations {
            let found = self.lpm(addr).map(|(len, value)| (len, value.mtu));
            assert_eq!(
                found,
                self.bitmap(addr).map(|(len, value)| (len, value.mtu)),
                "{addr:x}"
            );
            assert_eq!(found, self.trie(addr).map(|(len, value)| (len, value.mtu)), "{addr:x}");
        }
    }
}

/// Runs `load` and prints its time and how much memory it took.
fn measure(table: &str, name: &str, routes: usize, load: impl FnOnce()) {
    let before = resident_bytes();
    let start = CpuTime::now();
    load();
    let time = CpuTime::now() - start;
    let grown = resident_bytes().saturating_sub(before);
    if routes >= 100_000 {
        println!(
            "{table} {name}: loaded {routes} routes in {} ms, {:.1} MB, {} bytes each",
            time.as_millis(),
            grown as f64 / 1e6,
            grown / routes
        );
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * 4096
}

/// Times one lookup function over bursts of the destinations.
fn bursts(
    group: &mut BenchmarkGroup<'_, CpuTime>,
    id: BenchmarkId,
    destinations: &[Addr],
    lookup: impl Fn(Addr) -> u32,
) {
    bursts_after(group, id, destinations, |_| {}, lookup);
}

/// The same, with something done for the whole burst before.
fn bursts_after(
    group: &mut BenchmarkGroup<'_, CpuTime>,
    id: BenchmarkId,
    destinations: &[Addr],
    before: impl Fn(&[Addr]),
    lookup: impl Fn(Addr) -> u32,
) {
    let mut at = 0;
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            let burst = &destinations[at..at + BURST];
            at = (at + BURST) % destinations.len();
            before(burst);
            burst
                .iter()
                .fold(0u32, |sum, &addr| sum.wrapping_add(lookup(black_box(addr))))
        });
    });
}

fn lookups(criterion: &mut Criterion<CpuTime>, name: &str, family: Family, routes: &[Prefix]) -> Tables {
    let tables = Tables::load(name, family, routes);
    let mut group = criterion.benchmark_group(name);
    for (shape, skewed) in [("random", false), ("skewed", true)] {
        if skewed && routes.len() <= 1000 {
            continue;
        }
        let to = destinations(family, routes, skewed);
        tables.assert_agree(&to);
        let id = |table| BenchmarkId::new(table, shape);
        bursts(&mut group, id("lpm"), &to, |addr| {
            tables.lpm(addr).map_or(0, |(_, route)| route.mtu)
        });
        bursts_after(
            &mut group,
            id("lpm, warmed"),
            &to,
            |burst| tables.lpm.warm(burst),
            |addr| tables.lpm(addr).map_or(0, |(_, route)| route.mtu),
        );
        bursts(&mut group, id("ip_network_table"), &to, |addr| {
            tables.bitmap(addr).map_or(0, |(_, route)| route.mtu)
        });
        bursts(&mut group, id("prefix-trie"), &to, |addr| {
            tables.trie(addr).map_or(0, |(_, route)| route.mtu)
        });
    }
    group.finish();
    tables
}

/// A whole lookup with the default rules, a few local routes, and the table as main.
fn rules(criterion: &mut Criterion<CpuTime>, name: &str, routes: &[Prefix], main: &Lpm<Value>) {
    let mut fib = Fib::with_default_rules(Family::V4);
    let at = fib.table(TABLE_MAIN);
    fib.tables[at].1 = main.clone();
    let at = fib.table(TABLE_LOCAL);
    for (addr, len) in [
        (0x7f00_0000, 8),
        (0x0a00_0001, 32),
        (0x0a00_00ff, 32),
        (0xc0a8_0001, 32),
        (0xc0a8_00ff, 32),
    ] {
        fib.tables[at].1.insert(addr, len, values()[0].clone());
    }
    let to = destinations(Family::V4, routes, false);
    let mut group = criterion.benchmark_group("rules");
    let lookup = |dst| match fib.lookup(&FibKey {
        src: 0xc000_0201,
        dst,
        iif: None,
        tos: 0,
    }) {
        Found::Route(_, route) => route.mtu,
        _ => 0,
    };
    bursts(&mut group, BenchmarkId::new("default", name), &to, lookup);
    bursts_after(
        &mut group,
        BenchmarkId::new("default, warmed", name),
        &to,
        |burst| fib.warm(burst),
        lookup,
    );
    group.finish();
}

/// Batches of changes, each on a table that is published (cloned) before and whose predecessor is freed after.
fn churn(criterion: &mut Criterion<CpuTime>, mut table: Lpm<Value>, routes: &[Prefix]) {
    let values = values();
    let mut random = Random(4);
    let mut group = criterion.benchmark_group("churn of 1,000,000 ipv4 bgp");
    for batch in [1, 10, 100, 1000] {
        group.throughput(Throughput::Elements(2 * batch));
        group.bench_function(BenchmarkId::new("remove and insert after clone", batch), |bencher| {
            bencher.iter(|| {
                let published = table.clone();
                for _ in 0..batch {
                    let (addr, len) = routes[random.below(routes.len())];
                    table.remove(addr, len);
                    table.insert(addr, len, values[random.below(64)].clone());
                }
                published
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(12)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(250))
        .without_plots()
        .with_measurement(CpuTime)
        .configure_from_args();
    // All prefixes first and all tables kept, so that few reuse memory of another and its growth can be seen.
    let (bgp, even, v6) = (
        routes_v4(1_000_000, &BGP_V4),
        routes_v4(1_000_000, &EVEN_V4),
        routes_v6(200_000),
    );
    let large = lookups(&mut criterion, "1,000,000 ipv4 bgp", Family::V4, &bgp);
    rules(&mut criterion, "1,000,000 ipv4 bgp", &bgp, &large.lpm);
    let _even = lookups(&mut criterion, "1,000,000 ipv4 even", Family::V4, &even);
    let _v6 = lookups(&mut criterion, "200,000 ipv6 bgp", Family::V6, &v6);
    lookups(&mut criterion, "1 ipv4", Family::V4, &[(0, 0)]);
    let thousand = routes_v4(1000, &BGP_V4);
    let small = lookups(&mut criterion, "1,000 ipv4 bgp", Family::V4, &thousand);
    rules(&mut criterion, "1,000 ipv4 bgp", &thousand, &small.lpm);
    churn(&mut criterion, large.lpm, &bgp);
    criterion.final_summary();
}
