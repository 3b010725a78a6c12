//! The flags on ports, as places and as how their ends are opened.

use super::super::args::bench::{self, Path};
use super::super::output::Failure;
use crate::bench::ends::Ends;
use crate::bench::place::Place;
use crate::bench::sink::SinkKind;
use crate::bench::source::{SourceKind, SourceOptions};

/// The port that sends and the one that receives.
pub fn places(path: &Path) -> Result<(Place, Place), Failure> {
    let [from, to] = &path.ports[..] else {
        return Err(Failure::Usage(format!(
            "--port is given {} times: name two, the one that sends and the one that receives: see `bypath bench --help`",
            path.ports.len()
        )));
    };
    let read = |text| Place::parse(text).map_err(Failure::Error);
    let (from, to) = (read(from)?, read(to)?);
    if from.is(&to).map_err(Failure::Error)? {
        return Err(Failure::Error(format!(
            "{from} and {to} are one port: name the one that sends and the one that receives"
        )));
    }
    Ok((from, to))
}

/// How both ends are opened, on the first two CPUs that this process may use unless others are named.
pub fn ends(path: &Path) -> Result<Ends, Failure> {
    let named = path.cpus.as_ref().map(|cpus| cpus.0.as_slice()).unwrap_or_default();
    let [from, to] = match named {
        [] => chosen(),
        [one] => [Some(*one), Some(*one)],
        [from, to] => [Some(*from), Some(*to)],
        [..] => {
            return Err(Failure::Usage(format!(
                "--cpus names {} CPUs, and with --port there are two ends, the sender's and the receiver's (--lab has a third, \
                 that forwards): see `bypath bench --help`",
                named.len()
            )));
        }
    };
    let sink = SinkKind::from(path.sink.unwrap_or_default());
    if sink == SinkKind::Link {
        return Err(Failure::Usage(
            "--sink link drops all that a port receives, so it is for --lab alone: use count: see `bypath bench --help`".into(),
        ));
    }
    Ok(Ends {
        source: SourceOptions {
            kind: match path.source.unwrap_or_default() {
                bench::Source::Live => SourceKind::Live,
                bench::Source::Xsk => SourceKind::Xsk,
            },
            cpu: from,
            timed: sink == SinkKind::Xsk,
            queue: 0,
        },
        sink,
        sink_cpu: to,
    })
}

/// Two CPUs, or one twice.
fn chosen() -> [Option<usize>; 2] {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let nth = |n: usize| allowed.get(n).or(allowed.first()).map(|core| core.id);
    [nth(0), nth(1)]
}
