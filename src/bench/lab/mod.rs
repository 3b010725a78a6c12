//! `bypath bench --lab`: a client, a router and a server of network namespaces, and every subject in turn as the
//! router.
//!
//! ```text
//!     client                        router                                         server
//!   +--------+                +------------------------------------+              +------+
//!   |     c0 |== veth pair ===| d0 10.1.0.1/24     10.2.0.1/24  d1 |= veth pair ==| s0   |
//!   | source |                |  kernel | bypath | wire | bare | … |              | sink |
//!   +--------+                +------------------------------------+              +------+
//!     10.1.0.2 …                   10.64.0.0/10 via 10.2.0.2                       10.2.0.2
//! ```
//!
//! `plan.rs` says what is measured; [`run`] (`outer.rs`) starts this program once more in namespaces of its own
//! (network, mount, PID), where `inside.rs` is process 1: when that one ends, however it ends, all processes in it are
//! killed and what they made is gone. It tells the outer one what it found, line by line (`event.rs`), so that a run
//! that is interrupted still has a report. Inside, `topology.rs` makes the namespaces and links, `case.rs` sets the
//! router up, `subject.rs` and `process.rs` start who forwards, `traffic.rs` sends and judges, `measure.rs` has the
//! rounds.
//!
//! d0 has GRO on, so that it runs NAPI: frames that XDP redirects into a veth arrive only there. The sink has s0 run
//! NAPI too. Neighbours are static and IPv6 is off, so that nothing but the frames of the source is on the links.
//! Nothing of the machine's own network is touched.

mod case;
mod event;
mod inside;
mod measure;
mod outer;
mod plan;
mod process;
mod program;
mod subject;
mod topology;
mod traffic;

pub use case::Case;
pub use inside::{called_inside, inside};
pub use outer::{Progress, run};
pub use plan::{Plan, Test};
pub use subject::{Peer, Subject};
