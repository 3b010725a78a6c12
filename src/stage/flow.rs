//! flow: the cached walk. What routing, forward, the filter and neighbor decided for an earlier packet of this connection,
//! direction and state holds for this one too, and only the rewrite is left. These packets walk all boxes:
//!
//! - of a family that the kernel does not track, or of no connection: invalid, untracked, fragments, the first of each;
//! - ICMP errors: they go the way of another packet;
//! - of another state than the decision was made for (NEW, ESTABLISHED): rules may tell them apart;
//! - of a connection with another mark than the decision was made for, where rules look at it or set it;
//! - whose decision is of another generation: something in the configuration changed;
//! - or of another worker: its ways are its own;
//! - that came in by another link than the one it was made for; of what is bridged, with other Ethernet addresses;
//! - with IPv4 options or IPv6 extension headers, or TCP's SYN, FIN or RST;
//! - whose hop limit ends here, or that are longer than the MTU of the way out: the kernel answers;
//! - where the decision looked at more than is constant in a connection: rules on TOS, ECMP by flow label (see [`keep`]).
//!
//! What NAT makes of a packet is no part of the decision: it is written in the connection's two tuples.
//!
//! Most packets are TCP or UDP in the middle of a connection, and change nothing of it but a window and a deadline. Of a
//! burst, these do not even walk prerouting: [`cached`] does what it would do, in one straight line. It bails out, before
//! anything is changed, also for other protocols, SYN, FIN and RST, what is out of a window, a first answer and what
//! assures, the kernel's connections, expected ones, and those whose timeout is fixed.
//!
//! A decision is a word of the connection: the generation, the state, the worker and the number of a [`Way`] in this
//! worker's table of them. With a way goes its [`Trail`]: the counters of rules that the walk came by, which count these
//! packets too. A trail of more than [`TRAIL_MAX`] is not kept.
//!
//! ```text
//!   63            26 25   24 23     16 15       0
//!  | generation     | state | worker  | way      |       0: none, for generations count from 1
//! ```

use super::forward::Meta;
use super::nat;
use super::prerouting::{Of, Tracked, Tracking};
use crate::packet::{Flags, Frame, Parsed};
use crate::table::Snapshot;
use crate::table::conntrack::table::{Connection, Probe};
use crate::table::conntrack::tracker::{self, View};
use crate::table::conntrack::{CtState, Direction, Marks, Status};
use crate::table::destination::Out;
use crate::table::iface::IfaceIndex;
use crate::table::rules::interpret::Changes;
use crate::table::rules::program::StateId;
use crate::table::rules::state::State;
use crate::wire::Protocol;
use hashbrown::HashMap;

/// The most ways a worker knows in one generation: links times next hops times trails and marks. What has no place walks all boxes.
const WAYS_MAX: usize = 1 << 14;

/// The most counters of rules that a way has. With that many it is still within a cache line and a half.
pub const TRAIL_MAX: usize = 8;

/// The counters of rules that a walk came by, in their order; one may be there twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trail {
    len: u32,
    counters: [StateId; TRAIL_MAX],
}

impl Trail {
    /// Of what a packet changed in rules whose decision depends on no memory; `None` where it is too long.
    pub fn of(changes: &Changes) -> Option<Self> {
        let mut trail = Self::default();
        for cell in changes.cells() {
            *trail.counters.get_mut(trail.len as usize)? = cell?;
            trail.len += 1;
        }
        Some(trail)
    }

    /// Counts a packet of `len` bytes in all of them.
    #[inline(always)]
    pub fn count(&self, state: &State, len: u32) {
        for &counter in self.counters.iter().take(self.len as usize) {
            state.cell(counter).count(len);
        }
    }
}

/// A way through the box: in by a link, by some counters, out to a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    /// The link of arrival: of what is bridged, the port.
    pub iif: IfaceIndex,
    /// All the rest.
    pub out: Out,
    /// What counts it.
    pub trail: Trail,
    /// The mark that its connection must have, where rules look at that or set it. A walk that leaves the mark as it found it
    /// does so again, whatever it sets in between.
    pub ct_mark: Option<u32>,
    /// What the qdisc of the way out is told, where some port is shaped.
    pub meta: Meta,
}

impl Way {
    /// Whether it is for a connection of this mark.
    #[inline(always)]
    fn is_for(&self, connection: &Connection<'_>) -> bool {
        self.ct_mark.is_none_or(|mark| mark == connection.mark())
    }
}

/// A worker's ways of one generation.
#[derive(Debug)]
pub struct Ways {
    worker: u8,
    generation: u64,
    ways: Vec<Way>,
    numbers: HashMap<Way, u16, foldhash::fast::RandomState>,
}

impl Ways {
    /// None, of worker `worker`. Workers beyond the 256th keep none.
    pub fn new(worker: usize) -> Self {
        let room = if worker > usize::from(u8::MAX) { 0 } else { WAYS_MAX };
        Self {
            worker: worker as u8,
            generation: 0,
            ways: Vec::with_capacity(room),
            numbers: HashMap::with_capacity_and_hasher(room, Default::default()),
        }
    }

    /// The way that `decision` names, if it holds for a packet of `state` in `generation`.
    #[inline]
    fn get(&self, decision: u64, state: CtState, generation: u64) -> Option<&Way> {
        if self.generation != generation || decision >> 16 != self.head(state) {
            return None;
        }
        self.ways.get(usize::from(decision as u16))
    }

    /// The decision for `way`, for packets of `state` in `generation`.
    fn decision(&mut self, way: Way, state: CtState, generation: u64) -> Option<u64> {
        if self.generation != generation {
            self.generation = generation;
            self.ways.clear();
            self.numbers.clear();
        }
        let number = match self.numbers.get(&way) {
            Some(&number) => number,
            None if self.ways.len() < self.ways.capacity().min(WAYS_MAX) => {
                let number = self.ways.len() as u16;
                self.ways.push(way);
                self.numbers.insert(way, number);
                number
            }
            None => return None,
        };
        Some(self.head(state) << 16 | u64::from(number))
    }

    #[inline]
    fn head(&self, state: CtState) -> u64 {
        let state = match state {
            CtState::ESTABLISHED => 1,
            CtState::NEW => 2,
            _ => 3,
        };
        self.generation << 10 | state << 8 | u64::from(self.worker)
    }
}

/// The cached walk from prerouting on: the packet is taken for one of its connection, and this is its way, to be counted. `None`: nothing
/// has changed, and it has to walk all boxes.
#[inline(always)]
pub fn cached<'a>(
    packet: &Parsed,
    frame: &mut Frame,
    probe: &Probe,
    comes_by: impl FnOnce(&Way) -> bool,
    snapshot: &Snapshot,
    tracking: &Tracking<'_>,
    ways: &'a Ways,
) -> Option<&'a Way> {
    if packet.flags.any(Flags::FRAGMENT | Flags::OPTIONS | Flags::EXTENSION) || packet.ttl <= 1 {
        return None;
    }
    let (connection, direction) = tracking.table.find(probe, tracking.now, tracking.guard)?;
    let status = connection.status();
    let state = match (status.any(Status::SEEN_REPLY), direction) {
        (true, _) => CtState::ESTABLISHED,
        (false, Direction::Original) => CtState::NEW,
        (false, Direction::Reply) => return None,
    };
    let is_plain = !status.any(Status::FIXED_TIMEOUT | Status::EXPECTED);
    if !is_plain || connection.marks().any(Marks::KERNEL) {
        return None;
    }
    let way = ways.get(connection.decision(direction), state, snapshot.generation)?;
    if !comes_by(way) || u32::from(packet.l3_len()) > way.out.mtu || !way.is_for(&connection) {
        return None;
    }
    let (version, proto) = connection.proto();
    let view = View {
        confirmed: true,
        status,
        left: 0,
        proto,
    };
    let update = tracker::in_the_middle(packet, frame.bytes(), &view, direction, tracking.config, tracking.now)?;
    let timeout = update.timeout?;
    if update.set.0 & !status.0 != 0 {
        return None;
    }
    if let Some(proto) = &update.proto
        && !connection.commit(version, proto)
    {
        return None;
    }
    connection.refresh(tracking.now.wrapping_add(timeout));
    if tracking.config.acct {
        connection.count(direction, packet.l3_len().into());
    }
    if status.any(Status::SRC_NAT | Status::DST_NAT)
        && snapshot.rules.nat[packet.family as usize]
        && let Some(target) = connection.target(packet.family, direction)
    {
        nat::translate(frame, packet, &target);
    }
    Some(way)
}

/// The way of `packet`, if it is decided; to be counted.
#[inline]
pub fn current<'a>(
    packet: &Parsed,
    bytes: &[u8],
    tracked: &Tracked<'_>,
    comes_by: impl FnOnce(&Way) -> bool,
    generation: u64,
    ways: &'a Ways,
) -> Option<&'a Way> {
    let Of::Connection(connection, direction) = &tracked.of else {
        return None;
    };
    let odd = packet.flags.any(Flags::OPTIONS | Flags::EXTENSION) || is_edge(packet, bytes);
    if tracked.state == CtState::RELATED || odd {
        return None;
    }
    let way = ways.get(connection.decision(*direction), tracked.state, generation)?;
    let fits = comes_by(way) && packet.ttl > 1 && u32::from(packet.l3_len()) <= way.out.mtu;
    (fits && way.is_for(connection)).then_some(way)
}

/// Whether it is a TCP segment that begins or ends something: with SYN, FIN or RST.
#[inline]
pub fn is_edge(packet: &Parsed, bytes: &[u8]) -> bool {
    const FLAGS_AT: usize = 13;
    const FIN_SYN_RST: u8 = 0x07;
    let flags = || bytes.get(usize::from(packet.l4) + FLAGS_AT).copied().unwrap_or(0);
    packet.proto == Protocol::TCP.0 && flags() & FIN_SYN_RST != 0
}

/// Keeps what was decided for a packet that came by the counters in `changes`, for the next ones of its connection, direction,
/// state and mark, where that matters; `meta` is what the qdisc of the way out is told of them.
#[inline]
pub fn keep(
    tracked: &Tracked<'_>,
    (iif, out): (IfaceIndex, &Out),
    changes: &Changes,
    (ct_mark, meta): (Option<u32>, Meta),
    generation: u64,
    ways: &mut Ways,
) {
    let Of::Connection(connection, direction) = &tracked.of else {
        return;
    };
    if tracked.state == CtState::RELATED {
        return;
    }
    let Some(trail) = Trail::of(changes) else { return };
    let way = Way {
        iif,
        out: *out,
        trail,
        ct_mark,
        meta,
    };
    if let Some(decision) = ways.decision(way, tracked.state, generation) {
        connection.set_decision(*direction, decision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(iif: u16) -> Way {
        Way {
            iif: IfaceIndex(iif),
            out: Out::default(),
            trail: Trail::default(),
            ct_mark: None,
            meta: Meta::NONE,
        }
    }

    #[test]
    fn a_decision_holds_for_its_state_generation_and_worker() {
        let (mut ways, other) = (Ways::new(3), Ways::new(4));
        let decision = ways.decision(way(7), CtState::ESTABLISHED, 9).unwrap();
        assert_eq!(ways.get(decision, CtState::ESTABLISHED, 9), Some(&way(7)));
        assert_eq!(ways.get(decision, CtState::NEW, 9), None);
        assert_eq!(ways.get(decision, CtState::ESTABLISHED, 10), None);
        assert_eq!(other.get(decision, CtState::ESTABLISHED, 9), None);
        assert_eq!(
            ways.decision(way(7), CtState::ESTABLISHED, 9),
            Some(decision),
            "known ways keep their number"
        );
        ways.decision(way(8), CtState::ESTABLISHED, 10).unwrap();
        assert_eq!(
            ways.get(decision, CtState::ESTABLISHED, 9),
            None,
            "a generation's ways end with it"
        );
        assert_eq!(ways.get(decision, CtState::ESTABLISHED, 10), None);
    }

    #[test]
    fn ways_are_bounded() {
        let mut ways = Ways::new(0);
        let given = (0..u16::MAX).filter(|&n| ways.decision(way(n), CtState::NEW, 1).is_some());
        assert_eq!(given.count(), WAYS_MAX);
        assert!(ways.decision(way(3), CtState::NEW, 1).is_some());
    }
}
