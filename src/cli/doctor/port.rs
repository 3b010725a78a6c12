//! Findings about one port: kind, carrier, MTU, queues, XDP, offloads. Pure: facts in, findings out.
//!
//! The offloads that matter are those that change frames before XDP sees them: joined beyond the MTU, or without their VLAN
//! tag. They are named as the kernel does, the fixes as `ethtool -K` takes them. GRO in software runs behind native XDP and
//! before generic XDP, so it matters for the latter alone.

use super::Finding;
use crate::port::link::{Feature, Link, frame_size, mtu_max};
use libc::{ARPHRD_ETHER, ARPHRD_LOOPBACK};

/// What was found out about the port.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the kernel and the driver say of it.
    pub link: Link,
    /// Its offloads.
    pub features: Vec<Feature>,
    /// The other end of a veth, where that is in this namespace.
    pub peer: Option<Peer>,
    /// Some port that was asked about has zero-copy, and so all of them larger frames.
    pub zero_copy: bool,
    /// Its master is a bridge.
    pub bridged: bool,
    /// An instance runs, so an XDP program on the port is most likely its own.
    pub instance: bool,
}

/// The other end of a veth.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its offloads.
    pub features: Vec<Feature>,
}

/// An offload that matters when it is on: its name in the kernel, what follows, and how to turn it off.
struct Offload {
    name: &'static str,
    what: &'static str,
    flag: &'static str,
    /// It only matters where XDP runs behind the driver.
    generic_only: bool,
}

const OFFLOADS: [Offload; 5] = [
    Offload {
        name: "rx-lro",
        what: "joins packets beyond the MTU",
        flag: "lro",
        generic_only: false,
    },
    Offload {
        name: "rx-gro-hw",
        what: "joins packets beyond the MTU",
        flag: "rx-gro-hw",
        generic_only: false,
    },
    Offload {
        name: "rx-gro",
        what: "joins packets beyond the MTU",
        flag: "gro",
        generic_only: true,
    },
    Offload {
        name: "rx-udp-gro-forwarding",
        what: "joins packets beyond the MTU",
        flag: "rx-udp-gro-forwarding",
        generic_only: true,
    },
    Offload {
        name: "rx-vlan-hw-parse",
        what: "takes VLAN tags off before XDP sees them; turn it off where this port carries VLANs",
        flag: "rxvlan",
        generic_only: false,
    },
];

/// Judges the facts.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![kind(facts)];
    if is_ethernet(&facts.link) {
        found.push(carrier(&facts.link));
        found.push(mtu(&facts.link, facts.zero_copy));
        found.push(queues(facts));
        found.extend(xdp(facts));
        found.extend(OFFLOADS.iter().filter_map(|offload| offload_on(facts, offload)));
        found.extend(facts.peer.as_ref().and_then(peer_hides_tags));
    }
    found
}

fn is_ethernet(link: &Link) -> bool {
    link.arphrd == ARPHRD_ETHER
}

fn kind(facts: &Facts) -> Finding {
    let link = &facts.link;
    let names = [link.driver.as_str(), link.kind.as_str(), "no driver name"];
    let kind = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    if link.arphrd == ARPHRD_LOOPBACK {
        return Finding::fail("it is the loopback, which forwards nothing")
            .fix("name the interfaces that face networks");
    }
    if !is_ethernet(link) {
        return Finding::fail(format!("its packets have no Ethernet header ({kind})"))
            .fix("leave it to the kernel, which goes on forwarding there");
    }
    match (kind, &link.master) {
        (_, Some(master)) if facts.bridged => Finding::ok(format!("driver {kind}; a port of the bridge {master}")),
        (_, Some(master)) => Finding::note(format!(
            "driver {kind}; it is a member of {master}: what arrives on it stays with the kernel"
        )),
        _ => Finding::ok(format!("driver {kind}")),
    }
}

fn carrier(link: &Link) -> Finding {
    match (link.up, link.running) {
        (true, true) => Finding::ok("it is up"),
        (true, false) => Finding::note("it has no carrier: run waits for it").fix("see its cable or its peer"),
        _ => Finding::note("it is down: run waits for it").fix(format!("ip link set {} up", link.name)),
    }
}

fn mtu(link: &Link, zero_copy: bool) -> Finding {
    let frame = frame_size(zero_copy);
    let max = mtu_max(frame);
    if link.mtu <= max {
        return Finding::ok(format!("MTU {} fits a frame (at most {max})", link.mtu));
    }
    Finding::fail(format!(
        "MTU {} does not fit a frame of {frame} bytes (at most {max})",
        link.mtu
    ))
    .fix(format!("ip link set {} mtu 1500", link.name))
}

fn queues(facts: &Facts) -> Finding {
    let link = &facts.link;
    let (rx, tx) = (link.rx_queues, link.tx_queues);
    let queues = format!("{rx} receive and {tx} transmit queues");
    if tx < rx {
        return Finding::note(format!(
            "{queues}: what arrives on a receive queue without its transmit queue stays with the kernel"
        ))
        .fix(format!("ethtool -L {} rx {tx}", link.name));
    }
    let max = link.queues_max;
    match rx {
        1 if link.driver == "veth" => Finding::note(format!("{queues}: one worker serves it"))
            .fix("ip link add ... numrxqueues N numtxqueues N type veth, for more"),
        1 if max > 1 => Finding::note(format!("{queues}: one worker serves it"))
            .fix(format!("ethtool -L {} combined {max}, for more", link.name)),
        _ => Finding::ok(queues),
    }
}

fn xdp(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![match facts.link.xdp {
        None => Finding::note("this kernel (before 6.3) does not say whether the driver has native XDP: run finds out"),
        Some(xdp) if !(xdp.native() && xdp.redirect()) => {
            Finding::note("the driver has no native XDP: run uses generic, which is slower")
        }
        Some(xdp) if xdp.zero_copy() => Finding::ok("the driver has native XDP and zero-copy AF_XDP"),
        Some(_) => Finding::ok("the driver has native XDP; AF_XDP copies, it has no zero-copy"),
    }];
    found.extend(facts.link.attached.word().map(|place| {
        match facts.instance {
            true => Finding::note(format!(
                "an XDP program is attached ({place}), that of the running bypath most likely"
            )),
            false => Finding::fail(format!("an XDP program is attached already ({place})"))
                .fix(facts.link.attached.how_to_detach(&facts.link.name)),
        }
    }));
    found
}

fn offload_on(facts: &Facts, offload: &Offload) -> Option<Finding> {
    let native = facts.link.xdp.is_none_or(|xdp| xdp.native());
    let feature = facts
        .features
        .iter()
        .find(|feature| feature.name == offload.name && feature.active)?;
    // A veth takes no tag off, whatever its switch says: its peer keeps it beside the frame.
    let is_idle = facts.link.driver == "veth" && offload.flag == "rxvlan";
    if offload.generic_only && native || is_idle {
        return None;
    }
    let finding = Finding::note(format!("{} is on: it {}", offload.name, offload.what));
    Some(match !feature.fixed {
        true => finding.fix(format!("ethtool -K {} {} off", facts.link.name, offload.flag)),
        false => finding.fix(
            "it cannot be turned off on this device: where it matters leave the port to the kernel, which forwards by it as before",
        ),
    })
}

/// A veth hands its peer's VLAN tags over beside the frame, unless the peer puts them in.
fn peer_hides_tags(peer: &Peer) -> Option<Finding> {
    let hides = |feature: &Feature| feature.name == "tx-vlan-hw-insert" && feature.active;
    peer.features.iter().any(hides).then(|| {
        Finding::note(format!(
            "tx-vlan-hw-insert is on at its peer {}: XDP does not see the tags of VLAN devices there",
            peer.name
        ))
        .fix(format!("ethtool -K {} txvlan off", peer.name))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    use crate::port::link::{Attached, XdpFeatures};

    const NATIVE: XdpFeatures = XdpFeatures(3);

    fn good() -> Facts {
        let link = Link {
            name: "d0".into(),
            ifindex: 2,
            arphrd: ARPHRD_ETHER,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            up: true,
            running: true,
            driver: "igb".into(),
            rx_queues: 4,
            tx_queues: 4,
            queues_max: 4,
            kind: String::new(),
            master: None,
            below: None,
            xdp: Some(NATIVE),
            attached: Attached::None,
        };
        Facts {
            link,
            features: vec![feature("rx-gro", false)],
            peer: None,
            instance: false,
            zero_copy: false,
            bridged: false,
        }
    }

    /// An offload that is on.
    fn feature(name: &str, fixed: bool) -> Feature {
        Feature {
            name: name.into(),
            active: true,
            fixed,
        }
    }

    fn worst(change: impl FnOnce(&mut Facts)) -> Vec<(Level, String)> {
        let mut facts = good();
        change(&mut facts);
        let found = findings(&facts)
            .into_iter()
            .filter(|finding| finding.level != Level::Ok);
        found
            .map(|finding| {
                (
                    finding.level,
                    format!("{}: {}", finding.what, finding.fix.unwrap_or_default()),
                )
            })
            .collect()
    }

    fn one(level: Level, part: &str, change: impl FnOnce(&mut Facts)) {
        let found = worst(change);
        assert!(
            matches!(found.as_slice(), [(is, text)] if *is == level && text.contains(part)),
            "{part}: {found:?}"
        );
    }

    #[test]
    fn a_good_port_is_all_ok() {
        assert_eq!(worst(|_| ()), []);
    }

    #[test]
    fn each_shortcoming_is_named_with_its_fix() {
        one(Level::Fail, "loopback", |facts| facts.link.arphrd = ARPHRD_LOOPBACK);
        one(Level::Fail, "no Ethernet header (tun)", |facts| {
            (facts.link.arphrd, facts.link.driver) = (libc::ARPHRD_NONE, "tun".into());
        });
        one(Level::Note, "ip link set d0 up", |facts| {
            (facts.link.up, facts.link.running) = (false, false)
        });
        one(Level::Note, "no carrier", |facts| facts.link.running = false);
        one(Level::Note, "member of br0", |facts| {
            facts.link.master = Some("br0".into())
        });
        one(Level::Fail, "MTU 9000 does not fit", |facts| facts.link.mtu = 9000);
        one(Level::Fail, "MTU 1763 does not fit", |facts| facts.link.mtu = 1763);
        one(Level::Note, "ethtool -L d0 rx 1", |facts| {
            (facts.link.rx_queues, facts.link.tx_queues) = (2, 1)
        });
        one(Level::Note, "combined 8", |facts| {
            (facts.link.rx_queues, facts.link.tx_queues, facts.link.queues_max) = (1, 1, 8)
        });
        one(Level::Fail, "`bpftool net show dev d0`", |facts| {
            facts.link.attached = Attached::Native
        });
        one(Level::Fail, "else `ip link set d0 xdpgeneric off`", |facts| {
            facts.link.attached = Attached::Generic
        });
        one(Level::Note, "running bypath", |facts| {
            (facts.link.attached, facts.instance) = (Attached::Native, true)
        });
        one(Level::Note, "before 6.3", |facts| facts.link.xdp = None);
    }

    #[test]
    fn gro_matters_only_before_generic_xdp() {
        let found = worst(|facts| facts.link.xdp = Some(XdpFeatures(0)));
        assert!(
            found.iter().any(|(_, text)| text.contains("ethtool -K d0 gro off")),
            "{found:?}"
        );
    }

    #[test]
    fn offloads_that_cannot_be_changed_are_said_so() {
        one(Level::Note, "ethtool -K d0 lro off", |facts| {
            facts.features.push(feature("rx-lro", false))
        });
        one(Level::Note, "cannot be turned off", |facts| {
            facts.features.push(feature("rx-lro", true))
        });
    }
    #[test]
    fn zero_copy_takes_larger_frames() {
        // Its own, or that of another port.
        let zero_copy = |mtu| move |facts: &mut Facts| (facts.zero_copy, facts.link.mtu) = (true, mtu);
        assert_eq!(worst(zero_copy(3810)), []);
        one(Level::Fail, "(at most 3810)", zero_copy(3811));
    }

    #[test]
    fn a_veth_s_tags_are_its_peer_s_matter() {
        assert_eq!(
            worst(|facts| {
                facts.link.driver = "veth".into();
                facts.features = vec![feature("rx-vlan-hw-parse", false)];
            }),
            []
        );
        one(Level::Note, "ethtool -K p0 txvlan off", |facts| {
            facts.peer = Some(Peer {
                name: "p0".into(),
                features: vec![feature("tx-vlan-hw-insert", false)],
            });
        });
    }
}
