//! Qdiscs, as `tc` would make them.

use bypath::table::qdisc::{Class, Fifo, Handle, Htb, Kind, Limit, Prio, Qdisc, ROOT, Rate, Shaping, Tbf};
use std::sync::Arc;

/// A rate, in bytes per second, that no test comes near.
pub const NEVER_BINDS: u64 = 1 << 40;

/// Bytes per second, of frames as they are.
pub fn rate(bytes_per_second: u64) -> Rate {
    Rate {
        bytes_per_second,
        ..Rate::default()
    }
}

fn qdisc(handle: Handle, parent: Handle, kind: Kind) -> Arc<Qdisc> {
    Arc::new(Qdisc {
        generation: 0,
        overhead: 0,
        handle,
        parent,
        kind,
        filters: Vec::new(),
    })
}

fn pfifo(handle: Handle, parent: Handle, packets: u32) -> Arc<Qdisc> {
    let fifo = Fifo {
        limit: Limit::Packets(packets),
        drops_head: false,
    };
    qdisc(handle, parent, Kind::Fifo(fifo))
}

/// `root pfifo limit PACKETS`.
pub fn fifo(packets: u32) -> Shaping {
    Shaping::Root(pfifo(Handle::qdisc(1), ROOT, packets))
}

/// `root prio bands 2`, with as much room in both; priority 6 goes to the second.
pub fn two_bands() -> Shaping {
    let band = |n: u32| pfifo(Handle(0), Handle(0x1_0000 | n), u32::MAX);
    let kind = Kind::Prio(Prio {
        bands: vec![band(1), band(2)],
        priomap: std::array::from_fn(|priority| u8::from(priority == 6)),
        by_map: false,
    });
    Shaping::Root(qdisc(Handle::qdisc(1), ROOT, kind))
}

/// `root tbf`: so many bytes per second, 10 ms of it at once, 100,000 bytes behind it.
pub fn tbf(bytes_per_second: u64) -> Shaping {
    let kind = Kind::Tbf(Tbf {
        rate: rate(bytes_per_second),
        buffer_ns: 10_000_000,
        peak: None,
        max_size: (bytes_per_second / 100).clamp(2_000, 1 << 20) as u32,
        limit: 100_000,
        child: pfifo(Handle(0), Handle(0x1_0001), 1000),
    });
    Shaping::Root(qdisc(Handle::qdisc(1), ROOT, kind))
}

/// `root htb default DEFAULT` with so many classes `1:1`, `1:2`, ... of equal rates, and 10 ms of each at once.
pub fn htb(classes: u16, default: u32, bytes_per_second: u64) -> Shaping {
    htb_of(classes, default, bytes_per_second, 10_000_000)
}

/// One class `1:1` of `burst 0b cburst 0b`, as tc has it from 12 Gbit/s on.
pub fn htb_without_burst(bytes_per_second: u64) -> Shaping {
    htb_of(1, 1, bytes_per_second, 0)
}

fn htb_of(classes: u16, default: u32, bytes_per_second: u64, burst_ns: i64) -> Shaping {
    let class = |minor: u16| {
        let id = Handle(0x1_0000 | u32::from(minor));
        Class {
            id,
            parent: Handle::qdisc(1),
            generation: 0,
            rate: rate(bytes_per_second),
            ceil: rate(bytes_per_second),
            buffer_ns: burst_ns,
            cbuffer_ns: burst_ns,
            prio: 0,
            quantum: 1500,
            leaf: Some(pfifo(Handle(0), id, 100)),
            filters: Vec::new(),
        }
    };
    let kind = Kind::Htb(Htb {
        default,
        rate2quantum: 10,
        direct_qlen: 1000,
        classes: (1..=classes).map(class).collect(),
    });
    Shaping::Root(qdisc(Handle::qdisc(1), ROOT, kind))
}
