//! RTM_NEWQDISC and RTM_NEWTCLASS as records, without a look into what is of one kind (see `options`), and what a
//! qdisc or a class has sent (TCA_STATS2, net/core/gen_stats.c).
//!
//! ```text
//!  tcmsg   | family 4 | ifindex 4 | handle 4 | parent 4 | info 4 |, then attributes
//! ```

use super::super::nlattr::{Attrs, Message, get_str, get_u32};
use crate::table::qdisc::{Handle, ROOT};
use std::collections::HashMap;

const DELQDISC: u16 = 37;
const DELTCLASS: u16 = 41;
/// Bytes of a `struct tcmsg`.
pub const TCMSG_LEN: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STAB: u16 = 8;
const TCA_HW_OFFLOAD: u16 = 12;
const TCA_INGRESS_BLOCK: u16 = 13;
const TCA_EGRESS_BLOCK: u16 = 14;
const TCA_STAB_BASE: u16 = 1;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_APP: u16 = 4;
const TCA_STATS_PKT64: u16 = 8;

/// A qdisc or a class, as the kernel tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The link.
    pub ifindex: u32,
    /// A qdisc's handle, 0 for one that the kernel made by itself; a class's number.
    pub handle: Handle,
    /// Where it hangs.
    pub parent: Handle,
    /// `tbf`, `htb`; of a class that of its qdisc.
    pub kind: String,
    /// Which one of its handle it is; the kernel does not tell it, see `Generations`.
    pub generation: u64,
    /// What its kind says of it.
    pub options: Vec<u8>,
    /// What frames count here, where that is not their length.
    pub stab: Option<SizeTable>,
    /// The device does it.
    pub offloaded: bool,
    /// Its filters are those of a block, of other qdiscs as well.
    pub has_block: bool,
    /// What it counted.
    pub counts: Counts,
}

/// Tells qdiscs and classes apart that had one handle one after the other, by the events of their end. Bounded by the handles of the
/// links that it keeps.
#[derive(Debug, Default)]
pub struct Generations {
    /// By link and handle, the number of the last end; none has a number twice. By handle 0 that of a root, with which all below it
    /// ends, and of which alone the kernel tells (mq).
    ends: HashMap<(u32, Handle), u64>,
    last: u64,
}

impl Generations {
    /// Takes in an event.
    pub fn hear(&mut self, message: &Message<'_>) {
        let word = |at: usize| message.payload.get(at..).and_then(get_u32);
        let (DELQDISC | DELTCLASS, Some(ifindex), Some(handle), Some(parent)) =
            (message.kind, word(4), word(8), word(12))
        else {
            return;
        };
        self.last += 1;
        if handle != 0 {
            self.ends.insert((ifindex, Handle(handle)), self.last);
        }
        if message.kind == DELQDISC && Handle(parent) == ROOT {
            self.ends.insert((ifindex, Handle(0)), self.last);
        }
    }

    /// Forgets all links but these.
    pub fn keep(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.ends.retain(|(ifindex, _), _| is_kept(*ifindex));
    }

    /// Which one of its handle a record is of.
    pub fn of(&self, record: &Record) -> u64 {
        let of = |handle| self.ends.get(&(record.ifindex, handle)).copied().unwrap_or(0);
        of(record.handle).max(of(Handle(0)))
    }
}

/// A size table (struct tc_sizespec): the kernel tells what it was made by, and not what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeTable {
    /// There is none in it: each frame counts so many bytes more (or less).
    Overhead(i32),
    /// There is one, of which nothing is known.
    Untold,
}

/// What a qdisc or class of the kernel counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes sent.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u32,
    /// Times that a packet had to wait for tokens.
    pub overlimits: u32,
    /// Bytes that wait.
    pub backlog_bytes: u32,
    /// Packets that wait.
    pub backlog_packets: u32,
    /// htb's classes: lends, borrows, giants.
    pub htb: [u32; 3],
    /// htb's classes: tokens of the rate and of the ceil, in ticks of 64 ns.
    pub htb_tokens: [i32; 2],
}

/// The record of a message whose kind is RTM_NEWQDISC or RTM_NEWTCLASS.
pub fn record(message: &Message<'_>) -> Option<Record> {
    let word = |at: usize| get_u32(message.payload.get(at..)?);
    let attrs = message.attrs(TCMSG_LEN);
    let find = |kind| attrs.find(kind);
    let kind = get_str(find(TCA_KIND)?);
    Some(Record {
        ifindex: word(4)?,
        handle: Handle(word(8)?),
        parent: Handle(word(12)?),
        generation: 0,
        options: find(TCA_OPTIONS).unwrap_or_default().to_vec(),
        stab: find(TCA_STAB).map(size_table),
        has_block: find(TCA_INGRESS_BLOCK).or_else(|| find(TCA_EGRESS_BLOCK)).is_some(),
        offloaded: find(TCA_HW_OFFLOAD).is_some_and(|it| it != [0]),
        counts: find(TCA_STATS2).map(|stats| counts(stats, &kind)).unwrap_or_default(),
        kind,
    })
}

/// As __qdisc_calculate_pkt_len goes by it.
fn size_table(stab: &[u8]) -> SizeTable {
    let spec = Attrs(stab).find(TCA_STAB_BASE).unwrap_or_default();
    let word = |at: usize| spec.get(at..).and_then(get_u32);
    match (word(4), word(20)) {
        (Some(overhead), Some(0)) => SizeTable::Overhead(overhead.cast_signed()),
        _ => SizeTable::Untold,
    }
}

fn counts(stats: &[u8], kind: &str) -> Counts {
    let find = |kind| Attrs(stats).find(kind).unwrap_or_default();
    let word = |bytes: &[u8], at: usize| bytes.get(4 * at..).and_then(get_u32).unwrap_or_default();
    let long = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    let (basic, queue, app) = (find(TCA_STATS_BASIC), find(TCA_STATS_QUEUE), find(TCA_STATS_APP));
    // struct tc_htb_xstats.
    let app = |at: usize| if kind == "htb" { word(app, at) } else { 0 };
    Counts {
        bytes: long(basic).unwrap_or_default(),
        packets: long(find(TCA_STATS_PKT64)).unwrap_or_else(|| word(basic, 2).into()),
        backlog_packets: word(queue, 0),
        backlog_bytes: word(queue, 1),
        drops: word(queue, 2),
        overlimits: word(queue, 4),
        htb: [0, 1, 2].map(app),
        htb_tokens: [3, 4].map(|at| app(at).cast_signed()),
    }
}
