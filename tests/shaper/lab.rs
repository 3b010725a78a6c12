//! Frames that are but a size, qdiscs in few words, and a wire that takes frames as soon as they are due.

use bypath::stage::shape::{Packet, Shaper};
use bypath::table::filter::Facts;
use bypath::table::qdisc::{Fifo, Handle, Kind, Limit, Qdisc, ROOT, Rate, Tbf};
use std::sync::Arc;

/// A second.
pub const SECOND: u64 = 1_000_000_000;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub number: u32,
    pub size: u32,
    pub priority: u32,
    pub mark: u32,
    pub bytes: Vec<u8>,
}

impl Probe {
    pub fn new(number: u32, size: u32) -> Self {
        Self::to(number, size, 0)
    }

    /// One whose priority names a class.
    pub fn to(number: u32, size: u32, class: u32) -> Self {
        Self {
            number,
            size,
            priority: class,
            mark: 0,
            bytes: Vec::new(),
        }
    }
}

impl Packet for Probe {
    fn size(&self) -> u32 {
        self.size
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            bytes: &self.bytes,
            mark: self.mark,
            priority: self.priority,
        }
    }

    /// Its mark says whether its sender knows ECN.
    fn mark_congestion(&mut self) -> bool {
        self.mark != 0
    }
}

pub fn rate(bytes_per_second: u64) -> Rate {
    Rate {
        bytes_per_second,
        ..Rate::default()
    }
}

pub fn qdisc(handle: u32, kind: Kind) -> Arc<Qdisc> {
    Arc::new(Qdisc {
        generation: 0,
        overhead: 0,
        handle: Handle(handle),
        parent: ROOT,
        kind,
        filters: Vec::new(),
    })
}

/// A fifo without a handle, as tbf and htb make them.
pub fn fifo(limit: Limit) -> Arc<Qdisc> {
    fifo_named(0, limit)
}

pub fn fifo_named(handle: u32, limit: Limit) -> Arc<Qdisc> {
    qdisc(
        handle,
        Kind::Fifo(Fifo {
            limit,
            drops_head: false,
        }),
    )
}

/// A tbf of so many bytes per second, with a burst of so many nanoseconds.
pub fn tbf(bytes_per_second: u64, buffer_ns: u64) -> Tbf {
    Tbf {
        rate: rate(bytes_per_second),
        buffer_ns,
        peak: None,
        max_size: (u128::from(bytes_per_second) * u128::from(buffer_ns) / 1_000_000_000) as u32,
        limit: 100_000_000,
        child: fifo(Limit::Bytes(100_000_000)),
    }
}

pub fn shaper(root: Arc<Qdisc>) -> Shaper<Probe> {
    Shaper::new(root, 0)
}

/// All that may leave now.
pub fn drain(shaper: &mut Shaper<Probe>, now_ns: u64, lost: &mut Vec<Probe>) -> Vec<Probe> {
    let sent = std::iter::from_fn(|| shaper.dequeue(now_ns, lost)).collect();
    if let Some(due_ns) = shaper.due_ns() {
        assert!(due_ns > now_ns, "due at {due_ns}, and nothing at {now_ns}");
    } else {
        assert!(shaper.is_empty(), "{} frames wait for ever", shaper.len());
    }
    sent
}

/// What left, and when. Frames arrive at their times; between, whatever is due leaves.
pub fn run(shaper: &mut Shaper<Probe>, arrivals: &[(u64, Probe)], until_ns: u64) -> Vec<(u64, Probe)> {
    let (mut sent, mut lost, mut arrivals) = (Vec::new(), Vec::new(), arrivals.iter().peekable());
    let mut now_ns = 0;
    loop {
        while let Some((_, probe)) = arrivals.next_if(|(at_ns, _)| *at_ns <= now_ns) {
            shaper.enqueue(probe.clone(), now_ns, &mut lost);
        }
        sent.extend(
            drain(shaper, now_ns, &mut lost)
                .into_iter()
                .map(|probe| (now_ns, probe)),
        );
        let next = [arrivals.peek().map(|(at_ns, _)| *at_ns), shaper.due_ns()];
        match next.into_iter().flatten().min() {
            Some(next_ns) if next_ns <= until_ns => now_ns = next_ns,
            _ => return sent,
        }
    }
}
