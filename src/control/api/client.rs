//! The client side of the control socket. Blocking, one request per connection.
//!
//! Rows are typed and come one by one, so that a million routes are never held at once. A line is bounded, as the server is
//! another process; every way in which it can fail is one error that names the socket.

use super::{
    Connections, ConnectionsDo, Line, Request, Show, TIMEOUT, TraceFilter, peer_credentials, peer_trusted, socket_name,
};
use crate::control::Error;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::marker::PhantomData;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

/// The longest line of an answer in bytes: a port with all its queues fits many times.
const LINE_MAX: u64 = 1 << 20;

/// A connection to the instance of this network namespace.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: String,
}

impl Client {
    /// Connects to `@bypath`, or `@bypath.NAME`.
    ///
    /// # Errors
    /// [`Error::NotRunning`] or [`Error::RunsElsewhere`] where nobody listens, [`Error::Control`] where somebody else does.
    pub fn connect(name: Option<&str>) -> Result<Self, Error> {
        let name = socket_name(name)?;
        let socket = format!("@{name}");
        let failed = |error: io::Error| Error::Control {
            socket: socket.clone(),
            why: format!("cannot connect, {error}: try again, or restart bypath"),
        };
        let address = SocketAddr::from_abstract_name(&name).map_err(failed)?;
        let stream = match UnixStream::connect_addr(&address) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Error::not_running(socket)),
            Err(error) => return Err(failed(error)),
        };
        if !peer_trusted(&stream).map_err(failed)? {
            let uid = peer_credentials(&stream).map_err(failed)?.uid;
            let why = format!(
                "it belongs to the user with uid {uid}, and is not trusted: ask as that user, which root is by `setpriv --reuid {uid} \
                 --clear-groups bypath ...`"
            );
            return Err(Error::Control { socket, why });
        }
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
        Ok(Self { stream, socket })
    }

    /// Asks for a table; `T` is its row.
    ///
    /// # Errors
    /// [`Error::Control`] where the request cannot be sent.
    pub fn show<T: DeserializeOwned>(self, what: Show) -> Result<Rows<T>, Error> {
        self.ask(&Request::Show(what))
    }

    /// Asks for packets as they pass. The rows end with `filter.count`, or never.
    ///
    /// # Errors
    /// [`Error::Control`] where the request cannot be sent.
    pub fn trace<T: DeserializeOwned>(self, filter: TraceFilter) -> Result<Rows<T>, Error> {
        // Packets may be long in coming.
        self.stream
            .set_read_timeout(None)
            .map_err(|error| self.failed(&error))?;
        self.ask(&Request::Trace(filter))
    }

    /// Asks for connections; events never end.
    ///
    /// # Errors
    /// [`Error::Control`] where the request cannot be sent.
    pub fn connections<T: DeserializeOwned>(self, what: &Connections) -> Result<Rows<T>, Error> {
        if what.what == ConnectionsDo::Events {
            self.stream
                .set_read_timeout(None)
                .map_err(|error| self.failed(&error))?;
        }
        self.ask(&Request::Connections(what.clone()))
    }

    fn ask<T>(self, request: &Request) -> Result<Rows<T>, Error> {
        let mut line = serde_json::to_vec(request).map_err(|error| self.failed(&error.into()))?;
        line.push(b'\n');
        // A server that refuses at once may have closed before it reads: its reason is what counts, and it is read next.
        match (&self.stream).write_all(&line) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(self.failed(&error)),
            _ => {}
        }
        Ok(Rows {
            reader: BufReader::with_capacity(1 << 16, self.stream),
            socket: self.socket,
            lost: 0,
            done: false,
            row: PhantomData,
        })
    }

    fn failed(&self, error: &io::Error) -> Error {
        failed(&self.socket, error)
    }
}

fn failed(socket: &str, error: &io::Error) -> Error {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {} s: try again, or restart bypath", TIMEOUT.as_secs())
        }
        _ => format!("{error}: try again, or restart bypath"),
    };
    Error::Control {
        socket: socket.into(),
        why,
    }
}

/// The rows of an answer, as they come.
#[derive(Debug)]
pub struct Rows<T> {
    reader: BufReader<UnixStream>,
    socket: String,
    lost: u64,
    done: bool,
    row: PhantomData<T>,
}

impl<T> Rows<T> {
    /// Takes the count of packets that a trace left out since the last call, because this side was too slow.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

impl<T: DeserializeOwned> Rows<T> {
    fn read(&mut self) -> Result<Option<T>, Error> {
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut self.reader).take(LINE_MAX);
            bounded
                .read_until(b'\n', &mut line)
                .map_err(|error| failed(&self.socket, &error))?;
            if line.last() != Some(&b'\n') {
                let seconds = TIMEOUT.as_secs();
                let why = format!(
                    "the answer was cut off: its reader stood still for {seconds} s (`| less`), or bypath ended: try again"
                );
                return Err(Error::Control {
                    socket: self.socket.clone(),
                    why,
                });
            }
            match serde_json::from_slice::<Line<T>>(&line) {
                Ok(Line::Row(row)) => return Ok(Some(row)),
                Ok(Line::Lost(packets)) => self.lost += packets,
                Ok(Line::End) => return Ok(None),
                Ok(Line::Error(why)) => {
                    return Err(Error::Control {
                        socket: self.socket.clone(),
                        why,
                    });
                }
                Err(error) => {
                    let why =
                        format!("the answer is not understood ({error}): use the same version of bypath for both");
                    return Err(Error::Control {
                        socket: self.socket.clone(),
                        why,
                    });
                }
            }
        }
    }
}

impl<T: DeserializeOwned> Iterator for Rows<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let row = self.read();
        self.done = !matches!(row, Ok(Some(_)));
        row.transpose()
    }
}
