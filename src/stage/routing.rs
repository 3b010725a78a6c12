//! routing: is this a packet that the box may forward, and which way out?
//!
//! The order of net/ipv4/route.c (ip_route_input_slow) and net/ipv6/ip6_output.c (ip6_forward): addresses that no forwarded
//! packet may have, the route to the destination and one of its nexthops, then source validation. Whatever does not end in
//! one plain unicast route is punted, so that the kernel answers, logs and counts as it always does.
//!
//! ```text
//!  admit:     left? forwarding? options? martian?
//!  route:     rules, LPM -> unicast? -> one nexthop: Way
//!                                  \-> several: what the kernel chose (oracle)
//!  validate:  the way back, by the link that the packet leaves by
//! ```

use super::flow::Ways;
use super::prerouting::Aside;
use crate::packet::{Addr, Family, Flags, Parsed, PuntReason, Step, Verdict};
use crate::table::Snapshot;
use crate::table::destination::Destinations;
use crate::table::fib::{FibKey, Found, Nexthop, Route, RouteKind};
use crate::table::iface::{Iface, IfaceIndex, RpFilter};
use crate::table::oracle::{Answer, Answers, Asked, Question};
use crate::table::rules::interpret::Changes;
use crate::wire::Protocol;
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
    /// The route has no other nexthop: it is for every flow to this destination.
    pub only: bool,
}

/// What a worker remembers of flows, its own and bounded.
#[derive(Debug)]
pub struct Flows {
    /// What the kernel said about flows that have several ways out.
    pub answers: Answers,
    /// Ways out of the destinations seen last.
    pub destinations: Destinations,
    /// Questions for control, asked after the burst; what does not fit is asked with a later packet.
    pub questions: Vec<Asked>,
    /// What the decisions of connections name.
    pub ways: Ways,
    /// What the walk of tracked packets lays aside.
    pub aside: Aside,
    /// What the packet changed in the memory of rules.
    pub changes: Changes,
    /// What it changed there as a frame at a bridge, before it went up.
    pub frame_changes: Changes,
}

impl Flows {
    /// Nothing is known to worker `worker`; room for the answers on `answers_max` flows.
    pub fn new(worker: usize, answers_max: usize) -> Self {
        Self {
            answers: Answers::new(answers_max),
            destinations: Destinations::new(),
            questions: Vec::with_capacity(QUESTIONS_MAX),
            ways: Ways::new(worker),
            aside: Aside::default(),
            changes: Changes::default(),
            frame_changes: Changes::default(),
        }
    }

    /// A packet begins its walk past rules, of which nothing is known yet.
    #[inline]
    pub fn meet_rules(&mut self) {
        self.changes.keep();
        self.aside.meet_rules();
    }
}

/// The most questions that one burst puts; the capacity of [`Flows::questions`].
pub const QUESTIONS_MAX: usize = crate::packet::BURST;

/// Whether `packet`, which came in by `iface`, may be forwarded at all: what does not depend on where it goes.
#[inline]
pub fn admit(packet: &Parsed, iface: &Iface) -> Step<()> {
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
    Continue(())
}

/// Finds the way out for `packet` (whose bytes are `bytes`), which came in by `iif`.
#[inline]
pub fn route(packet: &Parsed, bytes: &[u8], iif: IfaceIndex, snapshot: &Snapshot, flows: &mut Flows) -> Step<Way> {
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
    let excepted = packet.family == Family::V6 && snapshot.exceptions_v6.contains(&packet.dst);
    if route.left.is_some() || excepted {
        return Verdict::punt(PuntReason::RouteNotCarried);
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
        only: route.nexthops.len() == 1,
    })
}

/// Source validation (IPv4), RFC 3704, as fib_validate_source of net/ipv4/fib_frontend.c. The way back is looked up as if
/// the packet came in by `oif`, the link that it leaves by, so that rules with an `iif` select it by that.
#[inline]
pub fn validate(packet: &Parsed, (iif, iface): (IfaceIndex, &Iface), oif: IfaceIndex, snapshot: &Snapshot) -> Step<()> {
    if packet.family == Family::V6 {
        return Continue(());
    }
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
        iif: Some(oif),
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
        // No way back is an error only where it is asked for, and a refusing route is no way.
        Found::Nothing | Found::Refused if here.rp_filter == RpFilter::Off => Continue(()),
        Found::Route(_, back) if back.kind == RouteKind::Refused && here.rp_filter == RpFilter::Off => Continue(()),
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
    flows: &mut Flows,
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

/// The flow as the kernel's multipath hash sees it (fib_multipath_hash, rt6_multipath_hash). Policy 0 hashes addresses, of
/// IPv6 the protocol and the flow label too, so one question serves many flows between two hosts; the others look at the
/// 5-tuple, at the packet inside a tunnel, or at chosen fields. `None` where the kernel would look at what cannot be asked
/// about: ICMP errors are hashed by the packet inside them, tunnels by theirs, and fragments have no ports.
fn question(packet: &Parsed, bytes: &[u8], iif: IfaceIndex, policy: u8) -> Option<Question> {
    let proto = Protocol(packet.proto);
    let is_icmp = proto == Protocol::ICMP || proto == Protocol::ICMPV6;
    let fragment = packet.flags.any(Flags::FRAGMENT);
    if is_icmp && (fragment || !is_echo(packet, bytes)) {
        return None;
    }
    let (proto, sport, dport) = match (policy, packet.family) {
        (0, Family::V4) => (Protocol::UDP, 0, 0),
        (0, Family::V6) if askable(proto) => (proto, 0, 0),
        // What the kernel hashes of an IPv6 packet then, it does not hash of a question.
        (2.., Family::V6) => return None,
        _ if fragment || !askable(proto) => return None,
        _ if is_icmp => (proto, 0, 0),
        _ => (proto, packet.sport, packet.dport),
    };
    let hashes_label = packet.family == Family::V6 && policy == 0;
    let flow_label = if hashes_label { flow_label(packet, bytes) } else { 0 };
    let tos = packet.tos;
    Some(Question {
        family: packet.family,
        src: packet.src,
        dst: packet.dst,
        iif,
        proto: proto.0,
        tos,
        sport,
        dport,
        flow_label,
    })
}

/// The protocols that the kernel takes in a question; ICMP stands for an echo there.
fn askable(proto: Protocol) -> bool {
    [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6].contains(&proto)
}

/// Whether an ICMP packet is an echo request or reply: its first byte, the type, says so.
fn is_echo(packet: &Parsed, bytes: &[u8]) -> bool {
    let kind = bytes.get(usize::from(packet.l4)).copied();
    match packet.family {
        Family::V4 => matches!(kind, Some(0 | 8)),
        Family::V6 => matches!(kind, Some(128 | 129)),
    }
}

/// The low 20 bits of an IPv6 header's first word.
fn flow_label(packet: &Parsed, bytes: &[u8]) -> u32 {
    let header = bytes
        .get(usize::from(packet.l3)..)
        .and_then(|header| header.first_chunk());
    header.map_or(0, |&[_, b1, b2, b3]| u32::from_be_bytes([0, b1 & 0x0f, b2, b3]))
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
