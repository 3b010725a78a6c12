//! What rules may ask of a packet and do to it: the side that whoever runs rules has to have.
//!
//! Everything is asked when an expression needs it, and every answer may be that it is not known here: then the packet is
//! the kernel's. What is set must be seen by what is asked later. What is set by a packet that turns out to be the kernel's
//! is thrown away by the implementor; it punts the frame as it came.

use super::expr::{Base, ChecksumFix, FibFlags, Log};
use super::keys::{CtKey, FibResult, MetaKey, RtKey, SocketKey};

/// An answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A number of 8 bits.
    U8(u8),
    /// One of 16 bits, in the order of the host.
    U16(u16),
    /// One of 32 bits, in the order of the host.
    U32(u32),
    /// One of 64 bits, in the order of the host.
    U64(u64),
    /// Two bytes, as they lie in packets.
    Bytes2([u8; 2]),
    /// Four bytes.
    Bytes4([u8; 4]),
    /// Sixteen bytes.
    Bytes16([u8; 16]),
    /// It does not exist: the rule breaks.
    Absent,
    /// It is not known here: the packet is the kernel's.
    Unknown,
}

impl Fact {
    /// The name of a link or the like: 16 bytes, the last one NUL.
    pub fn name(name: &str) -> Self {
        let mut bytes = [0; 16];
        let len = name.len().min(15);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Fact::Bytes16(bytes)
    }

    /// The bytes that registers get, and how many; none if there is no answer.
    pub fn bytes(self) -> Option<([u8; 16], usize)> {
        let mut bytes = [0; 16];
        let mut put = |value: &[u8]| {
            bytes[..value.len()].copy_from_slice(value);
            value.len()
        };
        let len = match self {
            Fact::U8(value) => put(&[value]),
            Fact::U16(value) => put(&value.to_ne_bytes()),
            Fact::U32(value) => put(&value.to_ne_bytes()),
            Fact::U64(value) => put(&value.to_ne_bytes()),
            Fact::Bytes2(value) => put(&value),
            Fact::Bytes4(value) => put(&value),
            Fact::Bytes16(value) => put(&value),
            Fact::Absent | Fact::Unknown => return None,
        };
        Some((bytes, len))
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It cannot be done: the rule breaks.
    Break,
    /// It cannot be done here: the packet is the kernel's.
    Unknown,
}

/// A packet at a hook. The defaults are for what only the kernel knows.
pub trait Packet {
    /// NFPROTO_IPV4 or NFPROTO_IPV6.
    fn nfproto(&self) -> u8;

    /// skb->len: from the IP header to the end.
    fn length(&self) -> u32;

    /// The transport protocol; none where extension headers hide it. A later fragment has one, too.
    fn l4proto(&self) -> Option<u8>;

    /// Whether it is a fragment, but not the first: what is behind its IP header is no transport header.
    fn is_later_fragment(&self) -> bool;

    /// Bytes of it, all of `out` or nothing. The transport header of a later fragment is not asked for.
    fn payload(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer;

    /// A fact of the packet. Length, family and transport protocol are not asked here.
    fn meta(&self, key: MetaKey) -> Fact;

    /// A fact of its connection, of a direction where there are two.
    fn ct(&self, key: CtKey, reply: Option<bool>) -> Fact;

    /// A fact of its route.
    fn rt(&self, _key: RtKey) -> Fact {
        Fact::Unknown
    }

    /// What the routes say of its addresses.
    fn fib(&self, _result: FibResult, _flags: FibFlags) -> Fact {
        Fact::Unknown
    }

    /// A fact of its local socket.
    fn socket(&self, _key: SocketKey, _level: u32) -> Fact {
        Fact::Unknown
    }

    /// The ports of its bridge by which it came in and by which it leaves, of a packet that br_netfilter shows to the hooks of
    /// IP.
    fn physdevs(&self) -> Option<(&str, Option<&str>)> {
        None
    }

    /// Any number.
    fn random(&mut self) -> Option<u32> {
        None
    }

    /// Sets a fact of the packet: `value` is the register's word.
    fn set_meta(&mut self, key: MetaKey, value: [u8; 4]) -> Answer;

    /// Sets a fact of its connection: `value` is 16 bytes from the register on, of which the key takes its own. Does nothing
    /// where there is no connection.
    fn set_ct(&mut self, key: CtKey, reply: Option<bool>, value: [u8; 16]) -> Answer;

    /// Writes bytes, with checksums as `nft_payload_set_eval` does.
    fn store(&mut self, base: Base, offset: usize, bytes: &[u8], fix: ChecksumFix) -> Answer;

    /// Writes bytes that the TCP checksum covers, an even number of them at an even offset of the TCP header, and that
    /// checksum as `inet_proto_csum_replace2` does.
    fn store_tcp(&mut self, offset: usize, bytes: &[u8]) -> Answer;

    /// Has it not tracked, unless it is.
    fn notrack(&mut self) -> Answer {
        Answer::Unknown
    }

    /// Logs it.
    fn log(&mut self, _log: &Log) -> Answer {
        Answer::Unknown
    }
}
