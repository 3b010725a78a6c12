//! The BPF programs in a real kernel: steer by BPF_PROG_TEST_RUN over tables of frames and on a veth, the punt device against
//! frames that really arrived. Everything happens in network namespaces without a name, one per test, which end with its
//! thread: no interface of the machine is touched and a crash leaves nothing behind.
//!
//! Needs root (CAP_SYS_ADMIN for the namespaces). Without it a test says so and ends; where the environment variable CI is
//! set, it fails.

#![cfg(feature = "xdp")]

mod bridge;
mod decisions;
mod frames;
mod lab;
mod merged;
mod punt;
mod sockets;
mod steer;
