//! What identifies one direction of a connection, as `struct nf_conntrack_tuple`.
//!
//! ```text
//!  protocol            sport               dport
//!  TCP UDP(-Lite) SCTP source port         destination port
//!  ICMP ICMPv6         identifier          type << 8 | code
//!  GRE                 key (PPTP call id)  key
//!  others              0                   0
//! ```

use crate::packet::{Addr, Family};
use crate::wire::Protocol;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// See the file's head.
    pub sport: u16,
    /// See the file's head.
    pub dport: u16,
    /// IP protocol.
    pub proto: u8,
    /// IPv4 or IPv6.
    pub family: Family,
    /// Conntrack zone; 0 is the default one.
    pub zone: u16,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// That of the first packet.
    Original,
    /// The other.
    Reply,
}

impl Direction {
    /// The other one.
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        }
    }
}

impl Tuple {
    /// The tuple of an answer to this one, without NAT; `None` for an ICMP type that has no answer (invmap of
    /// nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c).
    #[inline]
    pub fn invert(&self) -> Option<Tuple> {
        let (sport, dport) = match Protocol(self.proto) {
            Protocol::ICMP | Protocol::ICMPV6 => {
                let kind = inverse_type(self.family, (self.dport >> 8) as u8)?;
                (self.sport, u16::from(kind) << 8 | self.dport & 0xff)
            }
            _ => (self.dport, self.sport),
        };
        Some(Tuple {
            src: self.dst,
            dst: self.src,
            sport,
            dport,
            ..*self
        })
    }
}

/// The type that answers an ICMP query, or that it answers.
fn inverse_type(family: Family, kind: u8) -> Option<u8> {
    const PAIRS_V4: [(u8, u8); 4] = [(8, 0), (13, 14), (15, 16), (17, 18)];
    const PAIRS_V6: [(u8, u8); 2] = [(128, 129), (139, 140)];
    let pairs: &[(u8, u8)] = match family {
        Family::V4 => &PAIRS_V4,
        Family::V6 => &PAIRS_V6,
    };
    pairs.iter().find_map(|&(query, answer)| match kind {
        _ if kind == query => Some(answer),
        _ if kind == answer => Some(query),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverse_inverted_is_the_tuple() {
        let tuple = |proto: Protocol, dport| Tuple {
            src: 1,
            dst: 2,
            sport: 3,
            dport,
            proto: proto.0,
            family: Family::V4,
            zone: 7,
        };
        for tuple in [
            tuple(Protocol::TCP, 80),
            tuple(Protocol::ICMP, 0x0800),
            tuple(Protocol::ICMP, 0x0e00),
        ] {
            let inverse = tuple.invert().unwrap();
            assert_eq!((inverse.src, inverse.dst), (2, 1));
            assert_eq!(inverse.invert(), Some(tuple));
        }
        assert_eq!(tuple(Protocol::ICMP, 0x0800).invert().unwrap().dport, 0);
        assert_eq!(tuple(Protocol::ICMP, 0x0300).invert(), None, "an error answers nothing");
    }
}
