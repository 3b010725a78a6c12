//! Random connections of everything but TCP: UDP, UDP-Lite, echo and other queries, SCTP, GRE, protocols of no meaning.

use crate::flow::{CLIENT, Flow, SERVER};
use crate::generator::{Item, Queue, end, queue};
use crate::lab::packet::Packet;
use crate::sctp::{chunk, init};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

#[derive(Clone, Copy)]
enum Kind {
    Udp,
    UdpLite,
    Query(u8, u8),
    Sctp,
    Gre(Option<u32>),
    Other(u8),
}

/// See the file's head.
pub struct Datagrams {
    flow: Flow,
    kind: Kind,
    /// SCTP's tags, by the end that chose them.
    tags: [u32; 2],
}

impl Datagrams {
    /// Of any protocol but TCP.
    pub fn random(random: &mut ChaCha8Rng, flow: Flow) -> Self {
        let kind = match random.random_range(0..20) {
            0..9 => Kind::Udp,
            9..11 => Kind::UdpLite,
            11..14 if flow.is_ipv4() => Kind::Query(8, 0),
            11..14 => Kind::Query(128, 129),
            14 if flow.is_ipv4() => Kind::Query(13, 14),
            14 => Kind::Query(139, 140),
            15..18 => Kind::Sctp,
            18 => Kind::Gre(random.random_bool(0.5).then(|| random.random())),
            _ => Kind::Other([50, 89, 99, 253][random.random_range(0..4)]),
        };
        Datagrams {
            flow,
            kind,
            tags: [0; 2],
        }
    }

    /// Between whom it is.
    pub fn flow_mut(&mut self) -> &mut Flow {
        &mut self.flow
    }

    /// Queues what the next act sends.
    pub fn act(&mut self, random: &mut ChaCha8Rng, out: &mut Queue) {
        if matches!(self.kind, Kind::Sctp) {
            return self.sctp(random, out);
        }
        let from = match random.random_range(0..10) {
            0 => SERVER,
            1..6 => CLIENT,
            _ => end(random),
        };
        for _ in 0..random.random_range(1..=3) {
            let packet = self.packet(random, from);
            queue(random, out, &self.flow, from, packet);
        }
    }

    /// One of its packets.
    pub fn packet(&self, random: &mut ChaCha8Rng, from: usize) -> Packet {
        let length = random.random_range(0..1400);
        match self.kind {
            Kind::Udp => self.flow.udp(from, length),
            Kind::UdpLite if random.random_bool(0.1) => self.flow.udplite(from, length),
            Kind::UdpLite => self.flow.udplite_judged(from, length),
            Kind::Query(query, answer) => {
                let kind = if from == CLIENT { query } else { answer };
                self.flow.query(from, kind, 0, random.random())
            }
            Kind::Gre(key) => self.flow.gre(from, key),
            Kind::Other(protocol) => self.flow.other(from, protocol, length + 1),
            Kind::Sctp => self.flow.sctp(from, self.tags[1 - from], &[chunk(0, 3, &[0; 40])]),
        }
    }

    fn sctp(&mut self, random: &mut ChaCha8Rng, out: &mut Queue) {
        let mut send = |flow: &Flow, from: usize, tag: u32, chunks: &[Vec<u8>]| {
            out.push_back(Item::one(from, flow.sctp(from, tag, chunks)));
        };
        let (from, tags) = (end(random), self.tags);
        match random.random_range(0..20) {
            0..4 => {
                self.tags = [random.random(), random.random()];
                let [client, server] = self.tags;
                let echo = chunk(10, 0, &[9; 16]);
                send(&self.flow, CLIENT, 0, &[init(1, client)]);
                send(&self.flow, SERVER, client, &[init(2, server)]);
                send(&self.flow, CLIENT, server, &[echo]);
                send(&self.flow, SERVER, client, &[chunk(11, 0, &[])]);
            }
            4..13 => send(
                &self.flow,
                from,
                tags[1 - from],
                &[chunk(3, 0, &[0; 12]), chunk(0, 3, &[0; 40])],
            ),
            13 => send(&self.flow, from, random.random(), &[chunk(0, 3, &[0; 40])]),
            14 => {
                send(&self.flow, from, tags[1 - from], &[chunk(4, 0, &[1; 8])]);
                send(&self.flow, 1 - from, tags[from], &[chunk(5, 0, &[1; 8])]);
            }
            15..17 => {
                send(&self.flow, from, tags[1 - from], &[chunk(7, 0, &[0; 4])]);
                send(&self.flow, 1 - from, tags[from], &[chunk(8, 0, &[])]);
                send(&self.flow, from, tags[1 - from], &[chunk(14, 0, &[])]);
            }
            17 => send(
                &self.flow,
                from,
                tags[random.random_range(0..2)],
                &[chunk(6, random.random_range(0..2), &[])],
            ),
            _ => {
                let kind = random.random_range(0..16);
                send(&self.flow, from, tags[1 - from], &[chunk(kind, 0, &[2; 16])]);
            }
        }
    }
}
