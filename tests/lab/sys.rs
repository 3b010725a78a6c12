//! The system calls of the lab, and its only `unsafe`: joining network namespaces, and packet sockets that inject and
//! capture whole Ethernet frames in batches.
//!
//! A packet socket is bound to one interface. It sends past the qdisc (PACKET_QDISC_BYPASS), so that a frame is in the
//! router's softirq when the call returns, and captures only what arrives (PACKET_IGNORE_OUTGOING). The kernel moves a VLAN
//! tag of an arriving frame into metadata; PACKET_AUXDATA tells it, and `receive` puts it back where it was on the wire.
//!
//! Bounded: a batch is `BATCH` frames, a frame `FRAME_MAX` bytes, the receive buffer 64 MiB; what did not fit is counted by
//! the kernel and read by `lost`, which a twin asserts to be 0.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Frames per sendmmsg or recvmmsg call.
pub const BATCH: usize = 64;
/// The longest frame that is captured whole, in bytes.
pub const FRAME_MAX: usize = 16 * 1024;

const RECEIVE_BUFFER_BYTES: c_int = 64 << 20;
const PACKET_IGNORE_OUTGOING: c_int = 23;
/// cmsghdr (16) + tpacket_auxdata (20), aligned; cmsghdr (16) + timespec (16).
const CONTROL_BYTES: usize = 128;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Gives the calling thread a new, empty network namespace.
pub fn unshare_net() -> io::Result<()> {
    // SAFETY: no memory is involved; it affects the calling thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Moves the calling thread into the network namespace behind `fd`.
pub fn set_net(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved; a wrong descriptor is an error.
    check(unsafe { libc::setns(fd, libc::CLONE_NEWNET) }).map(drop)
}

/// Sends a signal to a process of ours.
pub fn signal(pid: u32, number: c_int) -> io::Result<()> {
    // SAFETY: no memory is involved; the caller owns the child, so its pid is not reused before it is waited for.
    check(unsafe { libc::kill(pid as libc::pid_t, number) }).map(drop)
}

/// A thread of another process, stopped by ptrace until this is dropped. Stays on the thread that made it, as ptrace wants.
pub struct StoppedThread {
    tid: libc::pid_t,
    _same_thread: std::marker::PhantomData<*const ()>,
}

impl StoppedThread {
    /// Stops it; its process and the other threads run on.
    pub fn stop(tid: i32) -> io::Result<Self> {
        let none = std::ptr::null_mut::<c_void>();
        // SAFETY: SEIZE and INTERRUPT use no memory of ours; a thread that is not there is an error.
        ptrace(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, none, none) })?;
        let stopped = StoppedThread {
            tid,
            _same_thread: std::marker::PhantomData,
        };
        // SAFETY: as above.
        ptrace(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none) })?;
        let mut status = 0;
        // SAFETY: `status` lives through the call.
        check(unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) })?;
        Ok(stopped)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<c_void>();
        // SAFETY: DETACH uses no memory of ours.
        let detached = ptrace(unsafe { libc::ptrace(libc::PTRACE_DETACH, self.tid, none, none) });
        if detached.is_err() {
            // It died while it was stopped: its process is not gone before its tracer has seen that.
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(self.tid, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
        }
    }
}

fn ptrace(result: libc::c_long) -> io::Result<()> {
    check(result as c_int).map(drop)
}

/// Has the calling process killed when the thread that forked it ends. For `pre_exec`.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: no memory is involved; async-signal-safe.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Runs `hook` in the child between fork and exec. It must not allocate or lock.
pub fn before_exec(command: &mut std::process::Command, hook: fn() -> io::Result<()>) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the hooks used here make one system call each and touch no memory of the parent.
    unsafe { command.pre_exec(hook) };
}

/// Gives a socket a receive buffer of 64 MiB, so that a reader that the machine keeps waiting loses nothing.
pub fn enlarge_receive_buffer(socket: &impl AsRawFd) -> io::Result<()> {
    let bytes = RECEIVE_BUFFER_BYTES;
    // SAFETY: the value lives through the call and the length is its own.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// From now on what arrives at a socket bears the time of its arrival, for `receive_stamped`.
pub fn stamp_arrivals(socket: &impl AsRawFd) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the value lives through the call and the length is its own.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Receives one datagram of a socket that stamps: its bytes, and when it arrived, however late it is read.
pub fn receive_stamped(socket: &impl AsRawFd, into: &mut [u8]) -> io::Result<(usize, Instant)> {
    let mut control = [0u64; CONTROL_BYTES / 8];
    let mut part = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let mut header = message(&mut part, Some(&mut control)).msg_hdr;
    // SAFETY: the header points at `into` by `part`, and at its own control room; all outlive the call.
    let bytes = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let bytes = usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?;
    let arrived_ns = arrived_ns(&header).ok_or(io::ErrorKind::InvalidData)?;
    // Both clocks at one moment: who waits for its CPU between them looks again.
    let (now, wall) = loop {
        let (before, wall) = (Instant::now(), SystemTime::now());
        if before.elapsed() < Duration::from_millis(1) {
            break (before, wall);
        }
    };
    let age = wall.duration_since(UNIX_EPOCH + Duration::from_nanos(arrived_ns));
    Ok((bytes, now - age.unwrap_or_default()))
}

/// Waits until one of the sockets has something to read, or `timeout` is over.
pub fn wait_readable(fds: &[RawFd], timeout: Duration) {
    let mut polls: Vec<libc::pollfd> = fds
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let timespec = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    // SAFETY: `polls` and `timespec` live through the call and the length is theirs; a null mask is allowed.
    unsafe {
        libc::ppoll(
            polls.as_mut_ptr(),
            polls.len() as libc::nfds_t,
            &timespec,
            std::ptr::null(),
        )
    };
}

/// The guest's end of a TAP with virtio_net headers.
pub struct Tap(std::fs::File);

impl Tap {
    /// Opens the TAP `name` of the calling thread's namespace, which must be there (`ip tuntap add mode tap vnet_hdr`).
    pub fn open(name: &str) -> io::Result<Self> {
        const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
        let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: ifreq is plain data, for which zero is valid.
        let mut request: libc::ifreq = unsafe { zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        // SAFETY: the request lives through the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &mut request) })?;
        Ok(Tap(file))
    }

    /// Sends a frame of TCP over IPv4; one that is longer than the MTU as segments of `mss` bytes that are not cut yet,
    /// and have no checksum.
    pub fn send_tcp(&mut self, frame: &[u8], mss: Option<u16>) -> io::Result<()> {
        let mut header = [0; 10];
        if let Some(mss) = mss {
            // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4; header length, segment size, where the checksum is.
            header[..2].copy_from_slice(&[1, 1]);
            for (at, value) in [(2, 54), (4, mss), (6, 34), (8, 16)] {
                header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
            }
        }
        io::Write::write_all(&mut self.0, &[&header[..], frame].concat())
    }
}

/// A packet socket on one interface.
pub struct PacketSocket {
    fd: OwnedFd,
    buffers: Vec<Vec<u8>>,
}

impl PacketSocket {
    /// Opens it on `interface` of the calling thread's namespace.
    pub fn open(interface: &str) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: `name` is a C string that lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Protocol 0: nothing arrives before the bind below.
        // SAFETY: no memory is involved.
        let fd = check(unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        })?;
        // SAFETY: the descriptor is new and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = PacketSocket {
            fd,
            buffers: vec![vec![0; FRAME_MAX]; BATCH],
        };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)?;
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, RECEIVE_BUFFER_BYTES)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        socket.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        // SAFETY: sockaddr_ll is plain data, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as c_int;
        // SAFETY: the address lives through the call and the length is its own.
        check(unsafe {
            libc::bind(
                socket.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(socket)
    }

    /// The descriptor, for `wait_readable`.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn set(&self, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
        // SAFETY: the value lives through the call and the length is its own.
        check(unsafe {
            libc::setsockopt(
                self.fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<c_int>() as libc::socklen_t,
            )
        })
        .map(drop)
    }

    /// Sends the frames in order; how many the interface refused (too long for the peer, no carrier, ring full).
    pub fn send(&self, frames: &[Vec<u8>]) -> io::Result<usize> {
        let mut refused = 0;
        let mut rest = frames;
        while !rest.is_empty() {
            match self.send_batch(&rest[..rest.len().min(BATCH)]) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EMSGSIZE)) => {
                    refused += 1;
                    rest = &rest[1..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    fn send_batch(&self, frames: &[Vec<u8>]) -> io::Result<usize> {
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(|part| message(part, None)).collect();
        // SAFETY: every header points at an iovec of `parts`, and that at a frame; all outlive the call, which only reads.
        check(unsafe { libc::sendmmsg(self.fd(), messages.as_mut_ptr(), messages.len() as u32, 0) })
            .map(|sent| sent as usize)
    }

    /// From now on frames bear the time of their arrival.
    pub fn stamp(&self) -> io::Result<()> {
        stamp_arrivals(&self.fd)
    }

    /// Appends everything that has arrived to `into`.
    pub fn receive(&mut self, into: &mut Vec<Vec<u8>>) -> io::Result<()> {
        self.receive_each(|frame, _| into.push(frame))
    }

    /// Gives everything that has arrived to `see`, with the time of its arrival in nanoseconds of CLOCK_REALTIME (0 without `stamp`):
    /// when the driver handed it over, however late it is read.
    pub fn receive_each(&mut self, mut see: impl FnMut(Vec<u8>, u64)) -> io::Result<()> {
        loop {
            let mut control = [[0u64; CONTROL_BYTES / 8]; BATCH];
            let mut parts: Vec<libc::iovec> = self
                .buffers
                .iter_mut()
                .map(|buffer| libc::iovec {
                    iov_base: buffer.as_mut_ptr().cast(),
                    iov_len: FRAME_MAX,
                })
                .collect();
            let mut messages: Vec<libc::mmsghdr> = parts
                .iter_mut()
                .zip(&mut control)
                .map(|(part, control)| message(part, Some(control)))
                .collect();
            // SAFETY: every header points at an iovec of `parts` (that at a buffer of FRAME_MAX bytes) and at its own control
            // room; all outlive the call.
            let got = check(unsafe {
                libc::recvmmsg(
                    self.fd.as_raw_fd(),
                    messages.as_mut_ptr(),
                    BATCH as u32,
                    0,
                    std::ptr::null_mut(),
                )
            });
            let got = match got {
                Ok(got) => got as usize,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The interface went down or away: reported once, then the socket goes on.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                Err(error) => return Err(error),
            };
            for (buffer, message) in self.buffers.iter().zip(&messages).take(got) {
                let mut frame = buffer[..(message.msg_len as usize).min(FRAME_MAX)].to_vec();
                if let Some((protocol, tag)) = vlan(&message.msg_hdr)
                    && frame.len() >= 12
                {
                    let [p0, p1] = protocol.to_be_bytes();
                    let [t0, t1] = tag.to_be_bytes();
                    frame.splice(12..12, [p0, p1, t0, t1]);
                }
                see(frame, arrived_ns(&message.msg_hdr).unwrap_or(0));
            }
            if got < BATCH {
                return Ok(());
            }
        }
    }

    /// Frames that arrived and found no room since the last call.
    pub fn lost(&self) -> io::Result<u32> {
        // SAFETY: tpacket_stats is plain data, for which zero is valid.
        let mut stats: libc::tpacket_stats = unsafe { zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: both live through the call, and the length is the structure's own.
        check(unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        })?;
        Ok(stats.tp_drops)
    }
}

fn message(part: &mut libc::iovec, control: Option<&mut [u64; CONTROL_BYTES / 8]>) -> libc::mmsghdr {
    // SAFETY: mmsghdr is plain data, for which zero is valid.
    let mut message: libc::mmsghdr = unsafe { zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    if let Some(control) = control {
        message.msg_hdr.msg_control = control.as_mut_ptr().cast::<c_void>();
        message.msg_hdr.msg_controllen = CONTROL_BYTES as _;
    }
    message
}

/// What the kernel tells beside a frame, of this level and type.
fn told<T>(header: &libc::msghdr, level: c_int, kind: c_int) -> Option<T> {
    // SAFETY: recvmmsg has filled the header's control room and set its length; the macros stay within it.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: not null, so it points at a whole cmsghdr within the control room, which is aligned to 8.
        let head = unsafe { &*at };
        if (head.cmsg_level, head.cmsg_type) == (level, kind) {
            // SAFETY: the kernel writes a whole T for this type, which the callers name, and CONTROL_BYTES has room for it.
            return Some(unsafe { libc::CMSG_DATA(at).cast::<T>().read_unaligned() });
        }
        // SAFETY: as for the first.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    None
}

/// The VLAN tag that the kernel took off: its protocol and its 16 bits.
fn vlan(header: &libc::msghdr) -> Option<(u16, u16)> {
    let data: libc::tpacket_auxdata = told(header, libc::SOL_PACKET, libc::PACKET_AUXDATA)?;
    let valid = data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    let protocol = if data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
        data.tp_vlan_tpid
    } else {
        0x8100
    };
    valid.then_some((protocol, data.tp_vlan_tci))
}

/// When the frame arrived.
fn arrived_ns(header: &libc::msghdr) -> Option<u64> {
    let time: libc::timespec = told(header, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)?;
    Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
