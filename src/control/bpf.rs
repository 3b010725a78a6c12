//! What the loaders of the BPF programs share: the generated skeletons, the errors, mapped maps, links and test runs.
//!
//! The programs stand in `bpf/`; `build.rs` compiles them into the binary, so nothing is looked up at run time and no bpffs
//! is needed. A loader keeps no libbpf object: it loads, takes duplicates of the file descriptors that it wants, and drops
//! the rest. A link is a file descriptor too, and so everything ends with the process, however that ends.
//!
//! Nothing here raises RLIMIT_MEMLOCK: since kernel 5.11 BPF memory is charged to the cgroup. libbpf tries on older ones,
//! and does not mind if it may not.

use libbpf_rs::{MapHandle, PrintLevel, libbpf_sys};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

macro_rules! skeleton {
    ($name:ident) => {
        #[allow(
            missing_docs,
            clippy::all,
            clippy::undocumented_unsafe_blocks,
            unreachable_pub
        )]
        pub(super) mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));
        }
    };
}
skeleton!(jiffies);
skeleton!(punt);
skeleton!(steer);

/// Why the BPF programs could not be brought into the kernel, or their maps be used.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// A capability is missing.
    #[error("loading the BPF program {program}: not permitted; run as root, or with CAP_BPF and CAP_NET_ADMIN")]
    NotPermitted {
        /// The program's file name in `bpf/`.
        program: &'static str,
    },
    /// The kernel does not know something that the program uses, or has no memory for it.
    #[error("loading the BPF program {program}: {source}; kernel 6.1 or newer with CONFIG_BPF_SYSCALL is needed")]
    Load {
        /// The program's file name in `bpf/`.
        program: &'static str,
        /// What the kernel said.
        source: libbpf_rs::Error,
        /// What libbpf and the kernel's verifier said about it, many lines.
        log: String,
    },
    /// A call on a map failed: it is full, or there is no memory.
    #[error(
        "BPF map {map}: {source}; it is full, or memory is short (`free -m`, the memory limit of the unit or container)"
    )]
    Map {
        /// The map's name.
        map: &'static str,
        /// What the kernel said.
        source: libbpf_rs::Error,
    },
    /// A system call around the programs failed.
    #[error("{what}: {source}; start bypath again, and please report it where that does not help")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's tick does not follow its clock as it should, so that no heartbeat could be judged.
    #[error(
        "jiffies do not follow CLOCK_MONOTONIC ({detail}): start bypath again if this is a virtual machine that was just resumed, \
         else see /sys/devices/system/clocksource/clocksource0/current_clocksource"
    )]
    Calibration {
        /// The numbers.
        detail: String,
    },
}

impl BpfError {
    pub(super) fn system(what: &'static str) -> Self {
        Self::System {
            what,
            source: io::Error::last_os_error(),
        }
    }

    pub(super) fn load(program: &'static str, source: libbpf_rs::Error) -> Self {
        let log = std::mem::take(&mut *LOG.lock().unwrap_or_else(|e| e.into_inner()));
        match source.kind() {
            libbpf_rs::ErrorKind::PermissionDenied => Self::NotPermitted { program },
            _ => Self::Load { program, source, log },
        }
    }
}

/// `map_err` for a call on `map`.
pub(super) fn on_map(map: &'static str) -> impl Fn(libbpf_rs::Error) -> BpfError {
    move |source| BpfError::Map { map, source }
}

/// What libbpf printed lately; bounded by [`LOG_BYTES_MAX`].
static LOG: Mutex<String> = Mutex::new(String::new());
const LOG_BYTES_MAX: usize = 256 << 10;

/// Keeps libbpf from writing to stderr; what it has to say becomes part of [`BpfError::Load`].
pub(super) fn capture_log() {
    fn keep(_: PrintLevel, line: String) {
        let mut log = LOG.lock().unwrap_or_else(|e| e.into_inner());
        if log.len() + line.len() <= LOG_BYTES_MAX {
            log.push_str(&line);
        }
    }
    libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
    LOG.lock().unwrap_or_else(|e| e.into_inner()).clear();
}

/// An array map of u64s in our address space, shared with the BPF programs. All access is atomic.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory is shared by nature and only reached as `AtomicU64`; it is unmapped by the last owner.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the first `count` u64s of `map`, which must have been made with BPF_F_MMAPABLE and hold that many.
    pub(super) fn new(map: &MapHandle, count: usize) -> Result<Self, BpfError> {
        use libbpf_rs::MapCore as _;
        use std::os::fd::AsFd as _;
        assert!(
            count * 8 <= map.value_size() as usize * map.max_entries() as usize,
            "the map is smaller"
        );
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, map.as_fd().as_raw_fd());
        // SAFETY: a fresh mapping, nothing of ours is replaced; the kernel checks length and kind of the map.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), count * 8, protection, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(start.cast::<AtomicU64>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, count }),
            _ => Err(BpfError::system("mapping a BPF map into memory")),
        }
    }
}

impl std::ops::Deref for Mapped {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `new` mapped `count` u64s, page-aligned, and they stay mapped until `drop`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * 8) };
    }
}

/// Attaches a program to an interface of this thread's network namespace. The link lives as long as the descriptor.
pub(super) fn link_create(program: BorrowedFd<'_>, ifindex: u32, kind: u32, flags: u32) -> io::Result<OwnedFd> {
    let size = size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t;
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size,
        flags,
        ..Default::default()
    };
    // SAFETY: `opts` is complete and outlives the call; the descriptors are checked by the kernel.
    let fd = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, kind, &opts) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a fresh descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs an XDP program once over `frame` (BPF_PROG_TEST_RUN) as if it came from `queue` of `ifindex`: its return value, and
/// the frame afterwards, behind `metadata` bytes that the program put before it.
pub(super) fn test_run_xdp(
    program: BorrowedFd<'_>,
    frame: &[u8],
    ifindex: u32,
    queue: u32,
) -> io::Result<(u32, Vec<u8>, usize)> {
    let mut context = steer::types::xdp_md {
        data_end: frame.len() as u32,
        ingress_ifindex: ifindex,
        rx_queue_index: queue,
        ..Default::default()
    };
    let mut context_out = steer::types::xdp_md::default();
    let mut out = vec![0u8; frame.len() + 256];
    let mut opts = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        data_out: out.as_mut_ptr().cast(),
        data_size_out: out.len() as u32,
        ctx_in: (&raw mut context).cast(),
        ctx_size_in: size_of_val(&context) as u32,
        ctx_out: (&raw mut context_out).cast(),
        ctx_size_out: size_of_val(&context_out) as u32,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: every pointer in `opts` is to memory of the stated size that outlives the call.
    let status = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut opts) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(-status));
    }
    out.truncate(opts.data_size_out as usize);
    Ok((opts.retval, out, context_out.data as usize))
}
