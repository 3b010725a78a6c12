//! Promiscuous mode, for the ports of a wire: their frames are addressed to others.
//!
//! A wire is transparent, so its ports must receive every address; a router's need not. See packet(7).

use super::ioctl::{Socket, set_option};
use std::io;
use std::os::fd::AsRawFd;

/// Promiscuous mode of an interface, for as long as this lives. It is a property of a packet socket
/// (PACKET_MR_PROMISC), so it ends with the process, however that ends; IFF_PROMISC would stay.
#[derive(Debug)]
pub struct Promiscuous(#[allow(dead_code, reason = "holds the mode while it is open")] Socket);

impl Promiscuous {
    /// Has the interface receive the frames of all addresses.
    ///
    /// # Errors
    /// The interface is gone, or CAP_NET_RAW is missing.
    pub fn on(ifindex: u32) -> io::Result<Self> {
        // Protocol 0: no packet is ever queued to this socket.
        let socket = Socket::open(libc::AF_PACKET, libc::SOCK_RAW)?;
        let membership = libc::packet_mreq {
            mr_ifindex: ifindex as libc::c_int,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            &membership,
        )?;
        Ok(Self(socket))
    }
}
