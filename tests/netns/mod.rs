//! A test in a network namespace of its own: the test program starts itself again under `unshare -n`, runs just that test,
//! and the namespace is gone with the process, whatever happens in it.
//!
//! Needs root and the programs unshare and ip. Without root a test says SKIPPED, but fails where CI is set.
#![allow(dead_code, reason = "each test program uses a part of it")]

use bypath::mirror::guard::LinkFacts;
use serde_json::Value;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;

const INSIDE: &str = "BYPATH_TEST_NAMESPACE";

/// Runs `test` in a namespace of its own. `name` is the name of the calling test function.
pub fn isolated(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        sh("ip link set lo up");
        return test();
    }
    if !Command::new("unshare")
        .args(["-n", "true"])
        .status()
        .is_ok_and(|s| s.success())
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "unshare -n does not work, and CI is set"
        );
        eprintln!("SKIPPED {name}: needs root and unshare(1)");
        return;
    }
    let this = std::env::current_exe().expect("own path");
    let output = Command::new("unshare")
        .arg("-n")
        .arg(this)
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare");
    // Without the verdict of the run inside: scripts/test counts those lines, and this test is counted already.
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    for line in said.iter().flat_map(|text| text.lines()) {
        if !line.starts_with("test result: ") {
            println!("{line}");
        }
    }
    assert!(output.status.success(), "{name} failed in its namespace");
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(ran, "{name} is not the path of a test: nothing ran in the namespace");
}

/// Runs a shell command, which must succeed.
pub fn sh(command: &str) {
    let output = Command::new("sh").args(["-ec", command]).output().expect("sh");
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The links of this namespace as `ip` shows them, those named in `ports` marked.
pub fn links(ports: &[&str]) -> Vec<LinkFacts> {
    let output = Command::new("ip").args(["-j", "-d", "link"]).output().expect("ip");
    let list: Value = serde_json::from_slice(&output.stdout).expect("ip -j");
    let list = list.as_array().expect("a list").clone();
    let number = |name: &Value| {
        let of = list.iter().find(|l| l["ifname"] == *name && name.is_string())?;
        of["ifindex"].as_u64().map(|n| n as u32)
    };
    list.iter()
        .map(|l| LinkFacts {
            ifindex: l["ifindex"].as_u64().expect("ifindex") as u32,
            name: l["ifname"].as_str().expect("ifname").into(),
            kind: l["linkinfo"]["info_kind"].as_str().map(Into::into),
            master: number(&l["master"]),
            link: number(&l["link"]).or(l["link_index"].as_u64().map(|n| n as u32)),
            link_netnsid: l["link_netnsid"].as_i64().map(|n| n as i32),
            is_port: ports.contains(&l["ifname"].as_str().unwrap_or_default()),
            takes: Box::default(),
            has_xdp: false,
            unasked: None,
        })
        .collect()
}

/// The kernel's number of a link.
pub fn ifindex(name: &str) -> u32 {
    links(&[]).iter().find(|l| &*l.name == name).expect("link").ifindex
}

/// Whether any descriptor is readable within a time.
pub fn readable(fds: &[RawFd], timeout_ms: i32) -> bool {
    let mut polls: Vec<_> = fds
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: the pointer and the count describe `polls`, which outlives the call.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout_ms) > 0 }
}

/// A packet socket on a link, for sending frames.
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens it on the link of this number.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeroes is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex as i32;
        // SAFETY: the pointer and the length describe `address`, which outlives the call.
        let result = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self(fd))
        }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length describe `frame`, which outlives the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// A BPF program that does nothing, attached to something for as long as this lives.
pub struct Attached(#[expect(dead_code, reason = "held, not read")] [OwnedFd; 2]);

/// Loads `r0 = result; exit` as a program of this type and attaches it by a bpf_link. `target` is what follows the program
/// in BPF_LINK_CREATE: ifindex, attach type, flags, and four words of the type's own.
pub fn attach_bpf(program_type: u32, result: i32, target: [u32; 7]) -> io::Result<Attached> {
    const PROG_LOAD: i64 = 5;
    const LINK_CREATE: i64 = 28;
    let [r0, r1] = [u64::from(result as u32) << 32 | 0xb7, 0x95];
    let code = [r0, r1];
    let license = b"GPL\0";
    let mut load = [0u64; 16];
    load[0] = u64::from(program_type) | 2 << 32;
    load[1] = code.as_ptr().expose_provenance() as u64;
    load[2] = license.as_ptr().expose_provenance() as u64;
    load[8] = u64::from(target[1]) << 32;
    let program = bpf(PROG_LOAD, &mut load)?;
    let mut words = [0u32; 32];
    words[0] = program.as_raw_fd() as u32;
    words[1..8].copy_from_slice(&target);
    let mut link = [0u64; 16];
    for (to, from) in link.iter_mut().zip(words.chunks_exact(2)) {
        *to = u64::from(from[0]) | u64::from(from[1]) << 32;
    }
    let link = bpf(LINK_CREATE, &mut link)?;
    Ok(Attached([link, program]))
}

fn bpf(command: i64, attr: &mut [u64; 16]) -> io::Result<OwnedFd> {
    // SAFETY: the pointer and the size describe `attr`; pointers in it are the caller's, to live memory.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
