//! ingress: what `tc` polices of what arrives by a port, before any other box, a bridge's too (sch_handle_ingress of
//! net/core/dev.c stands there). Only a burst of a port that has policers comes here.
//!
//! A frame that exceeds ends here. One that a later box gives to the kernel meets the kernel's own policer on its way: it has
//! paid here ([`punted`]), which is settled with what the kernel's counted (control/policing.rs).
//! At that hook a frame has no mark and no priority yet, and its VLAN tag is beside it.

use crate::packet::{DropReason, Step, Verdict};
use crate::table::filter::{Facts, classify};
use crate::table::police::{Act, Policer, Policing};
use crate::wire::ether::{EtherType, HEADER_LEN};
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

const TAG_LEN: usize = 4;

/// Whether a frame may go on.
#[inline]
pub fn police(bytes: &[u8], policing: &Policing, now_ns: u64) -> Step<()> {
    match policer(bytes, policing).map(|policer| policer.police(counted(bytes), now_ns)) {
        Some(Act::Drop) => Verdict::drop(DropReason::Policed),
        Some(Act::Pass) | None => Continue(()),
    }
}

/// The frame passed, and is the kernel's now.
pub fn punted(bytes: &[u8], policing: &Policing) {
    if let Some(policer) = policer(bytes, policing) {
        policer.punted(counted(bytes));
    }
}

/// What a frame meets, for who watches.
pub fn place(bytes: &[u8], policing: &Policing) -> String {
    match policer(bytes, policing) {
        Some(policer) => format!(
            "{} {}, police index {}",
            policing.kind, policing.handle, policer.config.index
        ),
        None => format!("{} {}, not policed", policing.kind, policing.handle),
    }
}

#[inline]
fn policer<'a>(bytes: &[u8], policing: &'a Policing) -> Option<&'a Arc<Policer>> {
    let facts = Facts {
        bytes,
        mark: 0,
        priority: 0,
    };
    let class = classify(&policing.filters, &facts)?;
    policing.policers.get((class.0 as usize).checked_sub(1)?)
}

/// What is behind the Ethernet header and a tag.
#[inline]
fn counted(bytes: &[u8]) -> u32 {
    let kind = bytes.get(12..14).and_then(|kind| kind.first_chunk());
    let is_tagged = kind.is_some_and(|kind| EtherType(u16::from_be_bytes(*kind)).is_tag());
    let around = HEADER_LEN + if is_tagged { TAG_LEN } else { 0 };
    bytes.len().saturating_sub(around) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::filter::{Filter, Match};
    use crate::table::police::Police;
    use crate::table::qdisc::Handle;

    fn frame(kind: [u8; 2], len: usize) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(kind);
        frame.resize(len, 0);
        frame
    }

    /// IPv4 by a policer of at most 100 bytes, IPv6 by none, what else there is by the second, which drops all.
    fn policing() -> Policing {
        let of = |protocol, class| Filter {
            protocol,
            what: Match::All(Handle(class)),
        };
        let police = |index, mtu| {
            Arc::new(Policer::new(Police {
                index,
                limit: None,
                burst_ns: 0,
                peak: None,
                mtu,
                conforming: Act::Pass,
                exceeding: Act::Drop,
            }))
        };
        Policing {
            kind: "ingress".into(),
            handle: Handle(0xffff_0000),
            filters: vec![of(0x0800, 1), of(0x86dd, 0), of(3, 2)],
            policers: vec![police(7, 100), police(8, 0)],
        }
    }

    #[test]
    fn a_frame_meets_the_policer_of_the_first_filter() {
        let policing = policing();
        let passes = |frame: &[u8]| police(frame, &policing, 1).is_continue();
        assert!(passes(&frame([8, 0], 100)) && !passes(&frame([8, 0], 101)));
        assert!(passes(&frame([0x86, 0xdd], 1500)));
        assert!(!passes(&frame([0x81, 0], 64)) && !passes(&[]));
        assert_eq!(policing.policers[0].counts().bytes, 86 + 87);
        // Behind a tag, which does not count.
        assert_eq!(policing.policers[1].counts().bytes, 46);
    }

    #[test]
    fn what_it_meets_is_told() {
        let policing = policing();
        assert_eq!(place(&frame([8, 0], 60), &policing), "ingress ffff:, police index 7");
        assert_eq!(place(&frame([0x86, 0xdd], 60), &policing), "ingress ffff:, not policed");
    }

    #[test]
    fn what_is_punted_is_not_counted() {
        let policing = policing();
        let frame = frame([8, 0], 90);
        assert!(police(&frame, &policing, 1).is_continue());
        punted(&frame, &policing);
        assert_eq!(policing.policers[0].counts(), Default::default());
    }
}
