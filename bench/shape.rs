//! Shaping in memory: nanoseconds that a packet takes from enqueue to dequeue, and allocations (none, or it says so and fails).
//! `pass`: tokens are always there and nothing waits: a packet pays and goes, of any class. `free`: the same, but a burst is put in
//! before it is taken out, as after a delay. `busy`: every class
//! always has something to send, above its rate, and time goes on as the shaper asks for. `fifo` is what holding frames alone costs.

mod allocations;
mod cpu_time;

use allocations::allocations;
use bypath::packet::{BURST, Frame, FrameId};
use bypath::stage::shape::{Packet, Shaper};
use bypath::table::filter::Facts;
use bypath::table::qdisc::{Class, Fifo, Handle, Htb, Kind, Limit, Qdisc, ROOT, Rate, Tbf};
use cpu_time::CpuTime;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const HANDLE: u32 = 0x1_0000;

/// A frame of 64 bytes, and the class that it is for.
struct Marked(Frame, u32);

impl Packet for Marked {
    fn size(&self) -> u32 {
        self.0.len() as u32
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            bytes: self.0.bytes(),
            mark: 0,
            priority: self.1,
        }
    }

    fn mark_congestion(&mut self) -> bool {
        false
    }
}

fn frames(count: usize) -> Vec<Marked> {
    let frame = |n: usize| {
        let mut frame = Frame::new(vec![0; 128].leak(), FrameId(n as u32), 0);
        frame.fill(&[0; 64]);
        Marked(frame, 0)
    };
    (0..count).map(frame).collect()
}

fn qdisc(handle: u32, kind: Kind) -> Arc<Qdisc> {
    Arc::new(Qdisc {
        handle: Handle(handle),
        parent: ROOT,
        kind,
        filters: Vec::new(),
    })
}

fn fifo() -> Arc<Qdisc> {
    qdisc(
        0,
        Kind::Fifo(Fifo {
            limit: Limit::Packets(1000),
            drops_head: false,
        }),
    )
}

fn rate(bytes_per_second: u64) -> Rate {
    Rate {
        bytes_per_second,
        ..Rate::default()
    }
}

fn tbf(bytes_per_second: u64) -> Arc<Qdisc> {
    qdisc(
        HANDLE,
        Kind::Tbf(Tbf {
            rate: rate(bytes_per_second),
            buffer_ns: 1_000_000,
            peak: None,
            max_size: 2000,
            limit: 1 << 20,
            child: fifo(),
        }),
    )
}

/// One class above `leaves`, each sure of its part.
fn htb(leaves: u32, bytes_per_second: u64) -> Arc<Qdisc> {
    let class = |minor: u32, parent: u32, bytes: u64| Class {
        id: Handle(HANDLE | minor),
        parent: Handle(HANDLE | parent),
        rate: rate(bytes),
        ceil: rate(bytes_per_second),
        buffer_ns: 1_000_000,
        cbuffer_ns: 1_000_000,
        prio: 0,
        quantum: 1500,
        leaf: Some(fifo()),
        filters: Vec::new(),
    };
    let below = (0..leaves).map(|n| class(0x10 + n, 1, (bytes_per_second / u64::from(leaves)).max(1)));
    let classes = std::iter::once(class(1, 0, bytes_per_second)).chain(below).collect();
    qdisc(
        HANDLE,
        Kind::Htb(Htb {
            default: 0,
            rate2quantum: 10,
            direct_qlen: 1000,
            classes,
        }),
    )
}

/// Bursts of frames that go through at once.
fn free(name: &str, root: Arc<Qdisc>, leaves: u32) {
    const BURSTS: usize = 50_000;
    let mut shaper = Shaper::new(root, 0);
    let (mut waiting, mut lost) = (frames(BURST), Vec::with_capacity(BURST));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut times, mut allocated, mut now_ns) = (Vec::with_capacity(BURSTS), 0, 1);
    for burst in 0..BURSTS {
        for frame in &mut waiting {
            frame.1 = HANDLE | (0x10 + rng.random_range(0..leaves));
        }
        let (before, start) = (allocations(), Instant::now());
        for frame in waiting.drain(..) {
            shaper.enqueue(frame, now_ns, &mut lost);
        }
        while let Some(frame) = shaper.dequeue(now_ns, &mut lost) {
            waiting.push(black_box(frame));
        }
        times.push(start.elapsed().as_secs_f64());
        now_ns += 10_000_000;
        // The first hundreds warm up.
        if burst >= BURSTS / 2 {
            allocated += allocations() - before;
        }
        assert_eq!((waiting.len(), lost.len()), (BURST, 0));
    }
    print(name, times);
    assert_eq!(allocated, 0, "{name} allocated");
}

/// Frames of bursts that find nothing in their way.
fn pass(name: &str, root: Arc<Qdisc>, leaves: u32) {
    const BURSTS: usize = 50_000;
    let mut shaper = Shaper::<Marked>::new(root, 0);
    let mut waiting = frames(BURST);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut times, mut now_ns) = (Vec::with_capacity(BURSTS), 1);
    let before = allocations();
    for _ in 0..BURSTS {
        for frame in &mut waiting {
            frame.1 = HANDLE | (0x10 + rng.random_range(0..leaves));
        }
        let start = Instant::now();
        let passed = waiting
            .iter()
            .filter(|frame| shaper.passes(frame.size(), &frame.facts(), now_ns));
        assert_eq!(passed.count(), BURST);
        times.push(start.elapsed().as_secs_f64());
        now_ns += 10_000_000;
    }
    assert_eq!(allocations(), before, "{name} allocated");
    print(name, times);
}

/// The middle and the spread of what each packet took, of times of bursts.
fn print(name: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let each = |part: usize| times[times.len() * part / 100] * 1e9 / BURST as f64;
    println!(
        "{name}: {:.1} ns a packet (10 of 100 below {:.1}, 90 below {:.1})",
        each(50),
        each(10),
        each(90)
    );
}

/// Classes that always have something to send.
fn busy(name: &str, root: Arc<Qdisc>, leaves: u32) {
    const PACKETS: u32 = 2_000_000;
    let mut shaper = Shaper::new(root, 0);
    let mut lost = Vec::with_capacity(BURST);
    for (mut frame, n) in frames(8 * leaves as usize).into_iter().zip(0..) {
        frame.1 = HANDLE | (0x10 + n % leaves);
        shaper.enqueue(frame, 0, &mut lost);
    }
    let (mut now_ns, mut allocated, mut start) = (1, 0, CpuTime::now());
    let mut left = 0;
    while left < 2 * PACKETS {
        while let Some(frame) = shaper.dequeue(now_ns, &mut lost) {
            shaper.enqueue(black_box(frame), now_ns, &mut lost);
            left += 1;
            if left == PACKETS {
                (allocated, start) = (allocations(), CpuTime::now());
            }
        }
        now_ns = shaper.due_ns().unwrap_or(now_ns);
    }
    let time = CpuTime::now() - start;
    println!(
        "{name}: {:.1} ns a packet",
        time.as_secs_f64() * 1e9 / f64::from(left - PACKETS)
    );
    assert_eq!(allocations(), allocated, "{name} allocated");
}

fn main() {
    let fast = 1_250_000_000_000;
    pass("pass/tbf", tbf(fast), 1);
    for leaves in [1, 10, 1000] {
        pass(&format!("pass/htb/{leaves}"), htb(leaves, fast), leaves);
    }
    free("free/fifo", fifo(), 1);
    free("free/tbf", tbf(fast), 1);
    for leaves in [1, 10, 1000] {
        free(&format!("free/htb/{leaves}"), htb(leaves, fast), leaves);
    }
    busy("busy/tbf", tbf(125_000_000), 1);
    for leaves in [10, 1000] {
        busy(&format!("busy/htb/{leaves}"), htb(leaves, 125_000_000), leaves);
    }
}
