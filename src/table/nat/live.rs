//! The world of a choice as it is: the connection table, where sources went, and random numbers.

use super::unique::is_over;
use super::{BySource, Holder, World};
use crate::table::conntrack::table::{Guard, Table};
use crate::table::conntrack::{Direction, Marks, Ticks, Tuple};
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

    fn end(&mut self, holder: &Holder) -> bool {
        let hash = self.table.hash(&holder.reply);
        let Some((connection, _)) = self.table.lookup(&holder.reply, hash, self.now, self.guard) else {
            return false;
        };
        // What the kernel tracks would live on there, with its port. And another worker may have been quicker: what has the
        // port since then is not over.
        let is_kernels = connection.marks().any(Marks::KERNEL);
        let is_it = connection.tuple(Direction::Original) == holder.original && is_over(&connection.proto().1);
        is_it && !is_kernels && self.table.remove(connection, self.guard)
    }

    fn random(&mut self) -> u32 {
        self.random.next_u32()
    }
}
