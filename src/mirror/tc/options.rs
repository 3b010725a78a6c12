//! What the options of a qdisc or class say, kind by kind (include/uapi/linux/pkt_sched.h, and the dump of each
//! net/sched file), as the types of `table::qdisc`, but for what hangs below, which `tree` adds. `None` is a message
//! that says less than that kind must; what is there and not carried is a reason in words.

use super::super::nlattr::{Attrs, get_u32};
use super::rate::{SPEC_LEN, burst, ns, rate};
use crate::table::qdisc::{Fifo, Fq, FqCodel, Limit, Rate, Sfq};

const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_PRATE64: u16 = 5;
const HTB_PARMS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_DIRECT_QLEN: u16 = 5;
const HTB_RATE64: u16 = 6;
const HTB_CEIL64: u16 = 7;
const HTB_OFFLOAD: u16 = 9;

/// Why something is not carried.
pub type Why = String;

/// What tbf says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TbfOptions {
    pub rate: Rate,
    pub buffer_ns: u64,
    pub peak: Option<(Rate, u64)>,
    pub max_size: u32,
    pub limit: u32,
}

/// What htb says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HtbOptions {
    pub default: u32,
    pub rate2quantum: u32,
    pub direct_qlen: u32,
}

/// What htb says of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassOptions {
    pub rate: Rate,
    pub ceil: Rate,
    pub buffer_ns: i64,
    pub cbuffer_ns: i64,
    pub prio: u8,
    pub quantum: u32,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    get_u32(bytes.get(at..)?)
}

fn long(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// struct tc_tbf_qopt: rate, peakrate, limit, buffer, mtu.
pub fn tbf(options: &[u8]) -> Option<TbfOptions> {
    let attrs = Attrs(options);
    let wide = |kind| attrs.find(kind).and_then(long);
    let parms = attrs.find(TBF_PARMS)?;
    let of_rate = rate(parms.get(..SPEC_LEN)?, wide(TBF_RATE64))?;
    let of_peak = rate(parms.get(SPEC_LEN..2 * SPEC_LEN)?, wide(TBF_PRATE64))?;
    let (limit, buffer, mtu) = (word(parms, 24)?, word(parms, 28)?, word(parms, 32)?);
    let (mut max_size, buffer_ns) = burst(&of_rate, buffer);
    let peak = (of_peak.bytes_per_second > 0).then(|| {
        let (size, ns) = burst(&of_peak, mtu);
        max_size = max_size.min(size);
        (of_peak, ns)
    });
    Some(TbfOptions {
        rate: of_rate,
        buffer_ns,
        peak,
        max_size,
        limit,
    })
}

/// struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
pub fn htb(options: &[u8]) -> Option<Result<HtbOptions, Why>> {
    let attrs = Attrs(options);
    if attrs.find(HTB_OFFLOAD).is_some() {
        return Some(Err("it is offloaded".into()));
    }
    let init = attrs.find(HTB_INIT)?;
    Some(Ok(HtbOptions {
        rate2quantum: word(init, 4)?,
        // A minor number, whatever the rest says.
        default: word(init, 8)? & 0xffff,
        direct_qlen: get_u32(attrs.find(HTB_DIRECT_QLEN)?)?,
    }))
}

/// struct tc_htb_opt: rate, ceil, buffer, cbuffer, quantum, level, prio.
pub fn htb_class(options: &[u8]) -> Option<ClassOptions> {
    let attrs = Attrs(options);
    let wide = |kind| attrs.find(kind).and_then(long);
    let parms = attrs.find(HTB_PARMS)?;
    let at = |number: usize| word(parms, 2 * SPEC_LEN + 4 * number);
    let time = |ticks| i64::try_from(ns(ticks)).ok();
    Some(ClassOptions {
        rate: rate(parms.get(..SPEC_LEN)?, wide(HTB_RATE64))?,
        ceil: rate(parms.get(SPEC_LEN..2 * SPEC_LEN)?, wide(HTB_CEIL64))?,
        buffer_ns: time(at(0)?)?,
        cbuffer_ns: time(at(1)?)?,
        quantum: at(2)?,
        prio: u8::try_from(at(4)?.min(7)).ok()?,
    })
}

/// struct tc_fifo_qopt, of `pfifo`, `bfifo` or `pfifo_head_drop`.
pub fn fifo(kind: &str, options: &[u8]) -> Option<Fifo> {
    let limit = get_u32(options)?;
    Some(Fifo {
        limit: if kind == "bfifo" {
            Limit::Bytes(limit)
        } else {
            Limit::Packets(limit)
        },
        drops_head: kind == "pfifo_head_drop",
    })
}

/// struct tc_prio_qopt: how many bands, and of which band a priority is.
pub fn prio(options: &[u8]) -> Option<(u32, [u8; 16])> {
    Some((get_u32(options)?, *options.get(4..)?.first_chunk()?))
}

/// The attributes of fq_codel, of a link that sends frames up to so many bytes. Times are told in microseconds, and kept in units of 1024 ns.
pub fn fq_codel(options: &[u8], frame_max: u32) -> Option<Result<FqCodel, Why>> {
    let find = |kind| Attrs(options).find(kind).and_then(get_u32);
    let byte = |kind| Attrs(options).find(kind).and_then(<[u8]>::first).copied();
    let ns = |us: u32| (u64::from(us) * 1000).div_ceil(1024) * 1024;
    if byte(11).unwrap_or(0) != 0 {
        return Some(Err("it has a ce_threshold_selector".into()));
    }
    Some(Ok(FqCodel {
        target_ns: ns(find(1)?),
        limit: find(2)?,
        interval_ns: ns(find(3)?),
        ecn: find(4)? != 0,
        flows: find(5)?,
        quantum: find(6)?,
        ce_threshold_ns: find(7).map(ns),
        drop_batch: find(8).unwrap_or(64),
        memory_limit: find(9).unwrap_or(u32::MAX),
        frame_max,
    }))
}

/// struct tc_sfq_qopt_v1: quantum, perturb_period, limit, divisor, flows, depth, headdrop; then RED.
pub fn sfq(options: &[u8]) -> Option<Result<Sfq, Why>> {
    let at = |number: usize| word(options, 4 * number);
    let red = (8..10).filter_map(at).any(|threshold| threshold != 0);
    if red {
        return Some(Err("it has a redflowlimit".into()));
    }
    Some(Ok(Sfq {
        quantum: at(0)?,
        perturb_s: at(1)?,
        limit: at(2)?,
        divisor: at(3)?,
        flows: at(4)?,
        depth: at(5)?,
        drops_head: at(6)? != 0,
    }))
}

/// The attributes of fq. Kernels before 6.7 have no bands, and queue in another way.
pub fn fq(options: &[u8]) -> Option<Result<Fq, Why>> {
    let find = |kind| Attrs(options).find(kind);
    let at = |kind| find(kind).and_then(get_u32);
    let (Some(priomap), Some(weights)) = (find(16), find(17)) else {
        return Some(Err("it has no bands, as before Linux 6.7".into()));
    };
    if at(18).unwrap_or(0) != 0 {
        return Some(Err("it has an offload_horizon".into()));
    }
    Some(Ok(Fq {
        limit: at(1)?,
        flow_limit: at(2)?,
        quantum: at(3)?,
        initial_quantum: at(4)?,
        orphan_mask: at(10)?,
        refill_delay_ns: u64::from(at(9)?) * 1000,
        paces: at(5)? != 0,
        max_rate: fq_max_rate(options),
        low_rate_threshold: at(11)?,
        ce_threshold_ns: at(12).filter(|&us| us != u32::MAX).map(|us| u64::from(us) * 1000),
        priomap: prio(priomap)?.1,
        weights: [word(weights, 0)?, word(weights, 4)?, word(weights, 8)?],
    }))
}

/// What fq lets each flow send, in bytes per second, if it bounds that.
pub fn fq_max_rate(options: &[u8]) -> Option<u32> {
    let max_rate = Attrs(options).find(7).and_then(get_u32);
    max_rate.filter(|&rate| rate != u32::MAX)
}
