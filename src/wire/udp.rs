//! UDP. RFC 768; RFC 8200, section 8.1 for IPv6.
//!
//! ```text
//! 0          2          4        6          8
//! | src port | dst port | length | checksum | payload ...
//! ```
//!
//! A checksum field of 0 means that there is none; a sum that comes out as 0 is sent as 0xffff. IPv6 forbids the former
//! but for tunnels, and a router does not judge it. Checksums need the pseudo-header's sum, [`checksum::pseudo_v4`] or
//! [`checksum::pseudo_v6`], over this header's own length.

use super::{Malformed, be16, checksum, put};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header, in bytes.
pub const CHECKSUM_AT: usize = 6;

view! {
    /// A UDP datagram.
}

#[inline]
fn check(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() < HEADER_LEN {
        return Err(Malformed);
    }
    let len = usize::from(be16(bytes, 4));
    if len < HEADER_LEN || bytes.len() < len {
        Err(Malformed)
    } else {
        Ok(())
    }
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(self.bytes(), 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.bytes(), 2)
    }

    /// Length of the datagram, header included, in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(be16(self.bytes(), 4))
    }

    /// Checksum, or 0 for none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), CHECKSUM_AT)
    }

    /// The data, by the datagram's own length.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..self.total_len()]
    }

    /// Whether the checksum is right, or there is none.
    #[inline]
    pub fn verify_checksum(&self, pseudo: u64) -> bool {
        self.checksum() == 0 || checksum::fold(pseudo + checksum::sum(&self.bytes()[..self.total_len()])) == 0xffff
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the source port.
    #[inline]
    pub fn set_src_port(&mut self, value: u16) {
        put(self.bytes_mut(), 0, &value.to_be_bytes());
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, value: u16) {
        put(self.bytes_mut(), 2, &value.to_be_bytes());
    }

    /// Sets the checksum field, 0 for none.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put(self.bytes_mut(), CHECKSUM_AT, &value.to_be_bytes());
    }

    /// Computes and sets the checksum.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo: u64) {
        self.set_checksum(0);
        let check = !checksum::fold(pseudo + checksum::sum(&self.bytes()[..self.total_len()]));
        self.set_checksum(checksum::never_zero(check));
    }

    /// The data, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let range = HEADER_LEN..self.total_len();
        &mut self.bytes_mut()[range]
    }
}
