//! What is seen and heard of trials while they run.
//!
//! The line on stderr: rewritten in place on a terminal, else one line a second, so that a log stays
//! readable. And Ctrl-C: it ends the trial that runs, and what was measured by then is reported.

use super::super::output::grouped;
use crate::bench::trial::{OnTick, Tick};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether the operator has had enough.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT and SIGTERM are kept here.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> Result<Self, String> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, flag.clone())
                .map_err(|error| format!("cannot catch signals: {error}"))?;
        }
        Ok(Self(flag))
    }

    /// Whether one came.
    pub fn came(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Shows how the trial `name` goes, until a signal comes.
pub fn shown(name: String, interrupt: &Interrupt) -> OnTick {
    let (terminal, interrupt) = (io::stderr().is_terminal(), interrupt.clone());
    let mut last_second = 0;
    Box::new(move |tick| {
        let line = line(&name, tick);
        let second = tick.elapsed as u64;
        let mut err = io::stderr().lock();
        // Who does not read it does not miss it.
        if terminal {
            let _ = write!(err, "\r\x1b[K{line}");
            let _ = err.flush();
        } else if second != last_second {
            let _ = writeln!(err, "{line}");
        }
        last_second = second;
        !interrupt.came()
    })
}

/// Takes the line away, so that what follows begins at the margin.
pub fn clear() {
    let mut err = io::stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K");
        let _ = err.flush();
    }
}

fn line(name: &str, tick: &Tick) -> String {
    let time = match tick.seconds {
        Some(seconds) => format!("{:.1} of {seconds:.1} s", tick.elapsed),
        None => format!("{:.1} s", tick.elapsed),
    };
    let rate = if tick.elapsed > 0.0 {
        (tick.arrived as f64 / tick.elapsed) as u64
    } else {
        0
    };
    format!(
        "bypath: bench: {name}, {time}: {} sent, {} received, {}/s",
        grouped(tick.offered),
        grouped(tick.arrived),
        grouped(rate)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let tick = Tick {
            elapsed: 2.0,
            seconds: Some(5.0),
            offered: 2_000_100,
            arrived: 2_000_000,
        };
        assert_eq!(
            line("64", &tick),
            "bypath: bench: 64, 2.0 of 5.0 s: 2,000,100 sent, 2,000,000 received, 1,000,000/s"
        );
        let burst = Tick {
            elapsed: 0.0,
            seconds: None,
            ..tick
        };
        assert!(line("imix", &burst).contains("imix, 0.0 s:") && line("imix", &burst).ends_with(" 0/s"));
    }
}
