//! A flow in two labs that may translate it to different ports: what its server sees is learned from what arrives there.
//!
//! Each of its packets is numbered (`names::mark_of`), and so is found again at the far end. What a free choice may have made
//! different, a source port that is not the client's own, is told to the twin as the same name; all else must be equal.

use crate::flow::{CLIENT, Flow, SERVER};
use crate::lab::names::{Ends, ends_of, mark_of};
use crate::lab::packet::Packet;
use crate::lab::twin::Twin;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};

/// See the file's head.
pub struct View {
    /// As the kernel's lab has it, and the tested.
    pub labs: [Flow; 2],
    /// The port that each end is behind.
    pub behind: [usize; 2],
    /// The number of its packets.
    pub mark: u16,
    /// A port may be another than the client's without need.
    pub random: bool,
}

static NEXT: AtomicU16 = AtomicU16::new(1);

impl View {
    /// Of a flow whose server has seen nothing yet.
    pub fn new(flow: Flow) -> Self {
        View {
            labs: [flow.clone(), flow],
            behind: [CLIENT, SERVER],
            mark: NEXT.fetch_add(1, Ordering::Relaxed).max(1),
            random: false,
        }
    }

    /// Both ends behind these ports.
    pub fn behind(mut self, behind: [usize; 2]) -> Self {
        self.behind = behind;
        self
    }

    /// Whose port NAT may change for no reason.
    pub fn random(mut self) -> Self {
        self.random = true;
        self
    }

    /// The flow's packets from an end, of both labs, as frames.
    pub fn frames(&self, from: usize, make: impl Fn(&Flow) -> Vec<Packet>) -> [Vec<Vec<u8>>; 2] {
        self.labs.each_ref().map(|flow| {
            let packets = make(flow).into_iter();
            packets.map(|packet| self.finish(from, packet)).collect()
        })
    }

    /// A packet from an end as a frame.
    pub fn finish(&self, from: usize, packet: Packet) -> Vec<u8> {
        let marked = packet.with(|packet| {
            packet.id = self.mark;
            packet.flow_label = self.mark.into();
        });
        marked.at(self.behind[from]).build()
    }

    /// The client's port as the server sees it, in both labs.
    pub fn ports(&self) -> [u16; 2] {
        self.labs.each_ref().map(|flow| flow.seen_by(SERVER).ports[CLIENT])
    }

    fn learn(&mut self, [kernel, tested]: [Ends; 2]) -> Result<(), String> {
        let own = self.labs[0].ports[CLIENT];
        let differ = (kernel.src.0, kernel.dst) != (tested.src.0, tested.dst);
        let keeps = kernel.src.1 != tested.src.1 && !self.random && [kernel.src.1, tested.src.1].contains(&own);
        if differ || keeps {
            return Err(format!(
                "not a free choice: {kernel:?} and {tested:?}, of {:?}",
                self.labs[0]
            ));
        }
        for (flow, ends) in self.labs.iter_mut().zip([kernel, tested]) {
            let server = match ends.dst.1 {
                0 => flow.ports[SERVER],
                port => port,
            };
            let client = match ends.src.1 {
                0 => flow.ports[CLIENT],
                port => port,
            };
            flow.beyond = Some(([ends.src.0, ends.dst.0], [client, server]));
        }
        Ok(())
    }
}

/// What has arrived, and how far it was looked at.
#[derive(Default)]
pub struct Watch {
    seen: HashMap<usize, [usize; 2]>,
}

impl Watch {
    /// Learns from what has arrived at the servers' far ends since the last time. In words, what is none of NAT's free choices.
    pub fn learn(&mut self, twin: &mut Twin, views: &mut [View]) -> Result<(), String> {
        let mut ports: Vec<usize> = views.iter().flat_map(|view| view.behind).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            let (news, seen) = self.news(twin, port);
            for view in views.iter_mut().filter(|view| view.behind[SERVER] == port) {
                let from_client = |of: &HashMap<u16, Vec<Vec<u8>>>| -> Option<(Ends, Vec<u8>)> {
                    let frames = of.get(&view.mark)?.iter();
                    let ends = frames.filter_map(|frame| Some((ends_of(frame)?, frame.clone())));
                    // Its own packets come back to a client on the server's port by a hairpin.
                    let client = view.labs[0].ends[CLIENT];
                    ends.filter(|(ends, _)| ends.dst.0 != client && is_no_error(*ends, view))
                        .last()
                };
                let [kernel, tested] = news.each_ref().map(from_client);
                let (Some((kernel, _)), Some((tested, frame))) = (kernel, tested) else {
                    continue;
                };
                if kernel.protocol != tested.protocol {
                    continue;
                }
                view.learn([kernel, tested])?;
                twin.is_same(kernel, tested);
                let sent = view.labs[0].seen_by(CLIENT);
                if kernel.protocol == crate::lab::packet::proto::UDP {
                    let kernels = view.labs[0].seen_by(SERVER).udp(CLIENT, 0).build();
                    twin.is_translated(&kernels, &sent.udp(CLIENT, 0).build());
                    twin.is_translated(&frame, &sent.udp(CLIENT, 0).build());
                }
            }
            self.seen.insert(port, seen);
        }
        twin.rename_captured();
        Ok(())
    }

    /// Frames of both labs that are new at `port`, by their numbers.
    fn news(&self, twin: &Twin, port: usize) -> ([HashMap<u16, Vec<Vec<u8>>>; 2], [usize; 2]) {
        let captured = twin.captured(port);
        let seen = self.seen.get(&port).copied().unwrap_or_default();
        let mut news = [HashMap::new(), HashMap::new()];
        for ((frames, seen), news) in captured.iter().zip(seen).zip(&mut news) {
            for frame in &frames[seen..] {
                if let Some(mark) = mark_of(frame) {
                    news.entry(mark).or_insert_with(Vec::new).push(frame.clone());
                }
            }
        }
        (news, captured.map(<[_]>::len))
    }
}

/// An ICMP error of a flow that has ports is none of its own packets; one about nothing that has any tells nothing.
fn is_no_error(ends: Ends, view: &View) -> bool {
    let icmp = view.labs[0].icmp();
    ends.protocol != icmp || ends.src.1 != 0
}
