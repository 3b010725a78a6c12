//! The boxes of the walk, one file each, in the order of the Netfilter packet-flow diagram. A stage knows packets, tables and
//! `now`; it does no I/O, takes no lock, allocates nothing, and answers with a [`Step`](crate::packet::Step): go on, or end in
//! a verdict.
//!
//! No stage but [`tx`] changes the frame: whatever ends in a punt before it reaches the kernel whole and unmodified.

pub mod flow;
pub mod forward;
pub mod neighbor;
pub mod postrouting;
pub mod prerouting;
pub mod routing;
pub mod rules;
pub mod rx;
pub mod tx;
