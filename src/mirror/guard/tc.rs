//! Traffic control on a port, or a bridge: its root qdisc and what hangs below, ingress and clsact, and tcx programs.
//!
//! Qdiscs that only queue count as unshaped, since a frame of ours leaves by its own ring and meets no queue: noqueue,
//! pfifo_fast, fq_codel, fq, and mq with those below. Every other kind leaves what would go out. A fq with a rate limit per
//! flow and a fq_codel with filters are not only queues. net/sched/sch_api.c, cls_api.c; BPF_PROG_QUERY for tcx.

use super::super::nlattr::{Attrs, Message, Request, get_str, get_u32};
use super::super::nlsock::NlSock;
use super::findings::{Collector, Way};
use crate::port::bpf_query;
use std::io;
use std::sync::Arc;

const GETQDISC: u16 = 38;
const NEWTFILTER: u16 = 44;
const GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_FQ_FLOW_MAX_RATE: u16 = 7;
const PARENT_ROOT: u32 = 0xffff_ffff;
/// The filters that frames meet on their way out of a device with clsact.
const PARENT_CLSACT_EGRESS: u32 = 0xffff_fff3;
/// Bytes of a `struct tcmsg`.
const TCMSG_LEN: usize = 20;
const REMEDY_SHAPE: &str = "shaping is not carried; what leaves by this port is the kernel's until the qdisc is one that only \
                            queues (noqueue, pfifo_fast, fq_codel, fq, mq)";
const REMEDY_FILTER: &str =
    "filters and programs of tc are not carried; remove the qdisc (`tc qdisc del dev DEV clsact`)";
const REMEDY_TCX: &str = "BPF programs in the path are not carried; detach them (`bpftool net`)";

pub(super) fn open() -> io::Result<NlSock> {
    NlSock::open(libc::NETLINK_ROUTE, false)
}

/// Reads qdiscs.
#[derive(Debug)]
pub(super) struct Tc {
    sock: NlSock,
}

#[derive(Debug)]
struct Qdisc {
    ifindex: u32,
    handle: u32,
    parent: u32,
    kind: String,
    max_rate: Option<u32>,
}

impl Tc {
    pub(super) fn new(sock: NlSock) -> Self {
        Self { sock }
    }

    pub(super) fn read(&mut self, found: &mut Collector) {
        let passed = found.passed();
        let qdiscs = match self.qdiscs(&passed) {
            Ok(qdiscs) => qdiscs,
            Err(e) => {
                for (ifindex, _) in passed {
                    found.leave_port(ifindex, Way::Both, format!("qdiscs cannot be read: {e}"), REMEDY_SHAPE);
                }
                return;
            }
        };
        for qdisc in qdiscs {
            if let Some((_, name)) = passed.iter().find(|link| link.0 == qdisc.ifindex) {
                self.judge(found, &qdisc, name);
            }
        }
    }

    /// The qdiscs of `links`.
    fn qdiscs(&mut self, links: &[(u32, Arc<str>)]) -> io::Result<Vec<Qdisc>> {
        let mut tries = 0;
        loop {
            let mut qdiscs = Vec::new();
            let request = Request::new(GETQDISC, libc::NLM_F_DUMP as u16, &[0; TCMSG_LEN]);
            let result = self.sock.dump(request, |m| {
                let Some(qdisc) = qdisc(m) else { return };
                if links.iter().any(|link| link.0 == qdisc.ifindex) {
                    qdiscs.push(qdisc);
                }
            });
            tries += 1;
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted && tries < 3 => {}
                other => return other.map(|()| qdiscs),
            }
        }
    }

    fn judge(&mut self, found: &mut Collector, qdisc: &Qdisc, port: &str) {
        let words = format!("qdisc {} {:x}: on {port}", qdisc.kind, qdisc.handle >> 16);
        match qdisc.kind.as_str() {
            "noqueue" | "pfifo_fast" | "mq" => {}
            "fq" => match qdisc.max_rate {
                None | Some(u32::MAX) => {}
                Some(_) => found.leave_port(
                    qdisc.ifindex,
                    Way::Egress,
                    format!("{words} has a maxrate"),
                    REMEDY_SHAPE,
                ),
            },
            "fq_codel" => {
                if (qdisc.handle != 0 || qdisc.parent == PARENT_ROOT) && self.has_filter(qdisc.ifindex, qdisc.handle) {
                    found.leave_port(
                        qdisc.ifindex,
                        Way::Egress,
                        format!("{words} has filters"),
                        REMEDY_FILTER,
                    );
                }
            }
            "ingress" => found.leave_port(qdisc.ifindex, Way::Ingress, words, REMEDY_FILTER),
            "clsact" => {
                let egress = self.has_filter(qdisc.ifindex, PARENT_CLSACT_EGRESS);
                found.leave_port(
                    qdisc.ifindex,
                    if egress { Way::Both } else { Way::Ingress },
                    words,
                    REMEDY_FILTER,
                );
            }
            _ => found.leave_port(qdisc.ifindex, Way::Egress, words, REMEDY_SHAPE),
        }
    }

    /// Whether filters hang on a parent; also where that cannot be told.
    fn has_filter(&mut self, ifindex: u32, parent: u32) -> bool {
        let mut header = [0; TCMSG_LEN];
        header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        header[12..16].copy_from_slice(&parent.to_ne_bytes());
        let mut any = false;
        let request = Request::new(GETTFILTER, libc::NLM_F_DUMP as u16, &header);
        self.sock.dump(request, |m| any |= m.kind == NEWTFILTER).is_err() || any
    }
}

fn qdisc(m: &Message) -> Option<Qdisc> {
    let word = |at: usize| get_u32(m.payload.get(at..)?);
    let attrs = m.attrs(TCMSG_LEN);
    let kind = get_str(attrs.find(TCA_KIND)?);
    let option = |kind| get_u32(Attrs(attrs.find(TCA_OPTIONS)?).find(kind)?);
    let max_rate = if kind == "fq" {
        option(TCA_FQ_FLOW_MAX_RATE)
    } else {
        None
    };
    Some(Qdisc {
        ifindex: word(4)?,
        handle: word(8)?,
        parent: word(12)?,
        kind,
        max_rate,
    })
}

/// Programs that bpf(2) attached without any qdisc (since Linux 6.6).
pub(super) fn read_tcx(found: &mut Collector) {
    for (ifindex, name) in found.passed() {
        for (egress, way, word) in [(false, Way::Ingress, "ingress"), (true, Way::Egress, "egress")] {
            let text = match bpf_query::tcx_programs(ifindex, egress) {
                Ok(0) => continue,
                Ok(count) => format!("tcx {word} programs on {name}: {count}"),
                Err(e) => format!("tcx {word} programs of {name} cannot be read: {e}"),
            };
            found.leave_port(ifindex, way, text, REMEDY_TCX);
        }
    }
}
