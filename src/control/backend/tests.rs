//! Requests against workers that only answer: how often each request asks them, and for what. Needs no root.
//!
//! A thread stands for all workers: it empties their mailboxes, notes what was asked, and says that one frame was timed.

use super::*;
use crate::port::MemQueue;
use crate::table::Snapshot;
use crate::worker::Limits;
use std::sync::atomic::{AtomicBool, Ordering};

const WORKERS: usize = 2;

fn running() -> Running<MemQueue> {
    let limits = Limits::new(WORKERS, 64);
    let (shared, ..) = Shared::new(limits, Snapshot::default()).unwrap();
    Running {
        shared: Arc::new(shared),
        ports: PortTable::default(),
        punts: Arc::default(),
        steer: Box::new(|_| report::ByReason::new()),
        cpus: vec![None; WORKERS],
        closed: Arc::default(),
        last: Mutex::default(),
        subscribers: Arc::default(),
        exchanged: Arc::default(),
    }
}

/// Answers what a request asks of workers: which worker each time, and whether for its latencies.
fn asked(running: &Running<MemQueue>, request: impl FnOnce(&Running<MemQueue>)) -> Vec<(usize, bool)> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let mut asked = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                for worker in 0..WORKERS {
                    let Some(Command::Report { latency, reply }) = running.shared.mailbox[worker].pop() else {
                        continue;
                    };
                    asked.push((worker, latency));
                    let _ = reply.send(answer(worker, latency));
                }
                thread::yield_now();
            }
            asked
        });
        request(running);
        is_over.store(true, Ordering::Release);
        answering.join().unwrap()
    })
}

/// What a worker says that has timed one frame.
fn answer(worker: usize, latency: bool) -> Report {
    let mut timed = crate::worker::Latency::new();
    timed.record(1000);
    Report {
        received: 1,
        latency: latency.then(|| (PortIndex(0), Arc::new(timed))).into_iter().collect(),
        ..Report::new(worker)
    }
}

#[test]
fn a_request_asks_each_worker_once() {
    let running = running();
    let of = |latency: bool| [(0, latency), (1, latency)];
    let asked = |request: fn(&Running<MemQueue>)| {
        let mut asked = asked(&running, request);
        asked.sort_unstable();
        asked
    };
    assert_eq!(asked(|running| drop(running.scrape())), of(true));
    assert_eq!(asked(|running| drop(running.totals())), of(false));
    assert_eq!(asked(|running| drop(running.ports())), of(false));
    assert_eq!(asked(|running| drop(running.workers())), of(false));
    assert_eq!(asked(|running| drop(running.drops())), of(false));
    assert_eq!(asked(|running| drop(running.qdiscs())), of(false));
    assert_eq!(asked(|running| drop(running.latency())), of(true));
}

#[test]
fn latencies_outlast_an_answer_without_them() {
    let running = running();
    asked(&running, |running| drop(running.latency()));
    asked(&running, |running| drop(running.totals()));
    // Nobody answers any more.
    let latency = running.latency();
    assert_eq!(latency[0].count, WORKERS as u64);
    assert_eq!(running.totals().stale_workers, [0, 1]);
}
