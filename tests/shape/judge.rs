//! What is judged of two shaped labs: which frames left, in which order and when, and how much in how long.
//!
//! Amounts and orders that the configuration determines are compared exactly. Times are noisy on a busy machine, where both
//! kernel and bypath are late by whatever runs meanwhile, but never early: that what left since the beginning is at most burst +
//! rate x time is asserted without a tolerance (a frame's token may not come before its time), that it is not less within
//! the time that a late timer may cost. Of every other window the same is asserted but for [`LATE`].

use crate::net::{Arrival, Sent, Shaped, Side};
use std::collections::BTreeMap;
use std::time::Duration;

/// A timer may be so late on a machine with other work. And a frame that has its tokens gets its stamp where the driver hands it over, so
/// much later where whoever took it from the qdisc had to wait for its CPU in between (another's slice, or a host that runs another
/// machine): a window that begins with it seems to be shorter than it was. (Without other work it is some 40 us.)
pub const LATE: Duration = Duration::from_millis(25);

/// Bytes per second of a rate as tc writes it.
pub const fn mbit(rate: f64) -> f64 {
    rate * 1e6 / 8.0
}

impl Shaped {
    /// The same frames came, and in the same order at each port.
    #[track_caller]
    pub fn same_order(&self) {
        let order = |side: &Side| {
            let mut ports = BTreeMap::<usize, Vec<(u16, u32)>>::new();
            for arrival in side.in_order() {
                ports.entry(arrival.port).or_default().push((arrival.flow, arrival.seq));
            }
            ports
        };
        let (kernel, tested) = (order(&self.kernel), order(&self.tested));
        assert!(
            kernel == tested,
            "{}: (flow, number) in the kernel's order: {kernel:?}\nof the tested: {tested:?}",
            self.name
        );
    }

    /// The same frames came, in the same order within each flow.
    #[track_caller]
    pub fn same_frames(&self) {
        let flows = |side: &Side| {
            let mut flows = BTreeMap::<u16, Vec<u32>>::new();
            for arrival in side.in_order() {
                flows.entry(arrival.flow).or_default().push(arrival.seq);
            }
            flows
        };
        let (kernel, tested) = (flows(&self.kernel), flows(&self.tested));
        assert!(
            kernel == tested,
            "{}: numbers by flow, the kernel's: {kernel:?}\nof the tested: {tested:?}",
            self.name
        );
    }

    /// How many frames of a flow came, which must be as many in both.
    #[track_caller]
    pub fn came(&self, flow: u16) -> usize {
        let [kernel, tested] = self.sides().map(|side| side.of(flow).len());
        assert_eq!(kernel, tested, "{}: frames of flow {flow} that came", self.name);
        kernel
    }

    /// Frames that came in both did so at the same time after the beginning, but for late timers.
    #[track_caller]
    pub fn same_times(&self) {
        let times = |side: &Side| -> BTreeMap<(u16, u32), u64> {
            let began = side.began_ns();
            let time = |arrival: &Arrival| ((arrival.flow, arrival.seq), arrival.at_ns.saturating_sub(began));
            side.came.iter().map(time).collect()
        };
        let (kernel, tested) = (times(&self.kernel), times(&self.tested));
        let mut apart: Vec<u64> = tested
            .iter()
            .filter_map(|(number, time)| kernel.get(number).map(|other| other.abs_diff(*time)))
            .collect();
        apart.sort_unstable();
        let at =
            |part: f64| Duration::from_nanos(apart.get((apart.len() as f64 * part) as usize).copied().unwrap_or(0));
        println!(
            "twin {}: apart in time: median {:?}, of 95 % at most {:?}",
            self.name,
            at(0.5),
            at(0.95)
        );
        assert!(at(0.5) < LATE && at(0.95) < LATE * 3, "{}: the times differ", self.name);
    }

    /// The frames of `flows` leave at the pace of `bucket`, in both labs: never faster, and not slower by more than 0.2 % or a frame
    /// while they are offered, for so long.
    #[track_caller]
    pub fn keeps_rate(&self, what: &str, bucket: Bucket, flows: &[u16], lasts: Duration) {
        for (side, who) in [(&self.kernel, "kernel"), (&self.tested, "tested")] {
            let mut came = side.in_order();
            came.retain(|arrival| flows.contains(&arrival.flow));
            let mut sent = side.sent.clone();
            sent.retain(|sent| flows.contains(&sent.flow));
            let kept = bucket.keeps(side.began_ns(), &sent, &came, lasts);
            println!("twin {}: {what}, {who}: {kept}", self.name);
            assert!(kept.is_within, "{}: {what}, {who}: {kept}", self.name);
        }
    }

    /// Bytes of each flow that came in a time since the beginning: of the kernel's, of the tested.
    pub fn amounts(&self, flows: &[u16], from: Duration, until: Duration) -> [Vec<f64>; 2] {
        self.sides().map(|side| {
            let within = side.began_ns() + from.as_nanos() as u64..side.began_ns() + until.as_nanos() as u64;
            let of = |flow: &u16| {
                let came = side
                    .came
                    .iter()
                    .filter(|a| a.flow == *flow && within.contains(&a.at_ns));
                came.map(|arrival| arrival.bytes as f64).sum()
            };
            flows.iter().map(of).collect()
        })
    }

    /// In that time each flow had this rate (bytes per second), in both labs: within 2 %, or as many bytes as `grain`.
    #[track_caller]
    pub fn shares(&self, wanted: &[(u16, f64)], from: Duration, until: Duration, grain: f64) {
        let flows: Vec<u16> = wanted.iter().map(|(flow, _)| *flow).collect();
        let seconds = (until - from).as_secs_f64();
        let amounts = self.amounts(&flows, from, until);
        for (amounts, who) in amounts.iter().zip(["kernel", "tested"]) {
            for ((flow, rate), amount) in wanted.iter().zip(amounts) {
                let (wanted, apart) = (rate * seconds, (amount - rate * seconds).abs());
                println!(
                    "twin {}: {who}, flow {flow}, {from:?} to {until:?}: {:.3} Mbit/s, wanted {:.3}",
                    self.name,
                    amount / seconds * 8e-6,
                    rate * 8e-6
                );
                assert!(
                    apart <= (wanted * 0.02).max(grain),
                    "{}: {who}, flow {flow}, {from:?} to {until:?}: {amount} bytes, not {wanted}",
                    self.name
                );
            }
        }
    }

    /// How long frames of a flow were on their way, sorted, in milliseconds: of the kernel's, of the tested.
    pub fn delays(&self, flow: u16) -> [Vec<f64>; 2] {
        self.sides().map(|side| {
            let sent: BTreeMap<u32, u64> = side
                .sent
                .iter()
                .filter(|sent| sent.flow == flow)
                .map(|sent| (sent.seq, sent.at_ns))
                .collect();
            let came = side.came.iter().filter(|arrival| arrival.flow == flow);
            let mut delays: Vec<f64> = came
                .map(|arrival| arrival.at_ns.saturating_sub(sent[&arrival.seq]) as f64 / 1e6)
                .collect();
            delays.sort_by(f64::total_cmp);
            delays
        })
    }
}

/// The part `part` of sorted values.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

/// How arrivals stand to a rate.
pub struct Kept {
    is_within: bool,
    /// The most that was there before its time, in bytes.
    early: f64,
    /// The same of the worst window, beginning with whatever frame.
    early_within: f64,
    /// How much had not come at the end of the demand that might have, in parts of what might, and in bytes.
    behind: f64,
    behind_bytes: f64,
    frames: usize,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} frames, early by {:.0} bytes, in any window by {:.0}, behind by {:.3} % ({:.0} bytes)",
            self.frames,
            self.early,
            self.early_within,
            self.behind * 100.0,
            self.behind_bytes
        )
    }
}

/// tc rounds what it says of a bucket to microseconds, and the kernel times to 64 ns.
const ROUNDING: f64 = 1e-4;

/// A token bucket and the queue before it, as fluids.
#[derive(Clone, Copy)]
pub struct Bucket {
    /// Bytes per second.
    pub rate: f64,
    /// Bytes.
    pub burst: f64,
    /// Bytes that wait.
    pub limit: f64,
}

impl Bucket {
    /// Late timers cost nothing for good while the bucket has room, so that what is behind at best counts, in the last fifth of
    /// the time; and what might have left is of what was offered, so that a source that the machine kept waiting is no fault.
    fn keeps(&self, began_ns: u64, sent: &[Sent], came: &[Arrival], lasts: Duration) -> Kept {
        let Bucket { rate, burst, limit } = *self;
        let (began, lasts) = (began_ns as f64, lasts.as_secs_f64());
        let longest = came.iter().map(|arrival| arrival.bytes).max().unwrap_or(0) as f64;
        let mut offered = sent.iter().peekable();
        let (mut tokens, mut waits, mut might, mut at) = (burst, 0.0, 0.0, 0.0);
        let mut pass = |until: f64, bytes: f64, might: &mut f64| {
            tokens += rate * f64::max(0.0, until - at);
            at = f64::max(at, until);
            waits += if waits + bytes <= limit { bytes } else { 0.0 };
            let leaves = f64::min(tokens, waits);
            (tokens, waits, *might) = (f64::min(tokens - leaves, burst), waits - leaves, *might + leaves);
        };
        let (mut sum, mut early, mut behind_bytes) = (0.0, f64::MIN, f64::MAX);
        // The least of what had left before a frame, less what the rate gives until then: the worst beginning of a window.
        let (mut least, mut early_within) = (f64::MAX, f64::MIN);
        let given = |seconds: f64| rate * seconds * (1.0 + ROUNDING);
        for arrival in came {
            let seconds = (arrival.at_ns as f64 - began) / 1e9;
            while let Some(sent) = offered.next_if(|sent| sent.at_ns <= arrival.at_ns) {
                pass((sent.at_ns as f64 - began) / 1e9, f64::from(sent.bytes), &mut might);
            }
            pass(seconds, 0.0, &mut might);
            least = f64::min(least, sum - given(seconds));
            sum += arrival.bytes as f64;
            early_within = f64::max(early_within, sum - given(seconds) - least - burst * (1.0 + ROUNDING));
            early = f64::max(early, sum - (burst + rate * seconds) * (1.0 + ROUNDING));
            if (lasts * 0.8..=lasts).contains(&seconds) {
                behind_bytes = f64::min(behind_bytes, might - sum);
            }
        }
        Kept {
            is_within: early <= 1.0
                && early_within <= 1.0 + rate * LATE.as_secs_f64()
                && behind_bytes <= f64::max(longest, might * 0.002) + might * ROUNDING,
            early,
            early_within,
            behind: behind_bytes / might,
            behind_bytes,
            frames: came.len(),
        }
    }
}

/// A bucket that gives its burst twice after a pause, when all since the beginning is long within its rate, is found out.
#[test]
fn a_burst_too_much_after_a_pause_is_seen() {
    const FRAME: u32 = 1000;
    let bucket = Bucket {
        rate: 1e6,
        burst: 50_000.0,
        limit: 200_000.0,
    };
    // A hundred frames are offered after 9 s of 10: the burst leaves at once, the rest by the rate, a frame in each millisecond.
    let sent = vec![
        Sent {
            at_ns: 9_000_000_000,
            flow: 0,
            seq: 0,
            bytes: FRAME,
        };
        100
    ];
    let leaves = |at_once: u64| {
        let arrival = |n: u64| Arrival {
            at_ns: 9_000_000_000 + 1_000_000 * (n + 1).saturating_sub(at_once),
            port: 0,
            flow: 0,
            seq: n as u32,
            bytes: FRAME.into(),
            hash: 0,
        };
        let came: Vec<_> = (0..100).map(arrival).collect();
        bucket.keeps(0, &sent, &came, Duration::from_secs(10))
    };
    let (kept, twice) = (leaves(50), leaves(100));
    assert!(kept.is_within && kept.early_within <= 1.0, "{kept}");
    assert!(twice.early <= 1.0 && !twice.is_within, "{twice}");
}
