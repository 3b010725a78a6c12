//! What the kernel said it would do with a flow, where only it can say: the choice among several nexthops.
//!
//! ECMP cannot be recomputed (the kernel's hash secret is hidden), so a worker asks: the question goes to control over a
//! bounded queue, the packet is punted meanwhile, and the answer comes back into the worker's own [`Answers`]. An answer
//! holds while the route it was asked for is still the very one that the lookup finds, and the generation of links and
//! hash policy is the same.

use super::fib::{Nexthop, Route};
use super::iface::IfaceIndex;
use crate::packet::{Addr, Family};
use std::sync::Arc;

/// A flow, as the kernel is asked about it (RTM_GETROUTE with iif, addresses, protocol and ports).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// The link of arrival.
    pub iif: IfaceIndex,
    /// IP protocol.
    pub proto: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Source port, 0 if none.
    pub sport: u16,
    /// Destination port, 0 if none.
    pub dport: u16,
    /// IPv6 flow label, which the kernel's default policy hashes too; 0 for IPv4.
    pub flow_label: u32,
}

/// What the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It forwards by this way out.
    Forward(Nexthop),
    /// Anything else: the packets are the kernel's.
    Kernel,
}

/// A question on its way to the oracle, or its answer on the way back.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub worker: usize,
    /// The flow.
    pub question: Question,
    /// The route that made it a question: the answer holds while lookups find this one.
    pub route: Arc<Route>,
    /// The epoch it was asked in.
    pub epoch: u64,
    /// What the kernel said.
    pub answer: Option<Answer>,
}

