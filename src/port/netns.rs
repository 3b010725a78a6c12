//! Network namespaces: who measures has its ports in several of them, and a socket, a link and a BPF test run are of the
//! namespace of the thread that asks. So a thread joins the namespace first and then opens what it needs there; what is open
//! stays open wherever the thread goes.
//!
//! ```text
//!   eth0            the namespace of this process
//!   blue:eth0       that of `ip netns add blue`: /run/netns/blue
//!   1234:eth0       that of process 1234: /proc/1234/ns/net
//! ```
//!
//! A namespace without a name is held by its descriptor, and gone with the last holder.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";
/// The calling thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// Gives the calling thread network and mount namespaces of its own, and has the processes that it starts from now on be in a
/// new PID namespace, of which the first is process 1. Other threads stay where they are; this one can start no thread any more.
///
/// # Errors
/// It may not: that needs CAP_SYS_ADMIN.
pub fn isolate() -> io::Result<()> {
    // SAFETY: no memory is involved; of the namespaces it is the calling thread's alone that change.
    match unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWPID) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A network namespace, held by a descriptor.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
}

impl Netns {
    /// The calling thread's.
    ///
    /// # Errors
    /// /proc is not there.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// The one that a file stands for: `/run/netns/NAME`, `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// There is no such file, or it may not be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            fd: File::open(path)?.into(),
        })
    }

    /// By the name that `ip netns` gave it, or by the number of a process that is in it.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> io::Result<Self> {
        Self::open(&path_of(name))
    }

    /// A new one, with its loopback device down.
    ///
    /// # Errors
    /// It may not be made: that needs CAP_SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        let made = thread::spawn(|| {
            // SAFETY: no memory is involved; of the namespaces it is the calling thread's alone that changes, and that thread ends.
            match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
                0 => Self::current(),
                _ => Err(io::Error::last_os_error()),
            }
        });
        made.join()
            .map_err(|_| io::Error::other("the thread that makes a namespace died"))?
    }

    /// Moves the calling thread into it.
    ///
    /// # Errors
    /// It may not: that needs CAP_SYS_ADMIN.
    pub fn join(&self) -> io::Result<()> {
        // SAFETY: no memory is involved; the descriptor is open, and one that is no namespace is an error.
        match unsafe { libc::setns(self.fd.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Runs `work` on a thread inside. Processes that it starts are inside too.
    ///
    /// # Errors
    /// As [`Netns::join`]; a thread that panics is an error too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.join()?;
                Ok(work())
            });
            thread
                .join()
                .map_err(|_| io::Error::other("a thread in a namespace died"))?
        })
    }

    /// Another holder of the same.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// What tells it from all others.
    ///
    /// # Errors
    /// /proc is not there.
    pub fn id(&self) -> io::Result<(u64, u64)> {
        let about = std::fs::metadata(self.path())?;
        Ok((about.dev(), about.ino()))
    }

    /// A path by which a child of this process can name it, as in `ip link set x netns PATH`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }
}

fn path_of(name: &str) -> PathBuf {
    match name.parse::<u32>() {
        Ok(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        Err(_) => Path::new(NAMES).join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_process_or_a_file() {
        assert_eq!(path_of("1234"), Path::new("/proc/1234/ns/net"));
        assert_eq!(path_of("blue"), Path::new("/run/netns/blue"));
        assert!(Netns::named("no-such-namespace").is_err());
    }

    #[test]
    fn the_own_one_can_be_held() {
        let own = Netns::current().expect("/proc");
        let shared = own.share().expect("a descriptor");
        assert_eq!(own.id().expect("/proc"), shared.id().expect("/proc"));
        assert!(Path::new(&own.path()).exists());
    }
}
