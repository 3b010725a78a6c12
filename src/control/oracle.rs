//! The oracle thread: asks the kernel what workers want to know (which of several nexthops a flow takes) and brings the
//! answers back. One thread, one socket, questions in batches; a worker never waits for it.

use crate::mirror::oracle::{IfaceNames, Oracle};
use crate::table::Snapshot;
use crate::table::iface::IfaceIndex;
use crate::table::oracle::{Answer, Asked, Question};
use crate::worker::Shared;
use crossbeam::sync::Parker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Questions asked at a time.
const BATCH: usize = 64;
/// How long it rests: it is woken.
const IDLE: Duration = Duration::from_secs(1);

/// Answers questions until `stop`. When the kernel does not answer, the flow stays with it.
pub fn run<Q>(shared: &Shared<Q>, parker: &Parker, mut oracle: Oracle, stop: &AtomicBool) {
    let mut batch: Vec<Asked> = Vec::with_capacity(BATCH);
    while !stop.load(Ordering::Acquire) {
        while batch.len() < BATCH
            && let Some(asked) = shared.questions.pop()
        {
            batch.push(asked);
        }
        if batch.is_empty() {
            parker.park_timeout(IDLE);
            continue;
        }
        let questions: Vec<Question> = batch.iter().map(|asked| asked.question).collect();
        let snapshot = shared.snapshot.load_full();
        let answers = oracle.ask(&questions, &Names(&snapshot));
        for (n, mut asked) in batch.drain(..).enumerate() {
            asked.answer = Some(answers.get(n).copied().unwrap_or(Answer::Kernel));
            let worker = asked.worker;
            // A full queue only means that the worker will ask again.
            let _ = shared.answers[worker].push(asked);
            shared.rouse(worker);
        }
    }
}

/// The two numbers of a link.
struct Names<'a>(&'a Snapshot);

impl IfaceNames for Names<'_> {
    fn ifindex(&self, iface: IfaceIndex) -> Option<u32> {
        self.0.iface(iface).map(|iface| iface.ifindex)
    }

    fn iface(&self, ifindex: u32) -> Option<IfaceIndex> {
        let place = self.0.ifaces.iter().position(|iface| iface.ifindex == ifindex)?;
        Some(IfaceIndex(place as u16))
    }
}
