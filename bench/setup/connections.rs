//! Connections for benches: a table full of them, and tuples of them in random order from fixed seeds.
#![allow(dead_code)]

use bypath::packet::{BURST, Family};
use bypath::table::conntrack::table::{Guard, Handle, Table};
use bypath::table::conntrack::{Direction, Marks, Record, Status, Ticks, Tuple};
use std::hint::black_box;

/// The time at which they are looked up.
pub const NOW: Ticks = 1000;
/// What an insertion lives.
pub const LIFE: Ticks = 10;

/// xorshift64*: the seeds are fixed, so is what is looked up.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u32
    }
}

/// The `n`th connection's tuple: no two are alike, since a multiplication by an odd number is undone by another.
pub fn original(n: u32) -> Tuple {
    let mixed = n.wrapping_mul(0x9e37_79b1);
    Tuple {
        src: 0x0a00_0000 | u128::from(mixed >> 12),
        dst: 0xc000_0200 | u128::from(mixed & 0xf),
        sport: 1024 + (mixed >> 4 & 0xff) as u16,
        dport: 443,
        proto: 6,
        family: Family::V4,
        zone: 0,
    }
}

/// That of the answers.
pub fn reply(original: &Tuple) -> Tuple {
    original.invert().expect("TCP has an inverse")
}

/// A TCP connection until `deadline`.
pub fn record(n: u32, deadline: Ticks) -> Record {
    let original = original(n);
    Record {
        original,
        reply: reply(&original),
        status: Status::CONFIRMED,
        marks: Marks(0),
        deadline,
        mark: 0,
        proto: [0; 7],
        counters: Default::default(),
    }
}

/// What is looked up: made burst by burst, as frames that were just parsed would be, so that it is in the cache.
#[derive(Clone, Copy)]
pub struct Keys {
    /// Of so many.
    pub connections: u32,
    /// Of what is random.
    pub seed: u64,
    /// How many; whole bursts.
    pub lookups: usize,
    /// Original and reply, or the original only.
    pub both: bool,
}

impl Keys {
    /// Burst after burst.
    pub fn bursts(self) -> impl Iterator<Item = [Tuple; BURST]> {
        let mut random = Random(self.seed);
        (0..self.lookups / BURST).map(move |_| {
            [0; BURST].map(|_| {
                let original = original(random.below(self.connections));
                match self.both && random.next() >> 32 & 1 == 1 {
                    false => original,
                    true => reply(&original),
                }
            })
        })
    }
}

/// A table that holds so many, and has room for no more.
pub fn filled(connections: u32) -> Table {
    let table = Table::new(connections);
    let handle = table.register();
    for n in 0..connections {
        let guard = handle.pin();
        assert!(
            table.insert(&record(n, NOW + 100), NOW, &guard).is_ok(),
            "there is room"
        );
    }
    drop(handle);
    assert_eq!(table.len(), connections, "none was dropped to make room");
    table
}

/// Looks up a burst as a worker does; how many were there.
pub fn find(table: &Table, handle: &Handle, burst: &[Tuple; BURST]) -> usize {
    let guard = handle.pin();
    let mut probes = burst.each_ref().map(|tuple| table.probe(tuple));
    probes.iter_mut().for_each(|probe| table.aim(probe));
    let found = probes.iter().filter(|probe| {
        table.find(probe, NOW, &guard).is_some_and(|(connection, direction)| {
            black_box((connection.deadline(), direction == Direction::Reply));
            true
        })
    });
    found.count()
}

/// Inserts a burst from connection `first` on.
pub fn insert_burst(table: &Table, first: u32, now: Ticks, guard: &Guard<'_>) {
    let mut records = [0; BURST].map(|_| None);
    for (n, place) in (first..).zip(&mut records) {
        let record = record(n, now + LIFE);
        table.prefetch(&record.original);
        table.prefetch(&record.reply);
        *place = Some(record);
    }
    for record in records.iter().flatten() {
        assert!(table.insert(record, now, guard).is_ok(), "there is room");
    }
}
