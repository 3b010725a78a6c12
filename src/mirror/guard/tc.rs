//! Traffic control on a port, or a bridge: its root qdisc and what hangs below, ingress and clsact.
//!
//! What a tree of qdiscs means is told by `mirror::tc`: one that only queues is nothing here; one that workers shape
//! by is found as that; every other leaves what would go out, and so does any on a bridge, which has no way out of its
//! own here. Filters on ingress and clsact leave what they may touch.
//!
//! Qdiscs are read when the kernel tells of a change, when the links by which packets pass are others, and once a
//! second: a qdisc that a link gets by itself, as it comes up or changes its queues, is not told of. What was found
//! holds in between. A tree by whose rates the kernel itself sends much ([`Tc::leave_contended`]) leaves what would go out for a
//! while, so that both wait in one queue.

use super::super::tc::{Qdiscs, Reader};
use super::READ_AFTER;
use super::findings::{Collector, Way};
use crate::table::qdisc::{Handle, Shaping};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The filters that frames meet on their way out of a device with clsact.
const PARENT_CLSACT_EGRESS: Handle = Handle(0xffff_fff3);
const REMEDY_SHAPE: &str = "this shaping is not carried; what leaves by this port is the kernel's until the qdisc is one \
                            that only queues (noqueue, pfifo_fast, fq_codel, fq, mq)";
const REMEDY_CONTENDED: &str = "the kernel itself sends nearly all of a rate (the box's own traffic, or what is not \
                                carried), so all of it shares the kernel's queue; it is tried again after some seconds";
/// For how long a contended port is left; twice as long each time that it is contended again soon.
const CONTENDED: Duration = Duration::from_secs(10);
const CONTENDED_MAX: Duration = Duration::from_secs(160);
const REMEDY_FILTER: &str =
    "filters and programs of tc are not carried; remove the qdisc (`tc qdisc del dev DEV clsact`)";

pub(super) fn open() -> io::Result<Reader> {
    Reader::open()
}

/// Links by number and name.
type Links = Vec<(u32, Arc<str>)>;

/// Reads qdiscs.
#[derive(Debug)]
pub(super) struct Tc {
    reader: Reader,
    /// The links that were read, and when.
    read: Option<(Links, Instant)>,
    found: Vec<Found>,
    contended: Vec<Contended>,
}

/// A port that is left because the kernel itself sends much by it.
#[derive(Debug)]
struct Contended {
    ifindex: u32,
    since: Instant,
    hold: Duration,
}

/// What stands at a link.
#[derive(Clone, Debug)]
enum Found {
    /// It leaves something: of which link, which way, its name and the remedy.
    Leaves(u32, Way, String, &'static str),
    /// It shapes.
    Shapes(u32, String, Shaping),
}

impl Tc {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            read: None,
            found: Vec::new(),
            contended: Vec::new(),
        }
    }

    /// See [`Guard::leave_contended`](super::Guard::leave_contended).
    pub(super) fn leave_contended(&mut self, ifindex: u32) {
        let since = Instant::now();
        match self.contended.iter_mut().find(|one| one.ifindex == ifindex) {
            Some(one) => (one.since, one.hold) = (since, CONTENDED_MAX.min(one.hold * 2)),
            None => self.contended.push(Contended {
                ifindex,
                since,
                hold: CONTENDED,
            }),
        }
    }

    /// Says what stands at the links; `events`: something changed.
    pub(super) fn read(&mut self, found: &mut Collector, events: bool) {
        let passed = found.passed();
        let holds = |(links, at): &(Links, Instant)| *links == passed && at.elapsed() < READ_AFTER;
        if events || !self.read.as_ref().is_some_and(holds) {
            self.look(found, &passed);
            self.read = Some((passed, Instant::now()));
        }
        // Who was not contended again for as long as it was left before is forgotten.
        self.contended.retain(|one| one.since.elapsed() < one.hold * 2);
        let is_contended = |ifindex| {
            let holds = |one: &Contended| one.ifindex == ifindex && one.since.elapsed() < one.hold;
            self.contended.iter().any(holds)
        };
        for one in &self.found {
            match one.clone() {
                Found::Leaves(ifindex, way, text, remedy) => found.leave_port(ifindex, way, text, remedy),
                Found::Shapes(ifindex, text, _) if is_contended(ifindex) => {
                    found.leave_port(ifindex, Way::Egress, text, REMEDY_CONTENDED);
                }
                Found::Shapes(ifindex, text, shaping) => found.shape(ifindex, text, shaping),
            }
        }
    }

    fn look(&mut self, collector: &Collector, links: &[(u32, Arc<str>)]) {
        let before = std::mem::take(&mut self.found);
        let qdiscs = self.reader.qdiscs();
        for (ifindex, name) in links {
            let judged = match &qdiscs {
                Ok(qdiscs) => self.judge(*ifindex, name, collector.is_port(*ifindex), qdiscs),
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            };
            if let Err(e) = judged {
                let text = format!("qdiscs of {name} cannot be read: {e}");
                self.found.push(Found::Leaves(*ifindex, Way::Both, text, REMEDY_SHAPE));
            }
        }
        self.keep(&before);
    }

    fn judge(&mut self, ifindex: u32, name: &str, is_port: bool, qdiscs: &Qdiscs) -> io::Result<()> {
        let egress = self.reader.egress(ifindex, qdiscs)?;
        let words = format!("qdisc {} on {name}", egress.root);
        let leaves = |text| Found::Leaves(ifindex, Way::Egress, text, REMEDY_SHAPE);
        match egress.shaping {
            Ok(Shaping::Unshaped) => {}
            Ok(_) if !is_port => self.found.push(leaves(words)),
            Ok(shaping) => self.found.push(Found::Shapes(ifindex, words, shaping)),
            Err(why) if why.is_empty() => self.found.push(leaves(words)),
            Err(why) => self.found.push(leaves(format!("{words}: {why}"))),
        }
        for qdisc in qdiscs.of(ifindex, true) {
            let words = format!("qdisc {} {} on {name}", qdisc.kind, qdisc.handle);
            let has_egress = qdisc.kind == "clsact" && self.reader.has_filter(ifindex, PARENT_CLSACT_EGRESS);
            let way = if has_egress { Way::Both } else { Way::Ingress };
            self.found.push(Found::Leaves(ifindex, way, words, REMEDY_FILTER));
        }
        Ok(())
    }

    /// A tree that is as it was stays the same one, so that nobody compares it to the end each time.
    fn keep(&mut self, before: &[Found]) {
        let mut same_links = Vec::new();
        for found in &mut self.found {
            let Found::Shapes(ifindex, _, shaping) = found else {
                continue;
            };
            let same = before.iter().find_map(|old| match old {
                Found::Shapes(of, _, old) if of == ifindex && old == shaping => Some(old),
                _ => None,
            });
            if let Some(old) = same {
                *shaping = old.clone();
                same_links.push(*ifindex);
            }
        }
        // By another tree it is tried at once.
        self.contended.retain(|one| same_links.contains(&one.ifindex));
    }
}
