//! What only netlink knows about an interface: its real queues and its XDP abilities.
//!
//! The generic netlink family `netdev` (Documentation/netlink/specs/netdev.yaml) lists the queues in use of an interface that
//! is up (kernel 6.8) and its XDP features (6.3); rtnetlink's IFLA_NUM_RX_QUEUES tells how many were allocated, which is what
//! remains for an interface that is down or a kernel that is older. The same answer has the link's kind, its master, and the XDP
//! programs that are attached. /sys would show the queues too, but of the namespace in
//! which /sys was mounted.
//!
//! These questions are asked once per port, at its start; the mirror's netlink is another matter and layer.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC, protocols::NETLINK_ROUTE};
use std::io;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEAD: usize = 16;
const NLA_TYPE_MASK: u16 = 0x3fff;

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_CMD_QUEUE_GET: u8 = 10;
const NETDEV_A_QUEUE_IFINDEX: u16 = 2;
const NETDEV_A_QUEUE_TYPE: u16 = 3;
const QUEUE_TYPE_RX: u32 = 0;
const QUEUE_TYPE_TX: u32 = 1;

const RTM_GETLINK: u16 = 18;
const IFINFO_LEN: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;

/// What a driver offers for XDP (include/uapi/linux/netdev.h, `enum netdev_xdp_act`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// Native programs run, and may pass, drop and send back.
    pub fn native(self) -> bool {
        self.0 & 1 != 0
    }

    /// ... and may redirect, into AF_XDP rings for one.
    pub fn redirect(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    /// AF_XDP without a copy.
    pub fn zero_copy(self) -> bool {
        self.0 & 1 << 3 != 0
    }
}

/// The XDP programs on an interface (IFLA_XDP_ATTACHED, include/uapi/linux/if_link.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attached {
    /// None.
    #[default]
    None,
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
    /// In the card.
    Hardware,
    /// At more than one of these.
    Several,
}

impl Attached {
    /// In one word, `None` where there is no program.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Attached::None => None,
            Attached::Native => Some("native"),
            Attached::Generic => Some("generic"),
            Attached::Hardware => Some("hardware"),
            Attached::Several => Some("several"),
        }
    }

    /// How to find whose program it is, and to take it off the interface of this name. The kernel refuses `ip link` where a
    /// bpf_link holds the program, and `xdp off` means the driver's wherever there can be one.
    pub fn how_to_detach(self, name: &str) -> String {
        let place = match self {
            Attached::Generic => "xdpgeneric",
            Attached::Hardware => "xdpoffload",
            Attached::None | Attached::Native | Attached::Several => "xdp",
        };
        format!(
            "`bpftool net show dev {name}` names it; where `bpftool link` lists it, end its owner or `bpftool link detach id N`, \
             else `ip link set {name} {place} off`"
        )
    }
}

/// What rtnetlink says of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkAttributes {
    pub name: String,
    /// The kernel's IFF_LOWER_UP; IFF_RUNNING, which an ioctl tells, follows it up to a second later.
    pub carrier: bool,
    pub kind: String,
    pub master: Option<u32>,
    /// The link below or the peer, if it is in this namespace.
    pub below: Option<u32>,
    /// Allocated; fewer may be in use.
    pub rx_queues: u32,
    /// Allocated; fewer may be in use.
    pub tx_queues: u32,
    pub attached: Attached,
}

/// Sends one request and gives every answer's payload (behind the netlink head) to `each`.
fn ask(protocol: isize, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = Socket::new(protocol)?;
    let mut request = Vec::with_capacity(NLMSG_HEAD + body.len());
    request.extend(((NLMSG_HEAD + body.len()) as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    request.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    request.extend(body);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while rest.len() >= NLMSG_HEAD {
            let len = word(rest).unwrap_or(0) as usize;
            let Some(message) = rest.get(NLMSG_HEAD..len) else {
                break;
            };
            match half(&rest[4..]).unwrap_or(0) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let errno = word(message).map_or(0, |word| (word as i32).wrapping_neg());
                    return if errno == 0 {
                        Ok(())
                    } else {
                        Err(io::Error::from_raw_os_error(errno))
                    };
                }
                _ => each(message),
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(());
        }
    }
}

fn half(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The attribute `kind` in a row of attributes.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(half(bytes)?);
        let here = half(bytes.get(2..)?)? & NLA_TYPE_MASK;
        let value = bytes.get(4..len)?;
        if here == kind {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

/// A generic netlink body: command, version, and one attribute, padded.
fn generic(command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let mut body = vec![command, 1, 0, 0];
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
    body
}

/// The number of the family `netdev`; ENOENT on kernels before 6.3.
fn family() -> io::Result<u16> {
    let mut id = None;
    let body = generic(CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    ask(NETLINK_GENERIC, GENL_ID_CTRL, 0, &body, |answer| {
        id = answer
            .get(4..)
            .and_then(|rest| attribute(rest, CTRL_ATTR_FAMILY_ID))
            .and_then(half);
    })?;
    id.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

/// How many receive and transmit queues are in use: (rx, tx). (0, 0) while the interface is down.
pub(super) fn queues_in_use(ifindex: u32) -> io::Result<(u32, u32)> {
    let (mut rx, mut tx) = (0, 0);
    let body = generic(NETDEV_CMD_QUEUE_GET, NETDEV_A_QUEUE_IFINDEX, &ifindex.to_ne_bytes());
    ask(NETLINK_GENERIC, family()?, NLM_F_DUMP, &body, |answer| {
        match answer
            .get(4..)
            .and_then(|rest| attribute(rest, NETDEV_A_QUEUE_TYPE))
            .and_then(word)
        {
            Some(QUEUE_TYPE_RX) => rx += 1,
            Some(QUEUE_TYPE_TX) => tx += 1,
            _ => {}
        }
    })?;
    Ok((rx, tx))
}

/// Asks rtnetlink about one interface.
pub(super) fn link(ifindex: u32) -> io::Result<LinkAttributes> {
    let mut body = [0u8; IFINFO_LEN];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    let mut found = None;
    ask(NETLINK_ROUTE, RTM_GETLINK, 0, &body, |answer| {
        let flags = answer.get(8..).and_then(word).unwrap_or_default();
        found = answer.get(IFINFO_LEN..).map(|row| LinkAttributes {
            carrier: flags & libc::IFF_LOWER_UP as u32 != 0,
            ..link_attributes(row)
        });
    })?;
    found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

/// The names of the links whose master is `master`.
pub(super) fn links_of(master: u32) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    ask(NETLINK_ROUTE, RTM_GETLINK, NLM_F_DUMP, &[0; IFINFO_LEN], |answer| {
        let attributes = answer.get(IFINFO_LEN..).map(link_attributes);
        names.extend(
            attributes
                .filter(|link| link.master == Some(master))
                .map(|link| link.name),
        );
    })?;
    Ok(names)
}

fn link_attributes(row: &[u8]) -> LinkAttributes {
    let number = |kind| attribute(row, kind).and_then(word);
    let kind = attribute(row, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    let attached = attribute(row, IFLA_XDP).and_then(|xdp| attribute(xdp, IFLA_XDP_ATTACHED));
    let attached = match attached.and_then(<[u8]>::first) {
        None | Some(0) => Attached::None,
        Some(1) => Attached::Native,
        Some(2) => Attached::Generic,
        Some(3) => Attached::Hardware,
        Some(_) => Attached::Several,
    };
    let is_here = attribute(row, IFLA_LINK_NETNSID).is_none();
    LinkAttributes {
        name: attribute(row, IFLA_IFNAME).map(text).unwrap_or_default(),
        kind: kind.map(text).unwrap_or_default(),
        master: number(IFLA_MASTER),
        below: number(IFLA_LINK).filter(|&index| is_here && index != 0),
        rx_queues: number(IFLA_NUM_RX_QUEUES).unwrap_or(1),
        tx_queues: number(IFLA_NUM_TX_QUEUES).unwrap_or(1),
        attached,
        carrier: false,
    }
}

/// A string up to its NUL.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// What the driver offers for XDP; an error on kernels before 6.3.
pub(super) fn xdp_features(ifindex: u32) -> io::Result<XdpFeatures> {
    let mut found = None;
    let body = generic(NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    ask(NETLINK_GENERIC, family()?, 0, &body, |answer| {
        let bits = answer
            .get(4..)
            .and_then(|rest| attribute(rest, NETDEV_A_DEV_XDP_FEATURES));
        found = bits
            .and_then(|bits| bits.first_chunk())
            .map(|bytes| XdpFeatures(u64::from_ne_bytes(*bytes)));
    })?;
    found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_damaged_rows_end_the_search() {
        let row = [[5u8, 0, 1, 0, 9, 0, 0, 0], [8, 0, 2, 0, 1, 2, 3, 4]].concat();
        let row = if cfg!(target_endian = "little") { row } else { return };
        assert_eq!(attribute(&row, 1), Some(&[9u8][..]));
        assert_eq!(attribute(&row, 2).and_then(word), Some(0x0403_0201));
        assert_eq!(attribute(&row, 3), None);
        assert_eq!(attribute(&row[..12], 2), None, "longer than what is there");
        assert_eq!(attribute(&[0, 0, 1, 0], 2), None, "a length of 0 must not loop");
        assert_eq!(attribute(&[3, 0, 1, 0, 0, 0, 0, 0], 2), None);
    }

    #[test]
    fn the_loopback_device_has_queues() {
        let lo = link(1).unwrap();
        assert!(lo.rx_queues >= 1 && lo.tx_queues >= 1 && lo.name == "lo", "{lo:?}");
    }
}
