//! The TAP device under the punt: made, silenced and set up, in the network namespace of the calling thread.
//!
//! It is not persistent, so it goes when its descriptor does. TUN_EXCL makes its name the lock: who finds it there is the
//! second bypath of this namespace. It has no addresses and no IPv6, so that the stack never has anything to send on it;
//! the kernel side is drivers/net/tun.c.

use super::punt_device::PuntOpenError;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// ETH_MAX_MTU less the Ethernet header, the most that a TAP takes.
const MTU: i32 = 65521;

pub(super) struct Tap {
    pub file: File,
    pub ifindex: u32,
    name: &'static str,
}

impl Tap {
    /// Makes the device, down and without IPv6.
    pub fn create(name: &'static str) -> Result<Self, PuntOpenError> {
        // Non-blocking writes take the driver's short way, where XDP runs before there is an skb (tun_can_build_skb).
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(|source| PuntOpenError::NoTun { source })?;
        let mut request = named(name);
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as i16;
        ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request).map_err(|source| match source.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => PuntOpenError::InUse,
            _ => PuntOpenError::system("making the TAP device bypath0", source),
        })?;
        let step = |what| move |source| PuntOpenError::system(what, source);
        let control = inet_socket().map_err(step("opening a socket"))?;
        ioctl(control.as_raw_fd(), libc::SIOCGIFINDEX, &mut request).map_err(step("asking for bypath0's ifindex"))?;
        // SAFETY: SIOCGIFINDEX succeeded and wrote this member.
        let ifindex = unsafe { request.ifr_ifru.ifru_ifindex } as u32;
        silence_ipv6(name, ifindex).map_err(step("turning IPv6 off on bypath0"))?;
        request.ifr_ifru.ifru_mtu = MTU;
        ioctl(control.as_raw_fd(), libc::SIOCSIFMTU, &mut request).map_err(step("setting bypath0's MTU"))?;
        Ok(Self { file, ifindex, name })
    }

    /// Sets it up.
    pub fn up(&self) -> Result<(), PuntOpenError> {
        set_up(self.name).map_err(|source| PuntOpenError::system("setting bypath0 up", source))
    }
}

/// Sets the device of this name up, without ARP and multicast.
pub(super) fn set_up(name: &str) -> io::Result<()> {
    let mut request = named(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_NOARP) as i16;
    ioctl(inet_socket()?.as_raw_fd(), libc::SIOCSIFFLAGS, &mut request)
}

/// No link-local address, no router solicitation, no MLD. Where /proc/sys is read-only (containers), no address is the next
/// best, by netlink. /proc/sys/net shows the network namespace of the thread that opens a file in it.
fn silence_ipv6(name: &str, ifindex: u32) -> io::Result<()> {
    let file = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    match std::fs::write(file, "1") {
        Ok(()) => Ok(()),
        Err(_) if !std::path::Path::new("/proc/sys/net/ipv6").exists() && no_ipv6() => Ok(()),
        Err(_) => no_ipv6_addresses(ifindex),
    }
}

/// Whether this kernel has no IPv6 at all.
fn no_ipv6() -> bool {
    // SAFETY: takes numbers, returns a descriptor or -1.
    let fd = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd >= 0 {
        // SAFETY: a fresh descriptor that nobody else knows.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    fd < 0
}

fn no_ipv6_addresses(ifindex: u32) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    link.attributes.push(LinkAttribute::AfSpecUnspec(vec![mode]));
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::SetLink(link));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&buffer, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

fn inet_socket() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, returns a descriptor or -1.
    match unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a fresh descriptor that nobody else knows.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn named(name: &str) -> libc::ifreq {
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn ioctl(fd: i32, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all calls above take a pointer to an ifreq.
    match unsafe { libc::ioctl(fd, what as _, request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
