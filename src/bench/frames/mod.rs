//! The frames of a work: what is the same in all of them is made once, what differs is written into each.
//!
//! ```text
//!   | Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8, TCP 20 or ICMP 8 | tag 10 | flow 4 | fill ...
//!   '--------------------- head, from a template ------------------------'
//!                   src, dst, checksum    sport, checksum, (number)  number, time
//! ```
//!
//! Both sources write frames in this way, `xsk` by [`Frames::write`] and `live` by the same steps in bpf/source.bpf.c, which
//! takes templates, places and sums from here. Checksums are never computed over a frame: a [`Shape`] has the sums over all
//! that does not vary, and the varying fields are added (RFC 1071: sums of parts add up).
//!
//! A flow varies the low 32 bits of the addresses and the source port (of an echo request, the identifier); see
//! [`super::work`] for how. No frame is shorter than 64 bytes, nor than its headers and ten bytes of tag: 72 for UDP and
//! ICMPv6 in IPv6, 84 for TCP in IPv6; what is asked for below that is raised, and said. A size of 1515 to 1518 counts the
//! checksum of the wire; where the port's MTU has no room for such a frame in memory it is the largest that it takes, 1514.

mod head;
#[cfg(test)]
mod tests;

pub use head::headers;

use super::tag::{TAG_MIN, fill};
use super::work::{Kind, Size, Work};
use crate::wire::{Mac, checksum, ether, ipv6, tcp};
use head::{places, shape};
use std::net::IpAddr;

/// The most flows of a work.
pub const FLOWS_MAX: u32 = 10_000_000;
/// The longest head: Ethernet, IPv6, TCP and ten bytes of tag.
pub const HEAD_MAX: usize = ether::HEADER_LEN + ipv6::HEADER_LEN + tcp::HEADER_LEN + TAG_MIN;
/// The shortest frame of Ethernet, as it is counted here.
const SIZE_MIN: usize = 64;
/// The longest with the checksum of the wire.
const SIZE_FULL: usize = 1518;
/// The simple IMIX: which of its three sizes are sent in turn.
const IMIX: [u16; 3] = [64, 594, 1518];
const IMIX_TURN: [u8; 12] = [0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 0, 1];

/// What the port says that sends the frames.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Where the varying fields lie, in bytes from the frame's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The checksum of the IPv4 header; 0 in IPv6, which has none.
    pub ip_check: usize,
    /// The low 32 bits of the source address.
    pub src: usize,
    /// The low 32 bits of the destination address.
    pub dst: usize,
    /// The source port, or the identifier.
    pub sport: usize,
    /// The checksum of the transport header.
    pub check: usize,
    /// The number of an echo request; 0 for what is none.
    pub number: usize,
    /// The tag.
    pub tag: usize,
}

/// What frames of one size have in common.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Bytes of the frame.
    pub len: usize,
    /// The bytes up to and with the ten of the tag, varying fields 0.
    pub head: Vec<u8>,
    /// The folded sum over the IPv4 header, varying fields 0.
    pub ip_sum: u16,
    /// The folded sum over all that the transport checksum covers, varying fields 0.
    pub sum: u16,
    /// Whether the flow's number is in the tag.
    pub flow: bool,
}

/// The varying fields of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Its number.
    pub sequence: u64,
    /// Its flow.
    pub flow: u32,
    /// The send time as it stands in the tag.
    pub time: u32,
}

/// How a flow's number becomes addresses and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuples {
    /// The first source address, low 32 bits.
    pub src: u32,
    /// The first destination address, low 32 bits.
    pub dst: u32,
    /// How many destination addresses there are.
    pub dsts: u32,
    /// The first source port.
    pub sport: u16,
    /// How many source ports there are.
    pub sports: u32,
}

impl Tuples {
    /// Source and destination address (the low 32 bits) and source port of a flow.
    #[inline]
    pub fn of(&self, flow: u32) -> (u32, u32, u16) {
        let (round, port) = (flow / self.sports, flow % self.sports);
        (
            self.src.wrapping_add(round),
            self.dst.wrapping_add(flow % self.dsts),
            self.sport.wrapping_add(port as u16),
        )
    }
}

/// All that is needed to make the frames of a work.
#[derive(Clone, Debug)]
pub struct Frames {
    /// One for each size.
    pub shapes: Vec<Shape>,
    /// Which of them are sent in turn.
    pub turn: &'static [u8],
    /// Where the varying fields lie.
    pub places: Places,
    /// What flows are.
    pub tuples: Tuples,
    /// What the frames are.
    pub kind: Kind,
    /// IPv6.
    pub v6: bool,
    /// What is to be said, one line each.
    pub notes: Vec<String>,
}

/// The bytes of the shortest frame of a kind: headers and the tag without the flow, but 64 at least.
pub const fn smallest(kind: Kind, v6: bool) -> usize {
    let least = headers(kind, v6) + TAG_MIN;
    if least > SIZE_MIN { least } else { SIZE_MIN }
}

impl Frames {
    /// The frames of `work` with the number `run`, as `sender` sends them.
    ///
    /// # Errors
    /// One line: what of the work cannot be, and what can.
    pub fn new(work: &Work, run: u16, sender: &Sender) -> Result<Self, String> {
        let v6 = match (work.src, work.dst) {
            (IpAddr::V4(_), IpAddr::V4(_)) => false,
            (IpAddr::V6(_), IpAddr::V6(_)) => true,
            (src, dst) => {
                return Err(format!(
                    "{src} and {dst} are not of one family: give two IPv4 or two IPv6 addresses"
                ));
            }
        };
        if !(1..=FLOWS_MAX).contains(&work.flows.count) {
            return Err(format!(
                "{} flows are not possible: 1 to {FLOWS_MAX} are",
                work.flows.count
            ));
        }
        if work.dsts == 0 {
            return Err("there must be a destination address: 1 or more".to_owned());
        }
        let mut notes = Vec::new();
        let (sizes, turn): (&[u16], &'static [u8]) = match &work.size {
            Size::Bytes(size) => (std::slice::from_ref(size), &[0]),
            Size::Imix => (&IMIX, &IMIX_TURN),
        };
        let lens = sizes
            .iter()
            .map(|&size| length(size.into(), work.kind, v6, sender.mtu, &mut notes));
        let lens = lens.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            shapes: lens.into_iter().map(|len| shape(work, run, sender, v6, len)).collect(),
            turn,
            places: places(work.kind, v6),
            tuples: Tuples {
                src: low(work.src),
                dst: low(work.dst),
                dsts: work.dsts,
                sport: work.sport,
                sports: 0x1_0000 - u32::from(work.sport),
            },
            kind: work.kind,
            v6,
            notes,
        })
    }

    /// What the frame with this number looks like.
    #[inline]
    pub fn shape(&self, sequence: u64) -> &Shape {
        let nth = (sequence % self.turn.len() as u64) as usize;
        &self.shapes[usize::from(self.turn[nth])]
    }

    /// The longest frame.
    pub fn len_max(&self) -> usize {
        self.shapes.iter().map(|shape| shape.len).max().unwrap_or(0)
    }

    /// A frame as long as the longest, without a head: its fill is where it belongs, and the same for all shapes.
    pub fn blank(&self) -> Vec<u8> {
        (0..self.len_max())
            .map(|at| at.checked_sub(self.places.tag).map_or(0, fill))
            .collect()
    }

    /// Writes everything but the fill into a frame that [`Frames::blank`] was copied to once; `frame` is as long as the shape
    /// says at least.
    #[inline]
    pub fn write(&self, shape: &Shape, fields: &Fields, frame: &mut [u8]) {
        let at = &self.places;
        let (src, dst, sport) = self.tuples.of(fields.flow);
        let number = fields.sequence as u32;
        frame[..shape.head.len()].copy_from_slice(&shape.head);
        put32(frame, at.src, src);
        put32(frame, at.dst, dst);
        put16(frame, at.sport, sport);
        put32(frame, at.tag + 2, number);
        put32(frame, at.tag + 6, fields.time);
        let addresses = halves(src) + halves(dst);
        let mut sum = u32::from(shape.sum) + u32::from(sport) + halves(number) + halves(fields.time);
        if shape.flow {
            put32(frame, at.tag + TAG_MIN, fields.flow);
            sum += halves(fields.flow);
        }
        if self.v6 || self.kind != Kind::Icmp {
            sum += addresses;
        }
        if self.kind == Kind::Icmp {
            put16(frame, at.number, number as u16);
            sum += number & 0xffff;
        }
        let check = !checksum::fold(sum.into());
        let check = if self.kind == Kind::Udp {
            checksum::never_zero(check)
        } else {
            check
        };
        put16(frame, at.check, check);
        if !self.v6 {
            put16(
                frame,
                at.ip_check,
                !checksum::fold((u32::from(shape.ip_sum) + addresses).into()),
            );
        }
    }

    /// One whole frame.
    pub fn make(&self, fields: &Fields) -> Vec<u8> {
        let shape = self.shape(fields.sequence);
        let mut frame = self.blank();
        frame.truncate(shape.len);
        self.write(shape, fields, &mut frame);
        frame
    }
}

/// How long a frame is that shall have `size` bytes.
fn length(size: usize, kind: Kind, v6: bool, mtu: u32, notes: &mut Vec<String>) -> Result<usize, String> {
    let (least, most) = (smallest(kind, v6), mtu as usize + ether::HEADER_LEN);
    if size < least {
        notes.push(format!(
            "frames of {size} bytes have {least}: {} of headers, and no less than {TAG_MIN} for the tag",
            headers(kind, v6)
        ));
        Ok(least)
    } else if size <= most {
        Ok(size)
    } else if size <= SIZE_FULL && size - 4 <= most {
        notes.push(format!(
            "frames of {size} bytes are {most} in memory: the other {} of them are of the wire's checksum",
            size - most
        ));
        Ok(most)
    } else {
        Err(format!(
            "frames of {size} bytes do not fit the port's MTU of {mtu}: give a size of {most} at most, or raise the MTU on the \
             whole way (ip link set PORT mtu {})",
            size - ether::HEADER_LEN
        ))
    }
}

fn low(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => u128::from(address) as u32,
    }
}

#[inline]
fn halves(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

#[inline]
fn put16(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[inline]
fn put32(frame: &mut [u8], at: usize, value: u32) {
    frame[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
