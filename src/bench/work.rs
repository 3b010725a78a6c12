//! What a trial sends: the kind and the size of its frames, its flows, its rate and for how long. Plain data; it says
//! nothing of how frames are made ready or sent.
//!
//! A flow is a 4-tuple. There are `65536 - sport` source ports; flow `n` has source port `sport + n % ports`, the source
//! address `n / ports` after the first, and the destination address `n % dsts` after the first. So one pair of addresses gives
//! up to 64,512 flows from port 1,024 on, and ten million need 156 source addresses.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// What the frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// UDP datagrams.
    Udp,
    /// TCP segments that ask for a connection, each flow once and then anew.
    TcpSyn,
    /// TCP segments with ACK set and data, as in the middle of a connection (of which no handshake was seen).
    TcpAck,
    /// ICMP or ICMPv6 echo requests; the flow's source port is the identifier.
    Icmp,
}

/// `udp`, `tcp-syn`: as reports and options write it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Udp => "udp",
            Kind::TcpSyn => "tcp-syn",
            Kind::TcpAck => "tcp-ack",
            Kind::Icmp => "icmp",
        })
    }
}

/// Bytes of a frame with its Ethernet header, without the checksum of the wire (64 on the wire is 60 here, and veth has no
/// wire; the word of the field is kept: size 64 is 64 bytes in memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// All the same.
    Bytes(u16),
    /// Seven of 64, four of 594 and one of 1518 bytes in turn (the simple IMIX).
    Imix,
}

/// `64`, `1518`, `imix`: as reports and options write it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Bytes(bytes) => bytes.fmt(f),
            Size::Imix => f.pad("imix"),
        }
    }
}

/// Which flow the next frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// One after the other.
    RoundRobin,
    /// Any, each as likely.
    Random,
    /// The n-th most frequent one with a share of 1 / n^exponent.
    Zipf {
        /// 1.0 is the classic law.
        exponent: f64,
    },
}

/// The flows of a work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flows {
    /// How many; 1 to 10,000,000.
    pub count: u32,
    /// Which is next.
    pub order: Order,
    /// So many flows a second are new: the oldest is left and one never seen takes its place. 0: none.
    pub new_per_second: u32,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// Frames per second.
    Paced(f64),
    /// As fast as the source goes.
    Unpaced,
}

/// What one trial sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// What the frames are.
    pub kind: Kind,
    /// How long they are.
    pub size: Size,
    /// Their flows.
    pub flows: Flows,
    /// How fast they are sent.
    pub rate: Rate,
    /// For how long.
    pub duration: Duration,
    /// Of random orders; the same seed gives the same frames.
    pub seed: u64,
    /// Ethernet source; the sending port's own where none is given.
    pub src_mac: Option<[u8; 6]>,
    /// Ethernet destination: the next hop's.
    pub dst_mac: [u8; 6],
    /// The first source address; of the family of `dst`.
    pub src: IpAddr,
    /// The first destination address.
    pub dst: IpAddr,
    /// How many destination addresses follow each other from flow to flow (1: all to one).
    pub dsts: u32,
    /// The first source port.
    pub sport: u16,
    /// The destination port.
    pub dport: u16,
}
