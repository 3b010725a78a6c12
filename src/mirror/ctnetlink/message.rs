//! What ctnetlink tells of a connection, in dumps, answers and events (ctnetlink_fill_info, ctnetlink_conntrack_event).
//!
//! Events leave out what did not change: an entry of an event may lack the protocol's state and the mark, and only an entry
//! that was asked for is complete. Whatever a [`Record`] cannot say is an [`Oddity`]: such a connection stays the kernel's.

use super::super::nlattr::{Attrs, Message, get_be16, get_be32, get_be64};
use super::attr::{CT_DELETE, CT_NEW, HEADER_LEN, counters, cta};
use super::protoinfo::Protoinfo;
use super::tuple;
use crate::table::conntrack::{Counter, Marks, Record, Status, TICKS_PER_SECOND, TIMEOUT_MAX, Ticks};

/// Why a connection cannot be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// A helper looks into its packets.
    Helper,
    /// It is the child of an expectation.
    Expected,
    /// Its sequence numbers are adjusted.
    SequenceAdjusted,
    /// The kernel answers handshakes for it.
    Synproxy,
    /// It has labels.
    Labels,
    /// Its zone is of one direction only.
    DirectionalZone,
    /// It is in a flowtable.
    Offloaded,
    /// Its timeout does not change with packets.
    FixedTimeout,
}

/// One connection, as far as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The connection, with `marks` empty.
    pub record: Record,
    /// CTA_ID: the same for as long as the kernel's entry lives.
    pub id: u32,
    /// The protocol's state, where it was told.
    pub protoinfo: Option<Protoinfo>,
    /// The mark was told; it is 0 else, and in an event that may mean "as before".
    pub marked: bool,
    /// What a record cannot say.
    pub oddity: Option<Oddity>,
}

impl Entry {
    /// Whether packets went both ways, and for protocols with a handshake it is done.
    pub fn is_established(&self) -> bool {
        self.record.status.any(Status::SEEN_REPLY) && self.protoinfo.is_none_or(Protoinfo::is_established)
    }
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It came into the kernel's table.
    New,
    /// It changed.
    Update,
    /// It left the kernel's table.
    Destroy,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The netlink socket that asked for it; 0 if packets or time did it.
    pub port: u32,
    /// The connection.
    pub entry: Entry,
}

/// Reads an event; `None` if it is none, or of a connection that we cannot name.
pub fn event(m: &Message, now: Ticks) -> Option<Event> {
    let kind = match m.kind {
        CT_NEW if m.flags & libc::NLM_F_CREATE as u16 != 0 => EventKind::New,
        CT_NEW => EventKind::Update,
        CT_DELETE => EventKind::Destroy,
        _ => return None,
    };
    Some(Event {
        kind,
        port: m.port,
        entry: entry(m, now)?,
    })
}

/// Reads an entry; `None` if it is of a kind that we cannot name. `now` is the time at which the kernel said it.
pub fn entry(m: &Message, now: Ticks) -> Option<Entry> {
    if m.kind != CT_NEW && m.kind != CT_DELETE {
        return None;
    }
    let attrs = m.attrs(HEADER_LEN);
    let mut original = tuple::get(attrs.find(cta::TUPLE_ORIG)?)?;
    let mut reply = tuple::get(attrs.find(cta::TUPLE_REPLY)?)?;
    let be32 = |kind| attrs.find(kind).and_then(get_be32);
    let zone = attrs.find(cta::ZONE).and_then(get_be16).unwrap_or_default();
    original.tuple.zone = zone;
    reply.tuple.zone = zone;
    let status = Status(be32(cta::STATUS).unwrap_or_default() as u16);
    let mark = be32(cta::MARK);
    let protoinfo = attrs.find(cta::PROTOINFO).and_then(Protoinfo::get);
    let timeout = be32(cta::TIMEOUT).unwrap_or_default();
    Some(Entry {
        oddity: oddity(&attrs, status, original.zoned || reply.zoned),
        record: Record {
            original: original.tuple,
            reply: reply.tuple,
            status,
            marks: Marks::default(),
            deadline: now.wrapping_add(timeout.saturating_mul(TICKS_PER_SECOND).min(TIMEOUT_MAX)),
            mark: mark.unwrap_or_default(),
            proto: protoinfo.map_or_else(Default::default, Protoinfo::to_state),
            counters: [cta::COUNTERS_ORIG, cta::COUNTERS_REPLY].map(|kind| counter(attrs.find(kind))),
        },
        id: be32(cta::ID).unwrap_or_default(),
        protoinfo,
        marked: mark.is_some(),
    })
}

fn counter(payload: Option<&[u8]>) -> Counter {
    let attrs = Attrs(payload.unwrap_or_default());
    let be64 = |kind| attrs.find(kind).and_then(get_be64).unwrap_or_default();
    Counter {
        packets: be64(counters::PACKETS),
        bytes: be64(counters::BYTES),
    }
}

/// Every entry that came by ctnetlink has room for it, with zeros.
fn synproxied(attrs: &Attrs) -> bool {
    let mut values = Attrs(attrs.find(cta::SYNPROXY).unwrap_or_default());
    values.any(|(_, value)| value.iter().any(|&byte| byte != 0))
}

fn oddity(attrs: &Attrs, status: Status, zoned: bool) -> Option<Oddity> {
    let has = |kind| attrs.find(kind).is_some();
    let odd = [
        (has(cta::HELP) || status.any(Status::HELPER), Oddity::Helper),
        (has(cta::TUPLE_MASTER) || status.any(Status::EXPECTED), Oddity::Expected),
        (
            status.any(Status::SEQ_ADJUST) || has(cta::SEQ_ADJ_ORIG) || has(cta::SEQ_ADJ_REPLY),
            Oddity::SequenceAdjusted,
        ),
        (synproxied(attrs), Oddity::Synproxy),
        (has(cta::LABELS), Oddity::Labels),
        (zoned, Oddity::DirectionalZone),
        (status.any(Status::OFFLOAD), Oddity::Offloaded),
        (status.any(Status::FIXED_TIMEOUT), Oddity::FixedTimeout),
    ];
    odd.into_iter().find_map(|(is, oddity)| is.then_some(oddity))
}
