//! (being written)

#[cfg(feature = "xdp")]
pub mod bpf;
#[cfg(feature = "xdp")]
pub mod jiffies;
#[cfg(feature = "xdp")]
pub mod punt;
#[cfg(feature = "xdp")]
pub mod steer;
#[cfg(feature = "xdp")]
mod tap;
