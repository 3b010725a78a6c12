//! What the kernel tells of a policer (tcf_police_dump of net/sched/act_police.c), and of what it passed.
//!
//! ```text
//!  `action police`: options { actions { 1 { kind, options { TBF, RESULT, ... }, stats { basic, queue } } } }
//!  u32's `police`:  options { police { TBF, RESULT, ... } }, stats of the whole filter
//! ```
//!
//! Not carried: `reclassify` (which `police` without an action means) and `continue`, for other filters would have to be asked
//! with the same frame; and `avrate`, for only the kernel knows what it estimated.

use super::super::nlattr::{Attrs, get_str, get_u32};
use super::super::nlsock::NlSock;
use super::super::tc::rate::{SPEC_LEN, ns, rate};
use super::action::{ACT_KIND, ACT_OPTIONS};
use super::{Listed, flower, list, mark, matchall, u32};
use crate::table::police::{Act, Limit, Police};
use crate::table::qdisc::{Handle, Rate};
use std::collections::HashMap;

const TBF: u16 = 1;
const AVRATE: u16 = 4;
const RESULT: u16 = 5;
const RATE64: u16 = 8;
const PEAKRATE64: u16 = 9;
const PKTRATE64: u16 = 10;
const PKTBURST64: u16 = 11;
/// Of `rate` in a `struct tc_police`, behind index, action, limit, burst and mtu.
const RATE_AT: usize = 20;
const ACT_STATS: u16 = 4;
const STATS_BASIC: u16 = 1;
const STATS_QUEUE: u16 = 3;

/// What the kernel's policer of some number counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes that met it.
    pub bytes: u64,
    /// Packets that met it.
    pub packets: u32,
    /// ... of which exceeded.
    pub exceeded: u32,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    get_u32(bytes.get(at..)?)
}

fn long(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// What it is told.
///
/// # Errors
/// What of it is not carried, or not known: `says reclassify`.
pub(super) fn read(options: &[u8]) -> Result<Police, String> {
    let attrs = Attrs(options);
    let find = |kind| attrs.find(kind);
    let is_known = |kind: &u16| matches!(*kind, TBF | AVRATE..=PKTBURST64);
    if let Some(kind) = Attrs(options).map(|(kind, _)| kind).find(|kind| !is_known(kind)) {
        return Err(format!("has an attribute {kind} that is not known"));
    }
    if find(AVRATE).is_some() {
        return Err("has an avrate".into());
    }
    let odd = || "cannot be read".to_string();
    let tbf = find(TBF).ok_or_else(odd)?;
    let at = |at| word(tbf, at).ok_or_else(odd);
    let of_rate = |at: usize, wide| {
        let spec = tbf.get(at..at + SPEC_LEN).ok_or_else(odd)?;
        rate(spec, find(wide).and_then(long)).ok_or_else(odd)
    };
    let by_bytes = Some(of_rate(RATE_AT, RATE64)?).filter(|rate| rate.bytes_per_second > 0);
    let peak = Some(of_rate(RATE_AT + SPEC_LEN, PEAKRATE64)?).filter(|rate| rate.bytes_per_second > 0);
    let by_packets = find(PKTRATE64).and_then(long);
    let mtu = at(16)?;
    let (limit, burst_ns) = match (by_bytes, by_packets) {
        (Some(_), Some(_)) => return Err("has a rate of bytes and one of packets".into()),
        (Some(rate), None) => (Some(Limit::Bytes(rate)), ns(at(12)?)),
        (None, Some(rate)) => {
            let ticks = find(PKTBURST64).and_then(long).ok_or_else(odd)?;
            (Some(Limit::Packets(rate)), ticks.saturating_mul(ns(1)))
        }
        (None, None) => (None, 0),
    };
    let peak = peak.map(|rate| (rate, lasts_ns(&rate, mtu)));
    if peak.is_some_and(|(_, size_ns)| size_ns > burst_ns) {
        // The kernel forgets tokens of the second bucket that came in more than that.
        return Err("has a peakrate by which its mtu lasts longer than its burst".into());
    }
    Ok(Police {
        index: at(0)?,
        limit,
        burst_ns,
        peak,
        mtu,
        conforming: act(find(RESULT).and_then(get_u32).unwrap_or(0))?,
        exceeding: act(at(4)?)?,
    })
}

/// How long a frame of `bytes` lasts, as psched_l2t_ns has it, rounded down.
fn lasts_ns(rate: &Rate, bytes: u32) -> u64 {
    let ns = u128::from(rate.on_wire(bytes)) * 1_000_000_000 / u128::from(rate.bytes_per_second.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// TC_ACT_OK, TC_ACT_SHOT, TC_ACT_PIPE; there is nothing behind.
fn act(number: u32) -> Result<Act, String> {
    match number {
        0 | 3 => Ok(Act::Pass),
        2 => Ok(Act::Drop),
        1 => Err("says reclassify".into()),
        u32::MAX => Err("says continue".into()),
        _ => Err("says more than pass and drop".into()),
    }
}

/// What the kernel's policers at `parent` have counted, by their numbers.
///
/// # Errors
/// In words, where filters cannot be read.
pub fn read_passed(sock: &mut NlSock, ifindex: u32, parent: Handle) -> Result<HashMap<u32, Passed>, String> {
    let listed = list(sock, ifindex, parent)?;
    Ok(listed.iter().filter_map(passed).collect())
}

/// What the policer of a filter counted, if it has one.
pub(super) fn passed(one: &Listed) -> Option<(u32, Passed)> {
    let options = Attrs(one.options.as_deref()?);
    let (old, new) = match one.kind.as_str() {
        "u32" => (u32::POLICE, u32::ACT),
        "fw" => (mark::POLICE, mark::ACT),
        "matchall" => (0, matchall::ACT),
        "flower" => (0, flower::ACT),
        _ => return None,
    };
    let index = |police: &[u8]| word(Attrs(police).find(TBF)?, 0);
    if let Some(police) = options.find(old).filter(|_| old != 0) {
        return Some((index(police)?, of_filter(one.stats.as_deref()?)?));
    }
    let (_, action) = Attrs(options.find(new)?).next()?;
    let action = Attrs(action);
    let is_police = action.find(ACT_KIND).map(get_str).is_some_and(|kind| kind == "police");
    let police = action.find(ACT_OPTIONS).filter(|_| is_police)?;
    Some((index(police)?, of_action(action.find(ACT_STATS)?)?))
}

/// struct tc_stats: bytes, packets, drops, overlimits.
fn of_filter(stats: &[u8]) -> Option<Passed> {
    Some(Passed {
        bytes: long(stats)?,
        packets: word(stats, 8)?,
        exceeded: word(stats, 16)?,
    })
}

/// struct gnet_stats_basic; struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits.
fn of_action(stats: &[u8]) -> Option<Passed> {
    let (basic, queue) = (Attrs(stats).find(STATS_BASIC)?, Attrs(stats).find(STATS_QUEUE)?);
    Some(Passed {
        bytes: long(basic)?,
        packets: word(basic, 8)?,
        exceeded: word(queue, 16)?,
    })
}
