//! Network namespaces, veth pairs, packet sockets and AF_XDP sockets for the tests.

#[path = "../netns/thread.rs"]
mod thread;

use crate::frames::Mac;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};
use thread::in_namespace;

/// Runs `test` in a network namespace of its own, with the loopback up; see main.rs for what happens without root.
pub fn in_netns(test: impl FnOnce() + Send + 'static) {
    in_namespace(|| {
        ip("link set lo up");
        test();
    });
}

/// Runs ip(8) in this thread's namespace.
pub fn ip(args: &str) {
    let output = Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .expect("ip(8)");
    assert!(
        output.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The same, where the kernel may lack what is asked for.
pub fn try_ip(args: &str) -> bool {
    Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .expect("ip(8)")
        .status
        .success()
}

/// What ip(8) prints.
pub fn ip_shows(args: &str) -> String {
    let output = Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .expect("ip(8)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn ifindex(name: &str) -> u32 {
    let name = CString::new(name).unwrap();
    // SAFETY: a C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "no {name:?}");
    index
}

/// The port `p0`, with 4 receive queues, and its far end `p1`. Both up, without IPv6.
pub fn veth_pair(mtu: u32) -> (u32, u32) {
    let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
    ip(&format!(
        "link add p0 address {mac} mtu {mtu} numrxqueues 4 numtxqueues 4 type veth peer name p1 mtu {mtu}"
    ));
    for name in ["p0", "p1"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").unwrap();
        ip(&format!("link set {name} up"));
    }
    (ifindex("p0"), ifindex("p1"))
}

/// p0's Ethernet address.
pub const MAC: Mac = [2, 0, 0, 0, 0, 1];

/// Frames as a packet socket saw them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub kind: u8,
    pub protocol: u16,
    /// Tag protocol and tag, where the kernel has taken the outer VLAN tag off.
    pub vlan: Option<(u16, u16)>,
    pub bytes: Vec<u8>,
}

/// A packet socket on one interface.
pub struct Packets {
    fd: OwnedFd,
}

impl Packets {
    pub fn on(ifindex: u32) -> Self {
        let every = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: numbers in, a descriptor out.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0, "AF_PACKET: {}", io::Error::last_os_error());
        // SAFETY: fresh.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeros is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        (address.sll_family, address.sll_protocol) = (libc::AF_PACKET as u16, every);
        address.sll_ifindex = ifindex as i32;
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32);
        set_option(
            &fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            &libc::timeval {
                tv_sec: 0,
                tv_usec: 20_000,
            },
        );
        // SAFETY: an address of the stated size.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(bound, 0, "bind: {}", io::Error::last_os_error());
        Self { fd }
    }

    /// Sends a frame out of the interface.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: a buffer of the stated size.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "send: {}", io::Error::last_os_error());
    }

    /// The next frame that came in, if one comes within 20 ms. What the interface itself sent is left out.
    pub fn receive(&self) -> Option<Seen> {
        let mut bytes = vec![0u8; 70_000];
        let mut control = [0u64; 16];
        // SAFETY: all zeros is valid for both.
        let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { std::mem::zeroed() };
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        (message.msg_name, message.msg_namelen) = ((&raw mut from).cast(), size_of_val(&from) as u32);
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
        loop {
            // SAFETY: every pointer in `message` is to memory of the stated size.
            let len = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut message, 0) };
            if len < 0 {
                return None;
            }
            if from.sll_pkttype == libc::PACKET_OUTGOING {
                continue;
            }
            bytes.truncate(len as usize);
            let protocol = u16::from_be(from.sll_protocol);
            return Some(Seen {
                kind: from.sll_pkttype,
                protocol,
                vlan: vlan_of(&message),
                bytes,
            });
        }
    }

    /// The first frame within three seconds for which `wanted` holds.
    pub fn wait_for(&self, wanted: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            if let Some(seen) = self.receive().filter(&wanted) {
                return Some(seen);
            }
        }
        None
    }
}

fn vlan_of(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the kernel filled the control buffer of `message`.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // SAFETY: a PACKET_AUXDATA message holds this record.
    let data: libc::tpacket_auxdata = unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(header).cast()) };
    (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some((data.tp_vlan_tpid, data.tp_vlan_tci))
}

fn set_option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) {
    let (pointer, size) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: a value of the stated size.
    let status = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, pointer, size) };
    assert_eq!(status, 0, "setsockopt {level}/{name}: {}", io::Error::last_os_error());
}

/// An AF_XDP socket with memory and rings, bound to nothing: enough for an XSKMAP to take it.
pub struct XdpSocket {
    fd: OwnedFd,
}

impl XdpSocket {
    pub fn new() -> Self {
        const BYTES: usize = 64 * 2048;
        // SAFETY: numbers in, a descriptor out.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0, "AF_XDP: {}", io::Error::last_os_error());
        // SAFETY: fresh.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a fresh mapping; it is never unmapped, for the kernel may write into it.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, protection, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        // SAFETY: all zeros is valid.
        let mut umem: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
        (umem.addr, umem.len, umem.chunk_size) = (memory as u64, BYTES as u64, 2048);
        set_option(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &umem);
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
        ] {
            set_option(&fd, libc::SOL_XDP, ring, &64u32);
        }
        Self { fd }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Leaves this thread the four capabilities that bypath says it needs.
pub fn drop_capabilities() {
    const KEPT: [u32; 4] = [12, 13, 14, 39]; // NET_ADMIN, NET_RAW, IPC_LOCK, BPF
    let header: [u32; 2] = [0x2008_0522, 0]; // version 3, this thread
    let mut sets = [[0u32; 3]; 2]; // effective, permitted, inheritable; low and high words
    for capability in KEPT {
        let word = (capability / 32) as usize;
        sets[word][0] |= 1 << (capability % 32);
        sets[word][1] |= 1 << (capability % 32);
    }
    // SAFETY: both records have the layout of version 3.
    let status = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(status, 0, "capset: {}", io::Error::last_os_error());
}
