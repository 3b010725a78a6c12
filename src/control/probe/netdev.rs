//! What a driver can do with XDP, from the generic netlink family `netdev` (kernel 6.3; Documentation/netlink/specs/netdev.yaml).
//!
//! Two small requests, so the few attributes are read by hand:
//! ```text
//!  nlmsghdr 16 | genlmsghdr 4 (cmd, version, 0) | attribute: len 2, type 2, value, padded to 4 | ...
//! ```

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use std::io;

const HEADERS: usize = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// A driver's XDP features (include/uapi/linux/netdev.h, enum netdev_xdp_act).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// Native programs run, and may pass, drop and send back.
    pub fn native(self) -> bool {
        self.0 & 1 << 0 != 0
    }

    /// ... and may redirect, into AF_XDP rings for one.
    pub fn redirect(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    /// AF_XDP without a copy.
    pub fn zerocopy(self) -> bool {
        self.0 & 1 << 3 != 0
    }
}

/// Asks what the driver of interface `index` can do; `None` on a kernel that cannot say.
pub fn xdp_features(index: u32) -> Option<XdpFeatures> {
    let ask = || -> io::Result<Option<XdpFeatures>> {
        let socket = Socket::new(NETLINK_GENERIC)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let family = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        let Some(id) = attribute(&exchange(&socket, &family)?, CTRL_ATTR_FAMILY_ID).and_then(number) else {
            return Ok(None);
        };
        let device = request(
            id as u16,
            NETDEV_CMD_DEV_GET,
            NETDEV_A_DEV_IFINDEX,
            &index.to_ne_bytes(),
        );
        Ok(attribute(&exchange(&socket, &device)?, NETDEV_A_DEV_XDP_FEATURES)
            .and_then(number)
            .map(XdpFeatures))
    };
    ask().ok().flatten()
}

/// A request with one attribute.
fn request(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let attribute_len = 4 + value.len();
    let len = HEADERS + attribute_len.next_multiple_of(4);
    let mut message = Vec::with_capacity(len);
    message.extend((len as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: the socket is ours alone
    message.extend([command, 1, 0, 0]);
    message.extend((attribute_len as u16).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(len, 0);
    message
}

fn exchange(socket: &Socket, request: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match answer.get(4..6) {
        Some(kind) if kind != NLMSG_ERROR.to_ne_bytes() => Ok(answer),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The value of the first attribute of type `wanted` in a message.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADERS..)?;
    loop {
        let len = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = rest.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// A number of 2, 4 or 8 bytes in host order.
fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        2 => Some(u64::from(u16::from_ne_bytes(value.try_into().ok()?))),
        4 => Some(u64::from(u32::from_ne_bytes(value.try_into().ok()?))),
        8 => Some(u64::from_ne_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let message = request(0x10, 3, 2, b"netdev\0");
        assert_eq!(message.len(), 32);
        assert_eq!(attribute(&message, 2), Some(&b"netdev\0"[..]));
        assert_eq!(attribute(&message, 3), None);
    }

    #[test]
    fn broken_attributes_end_the_search() {
        for bytes in [&[0; 19][..], &[0; 24], &[0xff; 64]] {
            assert_eq!(attribute(bytes, 1), None);
        }
    }

    #[test]
    fn the_loopback_has_no_native_xdp() {
        // None where the kernel is older than 6.3.
        assert!(xdp_features(1).is_none_or(|features| !features.native()));
    }
}
