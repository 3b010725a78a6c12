//! Structs of extensions, byte by byte, and what they say of packets that are a few bytes and facts.

use super::super::expr::{Base, ChecksumFix, FibFlags, NatKind};
use super::super::keys::{CtKey, FibResult, RtKey};
use super::*;
use std::collections::HashMap;

mod matches;
mod physdev;
mod targets;

/// An IP header without options, then TCP with an MSS of 1460; facts.
#[derive(Clone, Debug)]
struct Probe {
    v6: bool,
    bytes: Vec<u8>,
    meta: HashMap<MetaKey, Fact>,
    ct: HashMap<(CtKey, Option<bool>), Fact>,
    /// By FibFlags.
    types: HashMap<u32, Fact>,
    mss: Fact,
    physdevs: Option<(&'static str, Option<&'static str>)>,
}

const TCP: [u8; 24] = [
    0x03, 0xe8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x02, 0, 0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4,
];

fn v4() -> Probe {
    let mut bytes = vec![0x45, 0xb8, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 1, 2];
    bytes.extend(TCP);
    Probe {
        v6: false,
        bytes,
        meta: HashMap::from([(MetaKey::Mark, Fact::U32(7)), (MetaKey::Oif, Fact::U32(4))]),
        ct: HashMap::new(),
        types: HashMap::new(),
        mss: Fact::Unknown,
        physdevs: None,
    }
}

fn v6() -> Probe {
    let mut bytes = vec![0x6b, 0x80, 0, 0, 0, 24, 6, 64];
    bytes.extend([0x20; 16]);
    bytes.extend([0x30; 16]);
    bytes.extend(TCP);
    Probe {
        v6: true,
        bytes,
        ..v4()
    }
}

impl Probe {
    fn l4(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    fn with_ct(mut self, key: (CtKey, Option<bool>), fact: Fact) -> Self {
        self.ct.insert(key, fact);
        self
    }

    fn with_meta(mut self, key: MetaKey, fact: Fact) -> Self {
        self.meta.insert(key, fact);
        self
    }

    fn with(mut self, alter: impl FnOnce(&mut Probe)) -> Self {
        alter(&mut self);
        self
    }
}

impl Packet for Probe {
    fn nfproto(&self) -> u8 {
        if self.v6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }
    }

    fn length(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn l4proto(&self) -> Option<u8> {
        Some(self.bytes[if self.v6 { 6 } else { 9 }])
    }

    fn is_later_fragment(&self) -> bool {
        !self.v6 && self.bytes[7] != 0
    }

    fn payload(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer {
        let start = match base {
            Base::Link => return Answer::Unknown,
            Base::Network => offset,
            Base::Transport => offset + self.l4(),
        };
        match self.bytes.get(start..start + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Answer::Break,
        }
        Answer::Done
    }

    fn meta(&self, key: MetaKey) -> Fact {
        self.meta.get(&key).copied().unwrap_or(Fact::Unknown)
    }

    fn ct(&self, key: CtKey, reply: Option<bool>) -> Fact {
        self.ct.get(&(key, reply)).copied().unwrap_or(Fact::Absent)
    }

    fn rt(&self, key: RtKey) -> Fact {
        assert_eq!(key, RtKey::Tcpmss);
        self.mss
    }

    fn physdevs(&self) -> Option<(&str, Option<&str>)> {
        self.physdevs
    }

    fn fib(&self, result: FibResult, flags: FibFlags) -> Fact {
        assert_eq!(result, FibResult::Addrtype);
        self.types.get(&flags.0).copied().unwrap_or(Fact::Unknown)
    }

    fn random(&mut self) -> Option<u32> {
        Some(1 << 30 | 1 << 31)
    }

    fn set_meta(&mut self, key: MetaKey, value: [u8; 4]) -> Answer {
        self.meta.insert(key, Fact::U32(u32::from_ne_bytes(value)));
        Answer::Done
    }

    fn set_ct(&mut self, key: CtKey, reply: Option<bool>, value: [u8; 16]) -> Answer {
        let [a, b, c, d, ..] = value;
        self.ct
            .insert((key, reply), Fact::U32(u32::from_ne_bytes([a, b, c, d])));
        Answer::Done
    }

    fn store(&mut self, _: Base, _: usize, _: &[u8], _: ChecksumFix) -> Answer {
        Answer::Unknown
    }

    fn store_tcp(&mut self, offset: usize, bytes: &[u8]) -> Answer {
        let start = self.l4() + offset;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        Answer::Done
    }
}

/// A struct of `size` bytes, zeroes but for these.
fn info(size: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut info = vec![0; size.next_multiple_of(8)];
    for (at, bytes) in parts {
        info[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    info
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u32]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn expr(target: bool, name: &str, revision: u32, info: &[u8], nfproto: u8) -> Option<Expr> {
    let xt = Xt {
        target,
        name: name.into(),
        revision,
        info: info.into(),
    };
    decode(&xt, nfproto, |_| StateId(0))
}

fn a_match(name: &str, revision: u32, info: &[u8], nfproto: u8) -> Option<Match> {
    match expr(false, name, revision, info, nfproto)? {
        Expr::Match(it) => Some(it),
        other => panic!("{other:?}"),
    }
}

/// What a match says of a packet of its family.
fn says(name: &str, revision: u32, info: &[u8], packet: &Probe) -> Said {
    let it = a_match(name, revision, info, packet.nfproto()).unwrap_or_else(|| panic!("{name} is not carried"));
    it.says(&mut packet.clone())
}

/// Whether a match holds of a packet, about which it knows.
fn holds(name: &str, revision: u32, info: &[u8], packet: &Probe) -> bool {
    match says(name, revision, info, packet) {
        Said::On => true,
        Said::Break => false,
        other => panic!("{name}: {other:?}"),
    }
}

/// Each extension with the size of its struct, in a family that has it.
const KNOWN: [(bool, &str, u32, usize, u8); 44] = [
    (false, "comment", 0, 256, 2),
    (false, "conntrack", 1, 152, 2),
    (false, "conntrack", 2, 156, 2),
    (false, "conntrack", 3, 164, 10),
    (false, "state", 0, 4, 2),
    (false, "connmark", 1, 12, 2),
    (false, "tcp", 0, 12, 2),
    (false, "udp", 0, 10, 2),
    (false, "udplite", 0, 10, 2),
    (false, "multiport", 1, 48, 2),
    (false, "icmp", 0, 4, 2),
    (false, "icmp6", 0, 4, 10),
    (false, "length", 0, 6, 2),
    (false, "ttl", 0, 2, 2),
    (false, "hl", 0, 2, 10),
    (false, "dscp", 0, 2, 2),
    (false, "tos", 1, 3, 2),
    (false, "iprange", 1, 68, 2),
    (false, "tcpmss", 0, 6, 2),
    (false, "mac", 0, 12, 2),
    (false, "mark", 1, 12, 2),
    (false, "addrtype", 0, 12, 2),
    (false, "addrtype", 1, 8, 10),
    (false, "pkttype", 0, 8, 2),
    (false, "statistic", 0, 24, 2),
    (false, "physdev", 0, 66, 2),
    (false, "owner", 1, 20, 2),
    (false, "policy", 0, 308, 2),
    (false, "rt", 0, 280, 10),
    (false, "frag", 0, 16, 10),
    (false, "hbh", 0, 40, 10),
    (false, "dst", 0, 40, 10),
    (true, "MARK", 2, 8, 2),
    (true, "TCPMSS", 0, 2, 2),
    (true, "CONNMARK", 1, 13, 2),
    (true, "CONNMARK", 2, 15, 10),
    (true, "SNAT", 0, 20, 2),
    (true, "DNAT", 0, 20, 2),
    (true, "SNAT", 1, 40, 10),
    (true, "DNAT", 2, 44, 2),
    (true, "MASQUERADE", 0, 20, 2),
    (true, "MASQUERADE", 0, 40, 10),
    (true, "REDIRECT", 0, 40, 10),
    (true, "NETMAP", 0, 40, 10),
];

/// A struct of zeroes that the kernel takes.
fn empty(target: bool, name: &str, size: usize, nfproto: u8) -> Vec<u8> {
    match (target, name, nfproto) {
        (true, "NETMAP", 10) => info(size, &[(0, &longs(&[1]))]),
        (true, "SNAT" | "DNAT" | "MASQUERADE", 2) if size == 20 => info(size, &[(0, &longs(&[1]))]),
        _ => info(size, &[]),
    }
}

#[test]
fn structs_of_other_lengths_and_revisions_are_not_carried() {
    for (target, name, revision, size, nfproto) in KNOWN {
        let right = empty(target, name, size, nfproto);
        let decode = |revision, info: &[u8]| expr(target, name, revision, info, nfproto);
        assert!(decode(revision, &right).is_some(), "{name} {revision}");
        let named = match decode(revision, &right) {
            Some(Expr::Match(it)) => it.name().to_owned(),
            Some(Expr::Target(it)) => it.name().to_owned(),
            Some(Expr::Chance { .. }) => "statistic".to_owned(),
            _ => String::new(),
        };
        let word = match name {
            "icmp6" => "icmp",
            "udplite" => "udp",
            other => other,
        };
        assert_eq!(named, word);
        for len in (0..right.len()).chain([right.len() + 1, right.len() + 8]) {
            let mut other = right.clone();
            other.resize(len, 0);
            assert_eq!(decode(revision, &other), None, "{name} of {len} bytes");
        }
        assert_eq!(decode(revision + 3, &right), None, "{name} {}", revision + 3);
        assert_eq!(expr(target, name, revision, &right, 1), None, "{name} of family inet");
        assert_eq!(expr(!target, name, revision, &right, nfproto), None, "{name}");
    }
    for name in ["limit", "hashlimit", "recent", "set", "LOG", "", "u32"] {
        assert_eq!(expr(name == "LOG", name, 0, &[0; 64], 2), None, "{name}");
    }
}

/// Whatever the bytes are, there is an answer.
#[test]
fn bytes_of_chance_are_decoded_or_not_and_run() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::ChaCha8Rng::seed_from_u64(7);
    let mut carried = 0;
    for (target, name, revision, size, nfproto) in KNOWN {
        for round in 0..400 {
            let mut bytes = empty(target, name, size, nfproto);
            let mut noise = vec![0; bytes.len()];
            random.fill_bytes(&mut noise);
            // Few bits, so that not all of it is refused.
            let kept = if round % 2 == 0 { 0x03 } else { 0xff };
            for (byte, noise) in bytes.iter_mut().zip(noise) {
                *byte ^= noise & kept & random.next_u32() as u8;
            }
            let mut packet = if nfproto == NFPROTO_IPV6 { v6() } else { v4() };
            packet.bytes.truncate(20 + random.next_u32() as usize % 60);
            packet.bytes.resize(packet.bytes.len().max(packet.l4()), 0x42);
            match expr(target, name, revision, &bytes, nfproto) {
                Some(Expr::Match(it)) => {
                    it.says(&mut packet);
                    it.depends();
                    carried += 1;
                }
                Some(Expr::Target(it)) => {
                    it.says(&mut packet);
                    carried += 1;
                }
                _ => {}
            }
        }
    }
    assert!(carried > 1000, "{carried}");
}

#[test]
fn chances() {
    let chance = |mode: u16, flags: u16, of: u32| {
        let info = info(24, &[(0, &words(&[mode, flags])), (4, &longs(&[of]))]);
        expr(false, "statistic", 0, &info, NFPROTO_IPV4)
    };
    // Whether it is open, and what it says of 2^30.
    let says = |flags, of| match chance(0, flags, of) {
        Some(Expr::Chance { of, .. }) => (of.is_open(), of.holds((1 << 31) + (1 << 30))),
        other => panic!("{other:?}"),
    };
    assert_eq!(says(0, (1 << 30) + 1), (true, true));
    assert_eq!(says(0, 1 << 30), (true, false));
    assert_eq!(says(1, 1 << 30), (true, true));
    assert_eq!(says(0, 0), (false, false));
    assert_eq!(says(0, 1 << 31), (false, true));
    assert_eq!(chance(1, 0, 5), None, "it counts");
}
