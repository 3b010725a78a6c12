//! The filters of a qdisc or a class of tc, read by RTM_GETTFILTER: [`Filter`]s, or in words which of them is not carried.
//!
//! ```text
//!  dump --> chain 0: pref 10 u32  | fh 800: | fh 800::800 |    --> a table::filter::Filter
//!                    pref 20 fw   | handle 0x3 | handle 0x4 |  --> another
//!           chain 7: ...                                      --> not carried
//! ```
//!
//! The kernel lists preferences in the order in which it asks them (tcf_chain_dump of net/sched/cls_api.c), each first by itself,
//! and then its filters as its kind walks them. What a filter may have that is not known here is not carried, so every attribute
//! is looked at. Filters that hardware alone has (`skip_sw`) match no frame that comes here.
//! Bounded by what the kernel lists; it is read whole.

mod action;
mod flower;
mod mark;
mod matchall;
mod police;
mod u32;

pub use police::{Passed, read_passed};

use action::Reading;

use super::nlattr::{Attrs, Message, Request, get_str, get_u32};
use super::nlsock::NlSock;
use crate::table::filter::{Filter, Match, join};
use crate::table::police::Police;
use crate::table::qdisc::Handle;
use std::io;

const NEWTFILTER: u16 = 44;
const GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS: u16 = 3;
const TCA_CHAIN: u16 = 11;
/// Bytes of a `struct tcmsg`.
const TCMSG_LEN: usize = 20;
/// Read again so often where the dump is not of one moment.
const TRIES_MAX: u32 = 3;
/// The filter is in hardware alone (TCA_CLS_FLAGS_SKIP_SW).
const FLAG_SKIP_SW: u32 = 2;
/// It is in hardware as well.
const FLAG_IN_HW: u32 = 4;
/// SKIP_HW, SKIP_SW, IN_HW, NOT_IN_HW, VERBOSE.
const FLAGS_KNOWN: u32 = 0x1f;

/// One message of the dump: a preference by itself (handle 0, without options), or a filter below it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    chain: u32,
    preference: u16,
    protocol: u16,
    kind: String,
    handle: u32,
    options: Option<Box<[u8]>>,
    /// What it counted, where it has a policer in the old way.
    stats: Option<Box<[u8]>>,
}

/// Why a filter is not carried: its handle, where it is one below its preference, and a reason in words.
type Why = (Option<u32>, String);

/// The filters at `parent`, a qdisc or a class, in the order in which the kernel asks them.
///
/// # Errors
/// In words, as tc shows the filter: the first that is not carried, or that they cannot be read.
pub fn read_filters(sock: &mut NlSock, ifindex: u32, parent: Handle) -> Result<Vec<Filter>, String> {
    let listed = list(sock, ifindex, parent)?;
    filters(&listed, &mut Reading::Classes).map(join)
}

/// The filters at ingress, which say what policer a frame meets: 0 for none, 1 for the first of these.
///
/// # Errors
/// As [`read_filters`].
pub fn read_policing(sock: &mut NlSock, ifindex: u32, parent: Handle) -> Result<(Vec<Filter>, Vec<Police>), String> {
    let listed = list(sock, ifindex, parent)?;
    policing(&listed)
}

fn policing(listed: &[Listed]) -> Result<(Vec<Filter>, Vec<Police>), String> {
    let mut reading = Reading::Ingress(Vec::new());
    let filters = join(filters(listed, &mut reading)?);
    match reading {
        Reading::Ingress(policers) => Ok((filters, policers)),
        Reading::Classes => Ok((filters, Vec::new())),
    }
}

/// The same, by a socket of its own in the network namespace of this thread.
///
/// # Errors
/// As [`read_filters`], and where there is no socket.
pub fn read(ifindex: u32, parent: Handle) -> Result<Vec<Filter>, String> {
    let sock = NlSock::open(libc::NETLINK_ROUTE, false);
    let mut sock = sock.map_err(|error| format!("filters of {parent} cannot be read: {error}"))?;
    read_filters(&mut sock, ifindex, parent)
}

/// All of them. A matchall for which a datagram of the dump has no room is left out by the kernel (mall_walk counts it as shown): a
/// preference of that kind by itself is asked for again, alone.
fn list(sock: &mut NlSock, ifindex: u32, parent: Handle) -> Result<Vec<Listed>, String> {
    let mut all = dump(sock, ifindex, parent, 0)?;
    let mut at = 0;
    while let Some(one) = all.get(at) {
        let lost = is_matchall_alone(&all, at).then_some((one.chain, one.preference));
        at += 1;
        if let Some(of) = lost {
            let again = dump(sock, ifindex, parent, of.1)?;
            let found = again
                .into_iter()
                .filter(|other| (other.chain, other.preference) == of)
                .skip(1);
            all.splice(at..at, found);
        }
    }
    Ok(all)
}

/// Whether a preference of matchall stands here, and no filter of it behind.
fn is_matchall_alone(all: &[Listed], at: usize) -> bool {
    let is_head = |one: &Listed| one.kind == "matchall" && one.handle == 0 && one.options.is_none();
    let of = |one: &Listed| (one.chain, one.preference);
    let next = all.get(at + 1);
    all.get(at)
        .is_some_and(|one| is_head(one) && next.is_none_or(|next| of(next) != of(one)))
}

/// Of one preference, or of all for 0.
fn dump(sock: &mut NlSock, ifindex: u32, parent: Handle, preference: u16) -> Result<Vec<Listed>, String> {
    let mut header = [0; TCMSG_LEN];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.0.to_ne_bytes());
    header[16..20].copy_from_slice(&(u32::from(preference) << 16).to_ne_bytes());
    let mut tries = 0;
    loop {
        let mut all = Vec::new();
        let mut odd = false;
        let request = Request::new(GETTFILTER, libc::NLM_F_DUMP as u16, &header);
        let result = sock.dump(request, |m| match listed(m) {
            Some(one) => all.push(one),
            None => odd = true,
        });
        tries += 1;
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && tries < TRIES_MAX => {}
            Err(error) => {
                return Err(match all.last().filter(|last| is_bare(last)) {
                    Some(last) => format!(
                        "{}: the kernel lists nothing behind one without options",
                        name(last, None)
                    ),
                    None => format!("filters of {parent} cannot be read: {error}"),
                });
            }
            Ok(()) if odd => return Err(format!("filters of {parent} are not listed as filters")),
            Ok(()) => return Ok(all),
        }
    }
}

/// A fw that takes the mark for the class: the kernel's dump ends there with an error (fw_walk stops it).
fn is_bare(last: &Listed) -> bool {
    last.kind == "fw" && last.handle == 0
}

fn listed(m: &Message) -> Option<Listed> {
    if m.kind != NEWTFILTER {
        return None;
    }
    let word = |at: usize| get_u32(m.payload.get(at..)?);
    let attrs = m.attrs(TCMSG_LEN);
    let info = word(16)?;
    Some(Listed {
        chain: attrs.find(TCA_CHAIN).and_then(get_u32).unwrap_or(0),
        preference: (info >> 16) as u16,
        protocol: u16::from_be(info as u16),
        kind: get_str(attrs.find(TCA_KIND)?),
        handle: word(8)?,
        options: attrs.find(TCA_OPTIONS).map(Into::into),
        stats: attrs.find(TCA_STATS).map(Into::into),
    })
}

fn filters(listed: &[Listed], reading: &mut Reading) -> Result<Vec<Filter>, String> {
    let of = |a: &Listed, b: &Listed| (a.chain, a.preference) == (b.chain, b.preference);
    let tables = u32::Tables::of(listed, reading);
    let mut filters = Vec::new();
    for group in listed.chunk_by(of) {
        let Some(head) = group.first() else { continue };
        let below = below(group);
        let alone = is_matchall_alone(group, 0);
        let what = match head.kind.as_str() {
            _ if head.chain != 0 => Err((None, "only chain 0 is carried".into())),
            _ if group.iter().any(|one| one.kind != head.kind) => Err((None, "it changed while it was read".into())),
            "matchall" if alone => Err((None, "its filter is not listed".into())),
            "matchall" => matchall::read(below, reading),
            "fw" => mark::read(below, reading),
            "flower" => flower::read(below, reading),
            "u32" => tables.read(head.preference).map(|what| what.map(Match::U32)),
            _ => Err((None, "filters of this kind are not carried".into())),
        };
        let what = what.map_err(|(handle, why)| format!("{}: {why}", name(head, handle)))?;
        let protocol = head.protocol;
        filters.extend(what.map(|what| Filter { protocol, what }));
    }
    Ok(filters)
}

/// Without the message that is of the preference by itself.
fn below(group: &[Listed]) -> &[Listed] {
    match group.split_first() {
        Some((head, rest)) if head.handle == 0 && head.options.is_none() => rest,
        _ => group,
    }
}

/// As `tc filter show` names it.
fn name(head: &Listed, handle: Option<u32>) -> String {
    let protocol = match head.protocol {
        0x0003 => "all".into(),
        0x0800 => "ip".into(),
        0x0806 => "arp".into(),
        0x86dd => "ipv6".into(),
        0x8100 => "802.1Q".into(),
        0x88a8 => "802.1ad".into(),
        other => format!("[{other}]"),
    };
    let Listed {
        preference,
        kind,
        chain,
        ..
    } = head;
    let of = match handle {
        None => String::new(),
        Some(handle) if kind == "u32" => format!(" fh {}", u32::name(handle)),
        Some(handle) => format!(" handle {handle:#x}"),
    };
    format!("filter protocol {protocol} pref {preference} {kind} chain {chain}{of}")
}

/// A filter's options, one kind of filter at a time: `take` gets each attribute, and says whether it knows it.
fn options(of: &Listed, mut take: impl FnMut(u16, &[u8]) -> Result<bool, String>) -> Result<(), Why> {
    let fail = |why: String| (Some(of.handle), why);
    for (kind, payload) in Attrs(of.options.as_deref().unwrap_or_default()) {
        match take(kind, payload) {
            Ok(true) => {}
            Ok(false) => return Err(fail(format!("its attribute {kind} is not known"))),
            Err(why) => return Err(fail(why)),
        }
    }
    Ok(())
}

/// A class's number.
fn class(payload: &[u8]) -> Result<Handle, String> {
    get_u32(payload).map(Handle).ok_or_else(|| "it cannot be read".into())
}

#[cfg(test)]
mod tests;
