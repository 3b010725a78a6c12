//! Ethernet II. IEEE 802.3, clause 3; RFC 894.
//!
//! ```text
//! 0                 6                 12         14
//! | destination     | source          | type     | payload ...
//! ```
//!
//! A type below 0x600 is a length (802.3 with LLC: STP and the like); nothing of that is ours, so it needs no view.

use super::{Mac, Malformed, be16, mac, put};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 14;

/// What the payload of an Ethernet frame or a VLAN tag is. IEEE, "EtherType".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4
    pub const IPV4: Self = Self(0x0800);
    /// ARP
    pub const ARP: Self = Self(0x0806);
    /// An 802.1Q customer tag
    pub const VLAN: Self = Self(0x8100);
    /// IPv6
    pub const IPV6: Self = Self(0x86dd);
    /// An 802.1ad service tag
    pub const QINQ: Self = Self(0x88a8);

    /// Whether a VLAN tag follows.
    #[inline]
    pub const fn is_tag(self) -> bool {
        matches!(self, Self::VLAN | Self::QINQ)
    }
}

view! {
    /// An Ethernet frame, from its destination address on, without the FCS.
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
    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Mac {
        mac(self.bytes(), 0)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Mac {
        mac(self.bytes(), 6)
    }

    /// What the payload is.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(be16(self.bytes(), 12))
    }

    /// Whether the destination is a group (multicast or broadcast).
    #[inline]
    pub fn is_group(&self) -> bool {
        self.bytes()[0] & 1 != 0
    }

    /// Everything behind the header, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, value: &Mac) {
        put(self.bytes_mut(), 0, value);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, value: &Mac) {
        put(self.bytes_mut(), 6, value);
    }

    /// Sets the type.
    #[inline]
    pub fn set_ethertype(&mut self, value: EtherType) {
        put(self.bytes_mut(), 12, &value.0.to_be_bytes());
    }

    /// The payload, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes_mut()[HEADER_LEN..]
    }
}
