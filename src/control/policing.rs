//! The kernel's part of what a policer at ingress lets pass: what steer passes (for the box itself, ARP, groups) and what is
//! punted meets the kernel's own policer, which knows nothing of bypath's. So what the kernel's has passed, and has not paid
//! before it was punted, is taken out of bypath's bucket, as for what leaves by a shaped port (see `shaping`): together they keep
//! the rate, over any time that is long against [`EVERY`]. Where the kernel takes nearly all of a rate that frames want here, too, what
//! arrives is left to it for a while.
//!
//! ```text
//!  RTM_GETTFILTER: bytes, packets, exceeded --difference--> Policer::settle
//! ```
//!
//! The kernel tells how many packets exceeded, and not how many bytes those had: of what met its policer since the last look
//! the same part of the bytes is taken. A policer of several filters or ports is charged once.
//! Nothing is read while no port is policed, and reading takes at most a fiftieth of the time.

use super::shaping::EVERY;
use super::shaping::contention::Contention;
use crate::mirror::filters::Passed;
use crate::mirror::tc::Reader;
use crate::packet::PortIndex;
use crate::port::wait::monotonic_ns;
use crate::table::Snapshot;
use crate::table::police::{self, Amount, Limit, Policer};
use crate::table::qdisc::{Handle, Rate};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reading may take this part of the time.
const PART: u32 = 50;

/// A policer that frames came to here since then is wanted here.
const WANTED: Duration = Duration::from_secs(1);

/// Charges policers.
#[derive(Debug, Default)]
pub struct Policing {
    reader: Option<Reader>,
    next: Option<Instant>,
    /// By a policer's number: as of the last look.
    known: HashMap<u32, Passed>,
    /// When that was, in monotonic nanoseconds.
    known_ns: u64,
    /// By a policer's number: most packets that it had counted here, and when these were that many.
    met: HashMap<u32, (u64, Option<Instant>)>,
    /// By link.
    contention: HashMap<u32, Contention>,
    failed: bool,
}

/// Policers by their numbers, with the rate of each.
type Rates = Vec<(Handle, Rate)>;

/// ... and what the kernel's have passed.
type Passes = Vec<(Handle, Amount)>;

/// A policed port.
type Policed<'a> = (u32, &'a police::Policing);

impl Policing {
    /// Looks if it is time, and charges what the kernel passed since; the links where that is so much that what arrives there
    /// is better left to it.
    pub fn turn(&mut self, snapshot: &Snapshot) -> Vec<u32> {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return Vec::new();
        }
        let policed: Vec<Policed<'_>> = (0..snapshot.ports.len())
            .filter_map(|port| snapshot.port(PortIndex(port as u16)))
            .filter_map(|(_, iface)| Some((iface.ifindex, iface.policing.as_deref()?)))
            .filter(|(_, policing)| !policing.policers.is_empty())
            .collect();
        let mut contended = Vec::new();
        if policed.is_empty() {
            self.known.clear();
            self.met.clear();
        } else {
            match self.look(&policed, now) {
                Ok(links) => contended = links,
                Err(error) if !std::mem::replace(&mut self.failed, true) => {
                    say!(
                        "bypath: what the kernel's policers pass cannot be read, {error}: it comes on top of their rate"
                    );
                }
                Err(_) => {}
            }
        }
        self.contention
            .retain(|ifindex, _| policed.iter().any(|port| port.0 == *ifindex));
        self.next = Some(now + EVERY.max(now.elapsed() * PART));
        contended
    }

    fn look(&mut self, policed: &[Policed<'_>], now: Instant) -> Result<Vec<u32>, String> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::open().map_err(|error| error.to_string())?,
        };
        let (mut passed, mut failure) = (HashMap::new(), None);
        for (ifindex, _) in policed {
            match reader.policed(*ifindex) {
                Ok(of_it) => passed.extend(of_it),
                // A port that has just gone, say: the others have their due.
                Err(error) => failure = Some(error),
            }
        }
        let since: HashMap<u32, Amount> = passed
            .iter()
            .filter_map(|(index, now)| Some((*index, since(self.known.get(index)?, now)?)))
            .collect();
        let now_ns = monotonic_ns();
        let since_ns = std::mem::replace(&mut self.known_ns, now_ns);
        self.known = passed;
        let mut settled = Vec::new();
        let mut contended = Vec::new();
        for (ifindex, policing) in policed {
            for policer in &policing.policers {
                let index = policer.config.index;
                if !settled.contains(&index) {
                    settled.push(index);
                    policer.settle(since.get(&index).copied(), since_ns, now_ns);
                    self.meets(policer, now);
                }
            }
            let wanted = policing.policers.iter().filter(|policer| self.is_wanted(policer, now));
            let (payers, sent) = payers(wanted, &since);
            if self
                .contention
                .entry(*ifindex)
                .or_default()
                .is_contended(&payers, &sent, now)
            {
                contended.push(*ifindex);
            }
        }
        self.reader = Some(reader);
        match failure {
            Some(error) => Err(error),
            None => {
                self.failed = false;
                Ok(contended)
            }
        }
    }

    /// Notes whether frames came to a policer. What is being punted is counted for a moment, so only more than ever counts.
    fn meets(&mut self, policer: &Policer, now: Instant) {
        let packets = policer.counts().packets;
        let (most, at) = self.met.entry(policer.config.index).or_insert((packets, None));
        if packets > *most {
            (*most, *at) = (packets, Some(now));
        } else if packets == 0 {
            // A new one of that number.
            *most = 0;
        }
    }

    /// Whether frames that are carried came to it lately: else the kernel takes its rate from nobody.
    fn is_wanted(&self, policer: &Policer, now: Instant) -> bool {
        let met = self.met.get(&policer.config.index);
        met.is_some_and(|(_, at)| at.is_some_and(|at| now.saturating_duration_since(at) < WANTED))
    }
}

/// What a policer of the kernel's has passed between two looks; not known of one that is new meanwhile.
fn since(before: &Passed, now: &Passed) -> Option<Amount> {
    let bytes = now.bytes.checked_sub(before.bytes)?;
    // Counts of 32 bits go round.
    let packets = u64::from(now.packets.wrapping_sub(before.packets));
    let passed = packets.saturating_sub(now.exceeded.wrapping_sub(before.exceeded).into());
    let bytes = u128::from(bytes) * u128::from(passed) / u128::from(packets.max(1));
    Some((u64::try_from(bytes).ok()?, passed))
}

/// Those that drop what exceeds, with the rate of each, and what the kernel's passed. Where packets are bounded, each counts for its
/// least length.
fn payers<'a>(policers: impl Iterator<Item = &'a Arc<Policer>>, since: &HashMap<u32, Amount>) -> (Rates, Passes) {
    const PACKET: u64 = 64;
    let (mut payers, mut sent) = (Vec::new(), Vec::new());
    for policer in policers.filter(|policer| policer.config.is_bound()) {
        let handle = Handle(policer.config.index);
        let (bytes, packets) = since.get(&policer.config.index).copied().unwrap_or_default();
        match policer.config.limit {
            Some(Limit::Bytes(rate)) => {
                payers.push((handle, rate));
                sent.push((handle, (bytes, packets)));
            }
            Some(Limit::Packets(rate)) => {
                let bytes_per_second = rate.saturating_mul(PACKET);
                let rate = Rate {
                    bytes_per_second,
                    ..Rate::default()
                };
                payers.push((handle, rate));
                sent.push((handle, (packets * PACKET, packets)));
            }
            None => {}
        }
    }
    (payers, sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bytes: u64, packets: u32, exceeded: u32) -> Passed {
        Passed {
            bytes,
            packets,
            exceeded,
        }
    }

    #[test]
    fn what_exceeded_was_not_passed() {
        assert_eq!(since(&passed(0, 0, 0), &passed(5_000, 5, 0)), Some((5_000, 5)));
        assert_eq!(since(&passed(5_000, 5, 0), &passed(15_000, 15, 4)), Some((6_000, 6)));
        assert_eq!(since(&passed(15_000, 15, 4), &passed(15_000, 15, 4)), Some((0, 0)));
        assert_eq!(since(&passed(15_000, 15, 4), &passed(16_000, 16, 5)), Some((0, 0)));
    }

    #[test]
    fn a_new_policer_of_that_number_is_not_charged_and_counts_go_round() {
        assert_eq!(since(&passed(15_000, 15, 4), &passed(200, 1, 0)), None);
        assert_eq!(
            since(&passed(15_000, u32::MAX, u32::MAX), &passed(16_000, 1, 0)),
            Some((500, 1))
        );
    }
}
