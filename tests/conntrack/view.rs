//! A flow in two labs that may translate it to different ports: what its server sees is learned from what arrives there.
//!
//! Each of its packets is numbered (`names::mark_of`), and so is found again at the far end. What a free choice may have made
//! different, a source port that is not the client's own, is told to the twin as the same name; all else must be equal.

use crate::flow::{CLIENT, Flow, SCTP, SERVER, UDPLITE};
use crate::lab::names::{Ends, ends_of, mark_of};
use crate::lab::packet::{Mac, Packet, proto};
use crate::lab::twin::Twin;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU16, Ordering};

/// See the file's head.
pub struct View {
    /// As the kernel's lab has it, and the tested.
    pub labs: [Flow; 2],
    /// The port that each end is behind.
    pub behind: [usize; 2],
    /// The number of the client's packets; the server's have the next one.
    mark: u16,
    /// A port may be another than the client's without need.
    pub random: bool,
    /// What each end writes on the wire as destination and source where that is not the router's port and the far end: it is
    /// behind a bridge.
    pub macs: [Option<(Mac, Mac)>; 2],
}

/// Fences are numbered from 0 on.
static NEXT: AtomicU16 = AtomicU16::new(0x4000);

impl View {
    /// Of a flow whose server has seen nothing yet.
    pub fn new(flow: Flow) -> Self {
        View {
            labs: [flow.clone(), flow],
            behind: [CLIENT, SERVER],
            mark: NEXT.fetch_add(2, Ordering::Relaxed).max(0x4000) & !1,
            random: false,
            macs: [None; 2],
        }
    }

    /// Ends that write these addresses on the wire, destination and source.
    pub fn with_macs(mut self, macs: [Option<(Mac, Mac)>; 2]) -> Self {
        self.macs = macs;
        self
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
        // A wrong checksum is wrong by as much in both labs, whatever the ports.
        let (fault, sum_at, padding) = (packet.sum_fault, packet.sum_at, packet.padding);
        let from_end = packet.body.len() + padding;
        let marked = packet.with(|packet| {
            packet.sum_fault = 0;
            packet.id = self.mark + from as u16;
            packet.flow_label = packet.id.into();
        });
        let addressed = marked.at(self.behind[from]).with(|packet| {
            (packet.dst_mac, packet.src_mac) = self.macs[from].unwrap_or((packet.dst_mac, packet.src_mac));
        });
        let mut frame = addressed.build();
        let sum_at = sum_at.and_then(|at| (frame.len() + at).checked_sub(from_end));
        if let Some(sum) = sum_at.filter(|at| fault != 0 && at + 2 <= frame.len()) {
            let right = u32::from(u16::from_be_bytes([frame[sum], frame[sum + 1]]));
            let wrong = right + u32::from(fault);
            let wrong = (wrong & 0xffff) + (wrong >> 16);
            frame[sum..sum + 2].copy_from_slice(&(wrong as u16).to_be_bytes());
        }
        frame
    }

    /// The client's port as the server sees it, in both labs.
    pub fn ports(&self) -> [u16; 2] {
        self.labs.each_ref().map(|flow| flow.seen_by(SERVER).ports[CLIENT])
    }

    /// Frames that one of its ends has sent.
    fn see(&mut self, from: usize, news: &mut News, twin: &mut Twin) -> Result<(), String> {
        let mark = self.mark + from as u16;
        // Each with its own; what has come in one lab alone waits for that of the other.
        let waiting = |news: &News| {
            news.iter()
                .all(|of| of.get(&mark).is_some_and(|frames| !frames.is_empty()))
        };
        while waiting(news) {
            let [kernels, testeds] = news
                .each_mut()
                .map(|of| of.get_mut(&mark).and_then(VecDeque::pop_front).unwrap_or_default());
            let (kernels, testeds) = (&kernels, &testeds);
            let (Some(kernel), Some(tested)) = (ends_of(kernels), ends_of(testeds)) else {
                continue;
            };
            let addresses = |ends: Ends| (ends.protocol, ends.src.0, ends.dst.0);
            if addresses(kernel) != addresses(tested) {
                // Frames that differ are reported.
                continue;
            }
            if from == CLIENT {
                self.learn([kernel, tested])?;
                let sent = self.labs[0].seen_by(CLIENT).udp(CLIENT, 0).build();
                if kernel.protocol == proto::UDP {
                    [kernels, testeds]
                        .iter()
                        .for_each(|seen| twin.is_translated(seen, &sent));
                }
            }
            twin.is_same(kernel, tested);
        }
        Ok(())
    }

    fn learn(&mut self, [kernel, tested]: [Ends; 2]) -> Result<(), String> {
        let own = self.labs[0].ports[CLIENT];
        let differ = kernel.dst.1 != tested.dst.1 && !self.random;
        let keeps = kernel.src.1 != tested.src.1 && !self.random && [kernel.src.1, tested.src.1].contains(&own);
        if differ || keeps {
            return Err(format!(
                "not a free choice: {kernel:?} and {tested:?}, of {:?}",
                self.labs[0]
            ));
        }
        for (flow, ends) in self.labs.iter_mut().zip([kernel, tested]) {
            let [client, server] = match ends.protocol {
                proto::TCP | proto::UDP | UDPLITE | SCTP => [ends.src.1, ends.dst.1],
                proto::ICMP | proto::ICMPV6 => [ends.src.1, flow.ports[SERVER]],
                _ => flow.ports,
            };
            flow.beyond = Some(([ends.src.0, ends.dst.0], [client, server]));
        }
        Ok(())
    }
}

/// Frames of both labs, by their numbers.
type News = [HashMap<u16, VecDeque<Vec<u8>>>; 2];

/// What has arrived, and how far it was looked at.
#[derive(Default)]
pub struct Watch {
    seen: HashMap<usize, [usize; 2]>,
    /// By port, what has arrived and was not looked at.
    news: HashMap<usize, News>,
}

impl Watch {
    /// Of what arrives from now on.
    pub fn from_now(twin: &Twin, views: &[View]) -> Self {
        let ports = views.iter().flat_map(|view| view.behind);
        let seen = ports.map(|port| (port, twin.captured(port).map(<[_]>::len))).collect();
        Watch {
            seen,
            ..Watch::default()
        }
    }

    /// Learns from what has arrived at the servers' far ends since the last time. In words, what is none of NAT's free choices.
    pub fn learn(&mut self, twin: &mut Twin, views: &mut [View]) -> Result<(), String> {
        let mut ports: Vec<usize> = views.iter().flat_map(|view| view.behind).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            self.look(twin, port);
            let news = self.news.entry(port).or_default();
            for view in views.iter_mut() {
                for from in [CLIENT, SERVER] {
                    view.see(from, news, twin)?;
                }
            }
        }
        twin.rename_captured();
        Ok(())
    }

    /// Takes the frames that are new at `port`.
    fn look(&mut self, twin: &Twin, port: usize) {
        let captured = twin.captured(port);
        let seen = self.seen.entry(port).or_default();
        let news = self.news.entry(port).or_default();
        for ((frames, seen), news) in captured.iter().zip(seen.iter_mut()).zip(news) {
            for frame in &frames[*seen..] {
                if let Some(mark) = mark_of(frame) {
                    news.entry(mark).or_default().push_back(frame.clone());
                }
            }
            *seen = frames.len();
        }
    }
}
