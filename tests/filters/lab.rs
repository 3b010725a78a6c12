//! A bridge of the kernel that floods what comes in at one port out by another, which has htb with many classes:
//!
//! ```text
//!  packet socket -> ib == ia --- br0 --- oa (htb 1:, filters) == ob
//! ```
//!
//! So frames come to the filters as forwarded ones do: with a VLAN tag beside the frame, a mark, and no priority.

#[path = "../netns/thread.rs"]
mod thread;

use super::frames::Frame;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
pub use thread::in_namespace as namespace;

/// Classes 1:1 to 1:CLASSES are leaves.
pub const CLASSES: u32 = 16;
/// For what nothing places.
pub const DEFAULT: u32 = 0x1_00ff;
/// The qdisc itself: its queue that nothing limits.
pub const DIRECT: u32 = 0x1_0000;
/// Softirqs carry frames before the socket call returns, if the machine is not busy.
const ARRIVED_WITHIN: Duration = Duration::from_secs(20);

/// See the file's head.
pub struct Lab {
    socket: OwnedFd,
    mark: u32,
    before: BTreeMap<u32, (u64, u64)>,
    ifindex: u32,
}

fn run(program: &str, arguments: &str, input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(program);
    child.stdin.take().unwrap().write_all(input.as_bytes()).expect(program);
    child.wait_with_output().expect(program)
}

fn must(program: &str, arguments: &str, input: &str) -> String {
    let output = run(program, arguments, input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

impl Lab {
    pub fn new() -> Self {
        let links = "link add br0 type bridge mcast_snooping 0
            link add ib type veth peer name ia
            link add oa type veth peer name ob
            link set ia master br0
            link set oa master br0\n";
        run("ip", "-force -batch -", "link del br0\nlink del ib\nlink del oa\n");
        for of in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6");
            std::fs::write(&path, "1").unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        must("ip", "-batch -", links);
        // Else the hooks of IP drop what is no whole packet. Without br_netfilter there are none.
        for of in ["iptables", "ip6tables", "arptables"] {
            let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{of}"), "0");
        }
        must("bridge", "link set dev ia learning off flood on", "");
        let mut classes = String::from("qdisc add dev oa root handle 1: htb default ff\n");
        for class in (1..=CLASSES).chain([DEFAULT & 0xffff]) {
            classes += &format!("class add dev oa parent 1: classid 1:{class:x} htb rate 10gbit quantum 1500\n");
        }
        must("tc", "-batch -", &classes);
        for link in ["br0", "ia", "ib", "oa", "ob"] {
            must("ip", &format!("link set {link} arp off up"), "");
        }
        let until = Instant::now() + ARRIVED_WITHIN;
        while !must("bridge", "link show dev oa", "").contains("state forwarding") {
            assert!(Instant::now() < until, "the bridge does not forward");
            std::thread::sleep(Duration::from_millis(5));
        }
        let name = |name: &str| CString::new(name).unwrap();
        // SAFETY: the names end with a NUL.
        let [ib, oa] = ["ib", "oa"].map(|link| unsafe { libc::if_nametoindex(name(link).as_ptr()) });
        let mut lab = Self {
            socket: socket(ib),
            mark: 0,
            before: BTreeMap::new(),
            ifindex: oa,
        };
        lab.before = lab.counters();
        lab
    }

    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether the kernel has this kind of filter; all of them are `any`.
    pub fn has(&mut self, kind: &str) -> bool {
        let example = match kind {
            "any" => return true,
            "u32" => "pref 1 u32 match u32 0 0 flowid 1:1",
            "fw" => "pref 1 handle 1 fw classid 1:1",
            "matchall" => "pref 1 matchall classid 1:1",
            "flower" => "pref 1 flower classid 1:1",
            other => panic!("no filter {other}"),
        };
        self.try_set(example)
    }

    /// Chains that filters were in go with the last of them.
    fn clear(&self) {
        run(
            "tc",
            "-force -batch -",
            "filter del dev oa parent 1:\nfilter del dev oa parent 1: chain 3\n",
        );
    }

    /// Has these filters and no others, one a line without `filter add dev ... parent ...`; whether the kernel takes them.
    pub fn try_set(&mut self, text: &str) -> bool {
        self.clear();
        let lines = text.lines().map(|line| format!("filter add dev oa parent 1: {line}\n"));
        run("tc", "-batch -", &lines.collect::<String>()).status.success()
    }

    /// The same, for what the kernel may refuse in part: then it has the rest.
    pub fn set(&mut self, text: &str) {
        self.clear();
        let lines = text.lines().map(|line| format!("filter add dev oa parent 1: {line}\n"));
        run("tc", "-force -batch -", &lines.collect::<String>());
    }

    /// As tc shows them, as far as the kernel lists them.
    pub fn listing(&self) -> String {
        String::from_utf8_lossy(&run("tc", "filter show dev oa parent 1:", "").stdout).into_owned()
    }

    /// `class htb 1:1 ...`, and below it ` Sent 98 bytes 1 pkt ...`; what the qdisc sent and no class did went by its direct queue.
    fn counters(&self) -> BTreeMap<u32, (u64, u64)> {
        let mut counters = BTreeMap::new();
        let mut class = DIRECT;
        for line in must("tc", "-s -batch -", "class show dev oa\nqdisc show dev oa\n").lines() {
            match *line.split_whitespace().collect::<Vec<_>>() {
                ["qdisc", ..] => class = DIRECT,
                ["class", "htb", id, ..] => {
                    let minor = id.split_once(':').unwrap().1;
                    class = 0x1_0000 | u32::from_str_radix(minor, 16).unwrap();
                }
                ["Sent", bytes, "bytes", packets, "pkt", ..] => {
                    counters.insert(class, (packets.parse().unwrap(), bytes.parse().unwrap()));
                }
                _ => {}
            }
        }
        let sent: (u64, u64) = counters.remove(&DIRECT).expect("a qdisc");
        let classes = counters
            .values()
            .fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        counters.insert(
            DIRECT,
            (sent.0.saturating_sub(classes.0), sent.1.saturating_sub(classes.1)),
        );
        counters
    }

    /// Sends frames; what came to each class that got any.
    pub fn classes_of(&mut self, frames: &[Frame]) -> BTreeMap<u32, (u64, u64)> {
        for frame in frames {
            self.send(frame);
        }
        let until = Instant::now() + ARRIVED_WITHIN;
        loop {
            let after = self.counters();
            let new = |(class, (packets, bytes)): (&u32, &(u64, u64))| {
                let before = self.before.get(class).copied().unwrap_or_default();
                (*class, (packets - before.0, bytes - before.1))
            };
            let new: BTreeMap<_, _> = after.iter().map(new).filter(|(_, count)| count.0 > 0).collect();
            let arrived: u64 = new.values().map(|count| count.0).sum();
            if arrived >= frames.len() as u64 {
                self.before = after;
                return new;
            }
            assert!(
                Instant::now() < until,
                "{arrived} of {} frames came to the classes: {new:x?}",
                frames.len()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn send(&mut self, frame: &Frame) {
        let fd = self.socket.as_raw_fd();
        if self.mark != frame.mark {
            let mark: *const u32 = &frame.mark;
            // SAFETY: a u32 is read, which lives for the call.
            let set = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_MARK, mark.cast(), 4) };
            assert_eq!(set, 0, "SO_MARK: {}", std::io::Error::last_os_error());
            self.mark = frame.mark;
        }
        // SAFETY: so many bytes of the frame are read.
        let sent = unsafe { libc::send(fd, frame.bytes.as_ptr().cast(), frame.bytes.len(), 0) };
        assert_eq!(
            sent,
            frame.bytes.len() as isize,
            "send: {}",
            std::io::Error::last_os_error()
        );
    }
}

/// A packet socket that sends by this interface, and receives nothing.
fn socket(ifindex: u32) -> OwnedFd {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "packet socket: {}", std::io::Error::last_os_error());
    // SAFETY: it is open, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = ifindex as i32;
    let length = size_of_val(&address) as u32;
    // SAFETY: so many bytes of an address are read, which lives for the call.
    let bound = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
    assert_eq!(bound, 0, "bind: {}", std::io::Error::last_os_error());
    socket
}
