//! For the trackers' tests: packets with right checksums, and a connection that takes them in as the walk does.
//!
//! [`Flow::take`] does what prerouting's `advance` and `begin` do, but for the table, counters and marks.

use super::{Outcome, Update, View, state_word, track};
use crate::packet::{Addr, Family, Flags, Parsed, PortIndex};
use crate::table::conntrack::{Config, Direction, Status, TICKS_PER_SECOND, Ticks};
use crate::wire::{Protocol, checksum};

/// Where the transport header lies in the frames made here: no tracker looks before it.
pub const L4: usize = 34;

/// The ends: original source and destination.
pub const ENDS: [[Addr; 2]; 2] = [
    [0xc000_0201, 0xc633_6402],
    [0x2001_0db8 << 96 | 1, 0x2001_0db8 << 96 | 2],
];

/// A packet with `segment` behind its IP header, which goes in `direction`.
pub fn packet(family: Family, proto: Protocol, direction: Direction, segment: &[u8]) -> (Parsed, Vec<u8>) {
    let [client, server] = ENDS[family as usize];
    let (src, dst) = match direction {
        Direction::Original => (client, server),
        Direction::Reply => (server, client),
    };
    let ports = proto.has_ports() && segment.len() >= 4;
    let half = |at: usize| match ports {
        true => u16::from_be_bytes([segment[at], segment[at + 1]]),
        false => 0,
    };
    let parsed = Parsed {
        src,
        dst,
        port: PortIndex(0),
        l3: 14,
        l4: L4 as u16,
        end: (L4 + segment.len()) as u16,
        sport: half(0),
        dport: half(2),
        proto: proto.0,
        ttl: 64,
        tos: 0,
        flags: Flags(if ports { Flags::PORTS } else { 0 }),
        family,
    };
    let mut frame = vec![0; L4];
    frame.extend(segment);
    frame.extend([0x55; 6]); // padding, which is none of the packet
    (parsed, frame)
}

/// The checksum of `covered` bytes of the packet, its field being 0.
pub fn checksum_of(parsed: &Parsed, covered: &[u8], proto: Protocol) -> [u8; 2] {
    let len = parsed.end - parsed.l4;
    let pseudo = match parsed.family {
        Family::V4 => checksum::pseudo_v4(parsed.src as u32, parsed.dst as u32, proto.0, len),
        Family::V6 => checksum::pseudo_v6(parsed.src, parsed.dst, proto.0, len.into()),
    };
    checksum::never_zero(!checksum::fold(pseudo + checksum::sum(covered))).to_be_bytes()
}

/// A UDP datagram or UDP-Lite packet (`covered` bytes of it in the checksum).
pub fn udp(
    family: Family,
    proto: Protocol,
    direction: Direction,
    data: &[u8],
    covered: Option<u16>,
) -> (Parsed, Vec<u8>) {
    let ports = match direction {
        Direction::Original => [0x12, 0x34, 0, 53],
        Direction::Reply => [0, 53, 0x12, 0x34],
    };
    let len = covered.unwrap_or(8 + data.len() as u16);
    let mut segment = [&ports[..], &len.to_be_bytes(), &[0, 0], data].concat();
    let (parsed, _) = packet(family, proto, direction, &segment);
    let sum = checksum_of(&parsed, &segment[..len.into()], Protocol::UDP);
    segment[6..8].copy_from_slice(&sum);
    packet(family, proto, direction, &segment)
}

/// An ICMP or ICMPv6 message.
pub fn icmp(family: Family, direction: Direction, mut segment: Vec<u8>) -> (Parsed, Vec<u8>) {
    let proto = match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    };
    segment[2..4].fill(0);
    let (parsed, _) = packet(family, proto, direction, &segment);
    let sum = match family {
        Family::V4 => checksum::checksum(&segment).to_be_bytes(),
        Family::V6 => checksum_of(&parsed, &segment, proto),
    };
    segment[2..4].copy_from_slice(&sum);
    packet(family, proto, direction, &segment)
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was the connection's.
    Valid,
    /// It was not.
    Invalid,
    /// It ended the connection and opened the next.
    Reopened,
}

/// A connection, and the packets of one tuple that come to it.
#[derive(Clone)]
pub struct Flow {
    pub config: Config,
    pub now: Ticks,
    pub view: View,
    proto: u8,
}

const NOTHING: View = View {
    confirmed: false,
    status: Status(0),
    left: 0,
    proto: [0; 7],
};

impl Flow {
    pub fn new() -> Self {
        Flow {
            config: Config::default(),
            now: 0xffff_ff00, // wraps soon
            view: NOTHING,
            proto: 0,
        }
    }

    /// Takes a packet in.
    pub fn take(&mut self, (parsed, frame): &(Parsed, Vec<u8>), direction: Direction) -> Seen {
        self.proto = parsed.proto;
        let direction = if self.view.confirmed {
            direction
        } else {
            Direction::Original
        };
        match track(parsed, frame, &self.view, direction, &self.config, self.now) {
            Outcome::Valid(update) => {
                self.apply(&update);
                if direction == Direction::Reply {
                    self.view.status = self.view.status | Status::SEEN_REPLY;
                }
                self.view.confirmed = true;
                if update.kill {
                    self.view = NOTHING;
                }
                Seen::Valid
            }
            Outcome::Invalid(update) => {
                if let Some(update) = update
                    && self.view.confirmed
                {
                    self.apply(&update);
                }
                Seen::Invalid
            }
            Outcome::Reopen => {
                self.view = NOTHING;
                assert_eq!(self.take(&(*parsed, frame.clone()), Direction::Original), Seen::Valid);
                Seen::Reopened
            }
        }
    }

    fn apply(&mut self, update: &Update) {
        self.view.proto = update.proto.unwrap_or(self.view.proto);
        self.view.left = update.timeout.unwrap_or(self.view.left);
        self.view.status = self.view.status | update.set;
    }

    /// Lets time go by.
    pub fn pass(&mut self, ticks: Ticks) {
        self.now = self.now.wrapping_add(ticks);
        self.view.left = self.view.left.saturating_sub(ticks);
    }

    /// Seconds that are left to it.
    pub fn left(&self) -> u32 {
        self.view.left / TICKS_PER_SECOND
    }

    pub fn has(&self, status: Status) -> bool {
        self.view.status.any(status)
    }

    pub fn assured(&self) -> bool {
        self.has(Status::ASSURED)
    }

    /// Its state in the words of conntrack-tools; "-" if there is none.
    pub fn word(&self) -> &'static str {
        match self.view.confirmed {
            true => state_word(self.proto, &self.view.proto).unwrap_or(""),
            false => "-",
        }
    }
}
