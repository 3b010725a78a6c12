//! Who watches a packet's walk: the boxes by name, and what is told of each.
//!
//! A walk is generic over its observer, so that nobody watching costs nothing: what would be told is not even computed.

use crate::packet::{DropReason, PuntReason};
use std::fmt;

/// A box of the walk: its word in traces, counters and docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// stage/ingress.rs
    Ingress,
    /// stage/rx.rs
    Rx,
    /// stage/bridge_check.rs
    BridgeCheck,
    /// stage/bridging.rs
    Bridging,
    /// stage/prerouting.rs
    Prerouting,
    /// stage/flow.rs
    Flow,
    /// stage/routing.rs
    Routing,
    /// stage/forward.rs
    Forward,
    /// stage/neighbor.rs
    Neighbor,
    /// stage/postrouting.rs
    Postrouting,
    /// stage/tx.rs
    Tx,
    /// stage/shape
    Shape,
}

impl Stage {
    /// Every box, in order.
    pub const ALL: [Stage; 12] = [
        Stage::Ingress,
        Stage::Rx,
        Stage::BridgeCheck,
        Stage::Bridging,
        Stage::Prerouting,
        Stage::Flow,
        Stage::Routing,
        Stage::Forward,
        Stage::Neighbor,
        Stage::Postrouting,
        Stage::Tx,
        Stage::Shape,
    ];

    /// Its one word.
    pub const fn word(self) -> &'static str {
        match self {
            Stage::Ingress => "ingress",
            Stage::Rx => "rx",
            Stage::BridgeCheck => "bridge_check",
            Stage::Bridging => "bridging",
            Stage::Prerouting => "prerouting",
            Stage::Flow => "flow",
            Stage::Routing => "routing",
            Stage::Forward => "forward",
            Stage::Neighbor => "neighbor",
            Stage::Postrouting => "postrouting",
            Stage::Tx => "tx",
            Stage::Shape => "shape",
        }
    }
}

impl Stage {
    /// The box that loses packets for `reason`.
    pub const fn of_drop(reason: DropReason) -> Self {
        use DropReason::*;
        match reason {
            Policed => Stage::Ingress,
            Filter => Stage::Forward,
            BridgeLocked => Stage::BridgeCheck,
            BridgeSamePort | BridgeBlocked | BridgeIsolated | BridgeVlan | BridgeMtu => Stage::Bridging,
            ConntrackFull | ConntrackBusy | Nat => Stage::Postrouting,
            QdiscDrop | QdiscMemory | QdiscGone => Stage::Shape,
            TxRingFull | HandoffFull | PuntQueueFull | PuntFailed | PortGone | Oversize => Stage::Rx,
        }
    }

    /// The box that gives packets back for `reason`.
    pub const fn of_punt(reason: PuntReason) -> Self {
        use PuntReason::*;
        match reason {
            NotOurs | Malformed | Checksum => Stage::Rx,
            BridgeSource | BridgeTag => Stage::BridgeCheck,
            BridgeUnknown | BridgeLocal | BridgeNetfilter => Stage::Bridging,
            Options | Extension | LeftIngress | ForwardingOff | Martian | RpFilter | Local | NoRoute | Unreachable
            | RouteNotCarried | OracleAsked => Stage::Routing,
            TtlExceeded | MtuExceeded | Redirect | EgressNotPort | LeftEgress | Rule => Stage::Forward,
            NeighborUnresolved => Stage::Neighbor,
            Fragment | KernelConnection => Stage::Prerouting,
        }
    }
}

/// Who watches a packet's walk.
pub trait Observer {
    /// Whether anybody watches.
    const ON: bool;

    /// The packet passed `stage`, and this is what happened there.
    fn see(&mut self, stage: Stage, what: impl FnOnce() -> String);
}

/// Nobody watches: costs nothing.
pub struct Unobserved;

impl Observer for Unobserved {
    const ON: bool = false;

    #[inline(always)]
    fn see(&mut self, _: Stage, _: impl FnOnce() -> String) {}
}

/// An Ethernet address in the usual form.
pub struct Mac<'a>(pub &'a [u8; 6]);

impl fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
