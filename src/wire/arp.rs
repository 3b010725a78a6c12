//! ARP for IPv4 over Ethernet, the one form that `new_checked` accepts. RFC 826.
//!
//! ```text
//! 0       2       4    5    6       8          14       18         24       28
//! | htype | ptype | hl | pl | oper  | sender   | sender | target   | target |
//! |     1 | 0x800 |  6 |  4 |       | MAC      | IPv4   | MAC      | IPv4   |
//! ```
//!
//! ARP belongs to the kernel; the view serves traces, captures and tests.

use super::{Mac, Malformed, be16, be32, mac, put};

/// Length of the packet in bytes; what follows in a frame is padding.
pub const HEADER_LEN: usize = 28;

/// The operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation(pub u16);

impl Operation {
    /// Who has the target address?
    pub const REQUEST: Self = Self(1);
    /// The sender has it.
    pub const REPLY: Self = Self(2);
}

view! {
    /// An ARP packet for IPv4 over Ethernet.
}

#[inline]
fn check(bytes: &[u8]) -> Result<(), Malformed> {
    const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
    if bytes.len() < HEADER_LEN || bytes[..6] != KIND {
        Err(Malformed)
    } else {
        Ok(())
    }
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Request, reply or something else.
    #[inline]
    pub fn operation(&self) -> Operation {
        Operation(be16(self.bytes(), 6))
    }

    /// The sender's Ethernet address.
    #[inline]
    pub fn sender_mac(&self) -> Mac {
        mac(self.bytes(), 8)
    }

    /// The sender's IPv4 address.
    #[inline]
    pub fn sender_ip(&self) -> u32 {
        be32(self.bytes(), 14)
    }

    /// The target's Ethernet address; of no meaning in a request.
    #[inline]
    pub fn target_mac(&self) -> Mac {
        mac(self.bytes(), 18)
    }

    /// The target's IPv4 address.
    #[inline]
    pub fn target_ip(&self) -> u32 {
        be32(self.bytes(), 24)
    }

    /// Everything behind the packet: padding.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the sender's Ethernet address.
    #[inline]
    pub fn set_sender_mac(&mut self, value: &Mac) {
        put(self.bytes_mut(), 8, value);
    }

    /// Sets the sender's IPv4 address.
    #[inline]
    pub fn set_sender_ip(&mut self, value: u32) {
        put(self.bytes_mut(), 14, &value.to_be_bytes());
    }

    /// Sets the target's Ethernet address.
    #[inline]
    pub fn set_target_mac(&mut self, value: &Mac) {
        put(self.bytes_mut(), 18, value);
    }

    /// Sets the target's IPv4 address.
    #[inline]
    pub fn set_target_ip(&mut self, value: u32) {
        put(self.bytes_mut(), 24, &value.to_be_bytes());
    }
}
