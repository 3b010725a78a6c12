//! A port made of two capture files: packets are read from one, and what is transmitted is written to the other.
//!
//! The classic pcap format (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>): a 24-byte head, then records
//! of a 16-byte head and the packet. Read in either byte order, with micro- or nanoseconds; written in nanoseconds, in this
//! machine's order. Only Ethernet (link type 1), and only what fits a frame: a longer packet is skipped and counted.
//!
//! A packet is written with the time of the packet read last, so that the same input gives the same output.

use super::{Held, Queue, QueueCounters};
use crate::packet::Frame;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use thiserror::Error;

const MAGIC_US: u32 = 0xa1b2_c3d4;
const MAGIC_NS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;
const SNAPLEN: u32 = 262_144;
/// Frames in each of the two rings, at most.
const RING: usize = 256;

/// Why a capture file cannot be used: it cannot be opened or written, or is no capture of Ethernet packets (`InvalidData`).
#[derive(Debug, Error)]
#[error("{}: {source}", path.display())]
pub struct PcapError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: io::Error,
}

/// Reads packets from a pcap file.
#[derive(Debug)]
pub struct PcapReader<R> {
    from: R,
    swapped: bool,
    nanoseconds: bool,
}

impl<R: Read> PcapReader<R> {
    /// Reads the file's head.
    ///
    /// # Errors
    /// Reading failed (`InvalidData` when it is no pcap file of Ethernet packets).
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut head = [0u8; 24];
        from.read_exact(&mut head)?;
        let magic = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        let (swapped, nanoseconds) = match (magic, magic.swap_bytes()) {
            (MAGIC_US, _) => (false, false),
            (MAGIC_NS, _) => (false, true),
            (_, MAGIC_US) => (true, false),
            (_, MAGIC_NS) => (true, true),
            _ => return Err(invalid("not a pcap file (pcapng is not read: editcap -F pcap)")),
        };
        let reader = Self {
            from,
            swapped,
            nanoseconds,
        };
        // The upper bits of the word tell of a frame check sequence.
        if reader.word(&head, 20) & 0x0fff_ffff != LINKTYPE_ETHERNET {
            return Err(invalid("not a capture of Ethernet packets"));
        }
        Ok(reader)
    }

    fn word(&self, bytes: &[u8], at: usize) -> u32 {
        let word = u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if self.swapped { word.swap_bytes() } else { word }
    }

    /// Reads the next packet into `packet`; its time in nanoseconds since 1970, or `None` at the end of the file.
    ///
    /// # Errors
    /// Reading failed, or the file ends within a record.
    pub fn next(&mut self, packet: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let mut head = [0u8; 16];
        let got = read_some(&mut self.from, &mut head)?;
        if got == 0 {
            return Ok(None);
        } else if got < head.len() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let len = self.word(&head, 8);
        if len > SNAPLEN {
            return Err(invalid("a record longer than any packet"));
        }
        packet.resize(len as usize, 0);
        self.from.read_exact(packet)?;
        let fraction_ns = u64::from(self.word(&head, 4)) * if self.nanoseconds { 1 } else { 1000 };
        Ok(Some(u64::from(self.word(&head, 0)) * 1_000_000_000 + fraction_ns))
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

/// Reads until `into` is full or the input ends; how much.
fn read_some(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match from.read(&mut into[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Writes packets to a pcap file.
#[derive(Debug)]
pub struct PcapWriter<W> {
    to: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's head.
    ///
    /// # Errors
    /// Writing failed.
    pub fn new(mut to: W) -> io::Result<Self> {
        let version = u32::from_ne_bytes(if cfg!(target_endian = "little") {
            [2, 0, 4, 0]
        } else {
            [0, 2, 0, 4]
        });
        for word in [MAGIC_NS, version, 0, 0, SNAPLEN, LINKTYPE_ETHERNET] {
            to.write_all(&word.to_ne_bytes())?;
        }
        Ok(Self { to })
    }

    /// Writes a packet with its time in nanoseconds since 1970.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(&mut self, packet: &[u8], time_ns: u64) -> io::Result<()> {
        let (seconds, fraction_ns) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
        for word in [
            seconds as u32,
            fraction_ns as u32,
            packet.len() as u32,
            packet.len() as u32,
        ] {
            self.to.write_all(&word.to_ne_bytes())?;
        }
        self.to.write_all(packet)
    }

    /// Pushes out what is buffered.
    ///
    /// # Errors
    /// Writing failed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A [`Queue`] between two capture files.
#[derive(Debug)]
pub struct PcapQueue {
    from: Option<PcapReader<BufReader<File>>>,
    to: PcapWriter<BufWriter<File>>,
    packet: Vec<u8>,
    time_ns: u64,
    fill: Vec<Frame>,
    tx: VecDeque<Frame>,
    completion: Vec<Frame>,
    error: Option<io::Error>,
    counters: QueueCounters,
}

impl PcapQueue {
    /// Opens `from`, where there is one, and creates `to`.
    ///
    /// # Errors
    /// A file that cannot be opened or is no capture of Ethernet packets.
    pub fn open(from: Option<&Path>, to: &Path) -> Result<Self, PcapError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| PcapError { path, source }
        };
        let from = match from {
            None => None,
            Some(path) => {
                let file = File::open(path).map_err(io_error(path))?;
                Some(PcapReader::new(BufReader::new(file)).map_err(io_error(path))?)
            }
        };
        let file = File::create(to).map_err(io_error(to))?;
        let to = PcapWriter::new(BufWriter::new(file)).map_err(io_error(to))?;
        Ok(Self {
            from,
            to,
            packet: Vec::with_capacity(2048),
            time_ns: 0,
            fill: Vec::with_capacity(RING),
            tx: VecDeque::with_capacity(RING),
            completion: Vec::with_capacity(RING),
            error: None,
            counters: QueueCounters::default(),
        })
    }

    /// Whether the input is read to its end.
    pub fn at_end(&self) -> bool {
        self.from.is_none()
    }

    /// The error that ended reading or writing, if one did; given out once.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Writes out what is buffered; every frame that was in the rings goes to `into`.
    ///
    /// # Errors
    /// Writing failed, now or before.
    pub fn close(mut self, into: &mut Vec<Frame>) -> io::Result<()> {
        self.kick();
        into.append(&mut self.fill);
        into.extend(self.tx.drain(..));
        into.append(&mut self.completion);
        self.to.flush()?;
        self.error.take().map_or(Ok(()), Err)
    }

    /// The next packet of the input that fits `frame`. `false` at its end.
    fn read_into(&mut self, frame: &mut Frame) -> bool {
        while let Some(from) = &mut self.from {
            match from.next(&mut self.packet) {
                Ok(Some(time_ns)) => {
                    self.time_ns = time_ns;
                    frame.fill(&self.packet);
                    if frame.len() == self.packet.len() {
                        return true;
                    }
                    self.counters.rx_oversize += 1;
                }
                Ok(None) => self.from = None,
                Err(e) => {
                    self.error = Some(e);
                    self.from = None;
                }
            }
        }
        false
    }
}

impl Queue for PcapQueue {
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        for n in 0..max {
            let Some(mut frame) = self.fill.pop() else { return n };
            if !self.read_into(&mut frame) {
                self.fill.push(frame);
                return n;
            }
            self.counters.rx += 1;
            self.counters.rx_bytes += frame.len() as u64;
            into.push(frame);
        }
        max
    }

    fn room(&self) -> usize {
        RING.saturating_sub(self.tx.len() + self.completion.len())
    }

    fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize {
        let n = frames.len().min(self.room());
        for frame in frames.drain(..n) {
            self.counters.tx += 1;
            self.counters.tx_bytes += frame.len() as u64;
            self.tx.push_back(frame);
        }
        n
    }

    fn kick(&mut self) -> usize {
        while let Some(frame) = self.tx.pop_front() {
            if let Err(e) = self.to.write(frame.bytes(), self.time_ns) {
                self.error = Some(e);
            }
            self.completion.push(frame);
        }
        0
    }

    fn complete(&mut self, into: &mut Vec<Frame>) -> usize {
        let n = self.completion.len();
        into.append(&mut self.completion);
        n
    }

    fn refill(&mut self, free: &mut Vec<Frame>) -> usize {
        let n = free.len().min(RING.saturating_sub(self.fill.len()));
        self.fill.extend(free.drain(free.len() - n..));
        n
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn held(&self) -> Held {
        Held {
            fill: self.fill.len() as u32,
            tx: (self.tx.len() + self.completion.len()) as u32,
        }
    }

    fn counters(&self) -> QueueCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{MemPool, audit};

    /// A capture of two packets in big-endian microseconds, as an old router would write it.
    fn foreign_capture() -> Vec<u8> {
        let mut file = Vec::new();
        let mut words = |list: &[u32]| list.iter().for_each(|word| file.extend(word.to_be_bytes()));
        words(&[MAGIC_US, 0x0002_0004, 0, 0, 65_535, LINKTYPE_ETHERNET]);
        words(&[5, 7, 4, 4, 0xdead_beef, 6, 8, 8, 1500, 1, 2]);
        file
    }

    #[test]
    fn either_byte_order_and_unit_is_read() {
        let file = foreign_capture();
        let mut reader = PcapReader::new(&file[..]).unwrap();
        let mut packet = Vec::new();
        assert_eq!(reader.next(&mut packet).unwrap(), Some(5_000_007_000));
        assert_eq!(packet, [0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(reader.next(&mut packet).unwrap(), Some(6_000_008_000));
        assert_eq!(packet.len(), 8);
        assert_eq!(reader.next(&mut packet).unwrap(), None);
    }

    #[test]
    fn damaged_files_are_errors() {
        let file = foreign_capture();
        assert!(PcapReader::new(&file[..20]).is_err());
        assert!(PcapReader::new(&[0u8; 24][..]).is_err());
        let mut reader = PcapReader::new(&file[..30]).unwrap();
        assert!(reader.next(&mut Vec::new()).is_err(), "ends within a record's head");
        let mut reader = PcapReader::new(&file[..42]).unwrap();
        assert!(reader.next(&mut Vec::new()).is_err(), "ends within a packet");
        let mut huge = file.clone();
        huge[32] = 0xff;
        assert!(PcapReader::new(&huge[..]).unwrap().next(&mut Vec::new()).is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = std::env::temp_dir();
        let (from, to) = (
            dir.join(format!("in-{}", std::process::id())),
            dir.join(format!("out-{}", std::process::id())),
        );
        std::fs::write(&from, foreign_capture()).unwrap();
        let mut pool = MemPool::new(4, 128, 64);
        let mut free = pool.take_all();
        let mut queue = PcapQueue::open(Some(&from), &to).unwrap();
        queue.refill(&mut free);
        let mut burst = Vec::new();
        assert_eq!(queue.receive(&mut burst, 64), 2);
        assert!(queue.at_end());
        assert_eq!(queue.transmit(&mut burst), 2);
        assert_eq!(queue.held(), Held { fill: 2, tx: 2 });
        queue.kick();
        assert_eq!(queue.complete(&mut free), 2);
        queue.close(&mut free).unwrap();
        assert_eq!(audit(pool.count(), &free), Ok(()));

        let mut reader = PcapReader::new(File::open(&to).unwrap()).unwrap();
        let mut packet = Vec::new();
        assert_eq!(
            reader.next(&mut packet).unwrap(),
            Some(6_000_008_000),
            "the time of the packet read last"
        );
        assert_eq!(packet, [0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(reader.next(&mut packet).unwrap(), Some(6_000_008_000));
        assert_eq!(reader.next(&mut packet).unwrap(), None);
        std::fs::remove_file(from).unwrap();
        std::fs::remove_file(to).unwrap();
    }
}
