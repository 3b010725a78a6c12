//! The connection table that all workers share, and the kernel's state machines on it. nf_conntrack is the specification.
//!
//! ```text
//!  packet -> tracker::tuple -> Table::lookup --found--> Connection, direction -> tracker::track -> commit
//!                                            \-none---> unconfirmed, with its packet -> tracker::track -> ... -> Table::insert
//! ```
//!
//! Everything here is plain computation over memory: no clock (`now` is an argument, in [`Ticks`]), no I/O, no allocation
//! after the table is made. `tuple`, `status` and `config` are the words; `tracker` is pure functions over them; `table`
//! keeps the connections.

pub mod config;
pub mod record;
pub mod status;
pub mod table;
pub mod tracker;
pub mod tuple;

pub use config::Config;
pub use record::{Counter, Marks, Record};
pub use status::{CtState, Status};
pub use tuple::{Direction, Tuple};

/// Time in hundredths of a second of CLOCK_MONOTONIC, wrapping after 497 days: differences count, as signed numbers.
pub type Ticks = u32;

/// Ticks in a second.
pub const TICKS_PER_SECOND: u32 = 100;

/// The time of `ns` monotonic nanoseconds.
#[inline]
pub const fn ticks(ns: u64) -> Ticks {
    (ns / (1_000_000_000 / TICKS_PER_SECOND as u64)) as Ticks
}

/// Whether `deadline` lies at or before `now`.
#[inline]
pub const fn is_past(deadline: Ticks, now: Ticks) -> bool {
    deadline.wrapping_sub(now) as i32 <= 0
}

/// The longest timeout, 124 days: half of what can be told from the past.
pub const TIMEOUT_MAX: Ticks = (i32::MAX / 2) as Ticks;

/// A protocol's own state of a connection, as it lies in the table: 53 bytes. Word 0 uses its low 40 bits only; the table
/// keeps the version of the state above them. All zero before the first packet.
pub type ProtoState = [u64; 7];
