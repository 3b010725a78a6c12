//! Qdiscs for benches, and frames that say which class they are for.
#![allow(dead_code)]

use bypath::packet::{Frame, FrameId};
use bypath::stage::shape::Packet;
use bypath::table::filter::Facts;
use bypath::table::qdisc::{Class, Fifo, Fq, FqCodel, Handle, Htb, Kind, Limit, Prio, Qdisc, ROOT, Rate, Sfq, Tbf};
use std::sync::Arc;

/// That of the root.
pub const HANDLE: u32 = 0x1_0000;

/// A frame of 64 bytes, and the class that it is for.
pub struct Marked(pub Frame, pub u32);

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

/// So many frames.
pub fn frames(count: usize) -> Vec<Marked> {
    let frame = |n: usize| {
        let mut frame = Frame::new(vec![0; 128].leak(), FrameId(n as u32), 0);
        frame.fill(&[0; 64]);
        Marked(frame, 0)
    };
    (0..count).map(frame).collect()
}

fn qdisc(handle: u32, kind: Kind) -> Arc<Qdisc> {
    Arc::new(Qdisc {
        generation: 0,
        overhead: 0,
        handle: Handle(handle),
        parent: ROOT,
        kind,
        filters: Vec::new(),
    })
}

/// Room for a thousand packets.
pub fn fifo() -> Arc<Qdisc> {
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

/// A token bucket of a millisecond.
pub fn tbf(bytes_per_second: u64) -> Arc<Qdisc> {
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
pub fn htb(leaves: u32, bytes_per_second: u64) -> Arc<Qdisc> {
    let class = |minor: u32, parent: u32, bytes: u64| Class {
        id: Handle(HANDLE | minor),
        parent: Handle(HANDLE | parent),
        generation: 0,
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

/// Three bands, of which the class names one.
pub fn prio() -> Arc<Qdisc> {
    qdisc(
        HANDLE,
        Kind::Prio(Prio {
            bands: vec![fifo(); 3],
            priomap: [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
            by_map: false,
        }),
    )
}

/// As `tc` makes it, on a link of MTU 1500.
pub fn fq_codel() -> Arc<Qdisc> {
    qdisc(
        HANDLE,
        Kind::FqCodel(FqCodel {
            limit: 10_240,
            memory_limit: 32 << 20,
            flows: 1024,
            quantum: 1514,
            target_ns: 5_000_000,
            interval_ns: 100_000_000,
            ecn: true,
            ce_threshold_ns: None,
            drop_batch: 64,
            frame_max: 1514,
        }),
    )
}

/// Likewise.
pub fn sfq() -> Arc<Qdisc> {
    qdisc(
        HANDLE,
        Kind::Sfq(Sfq {
            limit: 127,
            flows: 128,
            divisor: 1024,
            depth: 127,
            quantum: 1514,
            drops_head: false,
            perturb_s: 0,
        }),
    )
}

/// Likewise, without a pace.
pub fn fq() -> Arc<Qdisc> {
    qdisc(
        HANDLE,
        Kind::Fq(Fq {
            limit: 10_000,
            flow_limit: 100,
            quantum: 3028,
            initial_quantum: 15_140,
            orphan_mask: u32::MAX,
            refill_delay_ns: 40_000_000,
            paces: true,
            max_rate: None,
            low_rate_threshold: 68_750,
            ce_threshold_ns: None,
            priomap: [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
            weights: [9 << 16, 3 << 16, 1 << 16],
        }),
    )
}
