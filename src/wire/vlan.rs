//! A VLAN tag: 802.1Q (customer) and 802.1ad (service). IEEE 802.1Q-2018, clause 9.6.
//!
//! The view starts behind the EtherType that announced the tag (0x8100 or 0x88a8):
//!
//! ```text
//! 0     3   4         16          32
//! | PCP | DEI | VID    | type      | payload ...
//! ```
//!
//! Stacked tags are views of payloads of views; who walks them bounds the depth.

use super::ether::EtherType;
use super::{Malformed, be16, put};

/// Length of the tag in bytes, without the EtherType that announced it.
pub const HEADER_LEN: usize = 4;

view! {
    /// A tag and what it carries.
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
    /// The whole tag control information.
    #[inline]
    pub fn tci(&self) -> u16 {
        be16(self.bytes(), 0)
    }

    /// Priority code point, 0 to 7.
    #[inline]
    pub fn priority(&self) -> u8 {
        (self.tci() >> 13) as u8
    }

    /// Drop eligible indicator.
    #[inline]
    pub fn drop_eligible(&self) -> bool {
        self.tci() & 0x1000 != 0
    }

    /// VLAN identifier, 0 to 4095.
    #[inline]
    pub fn vid(&self) -> u16 {
        self.tci() & 0x0fff
    }

    /// What the payload is.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(be16(self.bytes(), 2))
    }

    /// Everything behind the tag.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the whole tag control information.
    #[inline]
    pub fn set_tci(&mut self, value: u16) {
        put(self.bytes_mut(), 0, &value.to_be_bytes());
    }

    /// Sets the priority code point; only the low three bits of `value` count.
    #[inline]
    pub fn set_priority(&mut self, value: u8) {
        self.set_tci(self.tci() & 0x1fff | u16::from(value & 7) << 13);
    }

    /// Sets the type.
    #[inline]
    pub fn set_ethertype(&mut self, value: EtherType) {
        put(self.bytes_mut(), 2, &value.0.to_be_bytes());
    }

    /// The payload, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes_mut()[HEADER_LEN..]
    }
}
