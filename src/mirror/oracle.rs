//! The kernel as route oracle: what would it do with this flow?
//!
//! ```text
//!  Question { src, dst, iif, proto, tos, ports } --RTM_GETROUTE--> inet_rtm_getroute / inet6_rtm_getroute
//!                                                                  builds a packet, runs the input route lookup
//!  Answer::Forward(nexthop) <--RTM_NEWROUTE, oif and gateway------ with rules, rp_filter, martians and the ECMP hash
//! ```
//!
//! For the choice among several nexthops, which cannot be computed here: the kernel's hash secret is hidden. Questions go
//! out up to [`BATCH`] per `sendmsg`; answers are matched by sequence number. Whatever is not a plain forwarded unicast
//! without a further twist is [`Answer::Kernel`]: errors, local destinations, encapsulation, an exception of PMTU discovery
//! or of a redirect (which expires without a word), a redirect to be sent.
//!
//! Not asked, since the kernel's answer would be about another packet: ICMP errors, which are hashed by the packet they
//! carry (`ip_multipath_l3_keys`; `stage::routing` keeps them away), and protocols that RTM_GETROUTE does not take. A non-zero flow label needs Linux 6.14;
//! older kernels refuse it (the socket checks strictly), which is [`Answer::Kernel`] too.
//!
//! With `fib_multipath_hash_policy` 1 the kernel prefers a hash that the NIC or the sending socket left in the packet
//! (`skb->l4_hash`) to computing one. No such hash reaches an AF_XDP socket, and the answer is for a packet without one.

use super::nlattr::{Message, Request, get_u32};
use super::nlsock::NlSock;
use crate::packet::{Addr, Family};
use crate::table::fib::{Gateway, Nexthop};
use crate::table::iface::IfaceIndex;
use crate::table::oracle::{Answer, Question};
use std::io;

/// The most questions in one `sendmsg`: their answers, about 800 bytes each, fit the default receive buffer.
pub const BATCH: usize = 64;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// Bytes of a `struct rtmsg`.
const RTMSG_LEN: usize = 12;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_IIF: u16 = 3;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_VIA: u16 = 18;
const RTA_NEWDST: u16 = 19;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_IP_PROTO: u16 = 27;
const RTA_SPORT: u16 = 28;
const RTA_DPORT: u16 = 29;
const RTA_FLOWLABEL: u16 = 31;
/// RTM_F_CLONED: for IPv6, the route is an exception (for IPv4 it is always set).
const RTM_F_CLONED: u32 = 0x200;
/// RTCF_REDIRECTED and RTCF_DOREDIRECT of an IPv4 route.
const RTCF_REDIRECT: u32 = 0x0004_0000 | 0x0100_0000;

/// Names of links: the kernel's number of one, and back.
pub trait IfaceNames {
    /// The kernel's number.
    fn ifindex(&self, iface: IfaceIndex) -> Option<u32>;
    /// The place in the snapshot.
    fn iface(&self, ifindex: u32) -> Option<IfaceIndex>;
}

/// Asks the kernel. Belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Oracle {
    sock: NlSock,
}

impl Oracle {
    /// Opens the socket.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            sock: NlSock::open(libc::NETLINK_ROUTE, true)?,
        })
    }

    /// One answer for each question, in order. What the kernel did not answer is [`Answer::Kernel`].
    pub fn ask(&mut self, questions: &[Question], names: &impl IfaceNames) -> Vec<Answer> {
        let mut answers = vec![Answer::Kernel; questions.len()];
        for (questions, answers) in questions.chunks(BATCH).zip(answers.chunks_mut(BATCH)) {
            self.ask_batch(questions, answers, names);
        }
        answers
    }

    fn ask_batch(&mut self, questions: &[Question], answers: &mut [Answer], names: &impl IfaceNames) {
        let (places, requests): (Vec<_>, Vec<_>) = questions
            .iter()
            .enumerate()
            .filter_map(|(place, q)| Some((place, request(q, names)?)))
            .unzip();
        if requests.is_empty() {
            return;
        }
        let result = self.sock.batch(requests, |place, answer| {
            let place = places[place];
            let nexthop = answer.ok().and_then(|m| nexthop(m, questions[place].family, names));
            answers[place] = nexthop.map_or(Answer::Kernel, Answer::Forward);
        });
        // Answers that came before the error stand: each is complete in itself.
        drop(result);
    }
}

/// The question as a request; `None` if it cannot be asked.
fn request(q: &Question, names: &impl IfaceNames) -> Option<Request> {
    // What rtm_getroute_parse_ip_proto takes; it makes an echo request of ICMP, and ports go with the other two only.
    let ports = match (i32::from(q.proto), q.family) {
        (libc::IPPROTO_TCP | libc::IPPROTO_UDP, _) => true,
        (libc::IPPROTO_ICMP, Family::V4) | (libc::IPPROTO_ICMPV6, Family::V6) => false,
        _ => return None,
    };
    let iif = names.ifindex(q.iif)?;
    let mut header = [0; RTMSG_LEN];
    header[0] = if q.family == Family::V4 {
        libc::AF_INET as u8
    } else {
        libc::AF_INET6 as u8
    };
    header[1] = q.family.bits();
    header[2] = q.family.bits();
    // Without the ECN bits, which route nothing.
    header[3] = q.tos & 0xfc;
    let width = 16 - usize::from(q.family.bits()) / 8;
    let mut request = Request::new(RTM_GETROUTE, 0, &header)
        .attr(RTA_DST, &q.dst.to_be_bytes()[width..])
        .attr(RTA_SRC, &q.src.to_be_bytes()[width..])
        .attr(RTA_IIF, &iif.to_ne_bytes())
        .attr(RTA_IP_PROTO, &[q.proto]);
    if ports {
        request = request
            .attr(RTA_SPORT, &q.sport.to_be_bytes())
            .attr(RTA_DPORT, &q.dport.to_be_bytes());
    }
    if q.flow_label != 0 && q.family == Family::V6 {
        request = request.attr(RTA_FLOWLABEL, &q.flow_label.to_be_bytes());
    }
    Some(request)
}

/// The way out that an answer names; `None` if it is anything but plain forwarding.
fn nexthop(m: &Message, family: Family, names: &impl IfaceNames) -> Option<Nexthop> {
    let [kind, flags] = [u32::from(*m.payload.get(7)?), get_u32(m.payload.get(8..)?)?];
    let attrs = m.attrs(RTMSG_LEN);
    let twist = [RTA_MULTIPATH, RTA_NEWDST, RTA_ENCAP_TYPE, RTA_ENCAP]
        .iter()
        .any(|a| attrs.find(*a).is_some());
    let exception = match family {
        // rta_expires of struct rta_cacheinfo
        Family::V4 => {
            flags & RTCF_REDIRECT != 0
                || attrs
                    .find(RTA_CACHEINFO)
                    .and_then(|c| get_u32(c.get(8..)?))
                    .is_some_and(|expires| expires != 0)
        }
        Family::V6 => flags & RTM_F_CLONED != 0,
    };
    if m.kind != RTM_NEWROUTE || kind != u32::from(RTN_UNICAST) || twist || exception {
        return None;
    }
    let iface = names.iface(get_u32(attrs.find(RTA_OIF)?)?)?;
    let gateway = match (attrs.find(RTA_GATEWAY), attrs.find(RTA_VIA)) {
        (Some(gateway), _) => Gateway::Via(family, address(family, gateway)?),
        // struct rtvia: the family in two bytes, and the address
        (None, Some(via)) => Gateway::Via(Family::V6, address(Family::V6, via.get(2..)?)?),
        (None, None) => Gateway::Onlink,
    };
    Some(Nexthop { iface, gateway })
}

fn address(family: Family, bytes: &[u8]) -> Option<Addr> {
    match family {
        Family::V4 => bytes.first_chunk().map(|b| u32::from_be_bytes(*b).into()),
        Family::V6 => bytes.first_chunk().map(|b| u128::from_be_bytes(*b)),
    }
}
