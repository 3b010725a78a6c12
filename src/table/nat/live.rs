//! The world of a choice as it is: the connection table, where sources went, and random numbers.

use super::{BySource, Holder, World};
use crate::table::conntrack::table::{Guard, Table};
use crate::table::conntrack::{Direction, Ticks, Tuple};
use std::hash::{BuildHasher, RandomState};

/// Random numbers from a secret of the operating system: SipHash of a counter. Who sees some of them learns nothing of
/// the next one, as it has to be for ports that guard a DNS client.
#[derive(Clone, Debug, Default)]
pub struct Random {
    secret: RandomState,
    count: u64,
}

impl Random {
    /// The next number.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        self.count += 1;
        self.secret.hash_one(self.count) as u32
    }
}

/// See the file's head.
pub struct Live<'a> {
    /// All connections.
    pub table: &'a Table,
    /// Where those with source NAT went.
    pub by_source: &'a BySource,
    /// A guard of the table.
    pub guard: &'a Guard<'a>,
    /// The time.
    pub now: Ticks,
    /// A worker's own.
    pub random: &'a mut Random,
}

impl World for Live<'_> {
    fn holder(&self, tuple: &Tuple) -> Option<Holder> {
        let (connection, _) = self.table.lookup(tuple, self.table.hash(tuple), self.now, self.guard)?;
        Some(Holder {
            original: connection.tuple(Direction::Original),
            reply: connection.tuple(Direction::Reply),
            status: connection.status(),
            proto: connection.proto().1,
        })
    }

    fn mapping<T>(&self, original: &Tuple, accept: impl FnMut(&Tuple) -> Option<T>) -> Option<T> {
        self.by_source.find(original, self.table, self.now, self.guard, accept)
    }

    fn end(&mut self, reply: &Tuple) -> bool {
        let found = self.table.lookup(reply, self.table.hash(reply), self.now, self.guard);
        found.is_some_and(|(connection, _)| self.table.remove(connection, self.guard))
    }

    fn random(&mut self) -> u32 {
        self.random.next_u32()
    }
}
