//! The source in the client and the sink in the server, as trials by two ports. They are opened once for a case and
//! serve all its subjects: to each the same sockets and programs, and a subject is started while both are there.

use super::plan::Plan;
use super::topology::Topology;
use crate::bench::ends::Ends;
use crate::bench::place::Place;
use crate::bench::sink::SinkKind;
use crate::bench::source::{SourceKind, SourceOptions};
use crate::bench::trial::Pair;
use crate::bench::work::Work;

/// How both ends are opened.
pub fn ends(plan: &Plan) -> Ends {
    Ends {
        source: SourceOptions {
            kind: match plan.xsk_source {
                true => SourceKind::Xsk,
                false => SourceKind::Live,
            },
            cpu: Some(plan.source_cpu),
            timed: plan.sink == SinkKind::Xsk,
            queue: 0,
        },
        sink: plan.sink,
        sink_cpu: Some(plan.sink_cpu),
    }
}

/// Opens c0 and s0 for work of this kind.
pub fn open(plan: &Plan, lab: &Topology, work: Work) -> Result<Pair, String> {
    let place = |netns: &crate::port::netns::Netns, name| {
        let held = netns.share();
        held.map(|netns| Place::new(netns, name)).map_err(|error| {
            format!("cannot hold a namespace of the lab, {error}: raise the limit of open files (ulimit -n)")
        })
    };
    ends(plan).open(&place(lab.client(), "c0")?, &place(lab.server(), "s0")?, work)
}
