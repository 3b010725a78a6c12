//! A packet as the rules at a hook see it: its bytes, its links, its connection.
//!
//! ```text
//!  payload  the frame as it is by now, translated where NAT was; from forward on with one hop less, which ip_forward and
//!           ip6_forward take off before the hook, and we at the end
//!  meta     links, lengths, protocols, the mark that rules have set so far; no socket, and it was meant for this box's MAC
//!  ct       the connection that prerouting found or begun; nothing for one that is invalid or untracked
//! ```
//!
//! What is written goes into the frame (store.rs); whoever runs rules has saved its head. What else is not known here, and whatever a
//! rule would do to the packet, its connection or somebody else (but for marks), is [unknown](Fact::Unknown): then the
//! packet is the kernel's, before anything is committed. `table::rules::carried` lists the keys that have an answer, and a test
//! compares. As net/netfilter/nft_{payload,meta,ct,rt}.c; fib.rs has `fib`, bridge.rs frames at a bridge.

pub mod bridge;
mod fib;
mod store;

use crate::packet::{Family, Flags, Frame, Parsed};
use crate::stage::prerouting::{Aside, Of, Tracked, leaving};
use crate::table::Snapshot;
use crate::table::conntrack::{CtState, Direction, Record, Status, TICKS_PER_SECOND, Ticks, Tuple};
use crate::table::fib::{FibKey, Found, RouteKind};
use crate::table::iface::Iface;
use crate::table::rules::expr::{Base, ChecksumFix, FibFlags};
use crate::table::rules::interpret::{Changes, Interpreter, Outcome};
use crate::table::rules::keys::{CtKey, FibResult, MetaKey, RtKey};
use crate::table::rules::live::{Point, Rules, number};
use crate::table::rules::packet::{Answer, Fact, Packet};
use crate::wire::{checksum, ether};

/// Bytes of an Ethernet address.
const MAC_LEN: usize = 6;

/// A packet at a hook.
pub struct AtHook<'a> {
    /// Which.
    pub point: Point,
    /// What rx found out, brought after what NAT changed.
    pub packet: &'a mut Parsed,
    /// The frame as it is by now.
    pub frame: &'a mut Frame,
    /// The link of arrival.
    pub iif: &'a Iface,
    /// The link of departure, and the longest packet that fits, once it is routed.
    pub oif: Option<(&'a Iface, u32)>,
    /// The ports of a bridge by which it goes, of a packet that br_netfilter shows to the hooks of IP.
    pub ports: Option<Ports<'a>>,
    /// Its connection, where its family is tracked.
    pub tracked: Option<&'a Tracked<'a>>,
    /// The connection that begins with it, if one does; its mark.
    pub aside: &'a mut Aside,
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The burst's time, as connections count it.
    pub now: Ticks,
}

/// The ports of a packet that came in by a bridge with the hooks of IP.
#[derive(Clone, Copy, Debug)]
pub struct Ports<'a> {
    /// By which it came in.
    pub input: &'a Iface,
    /// By which it leaves, from forward on, if it is bridged: then it has lost no hop.
    pub output: Option<&'a Iface>,
    /// It has another Ethernet destination than that which is in its frame still.
    pub is_redirected: bool,
}

/// What the rules there say of the packet. What they changed for it is added to `changes`, and can be taken back.
pub fn run(mut at: AtHook<'_>, rules: &Rules, now_ns: u64, changes: &mut Changes) -> Outcome {
    let before = std::mem::take(changes);
    let mut interpreter = Interpreter::new(&rules.ruleset, &rules.state, now_ns).going_on_from(before);
    let outcome = rules.run(at.packet.family, at.point, &mut interpreter, &mut at);
    *changes = interpreter.into_changes();
    outcome
}

/// The connection of a packet, as rules ask about it.
enum Asked<'a> {
    /// In the table.
    Known(&'a crate::table::conntrack::table::Connection<'a>, Direction),
    /// It begins with the packet.
    Begun(&'a Record),
}

impl Asked<'_> {
    fn tuple(&self, direction: Direction) -> Tuple {
        match (self, direction) {
            (Asked::Known(connection, _), _) => connection.tuple(direction),
            (Asked::Begun(record), Direction::Original) => record.original,
            (Asked::Begun(record), Direction::Reply) => record.reply,
        }
    }
}

impl AtHook<'_> {
    /// Whether it leaves by the bridge by which it came in, and is not routed.
    fn is_bridged(&self) -> bool {
        self.ports.is_some_and(|ports| ports.output.is_some())
    }

    /// The link of arrival, as the kernel tells it at the hook: at postrouting of what is bridged, none.
    fn arrived_by(&self) -> Option<&Iface> {
        let is_last = matches!(self.point, Point::Postrouting | Point::Snat | Point::BehindSnat);
        Some(self.iif).filter(|_| !(is_last && self.is_bridged()))
    }

    fn state(&self) -> CtState {
        match self.tracked {
            Some(tracked) if !self.aside.untracked => tracked.state,
            // What a rule reads before there is a connection.
            None if !self.aside.untracked => CtState::INVALID,
            _ => CtState::UNTRACKED,
        }
    }

    fn connection(&self) -> Option<Asked<'_>> {
        match &self.tracked?.of {
            Of::Nothing => None,
            Of::Connection(connection, direction) => Some(Asked::Known(connection, *direction)),
            Of::Unconfirmed => Some(Asked::Begun(&self.aside.begun)),
        }
    }

    fn tuple_fact(&self, key: CtKey, tuple: &Tuple) -> Fact {
        let (addr, port) = match key {
            CtKey::Src | CtKey::SrcIp | CtKey::SrcIp6 | CtKey::ProtoSrc => (tuple.src, tuple.sport),
            _ => (tuple.dst, tuple.dport),
        };
        match (key, tuple.family) {
            (CtKey::ProtoSrc | CtKey::ProtoDst, _) if self.packet.flags.any(Flags::PORTS) => {
                Fact::Bytes2(port.to_be_bytes())
            }
            (CtKey::ProtoSrc | CtKey::ProtoDst, _) => Fact::Unknown,
            (CtKey::Src | CtKey::Dst | CtKey::SrcIp | CtKey::DstIp, Family::V4) => {
                Fact::Bytes4((addr as u32).to_be_bytes())
            }
            (CtKey::Src | CtKey::Dst | CtKey::SrcIp6 | CtKey::DstIp6, Family::V6) => Fact::Bytes16(addr.to_be_bytes()),
            _ => Fact::Absent,
        }
    }

    /// What fits into a segment both ways, without options (get_tcpmss of nft_rt.c): by the way out, and the way back, which is
    /// looked up as the box's own.
    fn tcpmss(&self, mtu: u32) -> Fact {
        const DEFAULT: u16 = 536;
        let (family, src) = (self.packet.family, self.packet.src);
        let key = FibKey {
            src: 0,
            dst: src,
            iif: None,
            tos: 0,
        };
        let back = match self.snapshot.fib(family).lookup(&key) {
            Found::Route(_, route) if route.left.is_none() && route.kind == RouteKind::Unicast => match *route.nexthops
            {
                [one] => match self.snapshot.iface(one.iface) {
                    Some(_) if route.mtu != 0 => route.mtu,
                    Some(link) => link.mtu[family as usize],
                    None => return Fact::Unknown,
                },
                _ => return Fact::Unknown,
            },
            _ => return Fact::Unknown,
        };
        let headers = match family {
            Family::V4 => 40,
            Family::V6 => 60,
        };
        let fits = mtu.min(back).checked_sub(headers).filter(|fits| *fits > 0);
        Fact::U16(fits.map_or(DEFAULT, |fits| fits as u16))
    }

    /// Bytes of the packet as the kernel has them at this hook.
    fn read(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer {
        let (l3, l4) = (usize::from(self.packet.l3), usize::from(self.packet.l4));
        if base == Base::Link && offset < MAC_LEN && self.ports.is_some_and(|ports| ports.is_redirected) {
            return Answer::Unknown;
        }
        let start = offset
            + match base {
                Base::Link => l3.saturating_sub(ether::HEADER_LEN),
                Base::Network => l3,
                Base::Transport => l4,
            };
        let end = start + out.len();
        let Some(bytes) = self
            .frame
            .bytes()
            .get(start..end)
            .filter(|_| end <= usize::from(self.packet.end))
        else {
            return Answer::Break;
        };
        out.copy_from_slice(bytes);
        if start < l4 && self.oif.is_some() && !self.is_bridged() {
            self.one_hop_less(start, out);
        }
        Answer::Done
    }

    /// Takes a hop off what was read from `start` of the frame on.
    fn one_hop_less(&self, start: usize, out: &mut [u8]) {
        let l3 = usize::from(self.packet.l3);
        let mut set = |at: usize, value: u8| {
            if let Some(byte) = at.checked_sub(start).and_then(|at| out.get_mut(at)) {
                *byte = value;
            }
        };
        let ttl = self.packet.ttl.wrapping_sub(1);
        match self.packet.family {
            Family::V4 => {
                set(l3 + 8, ttl);
                if let Some(&[high, low]) = self.frame.bytes().get(l3 + 10..l3 + 12) {
                    let check = checksum::after_ttl_step(u16::from_be_bytes([high, low])).to_be_bytes();
                    set(l3 + 10, check[0]);
                    set(l3 + 11, check[1]);
                }
            }
            Family::V6 => set(l3 + 7, ttl),
        }
    }
}

impl Packet for AtHook<'_> {
    fn nfproto(&self) -> u8 {
        number(self.packet.family)
    }

    fn length(&self) -> u32 {
        self.packet.l3_len().into()
    }

    fn l4proto(&self) -> Option<u8> {
        Some(self.packet.proto)
    }

    fn is_later_fragment(&self) -> bool {
        let l3 = usize::from(self.packet.l3);
        let offset = self
            .frame
            .bytes()
            .get(l3 + 6..l3 + 8)
            .map(|b| u16::from_be_bytes([b[0], b[1]]));
        self.packet.family == Family::V4
            && self.packet.flags.any(Flags::FRAGMENT)
            && offset.is_none_or(|offset| offset & 0x1fff != 0)
    }

    fn payload(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer {
        self.read(base, offset, out)
    }

    fn meta(&self, key: MetaKey) -> Fact {
        let (iif, oif) = (self.arrived_by(), self.oif.map(|(oif, _)| oif));
        match key {
            MetaKey::Protocol => Fact::Bytes2(match self.packet.family {
                Family::V4 => [0x08, 0x00],
                Family::V6 => [0x86, 0xdd],
            }),
            MetaKey::Mark => Fact::U32(self.aside.mark),
            MetaKey::Priority => Fact::U32(self.aside.priority),
            MetaKey::Iif => Fact::U32(iif.map_or(0, |iif| iif.ifindex)),
            // Before it is routed it has none: number 0, no name, no type.
            MetaKey::Oif => Fact::U32(oif.map_or(0, |oif| oif.ifindex)),
            MetaKey::Iifname => Fact::name(iif.map_or("", |iif| &iif.name)),
            MetaKey::Oifname => Fact::name(oif.map_or("", |oif| &oif.name)),
            MetaKey::Iifgroup | MetaKey::Iifkind if iif.is_none() => Fact::Absent,
            MetaKey::Oiftype | MetaKey::Oifgroup | MetaKey::Oifkind if oif.is_none() => Fact::Absent,
            MetaKey::Iifgroup => Fact::U32(iif.map_or(0, |iif| iif.group)),
            MetaKey::Oifgroup => Fact::U32(oif.map_or(0, |oif| oif.group)),
            MetaKey::Iifkind => iif.map_or(Fact::Absent, kind),
            MetaKey::Oifkind => oif.map_or(Fact::Absent, kind),
            // ARPHRD_ETHER: nothing else comes in by a port, or leaves by one.
            MetaKey::Iiftype | MetaKey::Oiftype => Fact::U16(1),
            MetaKey::Skuid | MetaKey::Skgid | MetaKey::Cgroup => Fact::Absent,
            // PACKET_HOST; and what came in by a port did not come through IPsec.
            MetaKey::Pkttype | MetaKey::Secpath => Fact::U8(0),
            _ => Fact::Unknown,
        }
    }

    fn ct(&self, key: CtKey, reply: Option<bool>) -> Fact {
        if key == CtKey::State {
            return Fact::U32(self.state().0);
        }
        let Some(asked) = self.connection() else {
            return match key {
                CtKey::Eventmask => Fact::Unknown,
                _ => Fact::Absent,
            };
        };
        let of_direction = |reply: bool| match reply {
            false => asked.tuple(Direction::Original),
            true => asked.tuple(Direction::Reply),
        };
        match (key, &asked) {
            (CtKey::Direction, Asked::Known(_, direction)) => Fact::U8(*direction as u8),
            (CtKey::Direction, Asked::Begun(_)) => Fact::U8(0),
            (CtKey::Status, Asked::Known(connection, _)) => {
                Fact::U32((connection.status() | Status::CONFIRMED).0.into())
            }
            (CtKey::Status, Asked::Begun(record)) => Fact::U32((record.status.0 & !Status::CONFIRMED.0).into()),
            (CtKey::Mark, Asked::Known(..)) => Fact::U32(self.aside.ct_mark.now),
            (CtKey::Mark, Asked::Begun(record)) => Fact::U32(record.mark),
            (CtKey::Expiration, Asked::Known(connection, _)) => {
                let left = connection.deadline().wrapping_sub(self.now).cast_signed().max(0);
                Fact::U32(left.cast_unsigned().saturating_mul(1000 / TICKS_PER_SECOND))
            }
            // Of the connection that it is expected by: such are the kernel's.
            (CtKey::Helper, _) => Fact::Absent,
            (CtKey::L3protocol, _) => Fact::U8(number(self.packet.family)),
            (CtKey::Protocol, _) => Fact::U8(of_direction(false).proto),
            (CtKey::Zone, _) => Fact::U16(of_direction(false).zone),
            (
                CtKey::Src
                | CtKey::Dst
                | CtKey::ProtoSrc
                | CtKey::ProtoDst
                | CtKey::SrcIp
                | CtKey::DstIp
                | CtKey::SrcIp6
                | CtKey::DstIp6,
                _,
            ) => reply.map_or(Fact::Unknown, |reply| self.tuple_fact(key, &of_direction(reply))),
            _ => Fact::Unknown,
        }
    }

    fn set_meta(&mut self, key: MetaKey, value: [u8; 4]) -> Answer {
        match key {
            MetaKey::Mark => self.aside.mark = u32::from_ne_bytes(value),
            MetaKey::Priority => self.aside.set_priority(u32::from_ne_bytes(value)),
            _ => return Answer::Unknown,
        }
        Answer::Done
    }

    fn rt(&self, key: RtKey) -> Fact {
        match (key, self.oif) {
            // What is bridged has a route that is none.
            (RtKey::Tcpmss, Some((_, mtu))) if !self.is_bridged() => self.tcpmss(mtu),
            _ => Fact::Unknown,
        }
    }

    fn fib(&self, result: FibResult, flags: FibFlags) -> Fact {
        self.ask_fib(result, flags)
    }

    fn physdevs(&self) -> Option<(&str, Option<&str>)> {
        let ports = self.ports?;
        Some((&ports.input.name, ports.output.map(|output| &*output.name)))
    }

    fn notrack(&mut self) -> Answer {
        // What is tracked stays so.
        self.aside.untracked |= self.connection().is_none();
        Answer::Done
    }

    fn random(&mut self) -> Option<u32> {
        // What is the kernel's in any case meets the choice there.
        (!leaving::is_by_header(self.packet)).then(|| self.aside.random.next_u32())
    }

    fn set_ct(&mut self, key: CtKey, _: Option<bool>, [a, b, c, d, ..]: [u8; 16]) -> Answer {
        let value = u32::from_ne_bytes([a, b, c, d]);
        match (key, self.tracked.map(|tracked| &tracked.of)) {
            (CtKey::Mark, Some(Of::Connection(..))) => self.aside.ct_mark.now = value,
            (CtKey::Mark, Some(Of::Unconfirmed)) => self.aside.begun.mark = value,
            (CtKey::Mark, Some(Of::Nothing) | None) => {}
            _ => return Answer::Unknown,
        }
        Answer::Done
    }

    fn store(&mut self, base: Base, offset: usize, bytes: &[u8], fix: ChecksumFix) -> Answer {
        self.write(base, offset, bytes, fix)
    }

    fn store_tcp(&mut self, offset: usize, bytes: &[u8]) -> Answer {
        self.write_tcp(offset, bytes)
    }
}

/// The kind of a link; a card has none.
fn kind(link: &Iface) -> Fact {
    match &*link.kind {
        "" => Fact::Absent,
        kind => Fact::name(kind),
    }
}

#[cfg(test)]
mod tests;
