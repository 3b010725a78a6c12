//! Traffic control of the kernel: qdiscs and classes of links by rtnetlink, as trees of `table::qdisc`.
//!
//! ```text
//!  RTM_GETQDISC, RTM_GETTCLASS --message--> records --tree, options, rate--> Shaping, or why it is not carried
//!                                                  \--> what each has sent, for what both sides pay for together
//! ```
//!
//! A qdisc that only queues counts as unshaped, since a frame of ours leaves by its own ring and meets no queue:
//! noqueue, pfifo_fast, fq_codel, `fq` without `maxrate`, and mq with those below. Qdiscs that the kernel made by itself (`invisible`) are
//! read too: they tell how long the queues are that nobody named. Dumps of qdiscs and of classes are not of one
//! moment: a pair that does not fit is read again. What is deleted and made anew between two readings looks the same in both, and
//! is another one all the same: the kernel drops what waited, and begins with full buckets. Its events tell that, to who hears them
//! ([`Reader::hear`]); nothing else is kept. Bounded by what the kernel holds.
//! net/sched/sch_api.c.

mod message;
mod options;
pub(super) mod rate;
#[cfg(test)]
mod tests;
mod tree;

pub use message::{Counts, Record};

use super::filters::{Passed, read_filters, read_passed, read_policing};
use super::nlattr::{Message, Request, get_u32};
use super::nlsock::NlSock;
use crate::table::filter::Filter;
use crate::table::police::Police;
use crate::table::qdisc::{Handle, Shaping};
use message::{Generations, TCMSG_LEN, record};
use std::collections::HashMap;
use std::io;
use tree::{Link, Not};

const NEWQDISC: u16 = 36;
const GETQDISC: u16 = 38;
const NEWTCLASS: u16 = 40;
const GETTCLASS: u16 = 42;
const NEWTFILTER: u16 = 44;
const GETTFILTER: u16 = 46;
const TCA_DUMP_INVISIBLE: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const HEADER_LEN: u32 = crate::wire::ether::HEADER_LEN as u32;
/// Bytes of a `struct ifinfomsg`.
const IFINFOMSG_LEN: usize = 16;
/// The filters that frames meet on their way in, by ingress and by clsact.
const PARENT_INGRESS: Handle = Handle(0xffff_fff2);
/// How often a pair of dumps that does not fit is read again.
const TRIES: usize = 5;

/// What stands at the way out of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Egress {
    /// Its root qdisc as tc names it: `tbf 1:`; empty where there is none.
    pub root: String,
    /// How it shapes, or why that is not carried; an empty reason: for what it is.
    pub shaping: Result<Shaping, String>,
}

/// All qdiscs of the namespace at one moment.
#[derive(Clone, Debug, Default)]
pub struct Qdiscs(Vec<Record>);

impl Qdiscs {
    /// Those of a link on its way out, or on its way in (`ingress`, `clsact`).
    pub fn of(&self, ifindex: u32, ingress: bool) -> impl Iterator<Item = &Record> {
        let is = move |qdisc: &&Record| qdisc.ifindex == ifindex && is_ingress(qdisc) == ingress;
        self.0.iter().filter(is)
    }
}

/// They have a hook of their own, and no queue.
fn is_ingress(qdisc: &Record) -> bool {
    matches!(qdisc.kind.as_str(), "ingress" | "clsact")
}

/// Only htb's classes say something.
fn has_classes(qdisc: &Record) -> bool {
    qdisc.kind == "htb"
}

/// Whether some qdisc of a link is as long as the link says, or as its frames are, and stands in a tree that shapes, below mq too.
fn asks_for_lengths(qdiscs: &[Record]) -> bool {
    let has_length = |qdisc: &Record| matches!(qdisc.kind.as_str(), "htb" | "pfifo_fast" | "fq_codel");
    let only_queues =
        |qdisc: &Record| matches!(qdisc.kind.as_str(), "noqueue" | "pfifo_fast" | "fq_codel" | "fq" | "mq");
    qdiscs.iter().any(has_length) && !qdiscs.iter().all(only_queues)
}

/// Asks the kernel.
#[derive(Debug)]
pub struct Reader {
    sock: NlSock,
    generations: Generations,
}

impl Reader {
    /// In the network namespace of this thread.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Self> {
        let sock = NlSock::open(libc::NETLINK_ROUTE, false)?;
        Ok(Self {
            sock,
            generations: Generations::default(),
        })
    }

    /// Takes in an event of RTNLGRP_TC: of what is read from now on, a qdisc or class that was deleted and made anew is another one.
    pub fn hear(&mut self, event: &Message<'_>) {
        self.generations.hear(event);
    }

    /// What was heard of other links than these is forgotten.
    pub fn keep_links(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.generations.keep(is_kept);
    }

    /// Every qdisc of the namespace: the kernel knows no smaller dump.
    ///
    /// # Errors
    /// The kernel's.
    pub fn qdiscs(&mut self) -> io::Result<Qdiscs> {
        let request = || Request::new(GETQDISC, libc::NLM_F_DUMP as u16, &[0; TCMSG_LEN]).attr(TCA_DUMP_INVISIBLE, &[]);
        self.records(request, NEWQDISC).map(Qdiscs)
    }

    /// The classes of a link.
    ///
    /// # Errors
    /// The kernel's.
    pub fn classes(&mut self, ifindex: u32) -> io::Result<Vec<Record>> {
        let request = || Request::new(GETTCLASS, libc::NLM_F_DUMP as u16, &tcmsg(ifindex, Handle(0)));
        self.records(request, NEWTCLASS)
    }

    /// The qdiscs of a link on its way out, and their classes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn all(&mut self, ifindex: u32) -> io::Result<Vec<Record>> {
        let qdiscs = self.qdiscs()?;
        let classes = self.classes_of(ifindex, &qdiscs)?;
        Ok(qdiscs.of(ifindex, false).cloned().chain(classes).collect())
    }

    /// The classes of a link, where its qdiscs have some that say something.
    ///
    /// # Errors
    /// The kernel's.
    pub fn classes_of(&mut self, ifindex: u32, qdiscs: &Qdiscs) -> io::Result<Vec<Record>> {
        match qdiscs.of(ifindex, false).any(has_classes) {
            true => self.classes(ifindex),
            false => Ok(Vec::new()),
        }
    }

    /// What stands at the way out of a link, by qdiscs just read, which are read again where its classes do not fit
    /// them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn egress(&mut self, ifindex: u32, qdiscs: &Qdiscs) -> io::Result<Egress> {
        let mut own: Vec<Record> = qdiscs.of(ifindex, false).cloned().collect();
        for _ in 0..TRIES {
            let root = tree::root(&own).map_or(String::new(), |root| format!("{} {}", root.kind, root.handle));
            let shaping = match self.shaping(ifindex, &own)? {
                Ok(shaping) => Ok(shaping),
                Err(Not::Carried(why)) => Err(why),
                Err(Not::Torn) => {
                    own = self.qdiscs()?.of(ifindex, false).cloned().collect();
                    continue;
                }
            };
            return Ok(Egress { root, shaping });
        }
        Ok(Egress {
            root: "qdiscs".into(),
            shaping: Err("they change faster than they can be read".into()),
        })
    }

    fn shaping(&mut self, ifindex: u32, qdiscs: &[Record]) -> io::Result<Result<Shaping, Not>> {
        let classes = if qdiscs.iter().any(has_classes) {
            self.classes(ifindex)?
        } else {
            Vec::new()
        };
        let (queue_len, frame_max) = match asks_for_lengths(qdiscs) {
            true => self.lengths(ifindex)?,
            false => (0, 0),
        };
        let reader = std::cell::RefCell::new(self);
        Ok(tree::shaping(&Link {
            qdiscs,
            classes: &classes,
            queue_len,
            frame_max,
            filters: &|parent| reader.borrow_mut().filters(ifindex, parent),
        }))
    }

    /// The filters at a qdisc or class.
    ///
    /// # Errors
    /// Why they are not carried.
    pub fn filters(&mut self, ifindex: u32, parent: Handle) -> Result<Vec<Filter>, String> {
        read_filters(&mut self.sock, ifindex, parent)
    }

    /// What the filters at the ingress of a link police, see [`read_policing`].
    ///
    /// # Errors
    /// Why it is not carried.
    pub fn policing(&mut self, ifindex: u32) -> Result<(Vec<Filter>, Vec<Police>), String> {
        read_policing(&mut self.sock, ifindex, PARENT_INGRESS)
    }

    /// What the kernel's policers there have counted, by their numbers.
    ///
    /// # Errors
    /// In words, where they cannot be read.
    pub fn policed(&mut self, ifindex: u32) -> Result<HashMap<u32, Passed>, String> {
        read_passed(&mut self.sock, ifindex, PARENT_INGRESS)
    }

    /// Whether filters hang on a parent; also where that cannot be told.
    pub fn has_filter(&mut self, ifindex: u32, parent: Handle) -> bool {
        let mut any = false;
        let request = Request::new(GETTFILTER, libc::NLM_F_DUMP as u16, &tcmsg(ifindex, parent));
        self.sock.dump(request, |m| any |= m.kind == NEWTFILTER).is_err() || any
    }

    /// The length of the queue that the link has by itself, in packets, and that of its longest frame, in bytes.
    fn lengths(&mut self, ifindex: u32) -> io::Result<(u32, u32)> {
        let mut header = [0; IFINFOMSG_LEN];
        header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        let mut lengths = None;
        let request = Request::new(libc::RTM_GETLINK, 0, &header);
        self.sock.get(request, |m: &Message<'_>| {
            let find = |kind| m.attrs(IFINFOMSG_LEN).find(kind).and_then(get_u32);
            lengths = find(IFLA_TXQLEN).zip(find(libc::IFLA_MTU).map(|mtu| mtu.saturating_add(HEADER_LEN)));
        })?;
        lengths.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn records(&mut self, request: impl Fn() -> Request, kind: u16) -> io::Result<Vec<Record>> {
        let mut tries = 0;
        loop {
            let mut records = Vec::new();
            let result = self.sock.dump(request(), |m| {
                records.extend((m.kind == kind).then(|| record(m)).flatten());
            });
            tries += 1;
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted && tries < TRIES => {}
                other => {
                    other?;
                    for record in &mut records {
                        record.generation = self.generations.of(record);
                    }
                    return Ok(records);
                }
            }
        }
    }
}

fn tcmsg(ifindex: u32, parent: Handle) -> [u8; TCMSG_LEN] {
    let mut header = [0; TCMSG_LEN];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.0.to_ne_bytes());
    header
}
