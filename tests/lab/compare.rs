//! What must be equal at a far end, and what is free.
//!
//! Frames are compared byte for byte, as multisets per far end (a punted packet may be overtaken by a forwarded one), and,
//! where a test asks for it, in order per flow. Free is only what the kernel itself draws or times:
//!
//! - the IPv4 identification (and with it the header checksum, which must be right) and the IPv6 fragment identification of packets that the
//!   router itself wrote, since the kernel draws them at random; where it tracks connections, also that of IPv6 packets that
//!   it has reassembled and fragments anew;
//! - how often and when the router asks for neighbours: the set of addresses asked for by broadcast or multicast is
//!   compared, unicast probes are not;
//! - multicast listener reports, IGMP and router solicitations, which the router sends by timers of its own;
//! - where a test says so (`clock_free`), how many ICMP redirects there are, to whom, and which packets they quote, since
//!   the kernel spaces them by the clock, per source and per destination: that there are any is compared, per far end and
//!   family. (The scenario `redirects` sends few enough for an exact comparison.) The same holds for IPv4's answers that there
//!   is no way: `ip_error` of net/ipv4/route.c sends five to one sender and spaces the next by the clock, with switches (error_burst,
//!   error_cost) that no network namespace has. That there are any is compared, per far end, addressee and code. And which neighbours are asked for: a
//!   neighbour's own message, which steer passes at once, may overtake the punted packet that would have had the kernel ask.
//!   (The scenarios of neighbours compare that.)
//!
//! Nothing of that is free in a frame that bears a station's address as its source: the router has bridged what somebody else
//! wrote.

use super::packet::{self, proto};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A frame as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Compared byte for byte, with the free fields zeroed.
    Frame(Vec<u8>),
    /// A question for a neighbour.
    Asks(IpAddr),
    /// A redirect, of IPv4 or not, where redirects are timed.
    Redirects { ipv4: bool },
    /// An ICMP destination unreachable for want of a way, where these are timed.
    Unreachable { to: Ipv4Addr, code: u8 },
    /// Timer noise.
    Noise,
}

/// Says what is free.
#[derive(Clone, Default)]
pub struct Rules {
    /// The router's own addresses.
    pub own: HashSet<IpAddr>,
    /// How many redirects and unreachables there are is free.
    pub clock_free: bool,
    /// The router reassembles what it forwards, and draws identifications for the fragments of IPv6 that it then makes.
    pub reassembles: bool,
}

/// One far end's difference.
#[derive(Debug, Default)]
pub struct Difference {
    /// Frames that only the kernel sent.
    pub missing: Vec<Vec<u8>>,
    /// Frames that only bypath's lab sent.
    pub extra: Vec<Vec<u8>>,
    /// Questions, redirects and unreachables that only one lab sent, in words.
    pub sets: Vec<String>,
    /// Flows whose order differs, in words.
    pub order: Vec<String>,
}

impl Difference {
    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many things differ.
    pub fn count(&self) -> usize {
        self.missing.len().max(self.extra.len()) + self.sets.len() + self.order.len()
    }
}

impl Rules {
    /// How one captured frame is compared.
    pub fn see(&self, frame: &[u8]) -> Seen {
        self.classify(frame).unwrap_or_else(|| Seen::Frame(frame.to_vec()))
    }

    /// None where it is compared as it stands, or is too short for what it says it is.
    fn classify(&self, frame: &[u8]) -> Option<Seen> {
        let refragmented = self.reassembles && frame.get(12..14)? == [0x86, 0xdd] && frame.get(20)? == &proto::FRAGMENT;
        if packet::is_stations(frame) && !refragmented {
            return None;
        }
        // The hellos of a bridge's own spanning tree.
        if frame.starts_with(&packet::SPANNING_TREE) {
            return Some(Seen::Noise);
        }
        match frame.get(12..14)? {
            [0x08, 0x06] if frame.get(20..22)? == [0, 1] => {
                let target = Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(38..42)?).ok()?);
                Some(self.question(frame, target.into()))
            }
            [0x08, 0x00] => self.classify_ipv4(frame),
            [0x86, 0xdd] => self.classify_ipv6(frame),
            _ => None,
        }
    }

    /// A broadcast or multicast question is compared, a probe of one neighbour is not.
    fn question(&self, frame: &[u8], target: IpAddr) -> Seen {
        if frame[0] & 1 == 1 && !self.clock_free {
            Seen::Asks(target)
        } else {
            Seen::Noise
        }
    }

    fn classify_ipv4(&self, frame: &[u8]) -> Option<Seen> {
        let src = Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(26..30)?).ok()?);
        let protocol = *frame.get(23)?;
        // A bridge reports by IGMP before it has an address.
        let is_own = self.own.contains(&src.into());
        if protocol == 2 && (is_own || src.is_unspecified()) {
            return Some(Seen::Noise);
        }
        if !is_own {
            return None;
        }
        if self.clock_free && protocol == proto::ICMP && frame.get(34)? == &5 {
            return Some(Seen::Redirects { ipv4: true });
        }
        // Network, host, prohibited: those of ip_error.
        if self.clock_free && protocol == proto::ICMP && frame.get(34)? == &3 && matches!(frame.get(35)?, 0 | 1 | 13) {
            return Some(Seen::Unreachable {
                to: Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(30..34)?).ok()?),
                code: *frame.get(35)?,
            });
        }
        let mut frame = frame.to_vec();
        let header = 14..14 + usize::from(frame[14] & 0xf) * 4;
        let right = frame.get(header).is_some_and(sums_up);
        frame[18..20].fill(0);
        frame[24..26].fill(if right { 0 } else { 0xff });
        Some(Seen::Frame(frame))
    }

    fn classify_ipv6(&self, frame: &[u8]) -> Option<Seen> {
        let src = Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(22..38)?).ok()?);
        let next = *frame.get(20)?;
        let refragmented = self.reassembles && next == proto::FRAGMENT;
        if !refragmented && !src.is_unspecified() && !self.own.contains(&src.into()) {
            return None;
        }
        match next {
            // Hop-by-hop with a router alert, in front of a listener report.
            0 if matches!(frame.get(62)?, 131 | 132 | 143) => Some(Seen::Noise),
            proto::FRAGMENT => {
                let mut frame = frame.to_vec();
                frame.get_mut(58..62)?.fill(0);
                Some(Seen::Frame(frame))
            }
            proto::ICMPV6 => match *frame.get(54)? {
                131..=133 | 143 => Some(Seen::Noise),
                135 => {
                    let target = Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(62..78)?).ok()?);
                    Some(self.question(frame, target.into()))
                }
                137 if self.clock_free => Some(Seen::Redirects { ipv4: false }),
                _ => None,
            },
            _ => None,
        }
    }

    /// Compares the captures of one far end.
    pub fn compare(&self, kernel: &[Vec<u8>], bypath: &[Vec<u8>], ordered: bool) -> Difference {
        let (kernel, bypath) = (self.sort(kernel), self.sort(bypath));
        let mut difference = Difference::default();
        let mut surplus: BTreeMap<&Vec<u8>, i64> = BTreeMap::new();
        kernel
            .frames
            .iter()
            .for_each(|frame| *surplus.entry(frame).or_default() -= 1);
        bypath
            .frames
            .iter()
            .for_each(|frame| *surplus.entry(frame).or_default() += 1);
        for (frame, count) in surplus {
            let list = if count < 0 {
                &mut difference.missing
            } else {
                &mut difference.extra
            };
            list.extend(std::iter::repeat_n(frame.clone(), count.unsigned_abs() as usize));
        }
        for seen in kernel.sets.difference(&bypath.sets) {
            difference.sets.push(format!("only the kernel: {seen:?}"));
        }
        for seen in bypath.sets.difference(&kernel.sets) {
            difference.sets.push(format!("only bypath: {seen:?}"));
        }
        if ordered && difference.is_empty() {
            difference.order = self.compare_order(&kernel.frames, &bypath.frames);
        }
        difference
    }

    fn sort(&self, frames: &[Vec<u8>]) -> Sorted {
        let mut sorted = Sorted::default();
        for frame in frames {
            match self.see(frame) {
                Seen::Frame(frame) => sorted.frames.push(frame),
                Seen::Noise => {}
                other => drop(sorted.sets.insert(other)),
            }
        }
        sorted
    }

    /// The flows whose frames came in another order.
    fn compare_order(&self, kernel: &[Vec<u8>], bypath: &[Vec<u8>]) -> Vec<String> {
        let by_flow = |frames: &[Vec<u8>]| {
            let mut flows: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
            for frame in frames {
                flows.entry(flow_of(frame)).or_default().push(frame.clone());
            }
            flows
        };
        let (kernel, bypath) = (by_flow(kernel), by_flow(bypath));
        let differ = kernel.iter().filter(|(flow, frames)| bypath.get(*flow) != Some(frames));
        differ
            .map(|(_, frames)| format!("order of {}", super::report::summary(&frames[0])))
            .collect()
    }
}

/// Whether an IPv4 header has its right checksum.
fn sums_up(header: &[u8]) -> bool {
    let words = header
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

#[derive(Default)]
struct Sorted {
    frames: Vec<Vec<u8>>,
    sets: BTreeSet<Seen>,
}

/// Addresses, protocol and, where they are there, ports.
fn flow_of(frame: &[u8]) -> Vec<u8> {
    let part = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    match part(12, 14) {
        [0x08, 0x00] if part(20, 22) == [0, 0] || part(20, 22) == [0x40, 0] => {
            [part(23, 24), part(26, 34), part(34, 38)].concat()
        }
        [0x08, 0x00] => [part(23, 24), part(26, 34)].concat(),
        [0x86, 0xdd] => [part(20, 21), part(22, 54), part(54, 58)].concat(),
        other => other.to_vec(),
    }
}
