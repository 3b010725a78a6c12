//! Who serves a control socket in this network namespace, under whatever name.
//!
//! Abstract names are listed in /proc/net/unix, which is that of the calling thread's namespace. The process behind one is who
//! listens, by SO_PEERCRED; one of another user is not asked, since anybody may take a name. Nothing is sent to it.
//!
//! ```text
//!  Num       RefCount Protocol Flags    Type St Inode Path
//!  000...000: 00000002 00000000 00010000 0001 01 41207 @bypath.NAME      Flags: 10000 for one that listens
//! ```

use super::{peer_credentials, peer_trusted};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

/// Flags of a socket that listens: __SO_ACCEPTCON.
const LISTENS: u32 = 0x10000;

/// A control socket that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its name as `ss -xl` shows it.
    pub socket: String,
    /// The process behind it, if that may be believed.
    pub pid: Option<i32>,
}

impl Served {
    /// Those of this network namespace.
    pub fn list() -> Vec<Self> {
        let sockets = std::fs::read_to_string("/proc/thread-self/net/unix").unwrap_or_default();
        let named = |socket: String| Self {
            pid: process_behind(&socket),
            socket,
        };
        names(&sockets).into_iter().map(named).collect()
    }

    /// How to end the instances of this network namespace, in words.
    pub fn how_to_stop() -> String {
        let pids: Vec<String> = Self::list()
            .iter()
            .filter_map(|served| served.pid.map(|pid| pid.to_string()))
            .collect();
        match pids.is_empty() {
            false => format!("stop it first, `kill {}`", pids.join(" ")),
            true => "stop it first; `pgrep -a bypath` lists processes".into(),
        }
    }
}

/// The names of control sockets that are listened on.
fn names(sockets: &str) -> Vec<String> {
    let name = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, flags, _, _, _, name] = words[..] else {
            return None;
        };
        let listens = u32::from_str_radix(flags, 16).ok()? & LISTENS != 0;
        (listens && (name == "@bypath" || name.starts_with("@bypath."))).then(|| name.to_owned())
    };
    sockets.lines().filter_map(name).collect()
}

fn process_behind(socket: &str) -> Option<i32> {
    let address = SocketAddr::from_abstract_name(socket.strip_prefix('@')?).ok()?;
    let stream = UnixStream::connect_addr(&address).ok()?;
    let pid = peer_credentials(&stream).ok()?.pid;
    // One of another PID namespace is 0 here.
    (peer_trusted(&stream).ok()? && pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_are_listened_on_are_told_from_their_clients() {
        let sockets = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 41207 @bypath
0000000000000000: 00000003 00000000 00000000 0001 03 41208 @bypath
0000000000000000: 00000002 00000000 00010000 0001 01 41209 @bypath.left
0000000000000000: 00000002 00000000 00010000 0001 01 41210 @bypassed
0000000000000000: 00000002 00000000 00010000 0001 01 41211 /run/bypath
0000000000000000: 00000002 00000000 00000000 0002 01 41212
";
        assert_eq!(names(sockets), ["@bypath", "@bypath.left"]);
    }
}
