//! ctnetlink: the kernel's connection table, read, heard and written. net/netfilter/nf_conntrack_netlink.c is the
//! specification.
//!
//! ```text
//!  kernel's table --dump, get--> Entry          Events --new, update, destroy--> Event
//!  Record --create, update, delete, flush--> kernel's table
//! ```
//!
//! Requests go out up to [`BATCH`] per `sendmsg`; the kernel carries them out within that call and answers only what it
//! refuses. What we change is told to listeners with our socket's number, and [`Own`] knows those numbers, so that
//! an echo is told from a user's `conntrack -D`.
//!
//! A socket belongs to the network namespace of the thread that opened it. All of it needs CAP_NET_ADMIN.

mod attr;
mod events;
mod message;
mod protoinfo;
mod request;
mod tuple;

#[cfg(test)]
mod tests;

pub use events::{BUFFER_BYTES, Events, Heard};
pub use message::{Entry, Event, EventKind, Oddity};
pub use protoinfo::Protoinfo;
pub use request::timeout_s;

use super::nlattr::Request;
use super::nlsock::NlSock;
use crate::packet::Family;
use crate::table::conntrack::{Record, Ticks, Tuple};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The most requests in one `sendmsg`: 100 of up to 300 bytes, and their refusals fit the default receive buffer.
pub const BATCH: usize = 100;

/// Socket numbers that are remembered: a socket gets a new one only after an error.
const OWN_MAX: usize = 16;

/// The numbers of our own sockets.
#[derive(Debug, Default)]
pub struct Own(Mutex<VecDeque<u32>>);

impl Own {
    /// Whether `port` is one of them.
    pub fn contains(&self, port: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&port)
    }

    fn add(&self, port: u32) {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ports.len() >= OWN_MAX {
            ports.pop_front();
        }
        ports.push_back(port);
    }
}

/// Asks and changes the kernel's table.
#[derive(Debug)]
pub struct Ctnetlink {
    sock: NlSock,
    own: Arc<Own>,
    port: u32,
}

impl Ctnetlink {
    /// Opens the socket; its number goes into `own`.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open(own: Arc<Own>) -> io::Result<Self> {
        let mut ctnetlink = Self {
            sock: NlSock::open(libc::NETLINK_NETFILTER, false)?,
            own,
            port: 0,
        };
        ctnetlink.sock()?;
        Ok(ctnetlink)
    }

    /// The socket, with its number known before anything is asked by it.
    fn sock(&mut self) -> io::Result<&mut NlSock> {
        let port = self.sock.port()?;
        if port != self.port {
            self.own.add(port);
            self.port = port;
        }
        Ok(&mut self.sock)
    }

    /// Shows every connection of `family`, or of both, to `each`. A connection that moves while the dump goes on may come
    /// twice or not at all.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn dump(&mut self, family: Option<Family>, now: Ticks, mut each: impl FnMut(Entry)) -> io::Result<()> {
        self.sock()?.dump(request::dump(family), |m| {
            if let Some(entry) = message::entry(m, now) {
                each(entry);
            }
        })
    }

    /// The connections that have these tuples, in either direction; `each` gets the place of the tuple and what there is. Of
    /// what the kernel does not say, or cannot be read, it hears nothing.
    ///
    /// # Errors
    /// Of the socket.
    pub fn get(&mut self, tuples: &[Tuple], now: Ticks, mut each: impl FnMut(usize, Option<Entry>)) -> io::Result<()> {
        for (round, tuples) in tuples.chunks(BATCH).enumerate() {
            let requests = tuples.iter().map(request::get).collect();
            self.sock()?.batch(requests, |place, answer| {
                let place = round * BATCH + place;
                match answer {
                    Ok(m) => message::entry(m, now)
                        .into_iter()
                        .for_each(|entry| each(place, Some(entry))),
                    Err(libc::ENOENT) => each(place, None),
                    Err(_) => {}
                }
            })?;
        }
        Ok(())
    }

    /// Enters new connections. `refused` gets the place and the errno: EEXIST where a tuple is taken, ENOMEM where the
    /// kernel's table is full (nf_conntrack_max).
    ///
    /// # Errors
    /// Of the socket: some may have been entered.
    pub fn create(&mut self, records: &[Record], now: Ticks, mut refused: impl FnMut(usize, i32)) -> io::Result<()> {
        let (places, requests) = records
            .iter()
            .enumerate()
            .filter_map(|(place, record)| match request::create(record, now) {
                Some(request) => Some((place, request)),
                None => {
                    refused(place, libc::EINVAL);
                    None
                }
            })
            .unzip();
        self.change(places, requests, refused)
    }

    /// Gives connections that exist the state, status, mark and timeout of `records`; ENOENT where there is none.
    ///
    /// # Errors
    /// Of the socket: some may have been changed.
    pub fn update(&mut self, records: &[Record], now: Ticks, refused: impl FnMut(usize, i32)) -> io::Result<()> {
        let requests = records.iter().map(|record| request::update(record, now)).collect();
        self.change((0..records.len()).collect(), requests, refused)
    }

    /// Deletes connections; ENOENT where there is none.
    ///
    /// # Errors
    /// Of the socket: some may have been deleted.
    pub fn delete(&mut self, tuples: &[Tuple], refused: impl FnMut(usize, i32)) -> io::Result<()> {
        let requests = tuples.iter().map(request::delete).collect();
        self.change((0..tuples.len()).collect(), requests, refused)
    }

    /// Deletes every connection of `family`, or of both.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn flush(&mut self, family: Option<Family>) -> io::Result<()> {
        let mut result = Ok(());
        self.change(vec![0], vec![request::flush(family)], |_, errno| {
            result = Err(io::Error::from_raw_os_error(errno));
        })?;
        result
    }

    fn change(
        &mut self,
        places: Vec<usize>,
        requests: Vec<Request>,
        mut refused: impl FnMut(usize, i32),
    ) -> io::Result<()> {
        let mut requests = requests.into_iter();
        for places in places.chunks(BATCH) {
            let batch = requests.by_ref().take(BATCH).collect();
            self.sock()?.change(batch, |at, errno| {
                if let Some(&place) = places.get(at) {
                    refused(place, errno);
                }
            })?;
        }
        Ok(())
    }
}
