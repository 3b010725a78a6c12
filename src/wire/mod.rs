//! Checked views of the headers on the wire, in the manner of smoltcp.
//!
//! Layer 0. One file per header; each has a `Packet<T: AsRef<[u8]>>` over bytes that start at that header:
//!
//! ```text
//! ether -> vlan -> arp
//!       \      \-> ipv4 -> icmp            new_checked   the only way in: lengths are judged here, once
//!        \-------> ipv6 -> icmpv6          getters       one per field, in the order of the header
//!                      \-> tcp, udp, sctp  setters       what a forwarder rewrites, and nothing else
//!                                          payload       what this header carries, by its own length
//! ```
//!
//! No accessor panics on a view that `new_checked` made: there is no setter for a length or an offset, so what was judged
//! stays true. Numbers are in host order; addresses are numbers as in [`crate::packet::Addr`]. Numbers of protocols and
//! kinds are newtypes over integers, so that an unknown one is a value like any other.
//!
//! A setter changes its field alone. What depends on it (a checksum) follows by [`checksum::Delta`], or by the
//! `fill_checksum` of the view. No I/O, no allocation, no `unsafe`.

/// The common part of every view: the type, the way in and the way out. The file gives `fn check(&[u8])`.
macro_rules! view {
    ($(#[$doc:meta])*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Packet<T: AsRef<[u8]>> {
            buffer: T,
        }

        impl<T: AsRef<[u8]>> Packet<T> {
            /// A view of `buffer`, which starts at this header.
            ///
            /// # Errors
            /// [`Malformed`](crate::wire::Malformed) if the bytes are fewer than the header, or than its length fields say,
            /// or if these contradict each other.
            #[inline(always)]
            pub fn new_checked(buffer: T) -> Result<Self, crate::wire::Malformed> {
                check(buffer.as_ref())?;
                Ok(Self { buffer })
            }

            /// The bytes back.
            #[inline]
            pub fn into_inner(self) -> T {
                self.buffer
            }

            #[inline(always)]
            fn bytes(&self) -> &[u8] {
                self.buffer.as_ref()
            }
        }

        impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
            #[inline]
            fn bytes_mut(&mut self) -> &mut [u8] {
                self.buffer.as_mut()
            }
        }
    };
}

pub mod arp;
pub mod checksum;
pub mod ether;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vlan;

#[cfg(test)]
mod tests;

/// Bytes that are not the header they were taken for: too short, or with lengths that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed header")]
pub struct Malformed;

/// An Ethernet address as it lies on the wire.
pub type Mac = [u8; 6];

/// An IP protocol number (IPv4 "protocol", IPv6 "next header"). IANA, "Protocol Numbers".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

#[allow(missing_docs)] // the names are IANA's
impl Protocol {
    pub const HOP_BY_HOP: Self = Self(0);
    pub const ICMP: Self = Self(1);
    pub const IGMP: Self = Self(2);
    pub const IPIP: Self = Self(4);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const DCCP: Self = Self(33);
    pub const IPV6: Self = Self(41);
    pub const ROUTING: Self = Self(43);
    pub const FRAGMENT: Self = Self(44);
    pub const GRE: Self = Self(47);
    pub const ESP: Self = Self(50);
    pub const AH: Self = Self(51);
    pub const ICMPV6: Self = Self(58);
    pub const NO_NEXT: Self = Self(59);
    pub const DEST_OPTIONS: Self = Self(60);
    pub const SCTP: Self = Self(132);
    pub const UDPLITE: Self = Self(136);
}

impl Protocol {
    /// Whether the first four bytes of the transport header are a source and a destination port.
    #[inline]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::UDPLITE | Self::SCTP | Self::DCCP)
    }

    /// Whether this is an IPv6 extension header that leads on to another header, by the kernel's `ipv6_ext_hdr` (ESP and
    /// "no next header" end the chain, mobility and the like count as upper layers).
    #[inline]
    pub const fn is_extension(self) -> bool {
        matches!(
            self,
            Self::HOP_BY_HOP | Self::ROUTING | Self::FRAGMENT | Self::AH | Self::DEST_OPTIONS
        )
    }
}

// Callers have judged the length; see the module's head.

#[inline(always)]
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn mac(bytes: &[u8], at: usize) -> Mac {
    let mut out = [0; 6];
    out.copy_from_slice(&bytes[at..at + 6]);
    out
}

#[inline]
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
