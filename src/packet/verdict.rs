//! The one verdict in which every packet ends, and the reasons that it names.
//!
//! At rest `received = forwarded + punted + dropped + held`. A reason is a counter, a word in traces, in `bypath show` and
//! in the docs; each has a test that reaches it.

use super::PortIndex;
use std::ops::ControlFlow;

/// What a stage answers: go on with `T`, or end with a verdict. `?` works on it, so the walk stays straight-line code.
pub type Step<T> = ControlFlow<Verdict, T>;

/// Where a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten and given to this port's transmit ring.
    Forward(PortIndex),
    /// Handed back to the kernel, whole, as if it had just arrived.
    Punt(PuntReason),
    /// Lost here, and why.
    Drop(DropReason),
}

impl Verdict {
    /// `punt` as a step, for `return Verdict::punt(..)` and `?`.
    #[inline]
    pub fn punt<T>(reason: PuntReason) -> Step<T> {
        ControlFlow::Break(Verdict::Punt(reason))
    }

    /// `drop` as a step.
    #[inline]
    pub fn drop<T>(reason: DropReason) -> Step<T> {
        ControlFlow::Break(Verdict::Drop(reason))
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every reason, in the order of its counter.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The one word for it in counters, traces and docs.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    };
}

reasons! {
    /// Why a packet goes back to the kernel, in the order of the walk.
    PuntReason {
        /// Not IPv4 or IPv6, or a VLAN tag, or a group address; on a bridge, what it answers itself: steer passes these, a race
        /// can let one through.
        NotOurs = "not_ours",
        /// Its sender is not known behind this port of a bridge, or not let in: the kernel learns, moves or refuses it.
        BridgeSource = "bridge_source",
        /// In a tag of a VLAN that its port of a bridge does not carry: the kernel drops it, or gives it to a VLAN device on the
        /// port that another namespace has.
        BridgeTag = "bridge_tag",
        /// No port of the bridge is known for its destination: the kernel floods it.
        BridgeUnknown = "bridge_unknown",
        /// To the bridge itself, by another address or VLAN than the one that goes up here.
        BridgeLocal = "bridge_local",
        /// Bridged IP that passes the hooks of IP in the kernel (br_netfilter), where something stands at them that is not
        /// carried, or by a bridge that filters VLANs.
        BridgeNetfilter = "bridge_netfilter",
        /// Header fields that contradict each other or the frame's length; the kernel counts and drops it.
        Malformed = "malformed",
        /// IPv4 header checksum wrong; the kernel counts and drops it.
        Checksum = "checksum",
        /// IPv4 options.
        Options = "options",
        /// IPv6 extension headers.
        Extension = "extension",
        /// The port, or its family, is left to the kernel: a rule, a qdisc, a policy or a master stands in the path.
        LeftIngress = "left_ingress",
        /// Forwarding is off on the port of arrival.
        ForwardingOff = "forwarding_off",
        /// A source or destination that no forwarded packet may have; the kernel counts, logs and drops it.
        Martian = "martian",
        /// Source validation (rp_filter) fails or cannot be decided here.
        RpFilter = "rp_filter",
        /// The destination is the box itself, or a broadcast or multicast address.
        Local = "local",
        /// No route; the kernel answers.
        NoRoute = "no_route",
        /// A blackhole, unreachable or prohibit route; the kernel answers or not.
        Unreachable = "unreachable",
        /// A route or rule of a kind that is not carried (encapsulation, TOS, source-specific, ...).
        RouteNotCarried = "route_not_carried",
        /// The kernel's choice among several nexthops is being asked for.
        OracleAsked = "oracle_asked",
        /// TTL or hop limit used up; the kernel answers.
        TtlExceeded = "ttl_exceeded",
        /// Longer than the MTU of the way out; the kernel fragments or answers.
        MtuExceeded = "mtu_exceeded",
        /// It would leave by the port it came in on, where the kernel sends redirects.
        Redirect = "redirect",
        /// The way out is not a port of this process.
        EgressNotPort = "egress_not_port",
        /// The port of egress, or its family, is left to the kernel, or is down.
        LeftEgress = "left_egress",
        /// The neighbour is not resolved; the kernel queues and resolves.
        NeighborUnresolved = "neighbor_unresolved",
        /// A fragment, where connections are tracked: the kernel reassembles.
        Fragment = "fragment",
        /// Of a connection that the kernel tracks, or may: it decided about its first packets.
        KernelConnection = "kernel_connection",
        /// A rule that it reached is not carried: the kernel logs, answers, marks or decides.
        Rule = "rule",
    }
}

impl PuntReason {
    /// Whether it is for where the packet goes, and will be for the next packet that goes there.
    pub fn is_for_destination(self) -> bool {
        matches!(
            self,
            PuntReason::BridgeLocal
                | PuntReason::BridgeNetfilter
                | PuntReason::Local
                | PuntReason::NoRoute
                | PuntReason::Unreachable
                | PuntReason::RouteNotCarried
                | PuntReason::Redirect
                | PuntReason::EgressNotPort
                | PuntReason::LeftEgress
                | PuntReason::Rule
        )
    }

    /// Whether one station of a bridge may have frames punted for it without end, and nothing makes them the kernel's: they
    /// may not fill the queue to the punt thread.
    pub const fn is_endless(self) -> bool {
        matches!(
            self,
            PuntReason::BridgeSource | PuntReason::BridgeTag | PuntReason::BridgeUnknown
        )
    }
}

reasons! {
    /// Why a packet is lost here: overload, loss of a port, or what the kernel would drop too.
    DropReason {
        /// The egress port's transmit ring stayed full.
        TxRingFull = "tx_ring_full",
        /// The queue to the worker that owns the egress port is full.
        HandoffFull = "handoff_full",
        /// The queue to the punt thread is full, or its half is, which is all that a bridge's frames without end may fill.
        PuntQueueFull = "punt_queue_full",
        /// The kernel refused the punted frame.
        PuntFailed = "punt_failed",
        /// The port went away while the frame was on its way.
        PortGone = "port_gone",
        /// It arrived in pieces (a frame larger than a buffer).
        Oversize = "oversize",
        /// A rule of a filter chain, or its policy, says so.
        Filter = "filter",
        /// NAT has no address or port left, the packet cannot be translated, or leaves by another link than it is masqueraded for.
        Nat = "nat",
        /// The connection table is full of connections that are worth more.
        ConntrackFull = "conntrack_full",
        /// Other workers changed the connection faster than this one could, or took its tuples.
        ConntrackBusy = "conntrack_busy",
        /// The bridge's port of arrival is locked, and its sender not known behind it.
        BridgeLocked = "bridge_locked",
        /// It would leave the bridge by the port it came in on, which is no hairpin.
        BridgeSamePort = "bridge_same_port",
        /// The bridge's port of egress is blocked, or disabled.
        BridgeBlocked = "bridge_blocked",
        /// From one isolated port of a bridge to another.
        BridgeIsolated = "bridge_isolated",
        /// Untagged, and the bridge's port of arrival has no PVID; or of a VLAN that the port of egress does not carry.
        BridgeVlan = "bridge_vlan",
        /// Longer than the MTU of the bridge's port of egress and what a frame has around it.
        BridgeMtu = "bridge_mtu",
        /// The qdisc of the port of egress dropped it: over its limit, or as it does.
        QdiscDrop = "qdisc_drop",
        /// As many frames wait in qdiscs as may, so that there are some left to receive into.
        QdiscMemory = "qdisc_memory",
        /// The qdisc or class that it waited in is gone, or its port down.
        QdiscGone = "qdisc_gone",
        /// It exceeds what a policer of tc lets pass of what arrives by its port.
        Policed = "policed",
    }
}
