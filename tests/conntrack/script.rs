//! A scenario as steps: who sends what, whether the kernel lets it pass, and what its table then says.
//!
//! Each step is played for several flows at once (both families, ordinary sequence numbers and such that wrap), in both labs.
//! After each, both tables are compared. What a step expects is asked of the kernel's lab alone: it says that the scenario is
//! about what it claims, and the comparison says that bypath does the same.

use crate::flow::{Flow, Segment};
use crate::lab::conntrack::Free;
use crate::lab::packet::Packet;
use crate::lab::twin::Twin;
use crate::view::{View, Watch};
use std::time::Duration;

/// See the file's head.
pub struct Step {
    from: usize,
    act: Act,
    text: String,
    passes: Option<bool>,
    says: Option<&'static str>,
}

type Make = Box<dyn Fn(&Flow) -> Vec<Packet>>;

enum Act {
    Send(Make),
    Wait(Duration),
    Change(Vec<String>),
}

/// Packets from one end, in order.
pub fn send(text: &str, from: usize, make: impl Fn(&Flow) -> Vec<Packet> + 'static) -> Step {
    Step::new(from, Act::Send(Box::new(make)), text.to_string())
}

/// A packet from one end.
pub fn one(text: &str, from: usize, make: impl Fn(&Flow) -> Packet + 'static) -> Step {
    send(text, from, move |flow| vec![make(flow)])
}

/// Time passes.
pub fn wait(milliseconds: u64) -> Step {
    let time = Duration::from_millis(milliseconds);
    Step::new(0, Act::Wait(time), format!("wait {milliseconds} ms"))
}

/// Commands in both routers.
pub fn change(commands: &[&str]) -> Step {
    let commands: Vec<String> = commands.iter().map(|line| line.to_string()).collect();
    let text = commands.join("; ");
    Step::new(0, Act::Change(commands), text)
}

impl From<Segment> for Step {
    fn from(segment: Segment) -> Self {
        let text = segment.text();
        one(&text, segment.from, move |flow| flow.tcp(&segment))
    }
}

impl Segment {
    /// See [`Step::says`].
    pub fn says(self, brief: &'static str) -> Step {
        Step::from(self).says(brief)
    }

    /// See [`Step::passes`].
    pub fn passes(self) -> Step {
        Step::from(self).passes()
    }

    /// See [`Step::lost`].
    pub fn lost(self) -> Step {
        Step::from(self).lost()
    }

    /// Sent with something about the packet changed.
    pub fn with(self, text: &str, alter: impl Fn(&mut Packet) + 'static) -> Step {
        let text = format!("{} {text}", self.text());
        one(&text, self.from, move |flow| flow.tcp(&self).with(&alter))
    }
}

impl Step {
    fn new(from: usize, act: Act, text: String) -> Self {
        Step {
            from,
            act,
            text,
            passes: None,
            says: None,
        }
    }

    /// The kernel sends something on for each packet.
    pub fn passes(mut self) -> Self {
        self.passes = Some(true);
        self
    }

    /// The kernel sends nothing on, and answers nothing.
    pub fn lost(mut self) -> Self {
        self.passes = Some(false);
        self
    }

    /// What the kernel's table says of the flow after it: state and status, or `gone`.
    pub fn says(mut self, brief: &'static str) -> Self {
        self.says = Some(brief);
        self
    }
}

/// Plays the steps for several flows of the same protocol.
pub fn play<S: Into<Step>>(twin: &mut Twin, title: &str, steps: impl IntoIterator<Item = S>) {
    play_for(twin, title, &Flow::several(), steps);
}

/// Plays the steps for flows that both labs may translate to different ports, all behind the same router ports.
pub fn play_each<S: Into<Step>>(twin: &mut Twin, title: &str, views: &mut [View], steps: impl IntoIterator<Item = S>) {
    let mut watch = Watch::from_now(twin, views);
    for (at, step) in steps.into_iter().map(Into::into).enumerate() {
        let step: Step = step;
        let when = format!("{title}, step {at} ({})", step.text);
        let frames = match &step.act {
            Act::Wait(time) => {
                twin.wait(*time);
                continue;
            }
            Act::Change(commands) => {
                twin.change(&commands.iter().map(String::as_str).collect::<Vec<_>>());
                continue;
            }
            Act::Send(make) => {
                let frames: Vec<_> = views.iter().map(|view| view.frames(step.from, make)).collect();
                [0, 1].map(|lab| frames.iter().flat_map(|of| of[lab].clone()).collect::<Vec<_>>())
            }
        };
        let port = views[0].behind[step.from];
        let answered = twin.inject_each(port, [&frames[0], &frames[1]]);
        let wanted = step.passes.map(|passes| if passes { frames[0].len() } else { 0 });
        assert!(
            wanted.is_none_or(|wanted| wanted == answered),
            "{when}: the kernel sent {answered} frames for {}, {wanted:?} expected",
            frames[0].len()
        );
        watch
            .learn(twin, views)
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        twin.compare_tables(&when, Free::default());
    }
}

/// Plays the steps for these flows.
pub fn play_for<S: Into<Step>>(twin: &mut Twin, title: &str, flows: &[Flow], steps: impl IntoIterator<Item = S>) {
    let mut protocols: Vec<u8> = Vec::new();
    for (at, step) in steps.into_iter().map(Into::into).enumerate() {
        let step: Step = step;
        let when = format!("{title}, step {at} ({})", step.text);
        match &step.act {
            Act::Wait(time) => twin.wait(*time),
            Act::Change(commands) => twin.change(&commands.iter().map(String::as_str).collect::<Vec<_>>()),
            Act::Send(make) => {
                let packets: Vec<Packet> = flows.iter().flat_map(make).collect();
                if protocols.is_empty() {
                    protocols = flows.iter().map(|flow| make(flow)[0].protocol).collect();
                }
                let frames: Vec<Vec<u8>> = packets.into_iter().map(Packet::build).collect();
                let answered = twin.inject(step.from, &frames);
                let wanted = step.passes.map(|passes| if passes { frames.len() } else { 0 });
                assert!(
                    wanted.is_none_or(|wanted| wanted == answered),
                    "{when}: the kernel sent {answered} frames for {}, {wanted:?} expected",
                    frames.len()
                );
            }
        }
        let table = twin.compare_tables(&when, Free::default());
        let Some(says) = step.says else { continue };
        for (flow, protocol) in flows.iter().zip(&protocols) {
            let briefs = Twin::briefs(&table, *protocol, flow.ends[0], flow.ends[1]);
            let said = if briefs.is_empty() {
                "gone".to_string()
            } else {
                briefs.join(" and ")
            };
            assert_eq!(said, says, "{when}: the kernel's table, of {flow:?}");
        }
    }
}
