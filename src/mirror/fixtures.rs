//! Messages of rtnetlink as the kernel sends them, for unit tests: links that are bridges or their ports, and entries of
//! forwarding databases.

use super::netlink::Message;
use crate::wire::Mac;

/// A message of this kind.
pub fn message(kind: u16, payload: &[u8]) -> Message<'_> {
    Message {
        kind,
        flags: 0,
        payload,
    }
}

/// An attribute, padded to the next.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Attributes, one after the other.
pub fn attributes(all: &[(u16, &[u8])]) -> Vec<u8> {
    all.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect()
}

fn link(ifindex: u32, master: u32, info: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 0, 1, 0];
    payload.extend_from_slice(&ifindex.to_ne_bytes());
    payload.extend_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    payload.extend_from_slice(&[0; 4]);
    let name = format!("l{ifindex}\0");
    payload.extend(attributes(&[
        (libc::IFLA_IFNAME, name.as_bytes()),
        (libc::IFLA_MTU, &1500u32.to_ne_bytes()),
        (libc::IFLA_MASTER, &master.to_ne_bytes()),
        (libc::IFLA_LINKINFO, info),
    ]));
    payload
}

/// RTM_NEWLINK of a bridge.
pub fn bridge(ifindex: u32, vlan_filtering: bool) -> Vec<u8> {
    let data = attributes(&[(7, &[u8::from(vlan_filtering)])]);
    link(ifindex, 0, &attributes(&[(1, b"bridge\0"), (2, &data)]))
}

/// ... and of a port of one, which is forwarding and learns.
pub fn port(ifindex: u32, bridge: u32) -> Vec<u8> {
    let data = attributes(&[(1, &[3]), (8, &[1])]);
    link(
        ifindex,
        bridge,
        &attributes(&[(1, b"veth\0"), (4, b"bridge\0"), (5, &data)]),
    )
}

/// RTM_NEWNEIGH or RTM_DELNEIGH of an address behind a port of a bridge.
pub fn entry(bridge: u32, port: u32, mac: &Mac) -> Vec<u8> {
    let mut payload = vec![libc::AF_BRIDGE as u8, 0, 0, 0];
    payload.extend_from_slice(&port.to_ne_bytes());
    payload.extend_from_slice(&[0; 4]);
    payload.extend(attributes(&[(2, mac), (9, &bridge.to_ne_bytes())]));
    payload
}
