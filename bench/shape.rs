//! Shaping in memory: nanoseconds that a packet takes from enqueue to dequeue, and allocations (none, or it says so and fails).
//! `pass`: tokens are always there and nothing waits: a packet pays and goes, of any class. `free`: the same, but a burst is put in
//! before it is taken out, as after a delay. `busy`: every class
//! always has something to send, above its rate, and time goes on as the shaper asks for. `fifo` is what holding frames alone costs.

mod allocations;
mod cpu_time;
#[path = "setup/qdiscs.rs"]
mod qdiscs;

use allocations::allocations;
use bypath::packet::BURST;
use bypath::stage::shape::{Packet, Shaper};
use bypath::table::qdisc::Qdisc;
use cpu_time::CpuTime;
use qdiscs::{HANDLE, Marked, fifo, frames, htb, tbf};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

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
