//! flower: fields of the frame, each masked and compared, as fl_classify (net/sched/cls_flower.c) does with what
//! __skb_flow_dissect (net/core/flow_dissector.c) takes a frame apart into.
//!
//! ```text
//!  frame --dissect--> fields --& mask 1--> among the rules of mask 1? --none--> & mask 2 ... --none--> no class
//! ```
//!
//! What cannot be read is 0, and may match as such: of a fragment the ports and flags are, of any, also of the first. The kernel asks
//! its masks in the order of their first rule, which it does not tell. So rules of which two may match one frame and say
//! different classes are not taken; then the order does not matter. Bounded by [`RULES_MAX`].

use super::Handle;
use super::view::{NETWORK, View};
use std::ops::Range;

/// The most rules of a preference: each is compared with each of another mask when they are read.
pub const RULES_MAX: usize = 2048;
/// Headers that one dissection takes apart (MAX_FLOW_DISSECT_HDRS).
const HEADERS_MAX: u32 = 15;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const MPLS: u16 = 0x8847;
const WORDS: usize = 7;

/// A field: where it is among all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(Range<usize>);

impl Field {
    /// Destination's Ethernet address.
    pub const ETH_DST: Self = Self(0..6);
    /// Source's Ethernet address.
    pub const ETH_SRC: Self = Self(6..12);
    /// EtherType behind tags.
    pub const ETH_TYPE: Self = Self(12..14);
    /// Protocol behind IPv6's extension headers.
    pub const IP_PROTOCOL: Self = Self(14..15);
    /// 4 or 6, if there are addresses of IP.
    pub const ADDRESSES: Self = Self(15..16);
    /// Source of IPv4.
    pub const IPV4_SRC: Self = Self(16..20);
    /// Destination of IPv4.
    pub const IPV4_DST: Self = Self(32..36);
    /// Source of IPv6.
    pub const IPV6_SRC: Self = Self(16..32);
    /// Destination of IPv6.
    pub const IPV6_DST: Self = Self(32..48);
    /// Source port of TCP, UDP, SCTP.
    pub const PORT_SRC: Self = Self(48..50);
    /// Destination port of these.
    pub const PORT_DST: Self = Self(50..52);
    /// TCP's flags: twelve bits.
    pub const TCP_FLAGS: Self = Self(52..54);
    /// TOS, or traffic class.
    pub const TOS: Self = Self(54..55);
    /// TTL, or hop limit.
    pub const TTL: Self = Self(55..56);

    /// Its bytes.
    #[allow(clippy::len_without_is_empty)] // None is empty.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// All fields of a frame, or which bits of them count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fields([u64; WORDS]);

/// A filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// What fields must be, masked.
    pub fields: Fields,
    /// Which bits count.
    pub mask: Fields,
    /// Ranges in which source port and destination port must be, both ends included.
    pub ports: [Option<(u16, u16)>; 2],
    /// The class that it says.
    pub class: Handle,
}

/// The rules of one preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flower {
    groups: Box<[Group]>,
}

/// Rules of one mask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    mask: Fields,
    /// Sorted by their fields, and one for each, unless ranges are asked for.
    rules: Box<[Rule]>,
    ranges: bool,
}

impl Fields {
    /// Sets a field, as far as there are bytes.
    pub fn set(&mut self, field: &Field, bytes: &[u8]) {
        for (at, byte) in field.0.clone().zip(bytes) {
            let shift = 56 - 8 * (at % 8);
            let word = &mut self.0[at / 8];
            *word = *word & !(0xff << shift) | u64::from(*byte) << shift;
        }
    }

    fn half(&self, field: &Field) -> u16 {
        let at = field.0.start;
        (self.0[at / 8] >> (48 - 8 * (at % 8))) as u16
    }

    pub(super) fn and(&self, mask: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & mask.0[at]))
    }

    pub(super) fn of(view: &View<'_>) -> Self {
        let mut fields = Self::default();
        if let Some(addresses) = view.read::<12>(0) {
            fields.set(&Field::ETH_DST, &addresses[..6]);
            fields.set(&Field::ETH_SRC, &addresses[6..]);
        }
        fields.set(&Field::ETH_TYPE, &view.protocol.to_be_bytes());
        match view.protocol {
            IPV4 => fields.ipv4(view),
            IPV6 => fields.ipv6(view),
            _ => None,
        };
        fields
    }

    /// `None` where the frame ends: what was read until then counts.
    fn ipv4(&mut self, view: &View<'_>) -> Option<()> {
        let header = view.read::<20>(NETWORK)?;
        let length = i32::from(header[0] & 15) * 4;
        if length < 20 {
            return None;
        }
        self.set(&Field::IP_PROTOCOL, &header[9..10]);
        self.set(&Field::ADDRESSES, &[4]);
        self.set(&Field::IPV4_SRC, &header[12..16]);
        self.set(&Field::IPV4_DST, &header[16..20]);
        self.set(&Field::TOS, &header[1..2]);
        self.set(&Field::TTL, &header[8..9]);
        if header[6] & 0x3f == 0 && header[7] == 0 {
            self.transport(view, header[9], NETWORK + length);
        }
        Some(())
    }

    fn ipv6(&mut self, view: &View<'_>) -> Option<()> {
        let header = view.read::<40>(NETWORK)?;
        self.set(&Field::ADDRESSES, &[6]);
        self.set(&Field::IPV6_SRC, &header[8..24]);
        self.set(&Field::IPV6_DST, &header[24..40]);
        self.set(&Field::TOS, &[header[0] << 4 | header[1] >> 4]);
        self.set(&Field::TTL, &header[7..8]);
        let (mut protocol, mut at) = (header[6], NETWORK + 40);
        self.set(&Field::IP_PROTOCOL, &[protocol]);
        let mut headers = 0;
        // Hop-by-hop, routing, destination options.
        while matches!(protocol, 0 | 43 | 60) {
            let extension = view.read::<2>(at)?;
            protocol = extension[0];
            at += (i32::from(extension[1]) + 1) * 8;
            self.set(&Field::IP_PROTOCOL, &[protocol]);
            headers += 1;
            if headers > HEADERS_MAX {
                self.ports(view, protocol, at);
                return None;
            }
        }
        if protocol == 44 {
            let fragment = view.read::<8>(at)?;
            self.set(&Field::IP_PROTOCOL, &fragment[..1]);
            return None;
        }
        self.transport(view, protocol, at);
        Some(())
    }

    fn transport(&mut self, view: &View<'_>, protocol: u8, at: i32) {
        if protocol == 6 {
            let header = view.read::<20>(at).filter(|header| header[12] >> 4 >= 5);
            self.set(
                &Field::TCP_FLAGS,
                &header.map_or([0; 2], |header| [header[12] & 15, header[13]]),
            );
        }
        if protocol == 137 {
            self.set(&Field::ETH_TYPE, &MPLS.to_be_bytes());
        }
        self.ports(view, protocol, at);
    }

    fn ports(&mut self, view: &View<'_>, protocol: u8, at: i32) {
        if let (6 | 17 | 132, Some(ports)) = (protocol, view.read::<4>(at)) {
            self.set(&Field::PORT_SRC, &ports[..2]);
            self.set(&Field::PORT_DST, &ports[2..]);
        }
    }
}

impl Rule {
    pub(super) fn takes_ports(&self, fields: &Fields) -> bool {
        let sides = [Field::PORT_SRC, Field::PORT_DST];
        let mut all = self.ports.iter().zip(&sides);
        all.all(|(range, side)| range.is_none_or(|(least, most)| (least..=most).contains(&fields.half(side))))
    }

    fn may_meet(&self, other: &Self) -> bool {
        let both = self.mask.and(&other.mask);
        let ranges = self.ports.iter().zip(&other.ports);
        let mut disjoint = ranges.filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?)));
        self.fields.and(&both) == other.fields.and(&both) && !disjoint.any(|(a, b)| a.1 < b.0 || b.1 < a.0)
    }
}

impl Flower {
    /// Of these rules. With an error comes a rule that may match what another one does, and says another class.
    ///
    /// # Errors
    /// Where the answer would hang on the order of masks.
    pub fn new(mut rules: Vec<Rule>) -> Result<Self, usize> {
        for rule in &mut rules {
            rule.fields = rule.fields.and(&rule.mask);
        }
        for (at, rule) in rules.iter().enumerate() {
            let before = rules.iter().take(at);
            if at >= RULES_MAX
                || before
                    .clone()
                    .any(|other| other.class != rule.class && other.may_meet(rule))
            {
                return Err(at);
            }
        }
        let ranges = |rule: &Rule| rule.ports.map(|range| range.is_some());
        rules.sort_by_key(|rule| (rule.mask, ranges(rule), rule.fields));
        let groups = rules.chunk_by(|a, b| a.mask == b.mask && ranges(a) == ranges(b));
        let groups = groups.filter_map(|rules| {
            let first = rules.first()?;
            Some(Group {
                mask: first.mask,
                ranges: ranges(first) != [false; 2],
                rules: rules.into(),
            })
        });
        Ok(Self {
            groups: groups.collect(),
        })
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.groups.iter().flat_map(|group| group.rules.iter())
    }

    /// The class of the rule that matches.
    pub(super) fn find(&self, view: &View<'_>) -> Option<Handle> {
        let fields = view.dissected.get_or_init(|| Fields::of(view));
        self.groups.iter().find_map(|group| group.find(fields))
    }
}

impl Group {
    #[inline]
    fn find(&self, fields: &Fields) -> Option<Handle> {
        let masked = fields.and(&self.mask);
        let mut at = self.rules.partition_point(|rule| rule.fields < masked);
        while let Some(rule) = self.rules.get(at).filter(|rule| rule.fields == masked) {
            if !self.ranges || rule.takes_ports(fields) {
                return Some(rule.class);
            }
            at += 1;
        }
        None
    }
}
