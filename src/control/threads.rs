//! The threads of an instance beside the main one: how they are started, and what the punt thread writes to.
//!
//! Workers are pinned where the plan says; the others run where there is room. Each ends by its own word: workers by a
//! command, the helpers by the flag that all of them look at.

use super::config::Poll;
use super::exchange::Exporter;
use super::plan::Plan;
use super::punt_device::PuntDevice;
use super::punt_thread::{self, PuntCounts, Sink};
use super::steer::Steer;
use super::{Error, oracle};
use crate::mirror::oracle::Oracle;
use crate::packet::{Addr, Family, PortIndex};
use crate::port::umem::Umem;
use crate::port::xsk::XskQueue;
use crate::stage::prerouting::leaving::Leaving;
use crate::worker::{self, Shared, Worker};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Starts a thread.
///
/// # Errors
/// There can be no more.
pub fn spawn<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    thread::Builder::new()
        .name(name)
        .spawn(run)
        .map_err(|source| Error::System {
            what: "cannot start a thread".into(),
            source,
            remedy: "raise the limit of threads (ulimit -u)".into(),
        })
}

/// Starts the workers, pinned as `plan` says.
///
/// # Errors
/// There can be no more threads.
pub fn spawn_workers(
    plan: &Plan,
    shared: &Arc<Shared<XskQueue>>,
    steer: &Arc<Steer>,
    umem: Umem,
    poll: Poll,
    wires: &[(PortIndex, PortIndex)],
) -> Result<Vec<JoinHandle<()>>, Error> {
    let poll = match poll {
        Poll::Adaptive => worker::Poll::Adaptive,
        Poll::Busy => worker::Poll::Busy,
        Poll::Spin => worker::Poll::Spin,
    };
    (0..plan.limits.workers)
        .map(|index| {
            let worker = Worker::new(index, shared.clone(), umem.take_slab(index as u16), wires);
            let (heartbeats, jiffies) = (steer.heartbeats(), steer.jiffies());
            let cpu = plan.cpus[index];
            spawn(format!("bypath-worker{index}"), move || {
                if let Some(id) = cpu {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                worker::run(worker, poll, &heartbeats[index], |now_ns| jiffies.now_from_ns(now_ns));
            })
        })
        .collect()
}

/// Starts the punt thread and the oracle's.
///
/// # Errors
/// There can be no more threads.
pub fn spawn_helpers(
    shared: &Arc<Shared<XskQueue>>,
    sink: DeviceSink,
    counts: Arc<PuntCounts>,
    oracle: Oracle,
    (punt_parker, oracle_parker): (crossbeam::sync::Parker, crossbeam::sync::Parker),
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, Error> {
    let (of_punt, of_oracle) = (shared.clone(), shared.clone());
    let (punt_stop, oracle_stop) = (stop.clone(), stop.clone());
    Ok(vec![
        spawn("bypath-punt".into(), move || {
            punt_thread::run(&of_punt, &punt_parker, sink, &counts, &punt_stop)
        })?,
        spawn("bypath-oracle".into(), move || {
            oracle::run(&of_oracle, &oracle_parker, oracle, &oracle_stop)
        })?,
    ])
}

/// The punt device as a sink, with the ports' ifindexes from the current snapshot.
pub struct DeviceSink {
    /// The way into the kernel.
    pub device: PuntDevice,
    /// Has the secret tail, and what is left to the kernel.
    pub steer: Arc<Steer>,
    /// Has the snapshot.
    pub shared: Arc<Shared<XskQueue>>,
    /// Which ports are attached in generic mode.
    pub generic: Arc<[AtomicBool]>,
    /// Tells the kernel of connections first.
    pub exporter: Option<Exporter>,
}

impl Sink for DeviceSink {
    fn export(&mut self, leaving: Option<&Leaving>) {
        if let Some(exporter) = &mut self.exporter {
            exporter.export(leaving);
        }
    }

    fn rest(&mut self) -> bool {
        self.exporter.as_mut().is_some_and(Exporter::rest)
    }

    fn punt(&mut self, port: PortIndex, frame: &[u8]) -> bool {
        let snapshot = self.shared.snapshot.load();
        let Some((_, iface)) = snapshot.port(port) else {
            return false;
        };
        let generic = self
            .generic
            .get(usize::from(port.0))
            .is_some_and(|generic| generic.load(Ordering::Relaxed));
        let punted = match generic {
            true => self.device.punt_guarded(iface.ifindex, frame, &self.steer.cookie()),
            false => self.device.punt(iface.ifindex, frame),
        };
        if let Some(exporter) = &mut self.exporter {
            exporter.punted();
        }
        punted.is_ok()
    }

    fn leave(&mut self, generation: u64, port: PortIndex, family: Family, src: Addr, dst: Addr) {
        let snapshot = self.shared.snapshot.load();
        if let Some((_, iface)) = snapshot.port(port) {
            // A full map forgets its oldest pair; any other failure only means that the traffic goes on being punted.
            let _ = self
                .steer
                .leave(iface.ifindex, family.show(src), family.show(dst), generation);
        }
    }
}
