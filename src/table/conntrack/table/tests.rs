//! The table on its own: memory, a model, threads, and under `--cfg loom` every interleaving of small cases.

use super::*;
use crate::packet::Family;
#[cfg(loom)]
use crate::table::conntrack::ProtoState;
use crate::table::conntrack::Status;

#[cfg(loom)]
mod interleavings;
#[cfg(not(loom))]
mod limits;
#[cfg(not(loom))]
mod model;
#[cfg(not(loom))]
mod threads;

fn tuple(n: u32) -> Tuple {
    let family = if n.is_multiple_of(3) { Family::V6 } else { Family::V4 };
    Tuple {
        src: 0x0a00_0000 + u128::from(n >> 16),
        dst: 0x0b00_0000,
        sport: n as u16,
        dport: 80,
        proto: 6,
        family,
        zone: 0,
    }
}

fn record(original: Tuple, reply: Tuple, deadline: Ticks) -> Record {
    Record {
        original,
        reply,
        status: Status::CONFIRMED,
        marks: Marks(0),
        deadline,
        mark: 0,
        proto: [0; 7],
        counters: Default::default(),
    }
}

fn plain(n: u32, deadline: Ticks) -> Record {
    let original = tuple(n);
    let inverse = Tuple {
        src: original.dst,
        dst: original.src,
        sport: original.dport,
        dport: original.sport,
        ..original
    };
    record(original, inverse, deadline)
}

/// All included: entries, counters, slots, annexes, spare entries, the log.
#[cfg(not(loom))]
#[test]
fn a_connection_takes_at_most_192_bytes_and_ten_million_fit_two_gigabytes() {
    for connections in [1 << 18, 1_000_000, 10_000_000] {
        let table = Table::new(connections);
        let each = table.bytes() as f64 / f64::from(connections);
        println!("{connections} connections: {} bytes, {each:.1} each", table.bytes());
        assert!(each <= 192.0, "{each} at {connections}");
        assert!(connections != 10_000_000 || table.bytes() <= 2 << 30);
    }
}
