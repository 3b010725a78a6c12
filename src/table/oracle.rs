//! What the kernel said it would do with a flow, where only it can say: the choice among several nexthops.
//!
//! ECMP cannot be recomputed (the kernel's hash secret is hidden), so a worker asks: the question goes to control over a
//! bounded queue, the packet is punted meanwhile, and the answer comes back into the worker's own [`Answers`]. An answer
//! holds while the route it was asked for is still the very one that the lookup finds, and the generation of links and
//! hash policy is the same.

use super::fib::Nexthop;
use super::iface::IfaceIndex;
use crate::packet::{Addr, Family};

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
    /// IPv6 flow label: the kernel's hash takes it in unless it hashes ports (`fib_multipath_hash_policy` 1). 0 for IPv4,
    /// and where it does not matter.
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
