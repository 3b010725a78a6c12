//! One interface by RTM_GETLINK (net/core/rtnetlink.c).
//!
//! One question and one answer on a socket of its own: this is for `doctor` and for refusing a start, not for following
//! changes, which is mirror's. An alternative name is resolved, and the real one reported.

use super::ifindex;
use crate::control::Error;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;

/// What rtnetlink says about an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number.
    pub index: u32,
    /// Its real name, where an alternative one was asked for.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Up and with carrier.
    pub running: bool,
    /// Frames have an Ethernet header.
    pub ethernet: bool,
    /// It is the loopback.
    pub loopback: bool,
    /// `veth`, `bridge`, `vlan`, ...; `None` for a device of its own.
    pub kind: Option<String>,
    /// In bytes, without the Ethernet header.
    pub mtu: u32,
    /// The name of its bridge, bond or VRF.
    pub master: Option<String>,
    /// Receive queues the device has (not all need be in use).
    pub rx_queues: u32,
    /// Transmit queues.
    pub tx_queues: u32,
    /// An XDP program is attached: in the driver, generic, in hardware or several.
    pub xdp: Option<&'static str>,
}

/// Asks for the interface `name`.
///
/// # Errors
/// [`Error::PortMissing`], or [`Error::System`] where netlink fails.
pub fn link(name: &str) -> Result<Link, Error> {
    let index = ifindex(name).ok_or_else(|| Error::PortMissing { port: name.into() })?;
    let mut link = ask(index).map_err(|source| match source.raw_os_error() {
        Some(libc::ENODEV) => Error::PortMissing { port: name.into() },
        _ => Error::System {
            what: format!("cannot read port {name} by rtnetlink"),
            source,
            remedy: "see that netlink sockets are allowed here".into(),
        },
    })?;
    if let Some(master) = link.master.take() {
        // A number until now; the master may be gone by now, then its number has to do.
        let name = master
            .parse()
            .ok()
            .and_then(|index| ask(index).ok())
            .map(|link| link.name);
        link.master = Some(name.unwrap_or(master));
    }
    Ok(link)
}

fn ask(index: u32) -> io::Result<Link> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let payload = NetlinkPayload::from(RouteNetlinkMessage::GetLink(request));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(io::Error::other)?
        .payload
    {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(read(&link)),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn read(message: &LinkMessage) -> Link {
    let header = &message.header;
    let mut link = Link {
        index: header.index,
        up: header.flags.contains(LinkFlags::Up),
        running: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: header.flags.contains(LinkFlags::Loopback),
        ethernet: header.link_layer_type == LinkLayerType::Ether,
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(index.to_string()),
            LinkAttribute::NumRxQueues(queues) => link.rx_queues = *queues,
            LinkAttribute::NumTxQueues(queues) => link.tx_queues = *queues,
            LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind),
            LinkAttribute::Xdp(xdp) => link.xdp = xdp.iter().find_map(attached),
            _ => {}
        }
    }
    link
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(name)) => Some(name.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn attached(xdp: &LinkXdp) -> Option<&'static str> {
    match xdp {
        LinkXdp::Attached(XdpAttached::None) => None,
        LinkXdp::Attached(XdpAttached::Driver) => Some("native"),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some("generic"),
        LinkXdp::Attached(XdpAttached::Hardware) => Some("hardware"),
        LinkXdp::Attached(_) => Some("several"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_read() {
        let lo = link("lo").unwrap();
        assert_eq!(
            (lo.index, lo.name.as_str(), lo.loopback, lo.ethernet),
            (1, "lo", true, false)
        );
        assert!(lo.mtu > 0 && lo.xdp.is_none() && lo.master.is_none());
    }

    #[test]
    fn a_missing_one_is_named() {
        assert_eq!(
            link("nope0").unwrap_err().to_string(),
            Error::PortMissing { port: "nope0".into() }.to_string()
        );
        assert_eq!(ifindex("a\0b"), None);
    }
}
