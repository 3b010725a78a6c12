//! A far end: the peer of a router's port, in a namespace of its own, with a packet socket to inject and capture.
//!
//! It has no addresses, no ARP, no IPv6, and a tc program that drops every arriving frame behind the capture, so that no
//! stack answers anything: what the router receives is what a test injects, and nothing else.

use super::namespace::Namespace;
use super::packet::{self, Mac};
use super::respond::Responder;
use super::sys::PacketSocket;
use std::net::IpAddr;
use std::os::fd::RawFd;

/// The far end of port `port`.
pub struct Wire {
    /// Its namespace.
    pub namespace: Namespace,
    /// Frames that arrived, in order, as far as `drain` has taken them.
    pub captured: Vec<Vec<u8>>,
    /// Frames that the interface refused to send.
    pub refused: usize,
    name: String,
    socket: PacketSocket,
    responder: Option<Responder>,
}

impl Wire {
    /// Settles on the interface `w{port}`, which the lab has put into `namespace`.
    pub fn new(namespace: Namespace, port: usize) -> Self {
        let name = format!("w{port}");
        namespace.run(&format!("ethtool -K {name} {}", super::router::OFFLOADS_OFF));
        // Behind the capture, in front of the stack: drop all (a classic BPF program that returns TC_ACT_SHOT).
        namespace.run_with(
            "tc -batch -",
            &format!("qdisc add dev {name} clsact\nfilter add dev {name} ingress bpf da bytecode \"1,6 0 0 2\"\n"),
        );
        namespace.run(&format!("ip link set {name} arp off up"));
        let socket = namespace.enter(|| PacketSocket::open(&name)).expect("packet socket");
        Wire {
            namespace,
            captured: Vec::new(),
            refused: 0,
            name,
            socket,
            responder: None,
        }
    }

    /// Sends frames towards the router, in order.
    pub fn inject(&mut self, frames: &[Vec<u8>]) {
        self.refused += self
            .socket
            .send(frames)
            .unwrap_or_else(|error| panic!("inject at {}: {error}", self.name));
    }

    /// Takes what has arrived.
    pub fn drain(&mut self) {
        self.socket
            .receive(&mut self.captured)
            .unwrap_or_else(|error| panic!("capture at {}: {error}", self.name));
    }

    /// From now on `drain_each` knows when frames arrived.
    pub fn stamp(&self) {
        self.socket.stamp().expect("time stamps");
    }

    /// Gives what has arrived to `see`, with the time of its arrival in nanoseconds (CLOCK_REALTIME); `captured` gets none of it.
    pub fn drain_each(&mut self, see: impl FnMut(Vec<u8>, u64)) {
        self.socket
            .receive_each(see)
            .unwrap_or_else(|error| panic!("capture at {}: {error}", self.name));
    }

    /// Frames that the capture lost since the last call.
    pub fn lost(&self) -> u32 {
        self.socket.lost().expect("packet statistics")
    }

    /// What `sys::wait_readable` waits on.
    pub fn fd(&self) -> RawFd {
        self.socket.fd()
    }

    /// From now on answers ARP and neighbour solicitations for `address` with `mac`.
    pub fn answer_for(&mut self, address: IpAddr, mac: Mac) {
        let (namespace, name) = (&self.namespace, &self.name);
        self.responder
            .get_or_insert_with(|| Responder::start(namespace, name))
            .add(address, mac);
    }

    /// From now on answers nothing.
    pub fn answer_none(&mut self) {
        self.responder = None;
    }
}

/// The link address of the far end of `port`, in both labs.
pub fn mac(port: usize) -> Mac {
    packet::wire_mac(port)
}
