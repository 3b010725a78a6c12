//! IPv6 and the walk over its extension headers. RFC 8200; the checks are those of the kernel's `ip6_rcv_core`
//! (net/ipv6/ip6_input.c), the walk is that of `ipv6_skip_exthdr` (net/ipv6/exthdrs_core.c).
//!
//! ```text
//! 0                     4              6      7      8            24           40
//! | 6|class|flow label  | payload len  | next | hops | source     | destination| extension headers, upper layer ...
//! ```
//!
//! The walk is bounded by [`EXTENSIONS_MAX`]: what has more is left unresolved, and the packet goes to the kernel, as does
//! every packet with an extension header. A payload length of 0 is an empty payload here; a jumbogram (RFC 2675) is told
//! by a hop-by-hop header behind it, and is the caller's to refuse.

use super::{Malformed, Protocol, be16, be32, put};

/// Length of the fixed header in bytes.
pub const HEADER_LEN: usize = 40;

/// The most extension headers that the walk follows. The kernel's own flow dissector stops at 15.
pub const EXTENSIONS_MAX: usize = 8;

view! {
    /// An IPv6 packet.
}

#[inline(always)]
fn check(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() < HEADER_LEN || bytes[0] >> 4 != 6 || bytes.len() < HEADER_LEN + usize::from(be16(bytes, 4)) {
        return Err(Malformed);
    }
    Ok(())
}

/// What the walk over the extension headers found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The header at `offset`: the upper layer, or an extension header that the walk could not follow because it is cut,
    /// or lies behind [`EXTENSIONS_MAX`] others.
    pub protocol: Protocol,
    /// Where it starts, in bytes from the IPv6 header's first; never beyond the packet's end.
    pub offset: usize,
    /// Whether there is any extension header.
    pub extensions: bool,
    /// The fragment header, if there is one. Behind one with an offset the walk ends: other bytes follow there.
    pub fragment: Option<Fragment>,
}

/// A fragment header. RFC 8200, section 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where in the whole packet this fragment's payload starts, in bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification, which ties fragments together.
    pub ident: u32,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Traffic class: DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (be16(self.bytes(), 0) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        be32(self.bytes(), 0) & 0x000f_ffff
    }

    /// Length of everything behind the fixed header, in bytes.
    #[inline(always)]
    pub fn payload_len(&self) -> usize {
        usize::from(be16(self.bytes(), 4))
    }

    /// What follows the fixed header.
    #[inline(always)]
    pub fn next_header(&self) -> Protocol {
        Protocol(self.bytes()[6])
    }

    /// Hop limit.
    #[inline(always)]
    pub fn hop_limit(&self) -> u8 {
        self.bytes()[7]
    }

    /// Source address.
    #[inline(always)]
    pub fn src(&self) -> u128 {
        self.address(8)
    }

    /// Destination address, of the fixed header.
    #[inline(always)]
    pub fn dst(&self) -> u128 {
        self.address(24)
    }

    /// What lies between the fixed header and the packet's end, extension headers included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..HEADER_LEN + self.payload_len()]
    }

    /// Walks to the upper layer.
    #[inline]
    pub fn upper(&self) -> Upper {
        let protocol = self.next_header();
        let upper = Upper {
            protocol,
            offset: HEADER_LEN,
            extensions: false,
            fragment: None,
        };
        if protocol.is_extension() {
            walk(self.payload(), upper)
        } else {
            upper
        }
    }

    #[inline]
    fn address(&self, at: usize) -> u128 {
        let mut out = [0; 16];
        out.copy_from_slice(&self.bytes()[at..at + 16]);
        u128::from_be_bytes(out)
    }
}

/// The walk proper; `payload` starts at the first extension header. Out of line: most packets have none.
#[cold]
fn walk(payload: &[u8], mut upper: Upper) -> Upper {
    upper.extensions = true;
    let mut rest = payload;
    for _ in 0..EXTENSIONS_MAX {
        if !upper.protocol.is_extension() || upper.fragment.is_some_and(|fragment| fragment.offset != 0) {
            break;
        }
        let [next, units, ..] = *rest else { break };
        let len = match upper.protocol {
            Protocol::FRAGMENT => 8,
            Protocol::AH => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        let Some((header, behind)) = rest.split_at_checked(len) else {
            break;
        };
        if upper.protocol == Protocol::FRAGMENT {
            let field = be16(header, 2);
            upper.fragment = Some(Fragment {
                offset: usize::from(field & 0xfff8),
                more: field & 1 != 0,
                ident: be32(header, 4),
            });
        }
        upper.protocol = Protocol(next);
        upper.offset += len;
        rest = behind;
    }
    upper
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the traffic class.
    #[inline]
    pub fn set_traffic_class(&mut self, value: u8) {
        let word = be16(self.bytes(), 0) & 0xf00f | u16::from(value) << 4;
        put(self.bytes_mut(), 0, &word.to_be_bytes());
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, value: u8) {
        self.bytes_mut()[7] = value;
    }

    /// Takes one hop off the hop limit. The caller has seen to it that it is at least 1; at 0 it wraps.
    #[inline]
    pub fn decrement_hop_limit(&mut self) {
        let hops = self.hop_limit().wrapping_sub(1);
        self.set_hop_limit(hops);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, value: u128) {
        put(self.bytes_mut(), 8, &value.to_be_bytes());
    }

    /// Sets the destination address, of the fixed header.
    #[inline]
    pub fn set_dst(&mut self, value: u128) {
        put(self.bytes_mut(), 24, &value.to_be_bytes());
    }

    /// The payload, writable, extension headers included.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let range = HEADER_LEN..HEADER_LEN + self.payload_len();
        &mut self.bytes_mut()[range]
    }
}
