//! The kernel's events about connections, as they happen.
//!
//! The kernel makes none for connections that were born while nobody listened (nf_conntrack_events=2, the default): so
//! listen first and dump then. What does not fit the socket's buffer is lost, and said so once (ENOBUFS): dump again.
//!
//! Bounded by [`BUFFER_BYTES`]: about 40,000 events of 800 bytes as the kernel counts them, which is a second of a
//! busy box.

use super::attr::GROUPS;
use super::message::{self, Event};
use crate::mirror::nlattr::Messages;
use crate::table::conntrack::Ticks;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// The receive buffer.
pub const BUFFER_BYTES: usize = 32 << 20;

/// The longest datagram that is read: the kernel's events have at most a page.
const DATAGRAM_MAX: usize = 32 << 10;

/// What a reading found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A datagram; there may be more.
    Some,
    /// Nothing is there.
    Nothing,
    /// Events were lost.
    Overrun,
}

/// A socket that hears of every connection in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    buf: Vec<u8>,
}

impl Events {
    /// Listens, with room for `bytes` of events.
    ///
    /// # Errors
    /// Those of socket(2) and of joining the groups, which takes CAP_NET_ADMIN and a kernel with ctnetlink.
    pub fn open(bytes: usize) -> io::Result<Self> {
        let mut socket = Socket::new(libc::NETLINK_NETFILTER as isize)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // Beyond net.core.rmem_max takes CAP_NET_ADMIN in the first user namespace; without it, as much as is allowed.
        if sockopt::set_socket_recv_buffer_size_force(socket.as_fd(), bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(socket.as_fd(), bytes)?;
        }
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self {
            socket,
            buf: Vec::with_capacity(DATAGRAM_MAX),
        })
    }

    /// Reads one datagram, without waiting, and shows what it tells to `each`. `now` is the time.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn read(&mut self, now: Ticks, mut each: impl FnMut(Event)) -> io::Result<Heard> {
        self.buf.clear();
        match self.socket.recv(&mut self.buf, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
            Ok(len) if len > self.buf.len() => return Ok(Heard::Overrun),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Heard::Some),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Heard::Overrun),
            Err(e) => return Err(e),
        }
        Messages(&self.buf)
            .filter_map(|m| message::event(&m, now))
            .for_each(&mut each);
        Ok(Heard::Some)
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
