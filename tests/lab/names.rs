//! Ports that NAT drew: where two labs may choose freely, they are compared up to a renaming.
//!
//! ```text
//!   kernel's lab:  10.0.1.1:40001 > server     a name of the one is told for a name of the other, when a scenario has
//!   tested lab:    10.0.1.1:51234 > server     seen both; from then on the tested lab's captures and table say 40001
//! ```
//!
//! A name is the translated address and port and the peer that it is used with, so that the renaming is one-to-one. Renamed are
//! the ports of packets, with their checksums by the difference, so that a wrong one stays wrong; what ICMP errors quote; and
//! the tuples of the table. An ICMP identifier counts as a port, its peer has port 0.

use super::packet::{crc32c, proto};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a packet comes from, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    pub protocol: u8,
    pub src: (IpAddr, u16),
    pub dst: (IpAddr, u16),
}

impl Ends {
    /// Those of an answer.
    pub fn back(self) -> Self {
        Ends {
            src: self.dst,
            dst: self.src,
            ..self
        }
    }
}

/// See the file's head.
#[derive(Clone, Default)]
pub struct Names {
    /// The kernel's, by the tested lab's, of both directions.
    kernels: HashMap<Ends, Ends>,
}

/// A packet's ends, and where in its bytes they are.
struct Found {
    ends: Ends,
    /// Of the source's port and the destination's; of an ICMP query both are its identifier.
    at: [usize; 2],
    /// The checksum's, and whether 0 means that there is none.
    sum: Option<(usize, bool)>,
    l4: usize,
}

const SCTP: u8 = 132;

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The number that a test gave a packet: the IPv4 identification or the IPv6 flow label, which a router leaves alone.
pub fn mark_of(frame: &[u8]) -> Option<u16> {
    match frame.get(12..14)? {
        [0x08, 0x00] => word(frame, 18),
        [0x86, 0xdd] => word(frame, 16),
        _ => None,
    }
}

/// The ends of a whole packet, or of a first fragment; none of an ICMP error.
pub fn ends_of(frame: &[u8]) -> Option<Ends> {
    let found = find(frame, 14)?;
    (!found.is_error()).then_some(found.ends)
}

impl Found {
    fn is_error(&self) -> bool {
        matches!(self.ends.protocol, proto::ICMP | proto::ICMPV6) && self.at == [0; 2]
    }
}

fn find(bytes: &[u8], l3: usize) -> Option<Found> {
    let (protocol, src, dst, l4) = match bytes.get(l3)? >> 4 {
        4 => {
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
            if word(bytes, l3 + 6)? & 0x1fff != 0 {
                return None;
            }
            let l4 = l3 + usize::from(bytes[l3] & 0xf) * 4;
            (
                *bytes.get(l3 + 9)?,
                IpAddr::from(address(l3 + 12)?),
                address(l3 + 16)?.into(),
                l4,
            )
        }
        _ => {
            let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
            let (mut protocol, mut l4) = (*bytes.get(l3 + 6)?, l3 + 40);
            if protocol == proto::FRAGMENT {
                if word(bytes, l4 + 2)? & 0xfff8 != 0 {
                    return None;
                }
                (protocol, l4) = (*bytes.get(l4)?, l4 + 8);
            }
            (protocol, IpAddr::from(address(l3 + 8)?), address(l3 + 24)?.into(), l4)
        }
    };
    let found = |ports: [u16; 2], at: [usize; 2], sum: Option<(usize, bool)>| Found {
        ends: Ends {
            protocol,
            src: (src, ports[0]),
            dst: (dst, ports[1]),
        },
        at,
        sum,
        l4,
    };
    let ports = || Some([word(bytes, l4)?, word(bytes, l4 + 2)?]);
    let at = [l4, l4 + 2];
    Some(match (protocol, *bytes.get(l4)?) {
        (proto::TCP, _) => found(ports()?, at, Some((l4 + 16, false))),
        (proto::UDP, _) => found(ports()?, at, Some((l4 + 6, true))),
        (136, _) => found(ports()?, at, Some((l4 + 6, false))),
        (SCTP, _) => found(ports()?, at, None),
        (proto::ICMP, 8 | 13) | (proto::ICMPV6, 128 | 139) => {
            found([word(bytes, l4 + 4)?, 0], [l4 + 4; 2], Some((l4 + 2, false)))
        }
        (proto::ICMP, 0 | 14) | (proto::ICMPV6, 129 | 140) => {
            found([0, word(bytes, l4 + 4)?], [l4 + 4; 2], Some((l4 + 2, false)))
        }
        (proto::ICMP | proto::ICMPV6, _) => found([0, 0], [0; 2], Some((l4 + 2, false))),
        _ => found([0, 0], [0; 2], None),
    })
}

/// Sets a word, and has the checksum at `sum` follow.
fn set(bytes: &mut [u8], at: usize, new: u16, sum: Option<usize>) {
    let Some(old) = word(bytes, at) else { return };
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    let Some((sum, check)) = sum.and_then(|sum| Some((sum, word(bytes, sum)?))) else {
        return;
    };
    let mut total = u32::from(!check) + u32::from(!old) + u32::from(new);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    bytes[sum..sum + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}

impl Names {
    /// From now on what is sent from and to `tested` there, and back, is shown as the kernel's.
    pub fn add(&mut self, kernel: Ends, tested: Ends) {
        for (kernel, tested) in [(kernel, tested), (kernel.back(), tested.back())] {
            if kernel == tested {
                self.kernels.remove(&tested);
            } else {
                self.kernels.insert(tested, kernel);
            }
        }
    }

    /// Whether no name differs.
    pub fn is_empty(&self) -> bool {
        self.kernels.is_empty()
    }

    /// The ports of both ends by the kernel's names, if they have any.
    fn renamed(&self, ends: Ends) -> Option<[u16; 2]> {
        self.kernels.get(&ends).map(|kernel| [kernel.src.1, kernel.dst.1])
    }

    /// A frame of the tested lab as the kernel's would have it.
    pub fn rename(&self, frame: &mut [u8]) {
        if matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd])) {
            self.rename_at(frame, 14, None);
        }
    }

    fn rename_at(&self, bytes: &mut [u8], l3: usize, outer: Option<usize>) {
        let Some(found) = find(bytes, l3) else { return };
        if found.is_error() {
            if let (None, Some((sum, _))) = (outer, found.sum) {
                self.rename_at(bytes, found.l4 + 8, Some(sum));
            }
            return;
        }
        if found.at == [0; 2] {
            return;
        }
        let Some(names) = self.renamed(found.ends) else { return };
        let is_query = found.at[0] == found.at[1];
        for (at_end, (new, at)) in names.into_iter().zip(found.at).enumerate() {
            // A query's one identifier is that of the end which is not 0.
            let own = [found.ends.src.1, found.ends.dst.1][at_end];
            if is_query && own == 0 && new == 0 {
                continue;
            }
            let old = word(bytes, at).unwrap_or_default();
            set(bytes, at, new, outer);
            // The packet's own checksum, which an outer one covers, too.
            let Some((sum, none)) = found.sum else { continue };
            let Some(check) = word(bytes, sum).filter(|check| !none || *check != 0) else {
                continue;
            };
            let pair = [old.to_be_bytes(), check.to_be_bytes()].concat();
            let mut pair = pair;
            set(&mut pair, 0, new, Some(2));
            let check = match word(&pair, 2).unwrap_or_default() {
                0 if none => 0xffff,
                check => check,
            };
            set(bytes, sum, check, outer);
        }
        if found.ends.protocol == SCTP {
            let length = match bytes[l3] >> 4 {
                4 => word(bytes, l3 + 2),
                _ => word(bytes, l3 + 4).map(|length| length + 40),
            };
            if let Some(packet) = bytes.get(found.l4..l3 + usize::from(length.unwrap_or_default()))
                && packet.len() >= 12
            {
                let mut packet = packet.to_vec();
                packet[8..12].fill(0);
                let [a, b, c, d] = crc32c(&packet).to_le_bytes().map(u16::from);
                for (at, word) in [(8, a << 8 | b), (10, c << 8 | d)] {
                    set(bytes, found.l4 + at, word, outer);
                }
            }
        }
    }

    /// The tuple of a table's line likewise.
    pub fn rename_tuple(&self, protocol: u8, tuple: &str) -> String {
        let value = |key: &str| {
            tuple
                .split(' ')
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let address = |key: &str| value(key).and_then(|text| text.parse().ok());
        let (Some(src), Some(dst)) = (address("src"), address("dst")) else {
            return tuple.to_string();
        };
        let port = |key: &str| value(key).and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
        let is_answer = matches!(value("type"), Some("0" | "14" | "129"));
        let (keys, ports) = match (value("id"), is_answer) {
            (Some(_), false) => (["id", "id"], [port("id"), 0]),
            (Some(_), true) => (["id", "id"], [0, port("id")]),
            (None, _) => (["sport", "dport"], [port("sport"), port("dport")]),
        };
        let ends = Ends {
            protocol,
            src: (src, ports[0]),
            dst: (dst, ports[1]),
        };
        let mut words: Vec<String> = tuple.split(' ').map(str::to_string).collect();
        for (at, key) in keys.into_iter().enumerate() {
            let (Some(names), prefix) = (self.renamed(ends), format!("{key}=")) else {
                continue;
            };
            let new = names[at];
            if key == "id" && ports[at] == 0 && new == 0 {
                continue;
            }
            for word in words.iter_mut().filter(|word| word.starts_with(&prefix)) {
                *word = format!("{prefix}{new}");
            }
        }
        words.join(" ")
    }
}
