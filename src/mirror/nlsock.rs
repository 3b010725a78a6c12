//! A netlink socket for questions: send a request, read the whole answer. For notifications see [`Listener`].
//!
//! The kernel answers within the `sendmsg` call, and goes on with a dump within each `recvmsg`: an answer is there or never
//! will be. So no receive here waits (MSG_DONTWAIT), and a missing answer is an error, not a hang. A socket whose answer
//! was not read to its end may still have a dump running (the next one would be EBUSY): it is replaced by a fresh one.
//!
//! Bounded by the receive buffer: 64 KiB per datagram, which is twice what a dump fills. A datagram that does not fit is an
//! error. The sockets belong to the network namespace of the thread that opened them.

use super::nlattr::{Message, Messages, Request};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Size of the receive buffer in bytes.
const BUF_LEN: usize = 64 * 1024;
/// The most notifications that one [`Listener::hear`] takes.
const DRAIN_MAX: usize = 4096;

/// A socket for requests.
#[derive(Debug)]
pub struct NlSock {
    protocol: i32,
    strict: bool,
    socket: Option<Socket>,
    seq: u32,
    buf: Vec<u8>,
}

impl NlSock {
    /// Opens a socket of this netlink protocol. `strict` has the kernel refuse what it does not know in a request.
    ///
    /// # Errors
    /// Those of socket(2); EPROTONOSUPPORT where the kernel lacks the protocol.
    pub fn open(protocol: i32, strict: bool) -> io::Result<Self> {
        let socket = open_socket(protocol, strict)?;
        Ok(Self {
            protocol,
            strict,
            socket: Some(socket),
            seq: 0,
            buf: Vec::with_capacity(BUF_LEN),
        })
    }

    /// Asks for a dump and shows each message of it to `each`.
    ///
    /// # Errors
    /// The kernel's own; `Interrupted` if the dump is not of one moment (NLM_F_DUMP_INTR): ask again.
    pub fn dump(&mut self, request: Request, mut each: impl FnMut(&Message)) -> io::Result<()> {
        self.exchange(request, |m| {
            each(m);
            false
        })
    }

    /// Asks one question whose answer is one message, not a dump.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn get(&mut self, request: Request, mut each: impl FnMut(&Message)) -> io::Result<()> {
        self.exchange(request, |m| {
            each(m);
            true
        })
    }

    /// Asks many questions at once, in one `sendmsg`. `each` gets the place of the question and its answer, or its error.
    ///
    /// # Errors
    /// Of the socket; errors of single questions go to `each`.
    pub fn batch(
        &mut self,
        requests: Vec<Request>,
        mut each: impl FnMut(usize, Result<&Message, i32>),
    ) -> io::Result<()> {
        let count = requests.len();
        let mut bytes = Vec::with_capacity(count * 96);
        let first = self.seq.wrapping_add(1);
        for request in requests {
            self.seq = self.seq.wrapping_add(1);
            bytes.extend_from_slice(&request.finish(self.seq));
        }
        let mut left = count;
        self.run(&bytes, |m| {
            let place = m.seq.wrapping_sub(first) as usize;
            if place < count {
                each(
                    place,
                    if i32::from(m.kind) == libc::NLMSG_ERROR {
                        Err(m.errno())
                    } else {
                        Ok(m)
                    },
                );
                left = left.saturating_sub(1);
            }
            left == 0
        })
    }

    /// Has the kernel do many things at once, in one `sendmsg`: it answers only what it refuses, and the last one. `refused`
    /// gets the place of a request and the errno.
    ///
    /// # Errors
    /// Of the socket: some of the requests may have been done.
    pub fn change(&mut self, mut requests: Vec<Request>, mut refused: impl FnMut(usize, i32)) -> io::Result<()> {
        let Some(last) = requests.pop() else {
            return Ok(());
        };
        let first = self.seq.wrapping_add(1);
        let last_seq = first.wrapping_add(requests.len() as u32);
        self.seq = last_seq;
        let mut bytes = Vec::with_capacity((requests.len() + 1) * 256);
        for (place, request) in requests.into_iter().chain([last.acked()]).enumerate() {
            bytes.extend_from_slice(&request.finish(first.wrapping_add(place as u32)));
        }
        self.run(&bytes, |m| {
            let (place, errno) = (m.seq.wrapping_sub(first), m.errno());
            if i32::from(m.kind) != libc::NLMSG_ERROR || place > last_seq.wrapping_sub(first) {
                return false;
            }
            if errno != 0 {
                refused(place as usize, errno);
            }
            m.seq == last_seq
        })
    }

    /// The number by which the kernel knows the socket that the next request goes by (`nlmsg_pid` of what it gives rise to).
    ///
    /// # Errors
    /// Those of [`open`](Self::open), if a fresh socket is needed.
    pub fn port(&mut self) -> io::Result<u32> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open_socket(self.protocol, self.strict)?,
        };
        let mut address = SocketAddr::new(0, 0);
        let named = socket.get_address(&mut address);
        self.socket = Some(socket);
        named.map(|()| address.port_number())
    }

    /// Sends a request, and shows the messages of the answer until `each` says that it is complete, or the kernel does.
    fn exchange(&mut self, request: Request, mut each: impl FnMut(&Message) -> bool) -> io::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        let seq = self.seq;
        let mut errno = 0;
        let mut interrupted = false;
        self.run(&request.finish(seq), |m| {
            if m.seq != seq {
                return false;
            }
            interrupted |= m.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
            if matches!(i32::from(m.kind), libc::NLMSG_ERROR | libc::NLMSG_DONE) {
                errno = m.errno();
                return true;
            }
            each(m)
        })?;
        match errno {
            1.. => Err(io::Error::from_raw_os_error(errno)),
            _ if interrupted => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(()),
        }
    }

    /// One send and as many receives as `each` asks for. An error costs the socket, since its
    /// answer was not read to the end.
    fn run(&mut self, bytes: &[u8], mut each: impl FnMut(&Message) -> bool) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open_socket(self.protocol, self.strict)?,
        };
        socket.send(bytes, 0)?;
        loop {
            self.buf.clear();
            let len = socket.recv(&mut self.buf, libc::MSG_DONTWAIT | libc::MSG_TRUNC)?;
            if len > self.buf.len() {
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            for message in Messages(&self.buf) {
                if each(&message) {
                    self.socket = Some(socket);
                    return Ok(());
                }
            }
        }
    }
}

fn open_socket(protocol: i32, strict: bool) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol as isize)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // A refusal need not quote the request. Kernels before 4.2 cannot leave it out.
    let _ = socket.set_cap_ack(true);
    if strict {
        socket.set_netlink_get_strict_chk(true)?;
    }
    Ok(socket)
}

/// A socket for notifications.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    buf: Vec<u8>,
}

/// What one [`Listener::hear`] came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// There was something.
    pub any: bool,
    /// Notifications were lost, or may be as long as the socket is not empty: then the kernel drops without a word
    /// (NETLINK_S_CONGESTED).
    pub lost: bool,
    /// It was all.
    pub drained: bool,
}

impl Listener {
    /// Listens to a multicast group.
    ///
    /// # Errors
    /// Those of socket(2) and of joining the group.
    pub fn open(protocol: i32, group: u32) -> io::Result<Self> {
        let socket = open_socket(protocol, false)?;
        socket.add_membership(group)?;
        Ok(Self {
            socket,
            buf: Vec::with_capacity(BUF_LEN),
        })
    }

    /// Has room for about `bytes` of what is not taken yet, or as many as the system allows.
    pub fn with_room(self, bytes: usize) -> Self {
        // More than net.core.rmem_max takes CAP_NET_ADMIN in the first user namespace.
        if set_socket_recv_buffer_size_force(&self.socket, bytes).is_err() {
            let _ = set_socket_recv_buffer_size(&self.socket, bytes);
        }
        self
    }

    /// Takes what is there and shows it to `each`, a bounded part of it. A datagram that does not fit is lost; that, and an overrun, counts
    /// as something.
    pub fn hear(&mut self, mut each: impl FnMut(&Message)) -> Heard {
        let mut heard = Heard::default();
        for _ in 0..DRAIN_MAX {
            self.buf.clear();
            match self.socket.recv(&mut self.buf, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok(len) if len > self.buf.len() => heard.lost = true,
                Ok(_) => Messages(&self.buf).for_each(|message| each(&message)),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => heard.lost = true,
                Err(_) => {
                    heard.drained = true;
                    return heard;
                }
            }
            heard.any = true;
        }
        heard
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
