//! The running instance and everything that speaks to it.
//!
//! ```text
//!  cli --RunConfig--> instance --Snapshot--> workers     api      abstract unix socket, JSON lines (show, trace)
//!                      |   ports, steer, punt device     metrics  Prometheus text over TCP
//!                      +-- backend --> api, metrics      report   the typed answers that both share
//! ```
//!
//! Layer 5. May use `mirror`; nothing below knows it. `unsafe` may live here, for libc calls, each with its reason. Nothing here
//! writes to stdout or stderr but by `log`, which waits for nobody.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
pub mod log;

pub mod api;
#[cfg(feature = "xdp")]
pub mod attach;
#[cfg(feature = "xdp")]
mod backend;
#[cfg(feature = "xdp")]
pub mod bpf;
#[cfg(feature = "xdp")]
mod bridges;
pub mod caps;
#[cfg(feature = "xdp")]
mod carrying;
pub mod config;
pub mod connections;
pub mod dealing;
#[cfg(feature = "xdp")]
pub mod decision;
pub mod describe;
mod error;
pub mod exchange;
#[cfg(feature = "xdp")]
mod instance;
#[cfg(feature = "xdp")]
pub mod jiffies;
pub mod kernel;
pub mod metrics;
#[cfg(feature = "xdp")]
mod neighbors;
mod obstacles;
#[cfg(feature = "xdp")]
mod oracle;
#[cfg(feature = "xdp")]
mod plan;
#[cfg(feature = "xdp")]
mod policing;
#[cfg(feature = "xdp")]
mod ports;
#[cfg(feature = "xdp")]
pub mod punt_device;
pub mod punt_thread;
pub mod report;
pub mod roster;
#[cfg(feature = "xdp")]
mod rules;
#[cfg(feature = "xdp")]
mod shaping;
#[cfg(feature = "xdp")]
mod signals;
#[cfg(feature = "xdp")]
pub mod steer;
pub mod survey;
#[cfg(feature = "xdp")]
mod tap;
#[cfg(feature = "xdp")]
mod threads;

pub use config::RunConfig;
pub use error::Error;

/// Runs an instance in the foreground until SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// Whatever stops the start, with its remedy; a worker that died.
#[cfg(feature = "xdp")]
pub fn run(mut config: RunConfig) -> Result<(), Error> {
    config.validate()?;
    let signal = signals::Termination::catch()?;
    // Links are told by their own names, never by alternative ones.
    for port in &mut config.ports {
        if let Ok(link) = crate::port::link::Link::query(port) {
            *port = link.name;
        }
    }
    let mut instance = instance::Instance::start(&config)?;
    let served = instance.serve(&signal);
    instance.end(served.is_err());
    log::flush();
    served
}

/// Without the AF_XDP parts there is nothing to run.
///
/// # Errors
/// Always [`Error::NotBuilt`].
#[cfg(not(feature = "xdp"))]
pub fn run(_: RunConfig) -> Result<(), Error> {
    Err(Error::NotBuilt {
        what: "the AF_XDP parts (feature `xdp`)",
    })
}
