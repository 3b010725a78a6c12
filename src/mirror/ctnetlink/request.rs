//! What is asked of ctnetlink: the one form in which a connection comes into the kernel's table and works there.
//!
//! ```text
//!  TUPLE_ORIG  as it is               TUPLE_REPLY  the inverse of it, untranslated
//!  NAT_SRC     where NAT was decided, if only for none: one address and one port, from what the true reply tuple bears
//!  NAT_DST     where the destination is another, likewise
//!  STATUS, TIMEOUT, MARK, ZONE, PROTOINFO (see there)
//! ```
//!
//! A translated reply tuple in its place looks the same in `conntrack -L`, but then no NAT is set up
//! (ctnetlink_create_conntrack calls nf_nat_setup_info, which derives the reply tuple itself, only for CTA_NAT_*). Either of
//! them has the kernel note both decisions (IPS_SRC_NAT_DONE, IPS_DST_NAT_DONE), without which the next packet of an entry
//! that is new would walk the chains of NAT again, for nothing but their counters. NAT_SRC says the source even where it
//! stays: what is not said the kernel chooses, and where the tuple is taken it would choose another one than ours. An entry
//! that exists cannot get NAT (ctnetlink_change_conntrack refuses), so changing is a form of its own, without tuples but one.

use super::super::nlattr::Request;
use super::attr::{CT_DELETE, CT_GET, CT_NEW, cta, header, nat};
use super::protoinfo::Protoinfo;
use super::tuple;
use crate::packet::{Addr, Family};
use crate::table::conntrack::{Record, Status, TICKS_PER_SECOND, Ticks, Tuple};
use crate::wire::Protocol;

/// Enters `record` as a new entry; refused (EEXIST) if one of its tuples is taken. `None` for a tuple that has no inverse.
pub fn create(record: &Record, now: Ticks) -> Option<Request> {
    let untranslated = record.original.invert()?;
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let mut request = Request::new(CT_NEW, flags, &header(Some(record.original.family)));
    request = tuple::put(request, cta::TUPLE_ORIG, &record.original);
    request = tuple::put(request, cta::TUPLE_REPLY, &untranslated);
    let reply = &record.reply;
    // What an answer comes from is where the destination was moved to, and what it goes to is what the source became.
    let moved = source(reply) != source(&untranslated);
    if moved {
        request = put_nat(request, cta::NAT_DST, reply.family, source(reply));
    }
    let decided = record.status.any(Status::SRC_NAT_DONE | Status::DST_NAT_DONE);
    if decided || moved || destination(reply) != destination(&untranslated) {
        request = put_nat(request, cta::NAT_SRC, reply.family, destination(reply));
    }
    Some(put_rest(request, record, now))
}

/// Changes the entry that has the original tuple of `record`; ENOENT if there is none.
pub fn update(record: &Record, now: Ticks) -> Request {
    let request = Request::new(CT_NEW, 0, &header(Some(record.original.family)));
    put_rest(tuple::put(request, cta::TUPLE_ORIG, &record.original), record, now)
}

/// Asks for the entry that has this tuple, in either direction.
pub fn get(tuple: &Tuple) -> Request {
    let request = Request::new(CT_GET, 0, &header(Some(tuple.family)));
    put_zone(tuple::put(request, cta::TUPLE_ORIG, tuple), tuple.zone)
}

/// Asks for all entries, of one family or of all.
pub fn dump(family: Option<Family>) -> Request {
    Request::new(CT_GET, libc::NLM_F_DUMP as u16, &header(family))
}

/// Deletes the entry that has this tuple, in either direction; ENOENT if there is none.
pub fn delete(tuple: &Tuple) -> Request {
    let request = Request::new(CT_DELETE, 0, &header(Some(tuple.family)));
    put_zone(tuple::put(request, cta::TUPLE_ORIG, tuple), tuple.zone)
}

/// Deletes all entries, of one family or of all.
pub fn flush(family: Option<Family>) -> Request {
    let mut header = header(family);
    // In version 0 the family of a flush means nothing.
    header[1] = u8::from(family.is_some());
    Request::new(CT_DELETE, 0, &header)
}

/// The address and port of a reply tuple that destination NAT decides; protocols without ports have none, and so have ICMP
/// queries, whose identifier goes with the source.
fn source(reply: &Tuple) -> (Addr, Option<u16>) {
    let has_port = tuple::has_ports(reply.proto);
    (reply.src, has_port.then_some(reply.sport))
}

/// Those that source NAT decides.
fn destination(reply: &Tuple) -> (Addr, Option<u16>) {
    let port = match Protocol(reply.proto) {
        Protocol::ICMP | Protocol::ICMPV6 => Some(reply.sport),
        _ => tuple::has_ports(reply.proto).then_some(reply.dport),
    };
    (reply.dst, port)
}

fn put_rest(request: Request, record: &Record, now: Ticks) -> Request {
    // What is not a user's to set is passed over, but CONFIRMED must be there.
    let told = Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED;
    let status = u32::from(record.status.0 & told.0 | Status::CONFIRMED.0);
    let request = put_zone(request, record.original.zone)
        .attr(cta::STATUS, &status.to_be_bytes())
        .attr(cta::TIMEOUT, &timeout_s(record.deadline, now).to_be_bytes())
        .attr(cta::MARK, &record.mark.to_be_bytes());
    match Protoinfo::of_state(record.original.proto, &record.proto) {
        Some(protoinfo) => protoinfo.put(request),
        None => request,
    }
}

/// The time left in seconds, rounded up: an entry without any would be gone at once.
pub fn timeout_s(deadline: Ticks, now: Ticks) -> u32 {
    let left = deadline.wrapping_sub(now) as i32;
    (left.max(1) as u32).div_ceil(TICKS_PER_SECOND)
}

fn put_zone(request: Request, zone: u16) -> Request {
    match zone {
        0 => request,
        _ => request.attr(cta::ZONE, &zone.to_be_bytes()),
    }
}

fn put_nat(request: Request, kind: u16, family: Family, (addr, port): (Addr, Option<u16>)) -> Request {
    let kinds = match family {
        Family::V4 => nat::V4_IP,
        Family::V6 => nat::V6_IP,
    };
    let width = 16 - usize::from(family.bits()) / 8;
    let addr = &addr.to_be_bytes()[width..];
    request.nest(kind, |r| {
        let r = r.attr(kinds[0], addr).attr(kinds[1], addr);
        let Some(port) = port.map(u16::to_be_bytes) else {
            return r;
        };
        r.nest(nat::PROTO, |r| r.attr(nat::PORT[0], &port).attr(nat::PORT[1], &port))
    })
}
