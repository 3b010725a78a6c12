//! Cases of the wire layer and of single stages: rx, checksums, the TTL step, shape.

use super::Count;
use super::frames::{MAC, frame};
use super::qdiscs::{HANDLE, Marked, fifo, fq, fq_codel, frames, htb, prio, sfq, tbf};
use bypath::packet::{BURST, PortIndex};
use bypath::stage::rx;
use bypath::stage::shape::{Packet, Shaper};
use bypath::table::qdisc::Qdisc;
use bypath::wire::{checksum, ipv4};
use std::hint::black_box;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

/// What rx and the wire layer do to one packet.
pub fn wire(count: &mut Count) {
    for (name, v6, tcp) in [
        ("parse/v4_udp", false, false),
        ("parse/v4_tcp", false, true),
        ("parse/v6_udp", true, false),
        ("parse/v6_tcp", true, true),
    ] {
        let bytes = frame(v6, tcp, 18);
        count.case(name, 1000, || {
            for _ in 0..1000 {
                black_box(&rx::parse_bytes(black_box(&bytes), PortIndex(0), black_box(&MAC)));
            }
        });
    }
    for (name, v6) in [
        ("complete_checksum/v4_no_match", false),
        ("complete_checksum/v6_no_match", true),
    ] {
        let mut bytes = frame(v6, true, 18);
        let Continue(parsed) = rx::parse_bytes(&bytes, PortIndex(0), &MAC) else {
            panic!("a right frame is parsed")
        };
        count.case(name, 1000, || {
            for _ in 0..1000 {
                black_box(rx::complete_bytes(black_box(&mut bytes), black_box(&parsed)));
            }
        });
    }
    for len in [20, 64, 1500] {
        let bytes = vec![0xa5; len];
        count.case(&format!("checksum/{len}"), 1000, || {
            for _ in 0..1000 {
                black_box(checksum::checksum(black_box(&bytes)));
            }
        });
    }
    let mut bytes = frame(false, false, 18);
    count.case("decrement_ttl", 30, || {
        for _ in 0..30 {
            if let Ok(mut ip) = ipv4::Packet::new_checked(black_box(&mut bytes[14..])) {
                ip.decrement_ttl();
            }
        }
    });
}

/// Single stages: shape. The others are in the walks.
pub fn all(count: &mut Count) {
    let fast = 1_250_000_000_000;
    free(count, "shape/free/fifo", fifo(), 1);
    free(count, "shape/free/tbf", tbf(fast), 1);
    for leaves in [1, 10, 1000] {
        free(count, &format!("shape/free/htb/{leaves}"), htb(leaves, fast), leaves);
    }
    for (name, root) in [("prio", prio()), ("fq_codel", fq_codel()), ("sfq", sfq()), ("fq", fq())] {
        free(count, &format!("shape/free/{name}"), root, 3);
    }
    pass(count, "shape/pass/tbf", tbf(fast), 1);
    for leaves in [10, 1000] {
        pass(count, &format!("shape/pass/htb/{leaves}"), htb(leaves, fast), leaves);
    }
    busy(count, "shape/busy/tbf", tbf(125_000_000), 1);
    for leaves in [10, 1000] {
        busy(
            count,
            &format!("shape/busy/htb/{leaves}"),
            htb(leaves, 125_000_000),
            leaves,
        );
    }
}

/// Bursts that go through at once.
fn free(count: &mut Count, name: &str, root: Arc<Qdisc>, leaves: u32) {
    let mut shaper = Shaper::new(root, 0);
    let (mut waiting, mut lost) = (frames(BURST), Vec::with_capacity(BURST));
    let (mut now_ns, mut n) = (1, 0);
    count.case(name, 32 * BURST, || {
        for _ in 0..32 {
            for frame in &mut waiting {
                n = (n + 7) % leaves;
                frame.1 = HANDLE | (0x10 + n);
            }
            for frame in waiting.drain(..) {
                shaper.enqueue(frame, now_ns, &mut lost);
            }
            while let Some(frame) = shaper.dequeue(now_ns, &mut lost) {
                waiting.push(black_box(frame));
            }
            now_ns += 10_000_000;
            assert_eq!((waiting.len(), lost.len()), (BURST, 0));
        }
    });
}

/// Frames that find nothing in their way.
fn pass(count: &mut Count, name: &str, root: Arc<Qdisc>, leaves: u32) {
    let mut shaper = Shaper::<Marked>::new(root, 0);
    let mut waiting = frames(BURST);
    for (frame, n) in waiting.iter_mut().zip(0..) {
        frame.1 = HANDLE | (0x10 + 7 * n % leaves);
    }
    let mut now_ns = 1;
    count.case(name, 32 * BURST, || {
        for _ in 0..32 {
            for frame in &waiting {
                assert!(black_box(shaper.passes(frame.size(), &frame.facts(), now_ns)));
            }
            now_ns += 10_000_000;
        }
    });
}

/// Classes that always have something to send, above their rate.
fn busy(count: &mut Count, name: &str, root: Arc<Qdisc>, leaves: u32) {
    const PACKETS: usize = 4000;
    let mut shaper = Shaper::<Marked>::new(root, 0);
    let mut lost = Vec::with_capacity(BURST);
    for (mut frame, n) in frames(8 * leaves as usize).into_iter().zip(0..) {
        frame.1 = HANDLE | (0x10 + n % leaves);
        shaper.enqueue(frame, 0, &mut lost);
    }
    let mut now_ns = 1;
    let mut send = || {
        let mut left = 0;
        while left < PACKETS {
            while let Some(frame) = shaper.dequeue(now_ns, &mut lost) {
                shaper.enqueue(black_box(frame), now_ns, &mut lost);
                left += 1;
                if left == PACKETS {
                    return;
                }
            }
            now_ns = shaper.due_ns().unwrap_or(now_ns);
        }
    };
    send();
    count.case(name, PACKETS, send);
}
