//! A random TCP connection: two ends that know what they have sent, and acts that they do.

use crate::flow::{ACK, CLIENT, FIN, Flow, PSH, RST, SERVER, SYN, Segment, c, s};
use crate::generator::{Item, Queue, end, queue};
use crate::lab::packet::Packet;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// See the file's head.
pub struct Stream {
    flow: Flow,
    /// The next sequence number of each end, relative.
    next: [u32; 2],
    window: [u16; 2],
    scale: [Option<u8>; 2],
    sack: bool,
    open: bool,
    last: Option<Segment>,
}

impl Stream {
    /// Not begun.
    pub fn new(flow: Flow) -> Self {
        Stream {
            flow,
            next: [0; 2],
            window: [8192; 2],
            scale: [None; 2],
            sack: false,
            open: false,
            last: None,
        }
    }

    /// A SYN of no importance.
    pub fn first(&self) -> Packet {
        self.flow.tcp(&c(SYN, 0, 0).mss())
    }

    /// Between whom it is.
    pub fn flow_mut(&mut self) -> &mut Flow {
        &mut self.flow
    }

    /// Queues what the next act sends.
    pub fn act(&mut self, random: &mut ChaCha8Rng, out: &mut Queue) {
        if self.open {
            self.live(random, out);
        } else {
            self.begin(random, out);
        }
    }

    fn segment(&self, from: usize, flags: u8) -> Segment {
        let make = if from == CLIENT { c } else { s };
        make(flags, self.next[from], self.next[1 - from]).window(self.window[from])
    }

    fn send(&mut self, random: &mut ChaCha8Rng, out: &mut Queue, segment: Segment) {
        queue(random, out, &self.flow, segment.from, self.flow.tcp(&segment));
        self.last = Some(segment);
    }

    /// Sends in order, and remembers what it has sent.
    fn advance(&mut self, random: &mut ChaCha8Rng, out: &mut Queue, from: usize, flags: u8, length: usize) {
        let segment = self.segment(from, flags).data(length);
        self.next[from] = self.next[from]
            .wrapping_add(length as u32)
            .wrapping_add(u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0));
        self.send(random, out, segment);
    }

    fn syn(&mut self, random: &mut ChaCha8Rng, out: &mut Queue, from: usize, flags: u8) {
        let mut segment = self.segment(from, flags).mss();
        if let Some(shift) = self.scale[from] {
            segment = segment.scale(shift);
        }
        if self.sack {
            segment = segment.sack_permitted();
        }
        self.next[from] = self.next[from].wrapping_add(1);
        self.send(random, out, segment);
    }

    /// Another incarnation, with new numbers and options.
    fn renew(&mut self, random: &mut ChaCha8Rng) {
        let isn = |random: &mut ChaCha8Rng, old: u32| match random.random_range(0..4) {
            0 => random.random(),
            1 => u32::MAX - random.random_range(0..5000),
            _ => old.wrapping_add(random.random_range(0..300_000)),
        };
        for end in [CLIENT, SERVER] {
            self.flow.isn[end] = isn(random, self.flow.isn[end].wrapping_add(self.next[end]));
            self.next[end] = 0;
            self.window[end] = random.random_range(500..=65_535);
            self.scale[end] = random.random_bool(0.7).then(|| random.random_range(0..=14));
        }
        self.sack = random.random_bool(0.5);
    }

    fn begin(&mut self, random: &mut ChaCha8Rng, out: &mut Queue) {
        self.renew(random);
        match random.random_range(0..100) {
            0..64 => {
                self.syn(random, out, CLIENT, SYN);
                if random.random_bool(0.1) {
                    self.again(random, out);
                }
                if random.random_bool(0.04) {
                    return;
                }
                self.syn(random, out, SERVER, SYN | ACK);
                if random.random_bool(0.1) {
                    self.again(random, out);
                }
                if random.random_bool(0.04) {
                    return;
                }
                self.advance(random, out, CLIENT, ACK, 0);
                self.open = true;
            }
            64..72 => {
                self.syn(random, out, CLIENT, SYN);
                let segment = s(RST | ACK, 0, self.next[CLIENT]).ack_of(self.next[CLIENT]);
                self.send(random, out, segment);
            }
            72..78 => {
                for from in [CLIENT, SERVER] {
                    self.syn(random, out, from, SYN);
                }
                for from in [CLIENT, SERVER] {
                    self.next[from] = 0;
                    self.next[1 - from] = 1;
                    self.syn(random, out, from, SYN | ACK);
                }
                self.advance(random, out, CLIENT, ACK, 0);
                self.open = random.random_bool(0.8);
            }
            78..84 => self.open = true,
            84..88 => {
                self.syn(random, out, CLIENT, SYN);
                let strange = [ACK, SYN | ACK][random.random_range(0..2)];
                let segment = s(strange, random.random(), random.random());
                self.send(random, out, segment);
                if random.random_bool(0.5) {
                    let segment = c(RST, random.random(), 0);
                    self.send(random, out, segment);
                }
                self.next = [0, 0];
                self.syn(random, out, CLIENT, SYN);
                self.syn(random, out, SERVER, SYN | ACK);
                self.advance(random, out, CLIENT, ACK, 0);
                self.open = true;
            }
            88..92 => {
                self.syn(random, out, SERVER, SYN);
                self.syn(random, out, CLIENT, SYN | ACK);
                self.advance(random, out, SERVER, ACK, 0);
                self.open = random.random_bool(0.7);
            }
            _ => {
                let scans = [0, FIN, ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, 0x29, random.random()];
                let flags = scans[random.random_range(0..scans.len())];
                let from = if random.random_bool(0.8) { CLIENT } else { SERVER };
                let segment = self.segment(from, flags);
                self.send(random, out, segment);
                if random.random_bool(0.5) {
                    let segment = self.segment(1 - from, RST | ACK);
                    self.send(random, out, segment);
                }
            }
        }
    }

    /// The last segment once more.
    fn again(&mut self, random: &mut ChaCha8Rng, out: &mut Queue) {
        if let Some(segment) = self.last.clone() {
            self.send(random, out, segment);
        }
    }

    fn live(&mut self, random: &mut ChaCha8Rng, out: &mut Queue) {
        let from = end(random);
        match random.random_range(0..200) {
            0..120 => self.exchange(random, out, from),
            120..132 => self.again(random, out),
            132..152 => self.stray(random, out, from),
            152..158 => {
                self.window[from] = match random.random_range(0..4) {
                    0 => 0,
                    _ => random.random_range(1..=65_535),
                };
                self.advance(random, out, from, ACK, 0);
            }
            158..164 => {
                let edge = self.next[1 - from];
                let left = edge.wrapping_sub(random.random_range(0..3000));
                let segment = self
                    .segment(from, ACK)
                    .ack_of(left.wrapping_sub(random.random_range(0..3000)));
                let segment = segment.sack(&[(left, edge)]);
                self.send(random, out, segment);
            }
            164..172 => self.reset(random, out, from),
            172..188 => self.close(random, out, from),
            188..194 => self.begin_anew(random, out, from),
            _ => {
                let flags: u8 = random.random();
                let segment = self.segment(from, flags);
                self.send(random, out, segment);
            }
        }
    }

    fn exchange(&mut self, random: &mut ChaCha8Rng, out: &mut Queue, from: usize) {
        for _ in 0..random.random_range(1..=3) {
            let length = random.random_range(1..1380);
            self.advance(random, out, from, ACK | PSH, length);
        }
        if random.random_bool(0.9) {
            self.advance(random, out, 1 - from, ACK, 0);
        }
    }

    /// A segment out of the window, or at its edge: of the future, of the past, or one that acknowledges so.
    fn stray(&mut self, random: &mut ChaCha8Rng, out: &mut Queue, from: usize) {
        let shift = match self.scale {
            [Some(_), Some(_)] => self.scale[1 - from].unwrap_or(0),
            _ => 0,
        };
        let window = u32::from(self.window[1 - from]) << shift;
        let near = random.random_range(0..4000u32).wrapping_sub(2000);
        let length = random.random_range(0..200);
        let mut segment = self.segment(from, ACK).data(length);
        match random.random_range(0..5) {
            0 => segment.seq = segment.seq.wrapping_add(window).wrapping_add(near),
            1 => segment.seq = segment.seq.wrapping_sub(window).wrapping_add(near),
            2 => segment.seq = segment.seq.wrapping_sub(1),
            3 => segment = segment.ack_of(self.next[1 - from].wrapping_add(random.random_range(1..100_000))),
            _ => segment = segment.ack_of(self.next[1 - from].wrapping_sub(random.random_range(1..100_000))),
        }
        self.send(random, out, segment);
    }

    fn reset(&mut self, random: &mut ChaCha8Rng, out: &mut Queue, from: usize) {
        let flags = if random.random_bool(0.5) { RST } else { RST | ACK };
        let mut segment = self.segment(from, flags);
        match random.random_range(0..4) {
            0 => segment.seq = segment.seq.wrapping_add(random.random_range(1..5000)),
            1 => segment.seq = segment.seq.wrapping_sub(random.random_range(1..5000)),
            2 => segment.seq = segment.seq.wrapping_add(random.random()),
            _ => self.open = false,
        }
        self.send(random, out, segment);
    }

    fn close(&mut self, random: &mut ChaCha8Rng, out: &mut Queue, from: usize) {
        self.advance(random, out, from, FIN | ACK, 0);
        if random.random_bool(0.9) {
            self.advance(random, out, 1 - from, ACK, 0);
        }
        if random.random_bool(0.3) {
            self.exchange(random, out, 1 - from);
        }
        if random.random_bool(0.9) {
            self.advance(random, out, 1 - from, FIN | ACK, 0);
            self.advance(random, out, from, ACK, 0);
        } else if random.random_bool(0.5) {
            self.reset(random, out, from);
        }
        self.open = false;
    }

    /// A SYN while it is open: one end has forgotten.
    fn begin_anew(&mut self, random: &mut ChaCha8Rng, out: &mut Queue, from: usize) {
        let mut syn = self.segment(from, SYN).mss();
        syn.seq = syn.seq.wrapping_add(random.random_range(0..200_000));
        let number = syn.seq.wrapping_add(1);
        self.send(random, out, syn);
        match random.random_range(0..4) {
            0 => {
                let segment = self.segment(1 - from, RST | ACK).ack_of(number);
                self.send(random, out, segment);
                self.open = false;
            }
            1 => {
                self.next[from] = number;
                let segment = self.segment(1 - from, SYN | ACK).mss().ack_of(number);
                self.next[1 - from] = self.next[1 - from].wrapping_add(1);
                self.send(random, out, segment);
                self.advance(random, out, from, ACK, 0);
            }
            2 => {
                self.advance(random, out, 1 - from, ACK, 0);
                let segment = self.segment(from, RST);
                self.send(random, out, segment);
                self.open = false;
            }
            _ => {}
        }
    }
}

impl Item {
    /// A single packet.
    pub fn one(from: usize, packet: Packet) -> Self {
        Item {
            from,
            packets: vec![packet],
        }
    }
}
