//! Netlink, as far as mirror needs it: sockets, dumps, and a view of messages and attributes.
//!
//! ```text
//!  datagram | nlmsghdr 16 | family header (rtmsg, ifinfomsg, ..) | attr | attr | .. || nlmsghdr | ..
//!  attr     | length 2 | type 2 | value, padded to 4 |
//! ```
//!
//! Attributes are walked in place and never turned into owned messages: a million routes come by here, and what a newer
//! kernel adds must reach the code that decides "not carried" instead of failing in a parser (linux/netlink.h, RFC 3549).
//!
//! Bounds: a datagram is at most [`DATAGRAM_MAX`] bytes (the kernel fills dumps up to 32 KiB); the event socket's buffer is
//! [`EVENTS_BYTES`], and what does not fit shows as [`MirrorError::Overrun`], upon which everything is read again.

use super::MirrorError;
use crate::packet::{Addr, Family};
use crate::port::socket_filter;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The longest datagram that is read, in bytes.
pub const DATAGRAM_MAX: usize = 256 << 10;

/// What the event socket may hold, in bytes: about 100,000 route changes.
pub const EVENTS_BYTES: usize = 64 << 20;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// RTM_NEWROUTE and the like.
    pub kind: u16,
    /// NLM_F_*.
    pub flags: u16,
    /// The family header and the attributes behind it.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The family header of `len` bytes and the attributes behind it, if the message is that long.
    pub fn split(&self, len: usize) -> Option<(&'a [u8], Attributes<'a>)> {
        let (header, rest) = self.payload.split_at_checked(len)?;
        Some((header, Attributes(rest)))
    }
}

/// Attributes, one after the other; ends at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The u16 at byte `at`, in host order.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The u32 at byte `at`, in host order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// An attribute that is a u32; 0 where it is too short.
pub fn as_u32(value: &[u8]) -> u32 {
    u32_at(value, 0).unwrap_or_default()
}

/// An attribute that is a C string.
pub fn as_str(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

/// An attribute that is an address, with the family that its length tells.
pub fn as_addr(value: &[u8]) -> Option<(Family, Addr)> {
    match value.len() {
        4 => Some((Family::V4, u32::from_be_bytes(value.try_into().ok()?).into())),
        16 => Some((Family::V6, u128::from_be_bytes(value.try_into().ok()?))),
        _ => None,
    }
}

/// The family that a header names, if it is one of ours.
pub fn family(af: u8) -> Option<Family> {
    match i32::from(af) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

/// The kernel's number of a family.
pub fn af(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

/// What of the groups that it subscribed to a socket takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// Entries of forwarding databases (RTM_NEWNEIGH and RTM_DELNEIGH of AF_BRIDGE).
    Fdb,
    /// All else.
    AllElse,
}

impl Hears {
    /// The socket filter: a message begins with its header, and behind it the family is the first byte.
    fn program(self) -> [socket_filter::Instruction; 7] {
        const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
        const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
        const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
        let step = |code: u32, k: u32, jt, jf| socket_filter::Instruction {
            code: code as u16,
            jt,
            jf,
            k,
        };
        // Loads are in network order, messages in the host's.
        let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
        let keep = |it: bool| if it { u32::MAX } else { 0 };
        [
            step(LOAD_HALF, 4, 0, 0),
            step(IF_EQUAL, kind(libc::RTM_NEWNEIGH), 1, 0),
            step(IF_EQUAL, kind(libc::RTM_DELNEIGH), 0, 3),
            step(LOAD_BYTE, HEADER as u32, 0, 0),
            step(IF_EQUAL, libc::AF_BRIDGE as u32, 0, 1),
            step(RETURN, keep(self == Hears::Fdb), 0, 0),
            step(RETURN, keep(self == Hears::AllElse), 0, 0),
        ]
    }
}

/// How a read of a dump went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more.
    More,
    /// Nothing has come yet.
    Wait,
    /// That was all of it; whether it was consistent (no NLM_F_DUMP_INTR).
    Done {
        /// Nothing changed in between, as far as the kernel can tell.
        consistent: bool,
    },
}

/// A socket with its buffer.
pub struct Channel {
    socket: Socket,
    seq: u32,
    interrupted: bool,
    /// A dump was asked for and not read to its end: the kernel takes no other one on this socket (EBUSY).
    is_dumping: bool,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("fd", &self.socket.as_raw_fd()).finish()
    }
}

impl Channel {
    fn open() -> Result<Self, MirrorError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(|e| MirrorError::io("opening a netlink socket", e))?;
        socket
            .bind_auto()
            .map_err(|e| MirrorError::io("binding a netlink socket", e))?;
        Ok(Self {
            socket,
            seq: 0,
            interrupted: false,
            is_dumping: false,
            buffer: Vec::with_capacity(DATAGRAM_MAX),
        })
    }

    /// A socket for dumps, in the calling thread's network namespace.
    pub fn for_requests() -> Result<Self, MirrorError> {
        let channel = Self::open()?;
        // Kernels before 4.20 lack it; all that is lost is that they would ignore a filter that we do not use.
        let _ = channel.socket.set_netlink_get_strict_chk(true);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(channel.fd(), 1 << 20);
        Ok(channel)
    }

    /// A socket that hears of `groups` what `hears` says, with room for `bytes` of it.
    pub fn for_events(groups: &[u32], hears: Hears, bytes: usize) -> Result<Self, MirrorError> {
        let channel = Self::open()?;
        socket_filter::attach(channel.fd(), &hears.program())
            .map_err(|e| MirrorError::io("filtering netlink events", e))?;
        // Beyond net.core.rmem_max takes CAP_NET_ADMIN in the first user namespace; without it, as much as is allowed.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(channel.fd(), bytes).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(channel.fd(), bytes)
                .map_err(|e| MirrorError::io("sizing the netlink event buffer", e.into()))?;
        }
        for &group in groups {
            // A group that this kernel does not know (nexthops before 5.3) has no events.
            match channel.socket.add_membership(group) {
                Err(e) if e.kind() != ErrorKind::InvalidInput => {
                    return Err(MirrorError::io("subscribing to netlink events", e));
                }
                _ => {}
            }
        }
        Ok(channel)
    }

    /// For poll(2).
    pub fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a dump request: `kind` with a family header (and attributes) of `body`. One that is still going on is given up,
    /// with its socket.
    pub fn request(&mut self, kind: u16, body: &[u8]) -> Result<(), MirrorError> {
        if self.is_dumping {
            *self = Self::for_requests()?;
        }
        self.seq = self.seq.wrapping_add(1);
        (self.interrupted, self.is_dumping) = (false, true);
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        message.extend_from_slice(&self.seq.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        self.socket
            .send_to(&message, &SocketAddr::new(0, 0), 0)
            .map_err(|e| MirrorError::io("asking the kernel for a dump", e))?;
        Ok(())
    }

    /// Reads one datagram of the dump that was asked for, waiting for it if `wait`.
    pub fn read(&mut self, wait: bool, mut each: impl FnMut(Message<'_>)) -> Result<Progress, MirrorError> {
        if !self.receive(wait)? {
            return Ok(Progress::Wait);
        }
        let mut rest = self.buffer.as_slice();
        while let Some((message, seq)) = take_message(&mut rest) {
            if seq != self.seq {
                continue; // of a dump that was given up
            }
            self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                NLMSG_DONE => {
                    self.is_dumping = false;
                    return Ok(Progress::Done {
                        consistent: !self.interrupted,
                    });
                }
                NLMSG_ERROR => {
                    self.is_dumping = false;
                    let code = u32_at(message.payload, 0).unwrap_or_default() as i32;
                    // What this kernel does not have (IPv6, nexthop objects) is empty.
                    if matches!(-code, libc::EAFNOSUPPORT | libc::EOPNOTSUPP) {
                        return Ok(Progress::Done { consistent: true });
                    }
                    return Err(MirrorError::io("dumping", std::io::Error::from_raw_os_error(-code)));
                }
                _ => each(message),
            }
        }
        Ok(Progress::More)
    }

    /// Asks for a dump and reads all of it; whether it was consistent.
    pub fn dump(&mut self, kind: u16, body: &[u8], mut each: impl FnMut(Message<'_>)) -> Result<bool, MirrorError> {
        self.request(kind, body)?;
        loop {
            if let Progress::Done { consistent } = self.read(true, &mut each)? {
                return Ok(consistent);
            }
        }
    }

    /// Reads one datagram of events without waiting; whether there was one.
    pub fn events(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<bool, MirrorError> {
        if !self.receive(false)? {
            return Ok(false);
        }
        let mut rest = self.buffer.as_slice();
        while let Some((message, _)) = take_message(&mut rest) {
            each(message);
        }
        Ok(true)
    }

    fn receive(&mut self, wait: bool) -> Result<bool, MirrorError> {
        self.buffer.clear();
        let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
        loop {
            match self.socket.recv(&mut self.buffer, flags) {
                Ok(len) if len > self.buffer.len() => return Err(MirrorError::Overrun),
                Ok(_) => return Ok(true),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Err(MirrorError::Overrun),
                Err(e) => return Err(MirrorError::io("reading from netlink", e)),
            }
        }
    }
}

/// The next message of a datagram, and its sequence number.
fn take_message<'a>(rest: &mut &'a [u8]) -> Option<(Message<'a>, u32)> {
    let len = u32_at(rest, 0)? as usize;
    let message = Message {
        kind: u16_at(rest, 4)?,
        flags: u16_at(rest, 6)?,
        payload: rest.get(HEADER..len)?,
    };
    let seq = u32_at(rest, 8)?;
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((message, seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_end_at_the_first_malformed_one() {
        let bytes = [5, 0, 1, 0, 7, 0, 0, 0, 4, 0, 2, 0x80, 200, 0, 3, 0];
        let found: Vec<_> = Attributes(&bytes).collect();
        assert_eq!(found, [(1, &[7u8][..]), (2, &[][..])]);
        assert_eq!(Attributes(&[3, 0, 1, 0]).next(), None);
        assert_eq!(Attributes(&[]).next(), None);
    }

    #[test]
    fn messages_are_cut_at_their_own_length() {
        let mut bytes = vec![];
        for (kind, payload) in [(16u16, &b"abcd"[..]), (17, b"e")] {
            bytes.extend_from_slice(&((16 + payload.len()) as u32).to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&[0; 2]);
            bytes.extend_from_slice(&9u32.to_ne_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(payload);
        }
        let mut rest = bytes.as_slice();
        let (first, seq) = take_message(&mut rest).unwrap();
        assert_eq!((first.kind, first.payload, seq), (16, &b"abcd"[..], 9));
        let (second, _) = take_message(&mut rest).unwrap();
        assert_eq!((second.kind, second.payload), (17, &b"e"[..]));
        assert!(take_message(&mut rest).is_none());
        let mut short = &bytes[..18];
        assert!(take_message(&mut short).is_none());
    }

    #[test]
    fn addresses_tell_their_family_by_length() {
        assert_eq!(as_addr(&[192, 0, 2, 1]), Some((Family::V4, 0xc000_0201)));
        assert_eq!(as_addr(&[0; 16]), Some((Family::V6, 0)));
        assert_eq!(as_addr(&[0; 8]), None);
    }
}
