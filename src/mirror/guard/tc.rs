//! Traffic control on a port, or a bridge: its root qdisc and what hangs below, ingress and clsact.
//!
//! What a tree of qdiscs means is told by `mirror::tc`: one that only queues leaves nothing, and is named where somebody may
//! count on its queue ([`COUNTED_ON`]); one that workers shape by is found as that; every other leaves what would go out, and so does any on a bridge, which has no way out of its
//! own here. Filters at the ingress of a port that do nothing but police are found as that; others leave what arrives, filters
//! at clsact's egress what would leave, and both what they may touch on a bridge.
//!
//! Qdiscs are read when the kernel tells of a change, when the links by which packets pass are others, and once a
//! second: a qdisc that a link gets by itself, as it comes up or changes its queues, is not told of. What was found
//! holds in between. A tree that is carried no more, or cannot be read, stays for the frames that wait in it, as long as its root
//! stands in the kernel, which would not drop them ([`remains`]). So does one with an htb while the kernel's has hysteresis
//! ([`Hysteresis`]). A tree by whose rates the kernel itself sends much ([`Tc::leave_contended`]) leaves what would go out for a
//! while, so that both wait in one queue.

use super::super::nlattr::Message;
use super::super::tc::{Qdiscs, Reader, Record};
use super::READ_AFTER;
use super::findings::{Collector, Way};
use super::hysteresis::Hysteresis;
use crate::table::police::{Police, Policer, Policing};
use crate::table::qdisc::{Handle, Qdisc, Shaping};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Room for events: those of a script that makes some hundred classes anew, of about a kilobyte each.
pub(super) const ROOM: usize = 1 << 20;

/// The filters that frames meet on their way out of a device with clsact.
const PARENT_CLSACT_EGRESS: Handle = Handle(0xffff_fff3);
const REMEDY_SHAPE: &str = "this shaping is not carried; what leaves by this port is the kernel's until the qdisc is one \
                            that only queues (noqueue, pfifo_fast, fq_codel, fq without maxrate, mq)";
const REMEDY_CONTENDED: &str = "the kernel itself sends nearly all of a rate (the box's own traffic, or what is not \
                                carried), so all of it shares the kernel's queue; it is tried again after some seconds";
const REMEDY_HYSTERESIS: &str = "classes of htb change their mode later with it, which is not carried; what leaves by this port is the \
                                 kernel's until /sys/module/sch_htb/parameters/htb_hysteresis is 0";
/// Kinds that a port may have against a long queue, and in which nothing waits that leaves by a ring of ours.
const COUNTED_ON: [&str; 2] = ["fq_codel", "fq"];
const REMEDY_PASSED: &str = "carried, but past this queue: what is forwarded here does not wait in a root that only queues; \
                             below a tbf or htb that has the link's rate it does";
/// So many ports are named by a line about several; the rest is counted.
const NAMED_MAX: usize = 4;
/// For how long a contended port is left; twice as long each time that it is contended again soon.
const CONTENDED: Duration = Duration::from_secs(10);
const CONTENDED_MAX: Duration = Duration::from_secs(160);
const REMEDY_FILTER: &str = "of filters at ingress and clsact only those at a port's ingress are carried that police, or do nothing; what \
                             arrives is the kernel's until the filter is gone, or the qdisc (`tc qdisc del dev DEV clsact`)";
const REMEDY_EGRESS: &str = "filters at clsact's egress are not carried; what leaves is the kernel's until they are gone (`tc filter del dev DEV egress`)";
const REMEDY_POLICED: &str = "the kernel itself takes nearly all of a policer's rate (what is for the box itself, or what is not carried), \
                              so all of it shares the kernel's policer; it is tried again after some seconds";

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
    hysteresis: Hysteresis,
    /// Policers at work.
    policers: Vec<Weak<Policer>>,
}

/// A port that is left because the kernel itself sends much by it.
#[derive(Debug)]
struct Contended {
    ifindex: u32,
    way: Way,
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
    /// It is left, and has shaped until now: what waits leaves by that.
    Drains(u32, Shaping),
    /// It polices.
    Polices(u32, String, Arc<Policing>),
    /// It only queues, and what is forwarded here passes it by: its kind, and the link's name.
    Passed(&'static str, Arc<str>),
}

impl Tc {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            read: None,
            found: Vec::new(),
            contended: Vec::new(),
            hysteresis: Hysteresis::new(),
            policers: Vec::new(),
        }
    }

    /// See [`Guard::leave_contended`](super::Guard::leave_contended).
    pub(super) fn leave_contended(&mut self, ifindex: u32, way: Way) {
        let since = Instant::now();
        let is_it = |one: &&mut Contended| one.ifindex == ifindex && one.way == way;
        match self.contended.iter_mut().find(is_it) {
            Some(one) => (one.since, one.hold) = (since, CONTENDED_MAX.min(one.hold * 2)),
            None => self.contended.push(Contended {
                ifindex,
                way,
                since,
                hold: CONTENDED,
            }),
        }
    }

    /// Takes in an event.
    pub(super) fn hear(&mut self, event: &Message<'_>) {
        self.reader.hear(event);
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
        let is_contended = |ifindex, way| {
            let holds = |one: &Contended| one.ifindex == ifindex && one.way == way && one.since.elapsed() < one.hold;
            self.contended.iter().any(holds)
        };
        let has_htb = |one: &Found| matches!(one, Found::Shapes(_, _, shaping) if shaping.has_htb());
        let hysteresis = self.found.iter().any(has_htb).then(|| self.hysteresis.why()).flatten();
        for one in &self.found {
            match one.clone() {
                Found::Leaves(ifindex, way, text, remedy) => found.leave_port(ifindex, way, text, remedy),
                Found::Shapes(ifindex, text, shaping) => {
                    let left = match hysteresis.as_ref().filter(|_| shaping.has_htb()) {
                        Some(why) => Some((format!("{text}: {why}"), REMEDY_HYSTERESIS)),
                        None => is_contended(ifindex, Way::Egress).then(|| (text.clone(), REMEDY_CONTENDED)),
                    };
                    match left {
                        Some((text, remedy)) => {
                            found.leave_port(ifindex, Way::Egress, text, remedy);
                            found.drain(ifindex, shaping);
                        }
                        None => found.shape(ifindex, text, shaping),
                    }
                }
                Found::Drains(ifindex, shaping) => found.drain(ifindex, shaping),
                Found::Polices(ifindex, text, _) if is_contended(ifindex, Way::Ingress) => {
                    found.leave_port(ifindex, Way::Ingress, text, REMEDY_POLICED);
                }
                Found::Polices(ifindex, text, policing) => found.police(ifindex, text, policing),
                Found::Passed(..) => {}
            }
        }
        for text in passed_by(&self.found) {
            found.remark(text, REMEDY_PASSED);
        }
    }

    fn look(&mut self, collector: &Collector, links: &[(u32, Arc<str>)]) {
        let before = std::mem::take(&mut self.found);
        self.reader
            .keep_links(|ifindex| links.iter().any(|link| link.0 == ifindex));
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
            if collector.is_port(*ifindex) {
                self.drain(*ifindex, &before, qdiscs.as_ref().ok());
            }
        }
        self.keep(&before);
    }

    fn judge(&mut self, ifindex: u32, name: &Arc<str>, is_port: bool, qdiscs: &Qdiscs) -> io::Result<()> {
        let egress = self.reader.egress(ifindex, qdiscs)?;
        let words = format!("qdisc {} on {name}", egress.root);
        let leaves = |text| Found::Leaves(ifindex, Way::Egress, text, REMEDY_SHAPE);
        match egress.shaping {
            Ok(Shaping::Unshaped) => {
                let stands = |kind: &&str| qdiscs.of(ifindex, false).any(|qdisc| qdisc.kind == **kind);
                let kinds = COUNTED_ON.into_iter().filter(stands);
                self.found.extend(kinds.map(|kind| Found::Passed(kind, name.clone())));
            }
            Ok(_) if !is_port => self.found.push(leaves(words)),
            Ok(shaping) => self.found.push(Found::Shapes(ifindex, words, shaping)),
            Err(why) if why.is_empty() => self.found.push(leaves(words)),
            Err(why) => self.found.push(leaves(format!("{words}: {why}"))),
        }
        for qdisc in qdiscs.of(ifindex, true) {
            let words = format!("qdisc {} {} on {name}", qdisc.kind, qdisc.handle);
            if qdisc.kind == "clsact" && self.reader.has_filter(ifindex, PARENT_CLSACT_EGRESS) {
                let found = Found::Leaves(ifindex, Way::Egress, words.clone(), REMEDY_EGRESS);
                self.found.push(found);
            }
            let found = match self.policing(qdisc, is_port) {
                Ok(policing) => Found::Polices(ifindex, words, policing),
                Err(why) if why.is_empty() => Found::Leaves(ifindex, Way::Ingress, words, REMEDY_FILTER),
                Err(why) => Found::Leaves(ifindex, Way::Ingress, format!("{words}: {why}"), REMEDY_FILTER),
            };
            self.found.push(found);
        }
        Ok(())
    }

    /// What polices at an ingress or clsact, or why that is not carried.
    fn policing(&mut self, qdisc: &Record, is_port: bool) -> Result<Arc<Policing>, String> {
        if !is_port {
            return Err(String::new());
        }
        if qdisc.has_block {
            return Err("its filters are a block's".into());
        }
        if qdisc.offloaded {
            return Err("it is offloaded".into());
        }
        let (filters, policers) = self.reader.policing(qdisc.ifindex)?;
        Ok(Arc::new(Policing {
            kind: qdisc.kind.as_str().into(),
            handle: qdisc.handle,
            filters,
            policers: policers.into_iter().map(|police| self.policer(police)).collect(),
        }))
    }

    /// One that is as it was goes on with its tokens, of whatever filter and port it is.
    fn policer(&mut self, police: Police) -> Arc<Policer> {
        let known = self.policers.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.into_iter().find(|one| one.config == police) {
            return known;
        }
        let new = Arc::new(Policer::new(police));
        self.policers.retain(|one| one.strong_count() > 0);
        self.policers.push(Arc::downgrade(&new));
        new
    }

    /// Keeps the tree of a link that is left now for what waits there; `qdiscs` are not known where they cannot be read.
    fn drain(&mut self, ifindex: u32, before: &[Found], qdiscs: Option<&Qdiscs>) {
        let is_left =
            |one: &Found| matches!(one, Found::Leaves(of, Way::Egress | Way::Both, _, REMEDY_SHAPE) if *of == ifindex);
        if !self.found.iter().any(is_left) {
            return;
        }
        let tree = before.iter().find_map(|one| match one {
            Found::Shapes(of, _, tree) | Found::Drains(of, tree) if *of == ifindex => Some(tree),
            _ => None,
        });
        let remains = |tree: &Shaping| match qdiscs {
            Some(qdiscs) => remains(tree, &qdiscs.of(ifindex, false).collect::<Vec<_>>()),
            None => Some(tree.clone()),
        };
        let kept = tree.and_then(remains);
        self.found.extend(kept.map(|tree| Found::Drains(ifindex, tree)));
    }

    /// A tree that is as it was stays the same one, so that nobody compares it to the end each time.
    fn keep(&mut self, before: &[Found]) {
        let mut same = Vec::new();
        for found in &mut self.found {
            if let Found::Polices(ifindex, _, policing) = found {
                let is_same =
                    |old: &Found| matches!(old, Found::Polices(of, _, old) if of == ifindex && old == policing);
                same.extend(before.iter().any(is_same).then_some((*ifindex, Way::Ingress)));
            }
            let Found::Shapes(ifindex, _, shaping) = found else {
                continue;
            };
            let known = before.iter().find_map(|old| match old {
                Found::Shapes(of, _, old) | Found::Drains(of, old) if of == ifindex && old == shaping => Some(old),
                _ => None,
            });
            if let Some(old) = known {
                *shaping = old.clone();
                same.push((*ifindex, Way::Egress));
            }
        }
        // By another tree, or other policers, it is tried at once.
        self.contended.retain(|one| same.contains(&(one.ifindex, one.way)));
    }
}

/// What of a tree still stands among the qdiscs of its link: the root, or those below mq. The kernel drops what waits in a qdisc
/// whose place another one takes.
fn remains(tree: &Shaping, qdiscs: &[&Record]) -> Option<Shaping> {
    let stands = |root: &Arc<Qdisc>| {
        let is_it = |one: &&Record| {
            (one.handle, one.generation, one.parent, one.kind.as_str())
                == (root.handle, root.generation, root.parent, root.kind.word())
        };
        qdiscs.iter().any(is_it)
    };
    match tree {
        Shaping::Unshaped => None,
        Shaping::Root(root) => stands(root).then(|| tree.clone()),
        Shaping::Queues(roots) => {
            let roots: Vec<_> = roots.iter().map(|root| root.clone().filter(stands)).collect();
            roots.iter().any(Option::is_some).then_some(Shaping::Queues(roots))
        }
    }
}

/// A line for each kind of qdisc that is passed by, however many ports have one: by `net.core.default_qdisc` all may.
fn passed_by(found: &[Found]) -> Vec<String> {
    let line = |kind: &str| {
        let of_kind = found.iter().filter_map(|one| match one {
            Found::Passed(of, name) if *of == kind => Some(&**name),
            _ => None,
        });
        let mut names: Vec<&str> = of_kind.collect();
        names.sort_unstable();
        let more = match names.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        names.truncate(NAMED_MAX);
        (!names.is_empty()).then(|| format!("qdisc {kind} on {}{more}", names.join(" ")))
    };
    COUNTED_ON.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::qdisc::{Fifo, Kind, Limit, ROOT};

    #[test]
    fn a_tree_remains_as_long_as_its_root_stands() {
        let root = |handle, parent| {
            let limit = Limit::Packets(1);
            Arc::new(Qdisc {
                generation: 0,
                overhead: 0,
                handle: Handle::qdisc(handle),
                parent,
                kind: Kind::Fifo(Fifo {
                    limit,
                    drops_head: false,
                }),
                filters: Vec::new(),
            })
        };
        let record = |kind: &str, handle, parent| Record {
            kind: kind.into(),
            handle: Handle::qdisc(handle),
            parent,
            ..Record::default()
        };
        let tree = Shaping::Root(root(1, ROOT));
        let [same, kind, handle] = [
            record("pfifo", 1, ROOT),
            record("cake", 1, ROOT),
            record("pfifo", 2, ROOT),
        ];
        assert_eq!(remains(&tree, &[&kind, &same]), Some(tree.clone()));
        assert_eq!(remains(&tree, &[&kind, &handle]), None);
        assert_eq!(remains(&tree, &[]), None);
        let anew = Record {
            generation: 1,
            ..same.clone()
        };
        assert_eq!(remains(&tree, &[&anew]), None);
        assert_eq!(remains(&Shaping::Unshaped, &[&same]), None);
        let below = |n: u32| Handle(0x1_0000 | n);
        let [one, two] = [root(2, below(1)), root(3, below(2))];
        let tree = Shaping::Queues(vec![Some(one), None, Some(two.clone())]);
        let [mq, gone, stays] = [
            record("mq", 1, ROOT),
            record("cake", 2, below(1)),
            record("pfifo", 3, below(2)),
        ];
        assert_eq!(
            remains(&tree, &[&mq, &gone, &stays]),
            Some(Shaping::Queues(vec![None, None, Some(two)]))
        );
        assert_eq!(remains(&tree, &[&mq, &gone]), None);
    }

    #[test]
    fn what_is_passed_by_is_a_line_for_each_kind() {
        let port = |kind, n: u32| Found::Passed(kind, format!("d{n}").into());
        assert!(passed_by(&[]).is_empty());
        let mut found = vec![port("fq", 9), port("fq_codel", 1), port("fq_codel", 0)];
        assert_eq!(passed_by(&found), ["qdisc fq_codel on d0 d1", "qdisc fq on d9"]);
        found.extend((2..8).map(|n| port("fq_codel", n)));
        assert_eq!(passed_by(&found)[0], "qdisc fq_codel on d0 d1 d2 d3 and 4 more");
    }
}
