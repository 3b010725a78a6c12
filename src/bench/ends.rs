//! Ports made ready for trials: a place, what sends or receives there, and the core that it has to itself.
//!
//! Both ends are opened by threads that are in the port's namespace and stay there: the kernel takes a BPF test run, like a new
//! socket, to be of the namespace of the thread that asks.

use super::place::{Place, check_up};
use super::sink::{Sink, SinkKind};
use super::source::{Source, SourceKind, SourceOptions};
use super::trial::{End, Pair};
use super::work::Work;
#[cfg(feature = "xdp")]
use super::{sink::open as open_sink, source::open as open_source};
use crate::port::wait::{monotonic_ns, wake_on_time};

/// How both ends are opened.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Of the sender; its core is that of the thread, too.
    pub source: SourceOptions,
    /// Of the receiver.
    pub sink: SinkKind,
    /// The core of the receiver.
    pub sink_cpu: Option<usize>,
}

impl Ends {
    /// Opens both. `work` says all but size, rate and time of the trials.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn open(self, from: &Place, to: &Place, work: Work) -> Result<Pair, String> {
        // Two benches at once, or one after the other on a link that holds back frames: their trials have other numbers.
        let first = (monotonic_ns() >> 10) as u16 ^ std::process::id() as u16;
        let mut pair = Pair::open(sender(from, self.source)?, receiver(to, self, first)?, work, first)?;
        if self.source.kind == SourceKind::Live && from.link()?.kind == "veth" {
            pair.set_hint(format!(
                "; and out of {from}, a veth, what the kernel makes arrives only where its peer has GRO on (`ethtool -K PEER gro \
                 on`) or an XDP program"
            ));
        }
        Ok(pair)
    }
}

fn sender(place: &Place, options: SourceOptions) -> Result<End<dyn Source>, String> {
    let (here, checked) = (place.share()?, place.share()?);
    Ok(End {
        name: place.to_string(),
        open: Box::new(move || {
            here.join()?;
            pin(options.cpu)?;
            check_up(&here.link()?, &here.to_string())?;
            open_source(&here.name, options).map_err(|error| about(&here, error))
        }),
        check: Box::new(move || check_up(&checked.link()?, &checked.to_string())),
    })
}

fn receiver(place: &Place, ends: Ends, first: u16) -> Result<End<dyn Sink>, String> {
    let (here, checked) = (place.share()?, place.share()?);
    Ok(End {
        name: place.to_string(),
        open: Box::new(move || {
            here.join()?;
            pin(ends.sink_cpu)?;
            wake_on_time();
            check_up(&here.link()?, &here.to_string())?;
            open_sink(ends.sink, &here.name, first).map_err(|error| about(&here, error))
        }),
        check: Box::new(move || check_up(&checked.link()?, &checked.to_string())),
    })
}

#[cfg(not(feature = "xdp"))]
const NOT_BUILT: &str =
    "this bypath was built without AF_XDP (--no-default-features), which bench needs: build it with";

#[cfg(not(feature = "xdp"))]
fn open_source(_: &str, _: SourceOptions) -> Result<Box<dyn Source>, String> {
    Err(NOT_BUILT.into())
}

#[cfg(not(feature = "xdp"))]
fn open_sink(_: SinkKind, _: &str, _: u16) -> Result<Box<dyn Sink>, String> {
    Err(NOT_BUILT.into())
}

/// An error that names the port as the operator did.
fn about(place: &Place, error: String) -> String {
    if error.contains(&place.to_string()) {
        error
    } else {
        format!("{place}: {error}")
    }
}

fn pin(cpu: Option<usize>) -> Result<(), String> {
    let Some(id) = cpu else { return Ok(()) };
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let core = allowed.iter().find(|core| core.id == id);
    match core.is_some_and(|core| core_affinity::set_for_current(*core)) {
        true => Ok(()),
        false => Err(format!(
            "CPU {id} cannot be used: --cpus names CPUs that are there and that taskset(1) shows for this process"
        )),
    }
}
