//! What a packet's walk lays aside beside what is found of it: a worker's own, one for all its packets, large, and needed by
//! few of them.
//!
//! ```text
//!  saved            the frame's head as it came        put back before a punt
//!  begun, ct_mark   what becomes of the connection     committed when the packet is known to be no punt
//!  before, leaving  what the kernel must be told       before it gets a packet that is one
//!  mark ...         skb's fields that rules write      until the packet is gone
//! ```

use super::leaving::Leaving;
use super::{Of, Tracked};
use crate::packet::Family;
use crate::stage::forward::Meta;
use crate::stage::nat::Saved;
use crate::table::conntrack::{Marks, Record, Status, Tuple};
use crate::table::iface::IfaceIndex;
use crate::table::nat::Random;

/// What a packet's walk lays aside, a worker's own: large, and needed by few packets.
#[derive(Debug)]
pub struct Aside {
    /// The connection that begins with this packet.
    pub begun: Record,
    /// The connection of a packet as it was before it: of one that is the kernel's for its header, or that began anew.
    pub before: Option<Record>,
    /// What the kernel must be told before it gets the packet, which was punted.
    pub leaving: Option<Leaving>,
    /// The headers as they came, of a packet that is changed.
    pub saved: Saved,
    /// The packet's mark, which rules set.
    pub mark: u32,
    /// Its priority, likewise.
    pub priority: u32,
    /// ... which is what its TOS says: no rule has set it since.
    pub priority_by_tos: bool,
    /// A rule has said that it is not tracked, and it had no connection.
    pub untracked: bool,
    /// The mark of its connection, of one that is in the table.
    pub ct_mark: CtMark,
    /// The link that routing led it to, if it came so far, whatever became of it there.
    pub routed_to: Option<IfaceIndex>,
    /// What NAT draws ports from.
    pub random: Random,
}

/// The mark of a connection, for one packet of it: rules that set it have a say about the connection when the packet does not
/// leave for the kernel, where they are asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtMark {
    /// As the packet found it.
    pub found: u32,
    /// As rules have set it since.
    pub now: u32,
}

impl Default for Aside {
    fn default() -> Self {
        let nobody = Tuple {
            src: 0,
            dst: 0,
            sport: 0,
            dport: 0,
            proto: 0,
            family: Family::V4,
            zone: 0,
        };
        Self {
            begun: Record {
                original: nobody,
                reply: nobody,
                status: Status(0),
                marks: Marks(0),
                deadline: 0,
                mark: 0,
                proto: [0; 7],
                counters: Default::default(),
            },
            before: None,
            leaving: None,
            saved: Saved::new(),
            mark: 0,
            priority: 0,
            priority_by_tos: false,
            untracked: false,
            ct_mark: CtMark::default(),
            routed_to: None,
            random: Random::default(),
        }
    }
}

impl Aside {
    /// A packet begins its walk past rules, of which nothing is known yet.
    #[inline]
    pub fn meet_rules(&mut self) {
        self.mark = 0;
        self.priority = 0;
        self.priority_by_tos = false;
        self.untracked = false;
    }

    /// A rule sets its priority.
    pub fn set_priority(&mut self, priority: u32) {
        self.priority = priority;
        self.priority_by_tos = false;
    }

    /// What a qdisc is told of the packet.
    #[inline]
    pub fn meta(&self) -> Meta {
        Meta {
            mark: self.mark,
            priority: Some(self.priority),
        }
    }

    /// The same for others of its connection, which may have another TOS.
    #[inline]
    pub fn meta_of_others(&self) -> Meta {
        Meta {
            mark: self.mark,
            priority: (!self.priority_by_tos).then_some(self.priority),
        }
    }

    /// It goes on with its connection, if it has one.
    #[inline]
    pub fn with_connection(&mut self, tracked: &Tracked<'_>) {
        if let Of::Connection(connection, _) = &tracked.of {
            let mark = connection.mark();
            self.ct_mark = CtMark { found: mark, now: mark };
        }
    }
}
