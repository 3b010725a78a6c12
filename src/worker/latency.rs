//! How long packets stay in bypath: from steer's stamp (or the receive of the burst) to the kick that sends them, per egress
//! port. Histograms of hdrhistogram, 2 significant digits, 1 ns to 10 s (longer counts as 10 s): about 30 KiB a port, made
//! when the port is.

use hdrhistogram::Histogram;

/// The longest latency told apart, in nanoseconds.
const MAX_NS: u64 = 10_000_000_000;

/// One port's latencies, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// An empty histogram.
    pub fn new() -> Self {
        // The bounds are constants that the crate accepts; a fallback keeps the type free of a panic.
        Self(
            Histogram::new_with_bounds(1, MAX_NS, 2).unwrap_or_else(|_| Histogram::new(2).expect("2 digits are valid")),
        )
    }

    /// Counts one packet that stayed `ns`.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: &Latency) {
        let _ = self.0.add(&other.0);
    }

    /// The histogram.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}
