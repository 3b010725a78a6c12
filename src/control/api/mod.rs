//! The control socket: how `bypath show` and `bypath trace` ask the running instance.
//!
//! An abstract unix socket `@bypath`, or `@bypath.NAME`: it belongs to the network namespace, as the instance does, and
//! vanishes with the process. Both ends check SO_PEERCRED: the other must be root or of the same user, since anybody may
//! take an abstract name.
//!
//! ```text
//!  client                                   server
//!    {"show":"totals"}\n        ------->
//!                               <-------    {"row":{"received":...}}\n   one per row
//!                               <-------    "end"\n                      or {"error":"..."}\n
//! ```
//!
//! One request per connection. An answer without `"end"` was cut off and is an error, so that a script never takes half a
//! table for a whole one. Bounded: [`CLIENTS_MAX`] clients, [`REQUEST_MAX`] bytes of request, [`TIMEOUT`] for every read
//! and write.

mod client;
mod served;
mod server;

pub use client::{Client, Rows};
pub use served::Served;
pub use server::{Backend, ServerHandle, serve};

use super::Error;
use super::connections::ConnectionFilter;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{io, mem};

/// The most clients at a time. One more is told so and closed.
pub const CLIENTS_MAX: usize = 16;

/// The longest request in bytes, its newline included.
pub const REQUEST_MAX: usize = 4096;

/// How long either side waits for the other to read or write.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest NAME in bytes: with `bypath.` before it, it fits `sun_path`.
const NAME_MAX: usize = 64;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// A table.
    Show(Show),
    /// Packets as they pass, until `count` or the client goes.
    Trace(TraceFilter),
    /// Connections.
    Connections(Connections),
}

/// What to do with which connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// What.
    #[serde(rename = "do")]
    pub what: ConnectionsDo,
    /// Which.
    #[serde(default)]
    pub filter: ConnectionFilter,
}

/// See [`Connections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionsDo {
    /// Rows of `ConnectionRow`.
    List,
    /// One row of `ConnectionCount`: of those that are not the kernel's to decide about.
    Count,
    /// Delete them: one row of `ConnectionCount`.
    Delete,
    /// Rows of `ConnectionRow` as they begin, change and end, until the client goes.
    Events,
}

/// The tables there are; the rows are the structs of [`report`](super::report) of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// One row of `Totals`.
    Totals,
    /// Rows of `Port`.
    Ports,
    /// Rows of `Worker`.
    Workers,
    /// Rows of `DropRow`.
    Drops,
    /// Rows of `Route`.
    Routes,
    /// Rows of `Neighbor`.
    Neighbors,
    /// Rows of `BridgeLink`.
    Bridge,
    /// Rows of `FdbEntry`.
    Fdb,
    /// Rows of `Rule`.
    Rules,
    /// Rows of `Qdisc`.
    Qdisc,
    /// Rows of `Latency`.
    Latency,
}

/// Which packets to trace: all conditions that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceFilter {
    /// The port of arrival, by name.
    pub port: Option<String>,
    /// IP protocol number.
    pub proto: Option<u8>,
    /// Source address and prefix length.
    pub src: Option<(IpAddr, u8)>,
    /// Destination address and prefix length.
    pub dst: Option<(IpAddr, u8)>,
    /// End after so many packets.
    pub count: Option<u64>,
}

/// A line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<T> {
    Row(T),
    /// Matching packets that a trace had to leave out before the next row.
    Lost(u64),
    Error(String),
    End,
}

/// The abstract name, without its leading NUL, for a control NAME.
///
/// # Errors
/// [`Error::ControlName`] where NAME does not fit.
pub fn socket_name(name: Option<&str>) -> Result<String, Error> {
    let Some(name) = name else { return Ok("bypath".into()) };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
        return Err(Error::ControlName {
            name: name.into(),
            max: NAME_MAX,
        });
    }
    Ok(format!("bypath.{name}"))
}

/// Ends an accept that blocks on `listener`, unix or TCP, and every later one.
pub(super) fn end_accept(listener: &impl AsRawFd) {
    // SAFETY: shutdown takes a descriptor, which `listener` keeps open through the call, and touches no memory.
    unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Who is at the other end of `stream`: who connected, or who listens.
fn peer_credentials(stream: &UnixStream) -> io::Result<libc::ucred> {
    let mut cred = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the option writes at most `len` bytes to `cred`, which is a ucred of ours of exactly that size.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &mut len,
        )
    };
    if done == 0 {
        Ok(cred)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether the other end is root or of this process's user.
fn peer_trusted(stream: &UnixStream) -> io::Result<bool> {
    // SAFETY: geteuid reads a number of the calling process and cannot fail.
    let own = unsafe { libc::geteuid() };
    peer_credentials(stream).map(|peer| peer.uid == 0 || peer.uid == own)
}

#[cfg(test)]
mod tests;
