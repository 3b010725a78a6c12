//! Random connections: each is a model of two ends that mostly behave, and sometimes do not.
//!
//! A connection draws one act at a time (a handshake, an exchange of data, a retransmission, a reset of a wrong number, an
//! ICMP error about itself, ...) and queues its packets. A round takes the next item of some connections, at most one of
//! each, so that packets of one connection never race; all of a round that come from one end are one burst.

use crate::datagrams::Datagrams;
use crate::flow::{CLIENT, Flow, SERVER};
use crate::lab::packet::{Packet, proto};
use crate::stream::Stream;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::collections::VecDeque;

/// What one end sends at once: a packet, or the fragments of one.
pub struct Item {
    /// Which end, and so which port.
    pub from: usize,
    /// In order.
    pub packets: Vec<Packet>,
}

/// Items that are still to be sent.
pub type Queue = VecDeque<Item>;

/// A connection's two ends.
pub enum Model {
    Stream(Box<Stream>),
    Datagrams(Datagrams),
}

impl Model {
    /// Of any protocol.
    pub fn random(random: &mut ChaCha8Rng, flow: Flow) -> Self {
        if random.random_bool(0.6) {
            Model::Stream(Box::new(Stream::new(flow)))
        } else {
            Model::Datagrams(Datagrams::random(random, flow))
        }
    }

    /// Queues what the next act sends.
    pub fn act(&mut self, random: &mut ChaCha8Rng, out: &mut Queue) {
        match self {
            Model::Stream(stream) => stream.act(random, out),
            Model::Datagrams(datagrams) => datagrams.act(random, out),
        }
    }

    /// What a connection may begin with.
    pub fn first(&self, random: &mut ChaCha8Rng) -> Packet {
        match self {
            Model::Stream(stream) => stream.first(),
            Model::Datagrams(datagrams) => datagrams.packet(random, CLIENT),
        }
    }

    /// Its flow.
    pub fn flow_mut(&mut self) -> &mut Flow {
        match self {
            Model::Stream(stream) => stream.flow_mut(),
            Model::Datagrams(datagrams) => datagrams.flow_mut(),
        }
    }
}

struct Connection {
    model: Model,
    queue: Queue,
}

/// All connections of a configuration.
pub struct Connections {
    all: Vec<Connection>,
}

impl Connections {
    /// `count` of them, of all protocols; `mixed` with packets that bypath leaves to the kernel (fragments, options, spent
    /// TTLs).
    pub fn random(random: &mut ChaCha8Rng, count: usize, mixed: bool) -> Self {
        let one = |_| {
            let mut flow = Flow::new(random.random_bool(0.5)).shuffled(random);
            flow.mixed = mixed;
            Connection {
                model: Model::random(random, flow),
                queue: Queue::new(),
            }
        };
        Connections {
            all: (0..count).map(one).collect(),
        }
    }

    /// The next item of each of `count` connections, by end.
    pub fn round(&mut self, random: &mut ChaCha8Rng, count: usize) -> [Vec<Vec<u8>>; 2] {
        let mut frames = [Vec::new(), Vec::new()];
        let first = random.random_range(0..self.all.len());
        for at in 0..count.min(self.all.len()) {
            let index = (first + at) % self.all.len();
            let connection = &mut self.all[index];
            while connection.queue.is_empty() {
                connection.model.act(random, &mut connection.queue);
            }
            if let Some(item) = connection.queue.pop_front() {
                let built = item.packets.into_iter().map(|packet| packet.at(item.from).build());
                frames[item.from].extend(built);
            }
        }
        frames
    }
}

/// An end.
pub fn end(random: &mut ChaCha8Rng) -> usize {
    if random.random_bool(0.5) { CLIENT } else { SERVER }
}

/// What may befall any packet on its way; most often nothing.
pub fn queue(random: &mut ChaCha8Rng, queue: &mut Queue, flow: &Flow, from: usize, packet: Packet) {
    let four = packet.src.is_ipv4();
    let mut packets = vec![packet];
    let left_to_the_kernel = flow.mixed;
    match random.random_range(0..400) {
        0..14 if !left_to_the_kernel => {}
        0..3 => packets[0].ttl = random.random_range(0..2),
        3..5 if four => packets[0].options = vec![1, 1, 1, 0],
        3..5 => packets[0].extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])],
        // What a segment in fragments does to windows the kernel alone sees (docs/LIMITATIONS.md).
        5..14 if packets[0].body.len() > 40 && packets[0].protocol != proto::TCP => {
            let id: u16 = random.random();
            packets = packets
                .remove(0)
                .with(|packet| packet.id = id)
                .fragments(8 * random.random_range(2..5));
            packets.truncate(20);
            for packet in &mut packets {
                if let Some((_, bytes)) = packet.extensions.last_mut() {
                    bytes[6..8].copy_from_slice(&id.to_be_bytes());
                }
            }
            match random.random_range(0..5) {
                0 => packets.reverse(),
                1 => drop(packets.pop()),
                _ => {}
            }
        }
        14..22 => {
            let error = error(random, flow, 1 - from, &flow.arrived(from, &packets[0]));
            queue.push_back(Item { from, packets });
            queue.push_back(Item {
                from: 1 - from,
                packets: vec![error],
            });
            return;
        }
        22..24 => {
            let from_here = error(random, flow, from, &packets[0]);
            packets = vec![from_here];
        }
        24..30 => packets.push(packets[0].clone()),
        30..34 => packets[0].sum_fault = random.random_range(1..0xffff),
        34..36 => packets[0].padding = random.random_range(1..20),
        _ => {}
    }
    queue.push_back(Item { from, packets });
}

/// An ICMP error about a packet, that comes from `from`; a third of them with something wrong inside.
fn error(random: &mut ChaCha8Rng, flow: &Flow, from: usize, of: &Packet) -> Packet {
    let mut of = of.clone();
    let mut length = 200;
    if random.random_bool(0.35) {
        // A port that NAT drew may be another in each lab: it is to be found again in the quote.
        let is_translated = flow.beyond.is_some();
        match random.random_range(0..6) {
            0..3 | 4 if is_translated => {}
            0 => length = random.random_range(0..60),
            1 if !of.body.is_empty() => {
                let at = random.random_range(0..of.body.len().min(16));
                of.body[at] ^= 1 << random.random_range(0..8);
            }
            2 => of.first_byte = Some(random.random()),
            3 => of.ip_sum_fault = random.random(),
            4 => std::mem::swap(&mut of.src, &mut of.dst),
            _ => of.length_fault = random.random_range(-40..200),
        }
    }
    let (kind, code) = match (flow.is_ipv4(), random.random_range(0..4)) {
        (true, 0) => (3, 4),
        (true, 1) => (11, 0),
        (true, 2) => (12, 0),
        (true, _) => (3, random.random_range(0..16)),
        (false, 0) => (2, 0),
        (false, 1) => (3, 0),
        (false, 2) => (4, random.random_range(0..3)),
        (false, _) => (1, random.random_range(0..7)),
    };
    flow.error(from, kind, code, 1400, &of, length)
}
