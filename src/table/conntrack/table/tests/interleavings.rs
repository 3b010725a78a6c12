//! Every interleaving of two threads in small cases, by loom, with at most two preemptions: inserts of one tuple, clashes,
//! ends, reuse, refreshes, commits. Each case ends with the checks of `both`. To run them:
//! `RUSTFLAGS="--cfg loom" cargo test --no-default-features --lib loom_`.

use super::*;
use loom::sync::Arc as Shared;
use loom::thread;

const NOW: Ticks = 100;

/// Runs `a` and `b` on one table of four connections, in every order that loom finds, then `after`.
fn both(
    setup: impl Fn(&Table) + Sync + Send + 'static,
    a: impl Fn(&Table) + Sync + Send + Copy + 'static,
    b: impl Fn(&Table) + Sync + Send + Copy + 'static,
    after: impl Fn(&Table) + Sync + Send + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let table = Shared::new(Table::new(4));
        setup(&table);
        let theirs = Shared::clone(&table);
        let thread = thread::spawn(move || a(&theirs));
        b(&table);
        thread.join().unwrap();
        after(&table);
        // Whatever happened: two slots for each connection, and no tuple twice.
        let handle = table.register();
        let guard = handle.pin();
        let all: Vec<Record> = table.iter(&guard).map(|connection| connection.record()).collect();
        assert_eq!(table.buckets.all().len(), 2 * all.len());
        assert_eq!(table.len() as usize, all.len());
        for (n, record) in all.iter().enumerate() {
            let others = all.iter().skip(n + 1).flat_map(|other| [other.original, other.reply]);
            others.for_each(|tuple| assert!(tuple != record.original && tuple != record.reply));
        }
    });
}

fn insert(table: &Table, record: &Record) -> bool {
    let handle = table.register();
    let guard = handle.pin();
    table.insert(record, NOW, &guard).is_ok()
}

fn remove(table: &Table, tuple: &Tuple) -> bool {
    let handle = table.register();
    let guard = handle.pin();
    let found = table.lookup(tuple, table.hash(tuple), NOW, &guard);
    found.is_some_and(|(connection, _)| table.remove(connection, &guard))
}

#[test]
fn loom_two_insert_one_tuple() {
    both(
        |_| {},
        |table| drop(insert(table, &plain(1, 200))),
        |table| drop(insert(table, &plain(1, 300))),
        |table| assert_eq!(table.len(), 1, "exactly one stays"),
    );
}

#[test]
fn loom_the_tuples_of_a_clash() {
    let (one, other) = (plain(1, 200), plain(2, 200));
    // The second one's original is the first one's reply.
    let crossed = record(one.reply, other.reply, 200);
    both(
        |_| {},
        move |table| drop(insert(table, &plain(1, 200))),
        move |table| drop(insert(table, &record(plain(1, 0).reply, plain(2, 0).reply, 200))),
        move |table| {
            assert_eq!(table.len(), 1);
            let handle = table.register();
            let guard = handle.pin();
            let both = [one.reply, crossed.original];
            assert!(
                both.iter()
                    .all(|tuple| table.lookup(tuple, table.hash(tuple), NOW, &guard).is_some())
            );
        },
    );
}

#[test]
fn loom_insert_and_delete() {
    both(
        |table| assert!(insert(table, &plain(1, 200))),
        |table| drop(insert(table, &plain(1, 300))),
        |table| assert!(remove(table, &plain(1, 0).original)),
        |table| assert!(table.len() <= 1),
    );
}

#[test]
fn loom_a_lookup_never_sees_a_reused_entry() {
    both(
        |table| assert!(insert(table, &plain(1, 200))),
        |table| {
            remove(table, &plain(1, 0).original);
            insert(table, &plain(2, 200));
        },
        |table| {
            let tuple = plain(1, 0).reply;
            let handle = table.register();
            let guard = handle.pin();
            if let Some((connection, direction)) = table.lookup(&tuple, table.hash(&tuple), NOW, &guard) {
                assert_eq!(connection.tuple(direction), tuple);
            }
        },
        |table| assert_eq!(table.len(), 1),
    );
}

#[test]
fn loom_refresh_or_expire() {
    both(
        |table| assert!(insert(table, &plain(1, 150))),
        |table| {
            let handle = table.register();
            table.sweep(160, 8, &handle.pin());
        },
        |table| {
            let tuple = plain(1, 0).original;
            let handle = table.register();
            let guard = handle.pin();
            // At a time before the end: who finds it there and moves the end has kept it.
            if let Some((connection, _)) = table.lookup(&tuple, table.hash(&tuple), NOW, &guard) {
                let kept = connection.refresh(500);
                assert_eq!(kept, table.lookup(&tuple, table.hash(&tuple), NOW, &guard).is_some());
            }
        },
        |_| {},
    );
}

#[test]
fn loom_of_two_commits_none_is_lost() {
    fn advance(table: &Table) {
        let tuple = plain(1, 0).original;
        let handle = table.register();
        let guard = handle.pin();
        if let Some((connection, _)) = table.lookup(&tuple, table.hash(&tuple), NOW, &guard) {
            for _ in 0..3 {
                let (version, proto) = connection.proto();
                if connection.commit(version, &[proto[0] + 1, proto[1] + 1, 0, 0, 0, 0, proto[6] + 1]) {
                    return;
                }
                loom::thread::yield_now();
            }
        }
    }
    both(
        |table| assert!(insert(table, &plain(1, 200))),
        advance,
        advance,
        |table| {
            let handle = table.register();
            let guard = handle.pin();
            let states: Vec<ProtoState> = table.iter(&guard).map(|connection| connection.proto().1).collect();
            let [a, b, .., c] = states[0];
            assert!((1..=2).contains(&a) && a == b && b == c, "{:?}", states[0]);
        },
    );
}
