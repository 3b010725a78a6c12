//! bridge_check and bridging on in-memory frames: each reason, the forms in which frames leave, what goes up and comes down,
//! and a plain model of the kernel's bridge that random bridges and frames are compared with.

#[path = "box/bridge.rs"]
mod bridge;
#[path = "bridging/forms.rs"]
mod forms;
#[path = "bridging/hooks.rs"]
mod hooks;
#[path = "box/mod.rs"]
mod lab;
#[path = "bridging/model.rs"]
mod model;
#[path = "bridging/reasons.rs"]
mod reasons;
#[path = "bridging/routed.rs"]
mod routed;

use bypath::packet::{Frame, PortIndex, Verdict};
use bypath::port::MemPool;
use bypath::stage::routing::Flows;
use bypath::table::Snapshot;
use bypath::worker::pipeline::{Here, Observer, Stage, Unobserved, walk};

/// Watches what the boxes say.
#[derive(Default)]
struct Watching(Vec<(Stage, String)>);

impl Observer for Watching {
    const ON: bool = true;

    fn see(&mut self, stage: Stage, what: impl FnOnce() -> String) {
        self.0.push((stage, what()));
    }
}

/// Walks frames by themselves; a watched walk and an unwatched one must agree.
struct Walks {
    frames: Vec<Frame>,
    flows: [Flows; 2],
}

impl Walks {
    fn new() -> Self {
        Self {
            frames: MemPool::new(2, 4096, 256).take_all(),
            flows: [Flows::new(0, 16), Flows::new(0, 16)],
        }
    }

    /// Where a frame ends that arrives by `port`, how it looks then, and what was said of it.
    fn walk(&mut self, snapshot: &Snapshot, port: PortIndex, bytes: &[u8]) -> (Verdict, Vec<u8>, Vec<(Stage, String)>) {
        let [plain, watched] = &mut self.frames[..] else {
            panic!("two frames");
        };
        for frame in [&mut *plain, &mut *watched] {
            frame.set_range(256, 0);
            frame.fill(bytes);
        }
        let here = Here {
            now_ns: 7_000_000_000,
            ..Here::new(port, snapshot)
        };
        let verdict = walk(plain, &here, &mut self.flows[0], &mut Unobserved);
        let mut watching = Watching::default();
        let seen = walk(watched, &here, &mut self.flows[1], &mut watching);
        assert_eq!(
            (verdict, plain.bytes()),
            (seen, watched.bytes()),
            "watched: {watching:?}",
            watching = watching.0
        );
        let after = plain.bytes().to_vec();
        // Rules would count what only follows.
        if here.member.as_ref().is_some_and(|member| member.is_plain) {
            self.follow(&here, bytes);
        }
        (verdict, after, watching.0)
    }

    /// What follows in a burst, with the same head, fares as if it came alone: as long, longer than any MTU, and shorter.
    fn follow(&mut self, here: &Here<'_>, bytes: &[u8]) {
        let longer = [bytes, &[0; 1600]].concat();
        for bytes in [bytes, &longer, &bytes[..bytes.len().min(18)]] {
            let alone = Here {
                now_ns: here.now_ns,
                ..Here::new(here.port, here.snapshot)
            };
            let [following, single] = [(0, here), (1, &alone)].map(|(at, here)| {
                let frame = &mut self.frames[at];
                frame.set_range(256, 0);
                frame.fill(bytes);
                let verdict = walk(frame, here, &mut self.flows[at], &mut Unobserved);
                (verdict, frame.bytes().to_vec())
            });
            assert_eq!(following, single);
        }
    }

    /// Where it ends; a frame that does not leave is as it came.
    fn verdict(&mut self, snapshot: &Snapshot, port: PortIndex, bytes: &[u8]) -> Verdict {
        let (verdict, after, _) = self.walk(snapshot, port, bytes);
        if !matches!(verdict, Verdict::Forward(_)) {
            assert_eq!(after, bytes, "{verdict:?}");
        }
        verdict
    }

    /// What leaves, and where.
    fn out(&mut self, snapshot: &Snapshot, port: PortIndex, bytes: &[u8]) -> (PortIndex, Vec<u8>) {
        match self.walk(snapshot, port, bytes) {
            (Verdict::Forward(port), after, _) => (port, after),
            (verdict, ..) => panic!("{verdict:?}"),
        }
    }
}
