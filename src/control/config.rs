//! What an operator asked `run` or `wire` for, checked as a whole before anything is touched.
//!
//! Options name only what the kernel cannot know: which ports, which cores, how rings and polling work. The raw flags are
//! parsed by `cli` (the choices are enums that it can read, the workers at most [`WORKERS_MAX`]); everything behind it takes this
//! one validated value. Bounded by [`PORTS_MAX`] ports and the CPUs that the process may run on.

use super::{Error, api};
use crate::packet::PORTS_MAX;
use crate::port::link;
use std::net::SocketAddr;

/// The most workers one process runs: more than any box has queues worth polling, and it bounds the hand-off queues,
/// of which there is one per pair.
pub const WORKERS_MAX: usize = 64;

/// `--mode`: how AF_XDP moves packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Zero-copy where the driver has it, copy elsewhere.
    #[default]
    Auto,
    /// Zero-copy or no start.
    Zerocopy,
    /// Copy everywhere.
    Copy,
}

/// `--attach`: where the XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Attach {
    /// In the driver where it can, generic elsewhere.
    #[default]
    Auto,
    /// In the driver or no start.
    Native,
    /// Behind the driver, in the stack: works everywhere, slower.
    Generic,
}

/// `--poll`: how a worker waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Poll {
    /// Spin while there is traffic, sleep in poll(2) when there is none.
    #[default]
    Adaptive,
    /// The kernel's preferred busy polling (SO_PREFER_BUSY_POLL).
    Busy,
    /// Never sleep.
    Spin,
}

/// A validated request to run an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunConfig {
    /// Interface names, in the order given, no two the same interface. A bridge stands for its ports.
    pub ports: Vec<String>,
    /// How many workers, 1 to [`WORKERS_MAX`]; `None` leaves it to control (as many as `cpus`, else one per queue up to the CPUs there are).
    pub workers: Option<usize>,
    /// The CPUs that workers are pinned to, in order; empty leaves it to control.
    pub cpus: Vec<usize>,
    /// Copy or zero-copy.
    pub mode: Mode,
    /// Native or generic XDP.
    pub attach: Attach,
    /// How a worker waits.
    pub poll: Poll,
    /// The NAME of the control socket `@bypath.NAME`; `None` for `@bypath`.
    pub control: Option<String>,
    /// Where to serve Prometheus metrics, if at all.
    pub metrics: Option<SocketAddr>,
    /// `bypath wire`: two ports, frames of one leave on the other.
    pub wire: bool,
}

impl RunConfig {
    /// Checks everything that can be checked before anything is opened.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order an operator would read the command line.
    pub fn validate(&self) -> Result<(), Error> {
        if self.mode == Mode::Zerocopy && self.attach == Attach::Generic {
            return Err(Error::Other(
                "zero-copy needs XDP in the driver: leave out --attach generic, or use --mode copy".into(),
            ));
        }
        self.validate_ports()?;
        self.validate_workers(&available_cpus())?;
        api::socket_name(self.control.as_deref()).map(drop)
    }

    /// How packets move. Drivers send from zero-copy sockets only while they have an XDP program themselves.
    pub fn mode(&self) -> Mode {
        match (self.mode, self.attach) {
            (Mode::Auto, Attach::Generic) => Mode::Copy,
            (mode, _) => mode,
        }
    }

    fn validate_ports(&self) -> Result<(), Error> {
        let wanted = if self.wire { 2..=2 } else { 1..=PORTS_MAX };
        if !wanted.contains(&self.ports.len()) {
            let wanted = if self.wire {
                "a wire joins exactly 2: name both ends".into()
            } else {
                format!(
                    "an instance serves 1 to {PORTS_MAX}: name those that carry the most, the others stay with the kernel"
                )
            };
            return Err(Error::PortCount {
                given: self.ports.len(),
                wanted,
            });
        }
        for (i, port) in self.ports.iter().enumerate() {
            if self.ports[..i].contains(port) {
                return Err(Error::PortTwice { port: port.clone() });
            }
        }
        let mut seen = Vec::with_capacity(self.ports.len());
        for port in &self.ports {
            let index = link::ifindex(port).ok_or_else(|| Error::PortMissing { port: port.clone() })?;
            // An interface may have several names (`ip link property add altname`).
            if seen.contains(&index) {
                return Err(Error::PortTwice { port: port.clone() });
            }
            seen.push(index);
            if self.wire && is_bridge(port) {
                return Err(Error::PortUnfit {
                    port: port.clone(),
                    why: "a wire joins two links and this is a bridge: name one of its ports".into(),
                });
            }
        }
        Ok(())
    }

    fn validate_workers(&self, available: &[usize]) -> Result<(), Error> {
        if let Some(&cpu) = self.cpus.iter().find(|cpu| !available.contains(cpu)) {
            return Err(Error::CpuMissing {
                cpu,
                available: format_cpus(available),
            });
        }
        match self.workers {
            Some(workers) if !self.cpus.is_empty() && workers > self.cpus.len() => Err(Error::CpusTooFew {
                workers,
                cpus: self.cpus.len(),
            }),
            _ => Ok(()),
        }
    }
}

/// Whether the port stands for its ports.
pub fn is_bridge(port: &str) -> bool {
    link::Link::query(port).is_ok_and(|link| link.kind == super::roster::BRIDGE)
}

/// The CPUs that this process may run on, ascending.
pub fn available_cpus() -> Vec<usize> {
    let mut cpus: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| core.id)
        .collect();
    cpus.sort_unstable();
    cpus
}

/// Reads a CPU list as the kernel writes them: `0,2-3`.
///
/// # Errors
/// In words: what is wrong with `list`.
pub fn parse_cpus(list: &str) -> Result<Vec<usize>, String> {
    // Far above any machine's; bounds what a range like 0-4000000000 may allocate.
    const CPU_MAX: usize = 8191;
    let number = |text: &str| match text.parse::<usize>() {
        Ok(cpu) if cpu <= CPU_MAX => Ok(cpu),
        _ => Err(format!("{text:?} is no cpu number; a list looks like 0,2-3")),
    };
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("the range {part} runs backwards"));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("cpu {cpu} is named twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

/// Writes ascending CPU numbers as a list: `0,2-3`.
fn format_cpus(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|a, b| a + 1 == *b);
    let words: Vec<String> = runs
        .map(|run| {
            if run.len() == 1 {
                run[0].to_string()
            } else {
                format!("{}-{}", run[0], run[run.len() - 1])
            }
        })
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(ports: &[&str]) -> RunConfig {
        RunConfig {
            ports: ports.iter().map(|&port| port.into()).collect(),
            ..RunConfig::default()
        }
    }

    #[test]
    fn cpu_lists_are_read_and_written_alike() {
        assert_eq!(parse_cpus("0,2-3"), Ok(vec![0, 2, 3]));
        assert_eq!(format_cpus(&[0, 2, 3, 5, 6, 7]), "0,2-3,5-7");
        for bad in ["", "a", "1,", "3-1", "1,1", "0-1,1", "-1", "0-99999999999"] {
            assert!(parse_cpus(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_repeated_port_is_named_before_a_missing_one() {
        let error = config(&["nope0", "nope0"]).validate_ports().unwrap_err().to_string();
        assert_eq!(error, "port nope0 is given twice: name each port once");
        let error = config(&["lo", "nope0"]).validate_ports().unwrap_err().to_string();
        assert!(error.starts_with("port nope0 does not exist"), "{error}");
    }

    #[test]
    fn a_wire_has_two_ends() {
        let wire = RunConfig {
            wire: true,
            ..config(&["lo"])
        };
        assert!(matches!(wire.validate_ports(), Err(Error::PortCount { given: 1, .. })));
        assert!(matches!(
            config(&[]).validate_ports(),
            Err(Error::PortCount { given: 0, .. })
        ));
    }

    #[test]
    fn workers_and_cpus_must_fit() {
        let with = |workers, cpus: &[usize]| RunConfig {
            workers,
            cpus: cpus.to_vec(),
            ..RunConfig::default()
        };
        let check = |config: RunConfig| config.validate_workers(&[0, 1, 3]);
        assert!(check(with(Some(2), &[0, 3])).is_ok());
        assert!(matches!(check(with(None, &[2])), Err(Error::CpuMissing { cpu: 2, .. })));
        assert!(matches!(check(with(Some(2), &[1])), Err(Error::CpusTooFew { .. })));
    }
}
