//! Packets that are some bytes and facts, any of which may be missing or unknown.
//!
//! What a rule changes is changed here, too, so that the packet after both walks can be compared. Values are few, so that
//! conditions hold now and then.

use super::super::super::expr::{Base, ChecksumFix, FibFlags};
use super::super::super::keys::{CtKey, FibResult, MetaKey, RtKey};
use super::super::super::packet::{Answer, Fact, Packet};
use super::super::super::program::NFPROTO_IPV4;
use rand::{RngExt, rngs::ChaCha8Rng};

/// A packet, with what was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fake {
    nfproto: u8,
    pub(super) bytes: Vec<u8>,
    later_fragment: bool,
    l4proto: Option<u8>,
    meta: Vec<(MetaKey, Fact)>,
    ct: Vec<(CtKey, Fact)>,
    /// No byte of these headers is known, or none where so many are asked for.
    unknown: Option<(Base, Option<usize>)>,
    randoms: u32,
}

/// Links have one of these names.
pub(super) const NAMES: [&str; 3] = ["eth0", "eth1", "wan"];

impl Fake {
    pub(super) fn random(random: &mut ChaCha8Rng, nfproto: u8) -> Self {
        let header = header_len(nfproto);
        // Mostly a whole TCP header with an MSS option, else cut off somewhere; few values, so that rules match.
        let full = header + 24;
        let len = if random.random_bool(0.8) {
            full
        } else {
            random.random_range(header..full)
        };
        let mut bytes: Vec<u8> = (0..full).map(|_| random.random_range(0..3)).collect();
        (bytes[header + 12], bytes[header + 20], bytes[header + 21]) = (0x60, 2, 4);
        bytes[0] = if nfproto == NFPROTO_IPV4 { 0x45 } else { 0x60 };
        bytes.truncate(len);
        let number = |random: &mut ChaCha8Rng| Fact::U32(random.random_range(0..4));
        let mut meta: Vec<_> = [MetaKey::Mark, MetaKey::Iif, MetaKey::Oif]
            .map(|key| (key, number(random)))
            .into();
        for key in [MetaKey::Iifname, MetaKey::Oifname] {
            meta.push((key, Fact::name(NAMES[random.random_range(0..NAMES.len())])));
        }
        meta.push((MetaKey::Pkttype, Fact::U8(random.random_range(0..3))));
        meta.push((MetaKey::Iiftype, Fact::U16(random.random_range(0..3))));
        meta.push((MetaKey::Protocol, Fact::Bytes2([8, random.random_range(0..2)])));
        let mut ct = vec![(CtKey::State, Fact::U32(1 << random.random_range(0..4)))];
        ct.push((CtKey::Mark, number(random)));
        ct.push((CtKey::Direction, Fact::U8(random.random_range(0..2))));
        ct.push((CtKey::Bytes, Fact::U64(random.random_range(0..3))));
        ct.push((CtKey::SrcIp, Fact::Bytes4([0, 0, 0, random.random_range(0..3)])));
        for fact in meta
            .iter_mut()
            .map(|(_, fact)| fact)
            .chain(ct.iter_mut().map(|(_, fact)| fact))
        {
            match random.random_range(0..40) {
                0 => *fact = Fact::Unknown,
                1..4 => *fact = Fact::Absent,
                _ => {}
            }
        }
        Self {
            nfproto,
            bytes,
            later_fragment: random.random_bool(0.1),
            l4proto: [Some(6), Some(6), Some(17), None][random.random_range(0..4)],
            meta,
            ct,
            unknown: random.random_bool(0.05).then(|| {
                let base = [Base::Network, Base::Transport][random.random_range(0..2)];
                (base, random.random_bool(0.7).then(|| random.random_range(1..5)))
            }),
            randoms: random.random(),
        }
    }

    fn start(&self, base: Base, len: usize) -> Option<usize> {
        match base {
            _ if self
                .unknown
                .is_some_and(|(of, only)| of == base && only.is_none_or(|only| only == len)) =>
            {
                None
            }
            Base::Link => None,
            Base::Network => Some(0),
            Base::Transport => Some(header_len(self.nfproto)),
        }
    }
}

fn header_len(nfproto: u8) -> usize {
    if nfproto == NFPROTO_IPV4 { 20 } else { 40 }
}

fn of<K: PartialEq>(facts: &[(K, Fact)], key: K) -> Fact {
    facts
        .iter()
        .find(|(other, _)| *other == key)
        .map_or(Fact::Unknown, |(_, fact)| *fact)
}

impl Packet for Fake {
    fn nfproto(&self) -> u8 {
        self.nfproto
    }

    fn length(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn l4proto(&self) -> Option<u8> {
        self.l4proto
    }

    fn is_later_fragment(&self) -> bool {
        self.later_fragment
    }

    fn payload(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer {
        let Some(start) = self.start(base, out.len()) else {
            return Answer::Unknown;
        };
        match self.bytes.get(start + offset..start + offset + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Answer::Break,
        }
        Answer::Done
    }

    fn meta(&self, key: MetaKey) -> Fact {
        of(&self.meta, key)
    }

    fn ct(&self, key: CtKey, reply: Option<bool>) -> Fact {
        match (of(&self.ct, key), reply) {
            // A direction has a value of its own.
            (Fact::Bytes4(bytes), Some(true)) => Fact::Bytes4([1, bytes[1], bytes[2], bytes[3]]),
            (fact, _) => fact,
        }
    }

    fn rt(&self, _: RtKey) -> Fact {
        Fact::U16(1460)
    }

    fn fib(&self, _: FibResult, _: FibFlags) -> Fact {
        Fact::U32(self.randoms % 3)
    }

    fn random(&mut self) -> Option<u32> {
        self.randoms = self.randoms.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(self.randoms)
    }

    fn set_meta(&mut self, key: MetaKey, value: [u8; 4]) -> Answer {
        match self.meta.iter_mut().find(|(other, _)| *other == key) {
            Some((_, fact)) => *fact = Fact::U32(u32::from_ne_bytes(value)),
            None => return Answer::Unknown,
        }
        Answer::Done
    }

    fn set_ct(&mut self, key: CtKey, _: Option<bool>, value: [u8; 16]) -> Answer {
        let word = u32::from_ne_bytes([value[0], value[1], value[2], value[3]]);
        match self.ct.iter_mut().find(|(other, _)| *other == key) {
            Some((_, fact)) => *fact = Fact::U32(word),
            None => return Answer::Break,
        }
        Answer::Done
    }

    fn store(&mut self, base: Base, offset: usize, bytes: &[u8], _: ChecksumFix) -> Answer {
        let Some(start) = self.start(base, bytes.len()) else {
            return Answer::Unknown;
        };
        match self.bytes.get_mut(start + offset..start + offset + bytes.len()) {
            Some(to) => to.copy_from_slice(bytes),
            None => return Answer::Break,
        }
        Answer::Done
    }

    fn store_tcp(&mut self, offset: usize, bytes: &[u8]) -> Answer {
        let fix = ChecksumFix {
            own: None,
            pseudo_header: false,
        };
        self.store(Base::Transport, offset, bytes, fix)
    }

    fn notrack(&mut self) -> Answer {
        self.ct.clear();
        self.ct.push((CtKey::State, Fact::U32(64)));
        Answer::Done
    }
}
