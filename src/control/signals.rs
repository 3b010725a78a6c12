//! The signals that end an instance, SIGINT, SIGTERM and SIGHUP, as a descriptor that the control loop waits on; and the word to
//! systemd that the instance is ready. From the first line of a start on: what is being set up is taken down in order, too. Who
//! ignores SIGHUP, as `nohup` has it, goes on when a terminal goes.

use super::Error;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};

/// Catches the signals that end the instance.
pub struct Termination {
    pipe: UnixStream,
}

impl Termination {
    /// From now on SIGINT and SIGTERM come here, and SIGHUP, which a terminal sends when it goes, unless it is ignored
    /// (`nohup`).
    ///
    /// # Errors
    /// Where the kernel has no descriptors left.
    pub fn catch() -> Result<Self, Error> {
        let set_up = || -> io::Result<UnixStream> {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            pipe::register(SIGINT, theirs.try_clone()?)?;
            if !is_ignored(SIGHUP) {
                pipe::register(SIGHUP, theirs.try_clone()?)?;
            }
            pipe::register(SIGTERM, theirs)?;
            Ok(ours)
        };
        set_up().map(|pipe| Self { pipe }).map_err(|source| Error::System {
            what: "cannot catch signals".into(),
            source,
            remedy: "raise the limit of open files (ulimit -n)".into(),
        })
    }

    /// Readable once a signal came.
    pub fn fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    /// Whether a signal came.
    pub fn came(&self) -> bool {
        matches!((&self.pipe).read(&mut [0; 16]), Ok(1..))
    }
}

/// Whether whoever started this process has it ignore `signal`.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action sigaction only writes into `now`, which zeroes are valid for, too.
    let now = unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr());
        now.assume_init()
    };
    now.sa_sigaction == libc::SIG_IGN
}

/// Whether any of `fds`, which the caller keeps open, is readable now.
pub fn readable(fds: &[RawFd]) -> bool {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        // SAFETY: the caller owns the descriptors and keeps them open through this call.
        .map(|&fd| PollFd::from_borrowed_fd(unsafe { BorrowedFd::borrow_raw(fd) }, PollFlags::IN))
        .collect();
    poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Sends READY=1 to the socket that systemd named, if it did (sd_notify(3)). Nobody there is no error.
pub fn tell_systemd_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let path = path.to_string_lossy();
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&*path),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(b"READY=1", &address);
    }
}
