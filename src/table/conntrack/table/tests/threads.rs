//! Threads that insert, look up, commit, refresh, end and sweep the same few connections: no tuple is ever in the table
//! twice, no commit is lost, what is found is what was looked for, and nothing is left over at the end.
//! Seeded per thread, two seconds, four threads on a table that fills up.

use super::*;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[test]
fn threads_agree() {
    work(512);
}

/// The same where connections are dropped early all the time.
#[test]
fn threads_agree_about_a_full_table() {
    work(64);
}

fn work(connections_max: u32) {
    let seconds = if cfg!(miri) { 0 } else { 2 };
    let steps_max = if cfg!(miri) { 300 } else { u64::MAX };
    let table = Table::new(connections_max);
    let (committed, inserted) = (AtomicU64::new(0), AtomicU64::new(0));
    let steps = AtomicU64::new(0);
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (table, committed, inserted, steps) = (&table, &committed, &inserted, &steps);
            scope.spawn(move || {
                let handle = table.register();
                let mut rng = ChaCha8Rng::seed_from_u64(thread);
                let mut done = 0;
                while done < steps_max && (steps_max != u64::MAX || Instant::now() < end) {
                    let guard = handle.pin();
                    for _ in 0..16 {
                        done += 1;
                        one_step(table, &guard, &mut rng, committed, inserted);
                    }
                    // More threads than cores: one that loses its core while it is pinned keeps everything retired.
                    drop(guard);
                    std::thread::yield_now();
                }
                steps.fetch_add(done, SeqCst);
            });
        }
    });
    let handle = table.register();
    let guard = handle.pin();
    let mut seen = std::collections::HashSet::new();
    for connection in table.iter(&guard) {
        let record = connection.record();
        assert!(
            seen.insert(record.original) && seen.insert(record.reply),
            "a tuple twice"
        );
    }
    let counts = table.counts();
    let (all, left) = (inserted.load(SeqCst), table.len());
    println!(
        "{} steps, {} commits, {left} left, {counts:?}",
        steps.load(SeqCst),
        committed.load(SeqCst)
    );
    assert_eq!(counts.inserted, all);
    assert!(left <= connections_max);
    assert_eq!(counts.inserted - counts.ended, u64::from(left));
    assert_eq!(table.buckets.all().len(), 2 * left as usize);
    for connection in table.iter(&guard).collect::<Vec<_>>() {
        assert!(table.remove(connection, &guard));
    }
    assert_eq!(
        (table.len(), table.buckets.all().len(), table.buckets.spilled()),
        (0, 0, 0)
    );
}

fn one_step(table: &Table, guard: &Guard<'_>, rng: &mut ChaCha8Rng, committed: &AtomicU64, inserted: &AtomicU64) {
    let n = rng.random_range(0..200);
    let (record, now) = (plain(n, 1000 + n), 900 + rng.random_range(0..200));
    let tuple = if rng.random() { record.original } else { record.reply };
    match rng.random_range(0..8) {
        0..3 => {
            if table.insert(&record, now, guard).is_ok() {
                inserted.fetch_add(1, SeqCst);
            }
        }
        3..6 => {
            if let Some((connection, direction)) = table.lookup(&tuple, table.hash(&tuple), now, guard) {
                assert_eq!(connection.tuple(direction), tuple);
                // Every word of the state says the same: a torn one would not.
                let (version, proto) = connection.proto();
                let next = proto[1].wrapping_add(1);
                if connection.commit(version, &[next & 0xff, next, next, next, next, next, next]) {
                    committed.fetch_add(1, SeqCst);
                    assert!(proto[2..].iter().all(|&word| word == proto[1]), "{proto:?}");
                }
                connection.refresh(1000 + n);
            }
        }
        6 => {
            if let Some((connection, _)) = table.lookup(&tuple, table.hash(&tuple), now, guard) {
                table.remove(connection, guard);
            }
        }
        _ => drop(table.sweep(now, 16, guard)),
    }
}
