//! What the stages look up: interfaces, bridges, routes, neighbours, qdiscs. Everything here is plain data in memory, bounded, and built by
//! control; time, where it matters, is an argument.
//!
//! Layer 2. Knows `wire` and `packet`. The whole configuration of one moment is a [`Snapshot`]: immutable, swapped between
//! bursts. Big tables inside it share structure with their predecessors, so that a changed route costs its path, not the
//! table.

pub mod bridge;
pub mod bucket;
pub mod conntrack;
pub mod destination;
pub mod fdb;
pub mod fib;
pub mod filter;
pub mod iface;
pub mod nat;
pub mod neighbor;
pub mod oracle;
pub mod police;
pub mod qdisc;
pub mod rules;
pub mod snapshot;

pub use snapshot::Snapshot;
