//! routing: is this a packet that the box may forward, and which way out?
//!
//! The order of net/ipv4/route.c (ip_route_input_slow) and net/ipv6/ip6_output.c (ip6_forward): addresses that no forwarded
//! packet may have, the route to the destination, then source validation. Whatever does not end in one plain unicast route
//! is punted, so that the kernel answers, logs and counts as it always does.
//!
//! ```text
//!  left? forwarding? martian? -> rules, LPM -> unicast? -> source validation -> one nexthop: Way
//!                                                                         \-> several: what the kernel chose (oracle)
//! ```

use crate::packet::{Addr, Family, Flags, Parsed, PuntReason, Step, Verdict};
use crate::table::Snapshot;
use crate::table::fib::{FibKey, Found, Nexthop, Route, RouteKind};
use crate::table::iface::{Iface, IfaceIndex, RpFilter};
use crate::table::oracle::{Answer, Answers, Asked, Question};
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

/// The way out that routing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Link and gateway.
    pub nexthop: Nexthop,
    /// The route's own MTU in bytes, 0 where the link's holds.
    pub mtu: u32,
    /// The prefix length that matched, for the trace.
    pub prefix_len: u8,
}

/// What the kernel said about flows that have several ways out, and what it is still to be asked.
pub struct Flows<'a> {
    /// Its answers so far.
    pub answers: &'a mut Answers,
    /// Questions for control, asked after the burst; what does not fit is asked with a later packet.
    pub questions: &'a mut Vec<Asked>,
}

/// The most questions that one burst puts; the capacity of [`Flows::questions`].
pub const QUESTIONS_MAX: usize = crate::packet::BURST;

/// Finds the way out for `packet` (whose bytes are `bytes`), which came in by `iface`.
#[inline]
pub fn route(
    packet: &Parsed,
    bytes: &[u8],
    (iif, iface): (IfaceIndex, &Iface),
    snapshot: &Snapshot,
    flows: &mut Flows<'_>,
) -> Step<Way> {
    let here = iface.family(packet.family);
    if here.left.is_some() {
        return Verdict::punt(PuntReason::LeftIngress);
    }
    if !here.forwarding {
        return Verdict::punt(PuntReason::ForwardingOff);
    }
    if packet.flags.any(Flags::OPTIONS) {
        return Verdict::punt(PuntReason::Options);
    }
    if packet.flags.any(Flags::EXTENSION) {
        return Verdict::punt(PuntReason::Extension);
    }
    let martian = match packet.family {
        Family::V4 => martian_v4(packet.src, packet.dst),
        Family::V6 => martian_v6(packet.src, packet.dst),
    };
    if martian {
        return Verdict::punt(PuntReason::Martian);
    }

    let key = FibKey {
        src: packet.src,
        dst: packet.dst,
        iif: Some(iif),
        tos: packet.tos,
    };
    let (prefix_len, route) = match snapshot.fib(packet.family).lookup(&key) {
        Found::Route(prefix_len, route) => (prefix_len, route),
        Found::Refused => return Verdict::punt(PuntReason::Unreachable),
        Found::Left(_) => return Verdict::punt(PuntReason::RouteNotCarried),
        Found::Nothing => return Verdict::punt(PuntReason::NoRoute),
    };
    match route.kind {
        RouteKind::Unicast => {}
        RouteKind::Local | RouteKind::Broadcast => return Verdict::punt(PuntReason::Local),
        RouteKind::Refused => return Verdict::punt(PuntReason::Unreachable),
        RouteKind::Throw => return Verdict::punt(PuntReason::NoRoute),
    }
    if route.left.is_some() {
        return Verdict::punt(PuntReason::RouteNotCarried);
    }
    if packet.family == Family::V4 {
        validate_source(packet, (iif, iface), snapshot)?;
    }
    let nexthop = match *route.nexthops {
        [one] => one,
        [] => return Verdict::punt(PuntReason::Unreachable),
        _ => ask(packet, bytes, iif, route, snapshot, flows)?,
    };
    Continue(Way {
        nexthop,
        mtu: route.mtu,
        prefix_len,
    })
}

/// Source validation, RFC 3704, as fib_validate_source of net/ipv4/fib_frontend.c.
#[inline]
fn validate_source(packet: &Parsed, (iif, iface): (IfaceIndex, &Iface), snapshot: &Snapshot) -> Step<()> {
    let here = iface.family(Family::V4);
    if here.rp_filter == RpFilter::Off && !snapshot.full_source_check {
        if !here.accept_local && snapshot.own_v4.contains(&packet.src) {
            return Verdict::punt(PuntReason::Martian);
        }
        return Continue(());
    }
    let key = FibKey {
        src: packet.dst,
        dst: packet.src,
        iif: None,
        tos: packet.tos,
    };
    match snapshot.fib(Family::V4).lookup(&key) {
        Found::Route(_, back) if back.kind == RouteKind::Unicast && back.left.is_none() => {
            let same_link = back.nexthops.iter().any(|nexthop| nexthop.iface == iif);
            if same_link || here.rp_filter != RpFilter::Strict {
                Continue(())
            } else {
                Verdict::punt(PuntReason::RpFilter)
            }
        }
        Found::Nothing | Found::Refused if here.rp_filter == RpFilter::Off => Continue(()),
        _ => Verdict::punt(PuntReason::RpFilter),
    }
}

/// Takes the kernel's choice among several nexthops from the answers, or asks for it.
#[cold]
fn ask(
    packet: &Parsed,
    bytes: &[u8],
    iif: IfaceIndex,
    route: &Arc<Route>,
    snapshot: &Snapshot,
    flows: &mut Flows<'_>,
) -> Step<Nexthop> {
    let Some(question) = question(packet, bytes, iif, snapshot.multipath_policy[packet.family as usize]) else {
        return Verdict::punt(PuntReason::RouteNotCarried);
    };
    match flows.answers.get(&question, route, snapshot.multipath_epoch) {
        Some(Answer::Forward(nexthop)) => Continue(nexthop),
        Some(Answer::Kernel) => Verdict::punt(PuntReason::RouteNotCarried),
        None => {
            if flows.questions.len() < QUESTIONS_MAX {
                let route = Arc::clone(route);
                flows.questions.push(Asked {
                    worker: 0,
                    question,
                    route,
                    epoch: snapshot.multipath_epoch,
                    answer: None,
                });
            }
            Verdict::punt(PuntReason::OracleAsked)
        }
    }
}

/// The flow as the kernel's multipath hash sees it (fib_multipath_hash, rt6_multipath_hash): policy 0 hashes addresses
/// (IPv6: and the flow label), policy 1 the 5-tuple. ICMP errors are hashed by the packet inside them, and fragments
/// have no ports that the kernel would look at: it alone decides those, as it does for the other policies.
fn question(packet: &Parsed, bytes: &[u8], iif: IfaceIndex, policy: u8) -> Option<Question> {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    let error_or_fragment = packet.proto == ICMP || packet.proto == ICMPV6 || packet.flags.any(Flags::FRAGMENT);
    if error_or_fragment || policy > 1 {
        return None;
    }
    let ports = policy == 1 && packet.flags.any(Flags::PORTS);
    let label = match (
        packet.family,
        bytes.get(usize::from(packet.l3)..usize::from(packet.l3) + 4),
    ) {
        (Family::V6, Some(&[_, b1, b2, b3])) => u32::from_be_bytes([0, b1 & 0x0f, b2, b3]),
        _ => 0,
    };
    Some(Question {
        family: packet.family,
        src: packet.src,
        dst: packet.dst,
        iif,
        proto: packet.proto,
        tos: packet.tos,
        sport: if ports { packet.sport } else { 0 },
        dport: if ports { packet.dport } else { 0 },
        flow_label: label,
    })
}

/// IPv4 addresses that a forwarded packet cannot have: source multicast, class E broadcast, zero or loopback; destination
/// multicast, limited broadcast, zero or loopback. (A source of class E is as good as any other, as in the kernel.)
#[inline]
fn martian_v4(src: Addr, dst: Addr) -> bool {
    let (src, dst) = (src as u32, dst as u32);
    let odd = |a: u32| a >> 24 == 0 || a >> 24 == 127 || a >> 28 == 0xe || a == u32::MAX;
    odd(src) || odd(dst)
}

/// IPv6 addresses that a forwarded packet cannot have: unspecified, loopback, multicast, link-local on either side, and an
/// IPv4-mapped source.
#[inline]
fn martian_v6(src: Addr, dst: Addr) -> bool {
    let odd = |a: Addr| a <= 1 || a >> 120 == 0xff || a >> 118 == 0x3fa;
    odd(src) || odd(dst) || src >> 32 == 0xffff
}
