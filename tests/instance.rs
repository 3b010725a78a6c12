//! The binary through its life, with real hosts at its ports: start and end, crash, stall, ports that come and go, several
//! workers, wire, real traffic, changes of configuration under traffic, ports that tc shapes, traces.
//!
//! Each test has network namespaces of its own (`instance/net.rs`) and bounds all that it waits for. What is measured
//! (gaps, latencies of a change) is printed; run with `--nocapture` to read it. `BYPATH_SCALE=1` adds a million routes.
//! Needs root, and ip, nft, iperf3, curl, python3, ping, capsh, bpftool.

mod lab;

#[path = "instance/bridge.rs"]
mod bridge;
#[path = "instance/chosen.rs"]
mod chosen;
#[path = "instance/fdb.rs"]
mod fdb;
#[path = "instance/life.rs"]
mod life;
#[path = "instance/live.rs"]
mod live;
#[path = "instance/many_ports.rs"]
mod many_ports;
#[path = "instance/merged.rs"]
mod merged;
#[path = "instance/nat.rs"]
mod nat;
#[path = "instance/nat_left.rs"]
mod nat_left;
#[path = "instance/neighbors.rs"]
mod neighbors;
#[path = "instance/net.rs"]
mod net;
#[path = "instance/output.rs"]
mod output;
#[path = "instance/ports.rs"]
mod ports;
#[path = "instance/punt_device.rs"]
mod punt_device;
#[path = "instance/refused.rs"]
mod refused;
#[path = "instance/sets.rs"]
mod sets;
#[path = "instance/shaped.rs"]
mod shaped;
#[path = "instance/show.rs"]
mod show;
#[path = "instance/stream.rs"]
mod stream;
#[path = "instance/traffic.rs"]
mod traffic;
#[path = "instance/wire.rs"]
mod wire;
#[path = "instance/workers.rs"]
mod workers;
