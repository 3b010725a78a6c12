//! A port of a bridge: bridge_check and bridging as steps of the walk, before IP. A frame ends here, forwarded or not, or goes
//! up: it is IP's then, arrived by the bridge. See stage/bridge_check.rs and stage/bridging.rs for what they do; here they are
//! told to who watches.

use super::observer::{Mac, Observer, Stage};
use super::pipeline::Here;
use crate::packet::{Frame, Step, Verdict};
use crate::stage::bridge_check::{self, Head, Member, Tagging};
use crate::stage::bridging::{self, Retag, To};
use crate::table::conntrack::ticks;
use std::fmt;
use std::ops::ControlFlow::{Break, Continue};

/// bridge_check and bridging: a verdict, or the frame goes up.
#[inline(always)]
pub(super) fn bridged<O: Observer>(frame: &mut Frame, member: &Member<'_>, here: &Here<'_>, seen: &mut O) -> Step<()> {
    if here.labels {
        // No rule has a say; what goes up is told of anew.
        frame.set_meta(0, 0);
    }
    match O::ON {
        false => bridging::bridge(frame, member, &here.last, here.snapshot, ticks(here.now_ns)),
        true => watched(frame, member, here, seen),
    }
}

/// As [`bridging::bridge`], step by step.
#[inline(never)]
fn watched<O: Observer>(frame: &mut Frame, member: &Member<'_>, here: &Here<'_>, seen: &mut O) -> Step<()> {
    let head = Head::of(frame.bytes())?;
    let completed = bridging::complete_checksum(frame, &head);
    let dev = &member.link.1.name;
    seen.see(Stage::Rx, || {
        let note = if completed { ", partial checksum completed" } else { "" };
        format!("in by {dev}, {}{note}", Show(&head))
    });
    let tagging = bridge_check::check(&head, member, ticks(here.now_ns))?;
    seen.see(Stage::BridgeCheck, || {
        let vlan = in_vlan(&tagging);
        format!("port of {}{vlan}, from {}", member.up.1.name, Mac(&head.src))
    });
    match bridging::input(&head, &tagging, member, here.snapshot)? {
        To::Up => {
            seen.see(Stage::Bridging, || {
                format!("fdb {} dev {} permanent: up", Mac(&head.dst), member.up.1.name)
            });
            Continue(())
        }
        To::Port(exit) => {
            bridging::leave(frame, &exit)?;
            seen.see(Stage::Bridging, || {
                let tag = match exit.retag {
                    Retag::Keep | Retag::Replace(_) => String::new(),
                    Retag::Push(tag) => Vlan(tag).to_string(),
                    Retag::Pop => ", untagged".into(),
                };
                format!("fdb {} dev {}{tag}", Mac(&head.dst), exit.iface.name)
            });
            Break(Verdict::Forward(exit.port))
        }
    }
}

fn in_vlan(tagging: &Tagging) -> String {
    match tagging.vid {
        0 => String::new(),
        vid => format!(", vlan {vid}"),
    }
}

/// A frame's head in the words of tcpdump.
pub(super) struct Show<'a>(pub(super) &'a Head);

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head {
            dst,
            src,
            outer,
            tci,
            len,
            ..
        } = self.0;
        write!(f, "{} > {}, ethertype 0x{:04x}", Mac(src), Mac(dst), outer.0)?;
        if let Some(tci) = tci {
            write!(f, ", vlan {}", tci & 0x0fff)?;
        }
        write!(f, ", length {len}")
    }
}

/// The tag that a frame leaves with, if any.
pub(super) struct Vlan(pub(super) bridging::Tag);

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [0, 0, 0, 0] => Ok(()),
            [_, _, high, low] => write!(f, ", tagged {}", u16::from_be_bytes([high, low]) & 0x0fff),
        }
    }
}
