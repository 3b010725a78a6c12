//! Packets of numbered flows: how they are made, what is known of one that arrived, and what a flow sends by the clock.

use crate::lab::packet::{Packet, udp};
use crate::lab::plan;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Where a flow's number is found.
const PORT_OF_FLOW_0: u16 = 5000;

/// Packets with something in common.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Its number: UDP goes to port 5000 + id.
    pub id: u16,
    /// The port by which the router gets them.
    pub from: usize,
    /// The port by which they leave.
    pub to: usize,
    /// Length of a frame, Ethernet header included.
    pub bytes: usize,
    pub tos: u8,
    pub is_v6: bool,
    /// With an option in its IPv4 header, which bypath leaves to the kernel.
    pub has_options: bool,
    /// Host of the network behind the port.
    pub host: u16,
}

impl Flow {
    /// IPv4 from port 0 to port 1.
    pub fn new(id: u16, bytes: usize) -> Self {
        Flow {
            id,
            from: 0,
            to: 1,
            bytes,
            tos: 0,
            is_v6: false,
            has_options: false,
            host: 1,
        }
    }

    pub fn tos(self, tos: u8) -> Self {
        Flow { tos, ..self }
    }

    pub fn v6(self) -> Self {
        Flow { is_v6: true, ..self }
    }

    pub fn options(self) -> Self {
        Flow {
            has_options: true,
            ..self
        }
    }

    pub fn host(self, host: u16) -> Self {
        Flow { host, ..self }
    }

    pub fn ports(self, from: usize, to: usize) -> Self {
        Flow { from, to, ..self }
    }

    /// Its packet number `seq`, as it comes to the router.
    pub fn frame(&self, seq: u32) -> Vec<u8> {
        let [v4, v6] = plan::pairs(self.from, self.to, self.host);
        let (src, dst) = if self.is_v6 { v6 } else { v4 };
        let mut packet = udp(src, dst, (1000, PORT_OF_FLOW_0 + self.id), 4);
        if self.has_options {
            // No operation, end of list.
            packet.options = vec![1, 1, 1, 0];
        }
        let packet = packet.ip_length(self.bytes - 14);
        let number = |packet: &mut Packet| {
            packet.body[8..12].copy_from_slice(&seq.to_be_bytes());
            packet.tos = self.tos;
        };
        packet.with(number).at(self.from).build()
    }
}

/// A frame that came out.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at_ns: u64,
    pub port: usize,
    pub flow: u16,
    pub seq: u32,
    pub bytes: u64,
    pub hash: u64,
}

/// What a frame of a flow tells; None for all others.
pub fn read(frame: &[u8], port: usize, at_ns: u64) -> Option<Arrival> {
    let udp = match frame.get(12..14)? {
        [0x08, 0x00] if frame.get(23)? == &17 => 14 + usize::from(frame[14] & 0xf) * 4,
        [0x86, 0xdd] if frame.get(20)? == &17 => 54,
        _ => return None,
    };
    let two = |at: usize| frame.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let flow = two(udp + 2)?.checked_sub(PORT_OF_FLOW_0)?;
    let seq = u32::from_be_bytes(frame.get(udp + 8..udp + 12)?.try_into().ok()?);
    let mut hasher = DefaultHasher::new();
    frame.hash(&mut hasher);
    Some(Arrival {
        at_ns,
        port,
        flow,
        seq,
        bytes: frame.len() as u64,
        hash: hasher.finish(),
    })
}

/// What a flow sends by the clock.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    pub flow: Flow,
    pub bits_per_second: u64,
    /// From then on, since the beginning of all.
    pub from: Duration,
    pub until: Duration,
}

impl Demand {
    /// All the time.
    pub fn new(flow: Flow, bits_per_second: u64) -> Self {
        Demand {
            flow,
            bits_per_second,
            from: Duration::ZERO,
            until: Duration::MAX,
        }
    }

    /// Between two times alone.
    pub fn between(self, from: Duration, until: Duration) -> Self {
        Demand { from, until, ..self }
    }

    /// How many frames are due so long after the beginning.
    pub fn due(&self, at: Duration) -> u64 {
        let lasted = at.min(self.until).saturating_sub(self.from);
        (self.bits_per_second as u128 * lasted.as_nanos() / 8_000_000_000 / self.flow.bytes as u128) as u64
    }
}

/// An address behind a port, as nft and tc write it.
pub fn behind(port: usize, host: u16) -> String {
    plan::behind4(port, host).to_string()
}
