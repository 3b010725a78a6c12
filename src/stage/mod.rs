//! The boxes of the walk, one file each, in the order of the Netfilter packet-flow diagram. A stage knows packets, tables and
//! `now`; it does no I/O, takes no lock, allocates nothing, and answers with a [`Step`](crate::packet::Step): go on, or end in
//! a verdict.
//!
//! No stage but [`nat`], [`bridging`] and [`tx`] changes the frame, the last two at their end, and what [`nat`] changed can be
//! put back: whatever ends in a punt reaches the kernel whole and unmodified.

pub mod bridge_check;
pub mod bridging;
pub mod flow;
pub mod forward;
pub mod ingress;
pub mod nat;
pub mod neighbor;
pub mod postrouting;
pub mod prerouting;
pub mod routing;
pub mod rules;
pub mod rx;
pub mod shape;
pub mod tx;
