//! Where the kernel's own traffic and ours would fight for one rate. The kernel does not know what bypath sends, so it lets its own
//! (the box's, punted frames) have all of a rate, and what is left for ours after that is paid for may be nothing. Without bypath
//! the two would wait in one queue. So a port where the kernel alone takes nearly all of what one of its payers is sure of is
//! left to the kernel for a while: guard says for how long.
//!
//! A payer is watched over windows that are long enough for a dozen frames: a lone packet at a low rate is no contention.

use crate::table::bucket::Amount;
use crate::table::qdisc::{Handle, Kind, Qdisc, Rate, Shaping};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The shortest window.
const WINDOW: Duration = Duration::from_millis(250);
/// What a rate must be good for in a window, in bytes.
const WINDOW_BYTES: u64 = 16 * 1024;
/// The kernel's part of a rate above which that is contended, in eighths.
const EIGHTHS: u64 = 7;

/// The payers of one link.
#[derive(Debug, Default)]
pub struct Contention {
    /// Since when a payer is watched, and what the kernel sent by it.
    windows: HashMap<Handle, (Instant, u64)>,
}

impl Contention {
    /// Takes in what the kernel sent by these payers, each with its rate, since the last call; whether one of them is contended. What
    /// was sent before the first call of a payer does not count.
    pub fn is_contended(&mut self, payers: &[(Handle, Rate)], sent: &[(Handle, Amount)], now: Instant) -> bool {
        let mut contended = false;
        for (payer, rate) in payers {
            let of_payer = sent.iter().find(|(of, _)| of == payer);
            let bytes = of_payer.map_or(0, |(_, sent)| rate.on_wire_of(*sent));
            let (since, total) = self.windows.entry(*payer).or_insert((now, 0));
            let took = now.saturating_duration_since(*since);
            if !took.is_zero() {
                *total += bytes;
            }
            let may_have = u128::from(rate.bytes_per_second) * took.as_nanos() / 1_000_000_000;
            if took >= WINDOW && may_have >= u128::from(WINDOW_BYTES) {
                contended |= u128::from(*total) * 8 > may_have * u128::from(EIGHTHS);
                (*since, *total) = (now, 0);
            }
        }
        contended
    }
}

/// Who pays, and the rate of each.
pub fn rates(shaping: &Shaping) -> Vec<(Handle, Rate)> {
    let mut rates = Vec::new();
    match shaping {
        Shaping::Unshaped => {}
        Shaping::Root(root) => below(root, &mut rates),
        Shaping::Queues(queues) => queues.iter().flatten().for_each(|root| below(root, &mut rates)),
    }
    rates
}

fn below(qdisc: &Qdisc, rates: &mut Vec<(Handle, Rate)>) {
    match &qdisc.kind {
        Kind::Tbf(tbf) => {
            rates.push((qdisc.handle, tbf.rate));
            below(&tbf.child, rates);
        }
        Kind::Prio(prio) => prio.bands.iter().for_each(|band| below(band, rates)),
        Kind::Htb(htb) => {
            for (class, leaf) in htb
                .classes
                .iter()
                .filter_map(|class| Some((class, class.leaf.as_ref()?)))
            {
                rates.push((class.id, class.rate));
                below(leaf, rates);
            }
        }
        Kind::Fifo(_) | Kind::FqCodel(_) | Kind::Sfq(_) | Kind::Fq(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::qdisc::{Fifo, Limit, ROOT, Tbf};
    use std::sync::Arc;

    const TBF: Handle = Handle::qdisc(1);

    fn tbf(bytes_per_second: u64) -> Shaping {
        tbf_with(bytes_per_second, 0)
    }

    fn tbf_with(bytes_per_second: u64, overhead: u16) -> Shaping {
        let qdisc = |handle, kind| {
            Arc::new(Qdisc {
                generation: 0,
                overhead: 0,
                handle,
                parent: ROOT,
                kind,
                filters: Vec::new(),
            })
        };
        let limit = Limit::Packets(1);
        let child = qdisc(
            Handle(0),
            Kind::Fifo(Fifo {
                limit,
                drops_head: false,
            }),
        );
        Shaping::Root(qdisc(
            TBF,
            Kind::Tbf(Tbf {
                rate: Rate {
                    bytes_per_second,
                    overhead,
                    ..Rate::default()
                },
                buffer_ns: 1,
                peak: None,
                max_size: 2000,
                limit: 1,
                child,
            }),
        ))
    }

    /// When it is contended, if the kernel sends `each` bytes, in packets of 100, every 50 ms for five seconds.
    fn contended(shaping: &Shaping, each: u64) -> Option<Duration> {
        let (begin, mut contention) = (Instant::now(), Contention::default());
        (0..100)
            .map(|n| Duration::from_millis(50) * n)
            .find(|&after| contention.is_contended(&rates(shaping), &[(TBF, (each, each / 100))], begin + after))
    }

    #[test]
    fn nearly_all_of_a_rate_is_contention() {
        let shaping = tbf(1_000_000);
        assert_eq!(contended(&shaping, 43_000), None);
        assert_eq!(contended(&shaping, 44_000), Some(WINDOW));
        assert_eq!(contended(&shaping, 0), None);
        // With 100 bytes around each packet, half of them is all.
        assert_eq!(contended(&tbf_with(1_000_000, 100), 21_000), None);
        assert_eq!(contended(&tbf_with(1_000_000, 100), 22_000), Some(WINDOW));
    }

    #[test]
    fn at_a_low_rate_it_takes_a_dozen_frames() {
        let (shaping, mut contention) = (tbf(8_000), Contention::default());
        let begin = Instant::now();
        assert!(!contention.is_contended(&rates(&shaping), &[(TBF, (1500, 1))], begin));
        for n in 1..=40 {
            let sent = if n == 3 { vec![(TBF, (1500, 1))] } else { Vec::new() };
            assert!(!contention.is_contended(&rates(&shaping), &sent, begin + Duration::from_millis(100) * n));
        }
        assert_eq!(contended(&shaping, 360), Some(Duration::from_millis(2050)));
    }
}
