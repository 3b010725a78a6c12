//! Where the sources of translated connections went (nf_nat_bysource): a client's port that is mapped once is to be
//! mapped the same way to every destination, if it can be.
//!
//! ```text
//!  source (address, port, protocol, zone) -> hash -> bucket | newest | ... | oldest |    8 numbers of connections
//! ```
//!
//! A number is a hint: whoever reads it looks whether it is that of a live connection of that source, so nothing is
//! ever taken out, and no lock is needed. Connections whose source stays as it is are not in here: what they say a new
//! one tries first.
//!
//! Bounds: two numbers for each connection that the table has room for, 8 bytes. A full bucket loses a number: one of a
//! connection that is over, else one whose mapping a newer one of that source repeats, else the oldest. What is lost
//! with it is a free choice: the client's port may be mapped another way to its next destination.

use crate::table::conntrack::table::memory::Memory;
use crate::table::conntrack::table::{Connection, Guard, Table};
use crate::table::conntrack::{Direction, Status, Ticks, Tuple};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Numbers in a bucket: half a cache line.
const WAYS: usize = 8;
/// Connections for a bucket, when the table is full.
const LOAD: u32 = 4;

type Bucket = [AtomicU32; WAYS];

/// See the file's head. Its memory is taken as it is used.
pub struct BySource(Memory<AtomicU32>);

impl BySource {
    /// For a table of `connections_max` connections.
    pub fn new(connections_max: u32) -> BySource {
        let buckets = (connections_max / LOAD).max(1).next_power_of_two();
        BySource(Memory::zeroed(buckets as usize * WAYS))
    }

    /// What it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Notes a connection that has just entered `table`. Needed only for those with [`Status::SRC_NAT`]; others change
    /// nothing.
    pub fn insert(&self, connection: &Connection<'_>, table: &Table, now: Ticks, guard: &Guard<'_>) {
        if !connection.status().any(Status::SRC_NAT) {
            return;
        }
        let numbers = self.bucket(&connection.tuple(Direction::Original), table);
        let victim = victim(numbers, connection, table, now, guard);
        // Every number takes the place of the next older one, up to that which goes. An exchange loses none of them to
        // a thread that does the same.
        let mut carried = connection.index() + 1;
        for number in &numbers[..=victim] {
            carried = number.swap(carried, Relaxed);
        }
    }

    /// The first thing that `accept` makes of the reply tuple of a connection with the source of `original`, newest
    /// first.
    pub fn find<T>(
        &self,
        original: &Tuple,
        table: &Table,
        now: Ticks,
        guard: &Guard<'_>,
        mut accept: impl FnMut(&Tuple) -> Option<T>,
    ) -> Option<T> {
        let numbers = self.bucket(original, table);
        numbers.iter().find_map(|number| {
            let connection = live(number, table, now, guard)?;
            let same = has_source(original, &connection.tuple(Direction::Original));
            same.then(|| connection.tuple(Direction::Reply))
                .and_then(|reply| accept(&reply))
        })
    }

    fn bucket(&self, original: &Tuple, table: &Table) -> &Bucket {
        let source = Tuple {
            dst: 0,
            dport: 0,
            ..*original
        };
        let hash = table.hash(&source).bits();
        let (buckets, _) = self.0.as_chunks();
        &buckets[hash as usize & (buckets.len() - 1)]
    }
}

/// The connection that a number names, if it is one whose source was translated.
fn live<'g>(number: &AtomicU32, table: &'g Table, now: Ticks, guard: &'g Guard<'_>) -> Option<Connection<'g>> {
    let index = number.load(Relaxed).checked_sub(1)?;
    let connection = table.at(index, now, guard)?;
    connection.status().any(Status::SRC_NAT).then_some(connection)
}

fn has_source(a: &Tuple, b: &Tuple) -> bool {
    (a.src, a.sport, a.proto, a.family, a.zone) == (b.src, b.sport, b.proto, b.family, b.zone)
}

/// Which number goes for a new one.
fn victim(numbers: &Bucket, new: &Connection<'_>, table: &Table, now: Ticks, guard: &Guard<'_>) -> usize {
    // What each maps to what: source, and where answers go.
    type Mapping = (Tuple, Tuple);
    let mapping = |connection: &Connection<'_>| -> Mapping {
        let (original, reply) = (
            connection.tuple(Direction::Original),
            connection.tuple(Direction::Reply),
        );
        (original, reply)
    };
    let repeats = |a: &Mapping, b: &Mapping| has_source(&a.0, &b.0) && (a.1.dst, a.1.dport) == (b.1.dst, b.1.dport);
    let mut seen: [Option<Mapping>; WAYS] = [None; WAYS];
    let mut repeated = None;
    let own = mapping(new);
    for (at, number) in numbers.iter().enumerate() {
        let Some(connection) = live(number, table, now, guard).filter(|other| other.index() != new.index()) else {
            return at;
        };
        let this = mapping(&connection);
        if repeats(&this, &own) || seen[..at].iter().flatten().any(|newer| repeats(&this, newer)) {
            repeated = Some(at);
        }
        seen[at] = Some(this);
    }
    repeated.unwrap_or(WAYS - 1)
}
