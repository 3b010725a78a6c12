//! The running instance and everything that speaks to it: configuration, capabilities, the control socket, metrics, and the
//! probes behind `doctor`.
//!
//! ```text
//!  cli --RunConfig--> run --Snapshot--> workers          api     abstract unix socket, JSON lines (show, trace)
//!                      |                                 metrics Prometheus text over TCP
//!                      +-- Backend --> api, metrics      report  the typed answers that both share
//! ```
//!
//! Layer 5. May use `mirror`; nothing below knows it. `unsafe` may live here, for libc calls, each with its reason.

pub mod api;
pub mod caps;
pub mod config;
pub mod describe;
mod error;
pub mod metrics;
pub mod probe;
pub mod report;
pub mod survey;

pub use config::RunConfig;
pub use error::Error;

/// Runs an instance in the foreground until SIGINT or SIGTERM.
///
/// # Errors
/// Whatever stops the start, with its remedy.
pub fn run(config: RunConfig) -> Result<(), Error> {
    let _ = config;
    Err(Error::NotBuilt {
        what: "the forwarding instance",
    })
}
