//! Millions of seeded operations, and a HashMap that must agree after each: inserts with NAT and without, clashes, lookups of
//! either tuple, ends, refreshes, expiry by sweeps. `BYPATH_SEED` for another seed.
//! The table is small, so that it is full at times, lines spill, and annexes run out. All are assured, so none is dropped
//! early: the model could not tell which.

use super::*;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::collections::HashMap;

/// What the model knows: by tuple the connection's number, by number its record.
#[derive(Default)]
struct Model {
    tuples: HashMap<Tuple, u32>,
    records: HashMap<u32, Record>,
}

impl Model {
    fn remove(&mut self, number: u32) {
        if let Some(record) = self.records.remove(&number) {
            self.tuples.remove(&record.original);
            self.tuples.remove(&record.reply);
        }
    }

    fn expire(&mut self, now: Ticks) {
        let over: Vec<u32> = self
            .records
            .iter()
            .filter(|(_, record)| crate::table::conntrack::is_past(record.deadline, now))
            .map(|(&number, _)| number)
            .collect();
        over.into_iter().for_each(|number| self.remove(number));
    }
}

#[test]
fn the_table_is_a_map_of_tuples() {
    let seed = std::env::var("BYPATH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let steps = if cfg!(miri) { 2_000 } else { 3_000_000 };
    println!("seed {seed}, {steps} operations");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let table = Table::seeded(2048, Seed::fixed(seed));
    let handle = table.register();
    let mut model = Model::default();
    let (mut now, mut clashes, mut found, mut no_annex, mut full) = (1000, 0, 0, 0, 0);
    for number in 0..steps {
        let guard = handle.pin();
        let some = rng.random_range(0..3000);
        match rng.random_range(0..10) {
            0..4 => {
                let mut new = plain(some, now + rng.random_range(1..500));
                new.mark = number;
                new.status = Status::CONFIRMED | Status::ASSURED;
                if rng.random_ratio(1, 4) {
                    // NAT: the reply's addresses are others.
                    new.reply.dst = 0x0c00_0000 + u128::from(some % 7);
                }
                let taken = model.tuples.contains_key(&new.original) || model.tuples.contains_key(&new.reply);
                match table.insert(&new, now, &guard) {
                    Ok(_) => {
                        assert!(!taken, "{new:?}");
                        model.tuples.insert(new.original, number);
                        model.tuples.insert(new.reply, number);
                        model.records.insert(number, new);
                    }
                    Err(Refused::Clash) => {
                        assert!(taken, "{new:?}");
                        clashes += 1;
                    }
                    Err(Refused::Full) => full += 1,
                    Err(Refused::NoAnnex) => {
                        assert_eq!(new.original.family, Family::V6, "no annex is left");
                        no_annex += 1;
                    }
                }
            }
            4..7 => {
                let tuple = if rng.random() {
                    plain(some, 0).original
                } else {
                    plain(some, 0).reply
                };
                let mut probe = table.probe(&tuple);
                if rng.random() {
                    table.aim(&mut probe);
                }
                let hit = table.find(&probe, now, &guard);
                let wanted = model.tuples.get(&tuple);
                assert_eq!(hit.is_some(), wanted.is_some());
                if let (Some((connection, direction)), Some(number)) = (hit, wanted) {
                    found += 1;
                    assert_eq!(connection.record(), model.records[number]);
                    assert_eq!(connection.tuple(direction), tuple);
                    let deadline = now + rng.random_range(1..500);
                    assert!(connection.refresh(deadline));
                    if let Some(record) = model.records.get_mut(number) {
                        record.deadline = deadline;
                    }
                }
            }
            7 => {
                let tuple = plain(some, 0).original;
                if let Some((connection, _)) = table.lookup(&tuple, table.hash(&tuple), now, &guard) {
                    let number = connection.mark();
                    assert!(table.remove(connection, &guard));
                    assert!(!table.remove(connection, &guard), "once is enough");
                    model.remove(number);
                }
            }
            8 => drop(table.sweep(now, 64, &guard)),
            _ if rng.random_ratio(1, 20) => {
                now += 1;
                model.expire(now);
            }
            _ => {}
        }
    }
    let guard = handle.pin();
    table.sweep(now, u32::MAX, &guard);
    assert_eq!(table.len() as usize, model.records.len());
    assert_eq!(table.iter(&guard).count(), model.records.len());
    assert_eq!(
        table.buckets.all().len(),
        2 * model.records.len(),
        "no slot is left behind"
    );
    println!(
        "{clashes} clashes, {found} found, {no_annex} without an annex, {:?}",
        table.counts()
    );
    assert!(cfg!(miri) || clashes > 1000 && found > 100_000 && full > 1000 && no_annex > 100);
}

#[test]
fn spilled_slots_are_counted_and_found() {
    let table = Table::new(10_000);
    let handle = table.register();
    let count = if cfg!(miri) { 300 } else { 10_000 };
    {
        let guard = handle.pin();
        for n in 0..count {
            assert!(table.insert(&plain(n, 100), 1, &guard).is_ok(), "{n}");
        }
        let spilled = table.buckets.spilled();
        println!("{spilled} of {} slots spilled", 2 * count);
        for n in 0..count {
            for tuple in [plain(n, 0).original, plain(n, 0).reply] {
                assert!(table.lookup(&tuple, table.hash(&tuple), 1, &guard).is_some());
            }
        }
        assert_eq!(table.sweep(100, u32::MAX, &guard), count);
    }
    assert_eq!(
        (table.buckets.spilled(), table.buckets.all().len(), table.len()),
        (0, 0, 0)
    );
}
