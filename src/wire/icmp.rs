//! ICMP. RFC 792; RFC 1191 for the MTU in "fragmentation needed".
//!
//! ```text
//! 0      1      2          4                 8
//! | type | code | checksum | ident | sequence | payload: echo data, or the packet that an error is about
//!                          | (unused) | MTU   |
//! ```

use super::{Malformed, be16, checksum, put};

/// Length of the header in bytes; what an error quotes starts here.
pub const HEADER_LEN: usize = 8;

/// The type of a message. IANA, "ICMP Parameters".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type(pub u8);

#[allow(missing_docs)] // the names are IANA's
impl Type {
    pub const ECHO_REPLY: Self = Self(0);
    pub const DEST_UNREACHABLE: Self = Self(3);
    pub const SOURCE_QUENCH: Self = Self(4);
    pub const REDIRECT: Self = Self(5);
    pub const ECHO: Self = Self(8);
    pub const TIME_EXCEEDED: Self = Self(11);
    pub const PARAMETER_PROBLEM: Self = Self(12);
    pub const TIMESTAMP: Self = Self(13);
    pub const TIMESTAMP_REPLY: Self = Self(14);
}

impl Type {
    /// Whether the payload quotes the packet that the message is about, by the kernel's `icmp_is_err`.
    #[inline]
    pub const fn is_error(self) -> bool {
        matches!(
            self,
            Self::DEST_UNREACHABLE
                | Self::SOURCE_QUENCH
                | Self::REDIRECT
                | Self::TIME_EXCEEDED
                | Self::PARAMETER_PROBLEM
        )
    }
}

/// Code of a [`Type::DEST_UNREACHABLE`]: the packet is too long for the next hop and may not be fragmented.
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;

view! {
    /// An ICMP message. Its bytes end where the IP packet ends.
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

    /// Checksum, over the whole message.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), 2)
    }

    /// Identifier of an echo or timestamp.
    #[inline]
    pub fn ident(&self) -> u16 {
        be16(self.bytes(), 4)
    }

    /// Sequence number of an echo or timestamp.
    #[inline]
    pub fn sequence(&self) -> u16 {
        be16(self.bytes(), 6)
    }

    /// MTU of the next hop in "fragmentation needed", in bytes.
    #[inline]
    pub fn mtu(&self) -> u16 {
        be16(self.bytes(), 6)
    }

    /// Echo data, or the packet that an error is about.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..]
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum::holds(self.bytes())
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
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let check = checksum::checksum(self.bytes());
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
