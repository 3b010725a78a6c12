//! The connection table beside two well-known concurrent maps, DashMap and papaya; insertion with expiry; ten million.
//!
//! `cargo bench --no-default-features --bench conntrack` (about a minute). Everything is in bursts of 64, as a worker does
//! it, from fixed seeds. All three find a connection by either of its tuples and give back one word of it (the deadline, for
//! ours compared with the time); the maps hash with foldhash, which is faster than what they have by default. Their rows "one
//! tuple" have half the keys and find one direction only: less than the task, but nothing of them can be said to be padding.
//!
//! The table asks for huge pages, which the maps have only by `GLIBC_TUNABLES=glibc.malloc.hugetlb=1`. Whoever wants to
//! compare without that advantage sets it.
//!
//! Rounds are interleaved, and the median counts. Time is the thread's CPU time, not the clock on the wall: other work on
//! the machine then disturbs only the caches. With two threads the rates of both are added; each has its own core. Memory is the growth of the resident set.

#[path = "setup/connections.rs"]
mod connections;
mod cpu_time;

use bypath::packet::BURST;
use bypath::table::conntrack::Tuple;
use bypath::table::conntrack::table::{Handle, Table};
use connections::{Keys, NOW, filled, find, insert_burst, original, reply};
use cpu_time::CpuTime;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use std::hint::black_box;
use std::sync::Barrier;

const CONNECTIONS: u32 = 1_000_000;
const MANY: u32 = 10_000_000;
/// Lookups of a round.
const LOOKUPS: usize = 1 << 20;
const ROUNDS: usize = 7;
/// How many insertions fall into a tick: 300,000 live ones, and what is not swept yet.
const INSERTS_PER_TICK: u32 = 30_000;
const INSERTS: u32 = 6_000_000;
/// Entries that are swept after each burst: a round takes 4,000 bursts.
const SWEPT: u32 = 256;

/// Something that finds a word by tuples, a burst at a time.
trait Lookup: Sync {
    /// Says how many it found of all.
    fn find(&self, keys: Keys) -> usize;
}

struct Ours(Table);

impl Lookup for Ours {
    fn find(&self, keys: Keys) -> usize {
        let Ours(table) = self;
        let handle = table.register();
        keys.bursts().map(|burst| find(table, &handle, &burst)).sum()
    }
}

struct Dash(DashMap<Tuple, u64, RandomState>);

impl Lookup for Dash {
    fn find(&self, keys: Keys) -> usize {
        let bursts = keys.bursts().map(|burst| {
            let found = burst
                .iter()
                .filter(|&tuple| self.0.get(tuple).is_some_and(|word| black_box(*word) > 0));
            found.count()
        });
        bursts.sum()
    }
}

struct Papaya(papaya::HashMap<Tuple, u64, RandomState>);

impl Lookup for Papaya {
    fn find(&self, keys: Keys) -> usize {
        let bursts = keys.bursts().map(|burst| {
            let map = self.0.pin();
            let found = burst
                .iter()
                .filter(|&tuple| map.get(tuple).is_some_and(|word| black_box(*word) > 0));
            found.count()
        });
        bursts.sum()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Millions of lookups a second of one thread.
fn rate(map: &dyn Lookup, keys: Keys) -> f64 {
    let start = CpuTime::now();
    let found = map.find(keys);
    let time = CpuTime::now() - start;
    assert_eq!(found, LOOKUPS, "all are there");
    LOOKUPS as f64 / time.as_secs_f64() / 1e6
}

/// The same of two at once, each on its core.
fn rate_of_two(map: &dyn Lookup, keys: [Keys; 2]) -> f64 {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|n| {
            let core = cores.get(n).copied();
            let barrier = &barrier;
            scope.spawn(move || {
                core.map(core_affinity::set_for_current);
                barrier.wait();
                rate(map, keys[n])
            })
        });
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}

fn lookup_rates() {
    let keys = |seed, both| Keys {
        connections: CONNECTIONS,
        seed,
        lookups: LOOKUPS,
        both,
    };
    let maps = [2, 1].map(|directions| {
        let keys = (0..CONNECTIONS).flat_map(move |n| {
            let original = original(n);
            [original, reply(&original)].into_iter().take(directions)
        });
        let dash = DashMap::with_capacity_and_hasher(directions * CONNECTIONS as usize, RandomState::default());
        let papaya =
            papaya::HashMap::with_capacity_and_hasher(directions * CONNECTIONS as usize, RandomState::default());
        for key in keys {
            dash.insert(key, 1);
            papaya.pin().insert(key, 1);
        }
        (Dash(dash), Papaya(papaya))
    });
    let ours = Ours(filled(CONNECTIONS));
    let rows: [(&str, &dyn Lookup, Keys); 5] = [
        ("ours", &ours, keys(1, true)),
        ("DashMap", &maps[0].0, keys(1, true)),
        ("papaya", &maps[0].1, keys(1, true)),
        ("DashMap, one tuple", &maps[1].0, keys(1, false)),
        ("papaya, one tuple", &maps[1].1, keys(1, false)),
    ];
    let mut rates = [const { Vec::new() }; 5];
    let mut two = Vec::new();
    for _ in 0..ROUNDS {
        for (&(_, map, keys), rates) in rows.iter().zip(&mut rates) {
            rates.push(rate(map, keys));
        }
        two.push(rate_of_two(&ours, [keys(1, true), keys(2, true)]));
    }
    let medians = rates.map(median);
    println!("\n{CONNECTIONS} connections, random lookups, one core    Mlookups/s   ns each   ours is");
    for ((name, ..), rate) in rows.iter().zip(medians) {
        println!("  {name:45} {rate:13.1} {:9.1} {:8.2} x", 1e3 / rate, medians[0] / rate);
    }
    let two = median(two);
    println!(
        "  ours, two cores                               {two:13.1}             {:8.2} x of one",
        two / medians[0]
    );
}

fn insert_rate() {
    let table = Table::new(CONNECTIONS);
    let handle: Handle = table.register();
    let (mut now, mut from) = (NOW, 0);
    let mut rates = Vec::new();
    // The first round is without expiry, and is not counted.
    for round in 0..=ROUNDS as u32 {
        let start = CpuTime::now();
        let until = INSERTS / ROUNDS as u32 * (round + 1);
        let mut inserted = 0;
        while from < until {
            now = NOW + from / INSERTS_PER_TICK;
            let guard = handle.pin();
            insert_burst(&table, from, now, &guard);
            table.sweep(now, SWEPT, &guard);
            from += BURST as u32;
            inserted += BURST;
        }
        let time = CpuTime::now() - start;
        if round > 0 {
            rates.push(f64::from(inserted as u32) / time.as_secs_f64() / 1e6);
        }
    }
    let counts = table.counts();
    println!(
        "\ninserts with expiry, one core, {} live, room for {CONNECTIONS}",
        table.len()
    );
    println!("  {:.2} M/s; {counts:?}; at tick {now}", median(rates));
}

/// The resident set, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

fn ten_million() {
    let before = resident();
    let start = CpuTime::now();
    let ours = Ours(filled(MANY));
    let time = (CpuTime::now() - start).as_secs_f64();
    let grown = resident().saturating_sub(before) as f64;
    let keys = Keys {
        connections: MANY,
        seed: 4,
        lookups: LOOKUPS,
        both: true,
    };
    let rates = (0..ROUNDS).map(|_| rate(&ours, keys)).collect();
    let rate = median(rates);
    println!(
        "\n{MANY} connections: filled at {:.2} M/s",
        f64::from(MANY) / time / 1e6
    );
    println!(
        "  {:.1} bytes each by the table's own account, {:.1} of resident set ({:.3} GiB)",
        ours.0.bytes() as f64 / f64::from(MANY),
        grown / f64::from(MANY),
        grown / f64::from(1 << 30)
    );
    println!("  random lookups, one core: {rate:.1} M/s, {:.1} ns each", 1e3 / rate);
}

fn main() {
    let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    println!("transparent huge pages: {}", huge.trim());
    lookup_rates();
    insert_rate();
    ten_million();
}
