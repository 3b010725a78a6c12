//! Random frames of few values, so that filters of few values match some: IPv4 with options and fragments, IPv6 with extension
//! headers, TCP, UDP and others, VLAN tags, ARP, lengths for EtherTypes, and all of it cut short. One seed gives one sequence.

/// splitmix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A frame with its mark.
#[derive(Clone, Debug)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub mark: u32,
}

pub const PORTS: [u16; 6] = [1, 53, 80, 443, 1024, 5001];
pub const PROTOCOLS: [u8; 7] = [6, 17, 6, 17, 1, 58, 132];
pub const TOS: [u8; 4] = [0, 0x10, 0xb8, 0x03];
pub const MARKS: [u32; 6] = [0, 1, 2, 0x10, 0x1_0003, 0x2_0003];

impl Frame {
    /// What the kernel counts: the frame without its outermost tag.
    pub fn counted(&self) -> usize {
        self.bytes.len() - if tagged(&self.bytes) { 4 } else { 0 }
    }
}

fn tagged(bytes: &[u8]) -> bool {
    matches!(bytes[12..14], [0x81, 0] | [0x88, 0xa8])
}

pub fn many(random: &mut Random, count: usize) -> Vec<Frame> {
    (0..count).map(|_| one(random)).collect()
}

fn one(random: &mut Random) -> Frame {
    let mut bytes = vec![
        2,
        0,
        0,
        0,
        1,
        random.below(3) as u8,
        2,
        0,
        0,
        0,
        2,
        random.below(3) as u8,
    ];
    let tags: usize = random.of(&[0, 0, 0, 0, 1, 1, 2]);
    for tag in 0..tags {
        let kind = if tag + 1 < tags || random.one_in(6) {
            0x88a8u16
        } else {
            0x8100
        };
        bytes.extend(kind.to_be_bytes());
        bytes.extend((random.of(&[7u16, 0x2007, 100])).to_be_bytes());
    }
    match random.below(10) {
        0..5 => ipv4(random, &mut bytes),
        5..8 => ipv6(random, &mut bytes),
        8 => {
            bytes.extend([
                8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 2, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
            ]);
        }
        _ => {
            let kind = random.of(&[0x88b5u16, 0x0026, 0x0004, 0x9000]);
            bytes.extend(kind.to_be_bytes());
            let length = 4 + random.below(40);
            bytes.extend((0..length).map(|_| random.of(&[0, 0xff, 0x45, 10])));
        }
    }
    if random.one_in(8) {
        // What ends within its tags goes nowhere.
        let least = bytes.len().min(14 + 6 * tags);
        let length = least + random.below(bytes.len() - least + 1);
        bytes.truncate(length);
    } else {
        bytes.extend((0..random.below(40)).map(|at| at as u8));
    }
    let mark = random.of(&MARKS);
    Frame { bytes, mark }
}

fn ipv4(random: &mut Random, bytes: &mut Vec<u8>) {
    let options = random.of(&[0, 0, 0, 1, 2, 10]);
    let protocol = random.of(&PROTOCOLS);
    let fragment: u16 = random.of(&[0, 0, 0x4000, 0x4000, 0x2000, 0x2001, 0x0010]);
    bytes.extend([8, 0, 0x45 + options, random.of(&TOS), 0, 60, 0, 1]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([random.of(&[1, 63, 64, 255]), protocol, 0, 0]);
    bytes.extend([10, 0, random.below(2) as u8, random.below(4) as u8]);
    bytes.extend([10, 0, random.below(2) as u8, random.below(4) as u8]);
    bytes.extend(vec![1; 4 * usize::from(options)]);
    if random.one_in(30) {
        let version = bytes.len() - 20 - 4 * usize::from(options);
        bytes[version] = random.of(&[0x44, 0x55, 0x40]);
    }
    transport(random, protocol, bytes);
}

fn ipv6(random: &mut Random, bytes: &mut Vec<u8>) {
    let protocol = random.of(&PROTOCOLS);
    let extensions: &[u8] = random.of(&[&[] as &[u8], &[], &[], &[0], &[60], &[44], &[0, 44], &[43], &[51]]);
    let tos = random.of(&TOS);
    bytes.extend([
        0x86,
        0xdd,
        0x60 | tos >> 4,
        tos << 4 | random.below(2) as u8,
        0,
        0,
        0,
        40,
    ]);
    bytes.extend([extensions.first().copied().unwrap_or(protocol), random.of(&[1, 63, 64])]);
    for _ in 0..2 {
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([random.below(2) as u8, random.below(4) as u8]);
    }
    for (at, kind) in extensions.iter().enumerate() {
        let next = extensions.get(at + 1).copied().unwrap_or(protocol);
        match kind {
            44 => bytes.extend([next, 0, 0, random.of(&[0, 1, 1, 8]), 0, 0, 0, 7]),
            51 => bytes.extend([next, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
            _ => {
                let more = random.below(2) as u8;
                bytes.extend([next, more, 1, 4, 0, 0, 0, 0]);
                bytes.extend(vec![0; 8 * usize::from(more)]);
            }
        }
    }
    transport(random, protocol, bytes);
}

fn transport(random: &mut Random, protocol: u8, bytes: &mut Vec<u8>) {
    match protocol {
        1 => bytes.extend([random.of(&[8, 0, 3]), random.below(2) as u8, 0, 0, 0, 1, 0, 1]),
        58 => bytes.extend([random.of(&[128, 129, 1]), random.below(2) as u8, 0, 0, 0, 1, 0, 1]),
        _ => {
            bytes.extend(random.of(&PORTS).to_be_bytes());
            bytes.extend(random.of(&PORTS).to_be_bytes());
            match protocol {
                6 => {
                    let flags = random.of(&[0x02, 0x10, 0x12, 0x18, 0x11, 0xc2]);
                    bytes.extend([
                        0,
                        0,
                        0,
                        1,
                        0,
                        0,
                        0,
                        2,
                        random.of(&[0x50, 0x50, 0x51, 0x60, 0x40]),
                        flags,
                        1,
                        0,
                        0,
                        0,
                        0,
                        0,
                    ]);
                }
                17 => bytes.extend([0, 8, 0, 0]),
                _ => bytes.extend([0; 8]),
            }
        }
    }
}
