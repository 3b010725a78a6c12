//! ICMPv6. RFC 4443; RFC 4861 for neighbour discovery.
//!
//! ```text
//! 0      1      2          4                  8
//! | type | code | checksum | ident | sequence  | payload: echo data, or the packet that an error is about
//!                          | MTU               |
//! ```
//!
//! Unlike ICMP, the checksum covers the pseudo-header ([`checksum::pseudo_v6`]), so it follows addresses.

use super::{Malformed, be16, be32, checksum, put};

/// Length of the header in bytes; what an error quotes starts here.
pub const HEADER_LEN: usize = 8;

/// The type of a message. IANA, "ICMPv6 Parameters".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type(pub u8);

#[allow(missing_docs)] // the names are IANA's
impl Type {
    pub const DEST_UNREACHABLE: Self = Self(1);
    pub const PACKET_TOO_BIG: Self = Self(2);
    pub const TIME_EXCEEDED: Self = Self(3);
    pub const PARAMETER_PROBLEM: Self = Self(4);
    pub const ECHO: Self = Self(128);
    pub const ECHO_REPLY: Self = Self(129);
    pub const ROUTER_SOLICITATION: Self = Self(133);
    pub const ROUTER_ADVERTISEMENT: Self = Self(134);
    pub const NEIGHBOR_SOLICITATION: Self = Self(135);
    pub const NEIGHBOR_ADVERTISEMENT: Self = Self(136);
    pub const REDIRECT: Self = Self(137);
}

impl Type {
    /// Whether the payload quotes the packet that the message is about (RFC 4443, section 2.1).
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 < 128
    }
}

view! {
    /// An ICMPv6 message. Its bytes end where the IP packet ends.
}

#[inline]
fn check(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() < HEADER_LEN {
        Err(Malformed)
    } else {
        Ok(())
    }
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// The message's type.
    #[inline]
    pub fn kind(&self) -> Type {
        Type(self.bytes()[0])
    }

    /// Its code, within the type.
    #[inline]
    pub fn code(&self) -> u8 {
        self.bytes()[1]
    }

    /// Checksum, over the pseudo-header and the whole message.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), 2)
    }

    /// Identifier of an echo.
    #[inline]
    pub fn ident(&self) -> u16 {
        be16(self.bytes(), 4)
    }

    /// Sequence number of an echo.
    #[inline]
    pub fn sequence(&self) -> u16 {
        be16(self.bytes(), 6)
    }

    /// MTU of the next hop in "packet too big", in bytes.
    #[inline]
    pub fn mtu(&self) -> u32 {
        be32(self.bytes(), 4)
    }

    /// Echo data, or the packet that an error is about.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..]
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self, pseudo: u64) -> bool {
        checksum::fold(pseudo + checksum::sum(self.bytes())) == 0xffff
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put(self.bytes_mut(), 2, &value.to_be_bytes());
    }

    /// Computes and sets the checksum.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo: u64) {
        self.set_checksum(0);
        let check = !checksum::fold(pseudo + checksum::sum(self.bytes()));
        self.set_checksum(check);
    }

    /// Sets the identifier: what NAT translates in place of a port.
    #[inline]
    pub fn set_ident(&mut self, value: u16) {
        put(self.bytes_mut(), 4, &value.to_be_bytes());
    }

    /// The payload, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes_mut()[HEADER_LEN..]
    }
}
