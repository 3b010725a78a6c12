//! The qdiscs and classes of one link as a tree, or why they are not carried. Pure: records in, configuration out.
//!
//! Every qdisc must find its place: one that hangs nowhere means that the dumps of qdiscs and classes are of different
//! moments. A leaf of htb without a record has the fifo that the kernel puts there by itself where one was deleted,
//! and does not tell of (htb_graft); with other kinds it is a queue that drops everything, and not carried.

use super::message::{Record, SizeTable};
use super::options::{self, Why};
use crate::table::filter::Filter;
use crate::table::qdisc::{Class, Fifo, Handle, Htb, Kind, Limit, Prio, Qdisc, ROOT, Shaping, Tbf};
use std::cell::Cell;
use std::sync::Arc;

/// No tree of the kernel's is deeper (check_loop, net/sched/sch_api.c).
const DEPTH_MAX: usize = 8;

/// What is known of a link.
pub struct Link<'a> {
    /// Its qdiscs on the way out.
    pub qdiscs: &'a [Record],
    /// Its classes.
    pub classes: &'a [Record],
    /// How many packets a fifo of its holds that nobody sized (tx_queue_len).
    pub queue_len: u32,
    /// The longest frame that it sends, in bytes (psched_mtu).
    pub frame_max: u32,
    /// The filters at a qdisc or class.
    pub filters: &'a dyn Fn(Handle) -> Result<Vec<Filter>, Why>,
}

/// What does not carry a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Not {
    /// The dumps do not fit each other: read again.
    Torn,
    /// This.
    Carried(Why),
}

impl From<Why> for Not {
    fn from(why: Why) -> Self {
        Not::Carried(why)
    }
}

/// The root qdisc among the records, where there is one.
pub fn root(qdiscs: &[Record]) -> Option<&Record> {
    qdiscs.iter().find(|qdisc| qdisc.parent == ROOT)
}

/// How the link is shaped.
pub fn shaping(link: &Link<'_>) -> Result<Shaping, Not> {
    let Some(root) = root(link.qdiscs) else {
        // Of a link that is down.
        return Ok(Shaping::Unshaped);
    };
    let tree = Tree {
        link,
        placed: Cell::new(1),
    };
    let shaping = match root.kind.as_str() {
        "mq" => Shaping::Queues(tree.queues(root)?),
        _ => tree.alone(root, 0)?.map_or(Shaping::Unshaped, Shaping::Root),
    };
    match shaping {
        Shaping::Queues(queues) if queues.iter().all(Option::is_none) => Ok(Shaping::Unshaped),
        _ if tree.placed.get() != link.qdiscs.len() && !is_plain(&shaping) => Err(Not::Torn),
        shaping => Ok(shaping),
    }
}

fn is_plain(shaping: &Shaping) -> bool {
    matches!(shaping, Shaping::Unshaped)
}

struct Tree<'a> {
    link: &'a Link<'a>,
    /// How many qdiscs have found their place.
    placed: Cell<usize>,
}

impl Tree<'_> {
    /// A qdisc that shapes a port, or a queue of one, by itself; `None` for one that only queues.
    fn alone(&self, record: &Record, depth: usize) -> Result<Option<Arc<Qdisc>>, Not> {
        match record.kind.as_str() {
            "noqueue" | "pfifo_fast" => Ok(None),
            "fq" if options::fq_max_rate(&record.options).is_none() => Ok(None),
            "fq_codel" => match self.filters(record)?.is_empty() {
                true => Ok(None),
                false => Err(Not::Carried("has filters".into())),
            },
            _ => self.qdisc(record, depth).map(Some),
        }
    }

    /// The qdiscs below mq, by the number of their queue.
    fn queues(&self, mq: &Record) -> Result<Vec<Option<Arc<Qdisc>>>, Not> {
        let below = self.link.qdiscs.iter();
        let below = below.filter(|qdisc| qdisc.parent != ROOT && qdisc.parent.of_qdisc() == mq.handle);
        let mut queues = Vec::new();
        for qdisc in below {
            self.placed.set(self.placed.get() + 1);
            let number = qdisc.parent.minor() as usize;
            queues.resize(queues.len().max(number), None);
            let alone = self.alone(qdisc, 1).map_err(|not| of(qdisc, not))?;
            if let Some(queue) = number.checked_sub(1).and_then(|at| queues.get_mut(at)) {
                *queue = Some(alone);
            }
        }
        // What has none drops everything (noop_qdisc).
        let deleted = |number: usize| Not::Carried(format!("the qdisc of queue {number} was deleted"));
        if queues.is_empty() {
            return Err(deleted(1));
        }
        let told = (1..).zip(queues);
        told.map(|(number, queue)| queue.ok_or_else(|| deleted(number)))
            .collect()
    }

    fn qdisc(&self, record: &Record, depth: usize) -> Result<Arc<Qdisc>, Not> {
        if depth > DEPTH_MAX {
            return Err(Not::Torn);
        }
        check(record)?;
        let (mut filters, options, short) = (Vec::new(), &record.options[..], || unreadable(record));
        let kind = match record.kind.as_str() {
            kind @ ("pfifo" | "bfifo" | "pfifo_head_drop") => {
                Kind::Fifo(options::fifo(kind, options).ok_or_else(short)?)
            }
            "pfifo_fast" => Kind::Prio(self.pfifo_fast(record)?),
            "prio" => {
                filters = self.filters(record)?;
                Kind::Prio(self.prio(record, depth)?)
            }
            "tbf" => Kind::Tbf(self.tbf(record, depth)?),
            "htb" => {
                filters = self.filters(record)?;
                Kind::Htb(self.htb(record, depth)?)
            }
            "fq_codel" => {
                filters = self.filters(record)?;
                Kind::FqCodel(options::fq_codel(options, self.link.frame_max).ok_or_else(short)??)
            }
            "sfq" => {
                filters = self.filters(record)?;
                Kind::Sfq(options::sfq(options).ok_or_else(short)??)
            }
            "fq" => Kind::Fq(options::fq(options).ok_or_else(short)??),
            _ => return Err(Not::Carried(String::new())),
        };
        Ok(Arc::new(Qdisc {
            handle: record.handle,
            parent: record.parent,
            generation: record.generation,
            overhead: match record.stab {
                Some(SizeTable::Overhead(overhead)) => overhead,
                _ => 0,
            },
            kind,
            filters,
        }))
    }

    /// The qdisc at a class, which must be there.
    fn child(&self, class: Handle, depth: usize) -> Result<Option<Arc<Qdisc>>, Not> {
        let mut below = self.link.qdiscs.iter().filter(|qdisc| qdisc.parent == class);
        let Some(qdisc) = below.next() else { return Ok(None) };
        self.placed.set(self.placed.get() + 1);
        if qdisc.stab.is_some() {
            return Err(of(qdisc, Not::Carried("has a size table below another qdisc".into())));
        }
        self.qdisc(qdisc, depth + 1).map(Some).map_err(|not| of(qdisc, not))
    }

    fn tbf(&self, record: &Record, depth: usize) -> Result<Tbf, Not> {
        let options = options::tbf(&record.options).ok_or_else(|| unreadable(record))?;
        if options.rate.bytes_per_second == 0 || options.max_size == 0 {
            return Err(Not::Carried("lets nothing pass".into()));
        }
        let class = Handle(record.handle.0 | 1);
        let child = self.child(class, depth)?;
        Ok(Tbf {
            rate: options.rate,
            buffer_ns: options.buffer_ns,
            peak: options.peak,
            max_size: options.max_size,
            limit: options.limit,
            child: child.ok_or_else(|| Not::Carried("its queue was deleted".into()))?,
        })
    }

    fn prio(&self, record: &Record, depth: usize) -> Result<Prio, Not> {
        let (bands, priomap) = options::prio(&record.options).ok_or_else(|| unreadable(record))?;
        let band = |number: u32| {
            let class = Handle(record.handle.0 | number);
            let queue = self.child(class, depth)?;
            queue.ok_or_else(|| Not::Carried(format!("the queue of class {class} was deleted")))
        };
        Ok(Prio {
            bands: (1..=bands.min(16)).map(band).collect::<Result<_, _>>()?,
            priomap,
            by_map: false,
        })
    }

    /// Three bands without handles, each as long as the link's queue.
    fn pfifo_fast(&self, record: &Record) -> Result<Prio, Not> {
        let (bands, priomap) = options::prio(&record.options).ok_or_else(|| unreadable(record))?;
        let band = |_| Arc::new(self.fifo(record.handle));
        Ok(Prio {
            bands: (0..bands.min(16)).map(band).collect(),
            priomap,
            by_map: true,
        })
    }

    /// A fifo that nobody made.
    fn fifo(&self, parent: Handle) -> Qdisc {
        Qdisc {
            generation: 0,
            overhead: 0,
            handle: Handle(0),
            parent,
            kind: Kind::Fifo(Fifo {
                limit: Limit::Packets(self.link.queue_len),
                drops_head: false,
            }),
            filters: Vec::new(),
        }
    }

    fn htb(&self, record: &Record, depth: usize) -> Result<Htb, Not> {
        let options = options::htb(&record.options).ok_or_else(|| unreadable(record))??;
        let of_htb = |class: &&Record| class.kind == "htb" && class.handle.of_qdisc() == record.handle;
        let records: Vec<&Record> = self.link.classes.iter().filter(of_htb).collect();
        let mut classes: Vec<Class> = Vec::with_capacity(records.len());
        // Level by level: a parent before its children.
        let mut parents = vec![ROOT];
        while !parents.is_empty() {
            let below = records.iter().filter(|class| parents.contains(&class.parent));
            let below: Vec<&&Record> = below.collect();
            for class in &below {
                classes.push(self.class(record, class, &records, depth)?);
            }
            parents = below.iter().map(|class| class.handle).collect();
            if classes.len() > records.len() {
                return Err(Not::Torn);
            }
        }
        if classes.len() != records.len() {
            return Err(Not::Torn);
        }
        Ok(Htb {
            default: options.default,
            rate2quantum: options.rate2quantum,
            direct_qlen: options.direct_qlen,
            classes,
        })
    }

    fn class(&self, htb: &Record, record: &Record, all: &[&Record], depth: usize) -> Result<Class, Not> {
        let options = options::htb_class(&record.options).ok_or_else(|| unreadable(record))?;
        let is_leaf = !all.iter().any(|class| class.parent == record.handle);
        let of_class = |not| match not {
            Not::Carried(why) => Not::Carried(format!("class {}: {why}", record.handle)),
            torn => torn,
        };
        let leaf = match is_leaf {
            true => {
                let own = self.child(record.handle, depth).map_err(of_class)?;
                Some(own.unwrap_or_else(|| Arc::new(self.fifo(record.handle))))
            }
            false => None,
        };
        Ok(Class {
            id: record.handle,
            parent: if record.parent == ROOT {
                htb.handle
            } else {
                record.parent
            },
            generation: record.generation,
            rate: options.rate,
            ceil: options.ceil,
            buffer_ns: options.buffer_ns,
            cbuffer_ns: options.cbuffer_ns,
            prio: options.prio,
            quantum: options.quantum,
            // Of a leaf they are never asked.
            filters: match is_leaf {
                true => Vec::new(),
                false => (self.link.filters)(record.handle).map_err(|why| of_class(why.into()))?,
            },
            leaf,
        })
    }

    /// The filters of a qdisc. One without a handle cannot have any.
    fn filters(&self, record: &Record) -> Result<Vec<Filter>, Not> {
        match record.handle {
            Handle(0) => Ok(Vec::new()),
            handle => Ok((self.link.filters)(handle)?),
        }
    }
}

/// What no qdisc may have.
fn check(record: &Record) -> Result<(), Not> {
    match record {
        Record {
            stab: Some(SizeTable::Untold),
            ..
        } => Err(Not::Carried("has a size table".into())),
        Record { offloaded: true, .. } => Err(Not::Carried("is offloaded".into())),
        _ => Ok(()),
    }
}

fn unreadable(record: &Record) -> Not {
    Not::Carried(format!(
        "{} {}: its options are not understood",
        record.kind, record.handle
    ))
}

/// Names the qdisc below that is the reason.
fn of(qdisc: &Record, not: Not) -> Not {
    match not {
        Not::Carried(why) if why.is_empty() => Not::Carried(format!("qdisc {} {}", qdisc.kind, qdisc.handle)),
        Not::Carried(why) => Not::Carried(format!("qdisc {} {}: {why}", qdisc.kind, qdisc.handle)),
        Not::Torn => Not::Torn,
    }
}
