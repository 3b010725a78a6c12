//! The workers: pinned threads that own (port, queue) pairs and carry packets along the walk.
//!
//! [`pipeline`] is the walk, [`ahead`] that of a burst whose connections are tracked; [`Worker`] turns the rings around it, with
//! what waits for tokens between the two (shaping); [`Shared`] is all that workers and control have in common. Layer 4.

pub mod ahead;
mod bridge_chains;
mod bridge_hooks;
mod bridged;
mod carry;
mod commands;
mod here;
mod hooks;
mod latency;
mod observer;
pub mod pipeline;
mod policing;
mod report;
mod run;
mod shaping;
mod share;
mod shared;
pub mod trace;
mod tracked;
mod turn;
mod unkicked;
mod way_out;

pub use latency::Latency;
pub use report::{PortCount, QueueReport, Report, Shaped};
pub use run::{CONTROL_LIMIT, HEARTBEAT_LIMIT, Poll, run};
pub use shared::{Charge, Command, Handoff, Limits, Punted, Shared};
pub use turn::Worker;
