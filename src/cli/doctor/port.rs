//! Findings about one port: kind, carrier, MTU, queues, XDP, offloads. Pure: facts in, findings out.
//!
//! The offloads that matter are those that change frames before XDP sees them: joined beyond the MTU, or without their VLAN
//! tag. They are named as the kernel does, the fixes as `ethtool -K` takes them. GRO in software runs behind native XDP and
//! before generic XDP, so it matters for the latter alone.

use super::Finding;
use crate::control::probe::ethtool::{Channels, Feature};
use crate::control::probe::{Link, XdpFeatures};

/// Bytes of a UMEM frame.
const FRAME_SIZE: u32 = 2048;
/// Bytes before the packet that XDP keeps free (XDP_PACKET_HEADROOM).
const HEADROOM: u32 = 256;
/// Bytes of an Ethernet header, which an MTU does not count.
const ETHERNET: u32 = 14;

/// What was found out about the port.
#[derive(Clone, Debug)]
pub struct Facts {
    /// By rtnetlink.
    pub link: Link,
    /// By ethtool.
    pub driver: Option<String>,
    /// By ethtool; `None` where the driver does not say.
    pub channels: Option<Channels>,
    /// By ethtool.
    pub features: Vec<Feature>,
    /// By netdev; `None` where the kernel does not say.
    pub xdp: Option<XdpFeatures>,
    /// An instance runs, so an XDP program on the port is most likely its own.
    pub instance: bool,
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
    if facts.link.ethernet {
        found.push(carrier(&facts.link));
        found.push(mtu(&facts.link));
        found.push(queues(facts));
        found.extend(xdp(facts));
        found.extend(OFFLOADS.iter().filter_map(|offload| offload_on(facts, offload)));
    }
    found
}

fn kind(facts: &Facts) -> Finding {
    let Facts { link, driver, .. } = facts;
    let kind = driver.as_deref().or(link.kind.as_deref()).unwrap_or("no driver name");
    if link.loopback {
        return Finding::fail("it is the loopback, which forwards nothing")
            .fix("name the interfaces that face networks");
    }
    if !link.ethernet {
        return Finding::fail(format!("its packets have no Ethernet header ({kind})"))
            .fix("leave it to the kernel, which goes on forwarding there");
    }
    match (kind, &link.master) {
        ("bridge", _) => Finding::note("it is a bridge: the name stands for all its ports"),
        (_, Some(master)) => Finding::note(format!(
            "driver {kind}; it belongs to {master}, and what arrives on it is left to the kernel unless check says otherwise"
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

fn mtu(link: &Link) -> Finding {
    let max = FRAME_SIZE - HEADROOM - ETHERNET;
    if link.mtu <= max {
        return Finding::ok(format!("MTU {} fits a frame (at most {max})", link.mtu));
    }
    Finding::fail(format!(
        "MTU {} does not fit a frame of {FRAME_SIZE} bytes (at most {max})",
        link.mtu
    ))
    .fix(format!("ip link set {} mtu 1500", link.name))
}

fn queues(facts: &Facts) -> Finding {
    let link = &facts.link;
    let (rx, tx) = facts
        .channels
        .map_or((link.rx_queues, link.tx_queues), |channels| (channels.rx, channels.tx));
    let queues = format!("{rx} receive and {tx} transmit queues");
    if tx < rx {
        return Finding::note(format!(
            "{queues}: a receive queue without its transmit queue cannot send"
        ))
        .fix(format!("ethtool -L {} rx {tx}", link.name));
    }
    let max = facts.channels.map_or(0, |channels| channels.max_combined);
    match rx {
        1 if facts.driver.as_deref() == Some("veth") => Finding::note(format!("{queues}: one worker serves it"))
            .fix("ip link add ... numrxqueues N numtxqueues N type veth, for more"),
        1 if max > 1 => Finding::note(format!("{queues}: one worker serves it"))
            .fix(format!("ethtool -L {} combined {max}, for more", link.name)),
        _ => Finding::ok(queues),
    }
}

fn xdp(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![match facts.xdp {
        None => Finding::note("this kernel (before 6.3) does not say whether the driver has native XDP: run finds out"),
        Some(xdp) if !(xdp.native() && xdp.redirect()) => {
            Finding::note("the driver has no native XDP: run uses generic, which is slower")
        }
        Some(xdp) if xdp.zerocopy() => Finding::ok("the driver has native XDP and zero-copy AF_XDP"),
        Some(_) => Finding::ok("the driver has native XDP; AF_XDP copies, it has no zero-copy"),
    }];
    found.extend(facts.link.xdp.map(|place| {
        match facts.instance {
            true => Finding::note(format!(
                "an XDP program is attached ({place}), that of the running bypath most likely"
            )),
            false => Finding::fail(format!("an XDP program is attached already ({place})"))
                .fix(format!("stop its owner, or ip link set {} xdp off", facts.link.name)),
        }
    }));
    found
}

fn offload_on(facts: &Facts, offload: &Offload) -> Option<Finding> {
    let native = facts.xdp.is_none_or(|xdp| xdp.native());
    let feature = facts
        .features
        .iter()
        .find(|feature| feature.name == offload.name && feature.on)?;
    if offload.generic_only && native {
        return None;
    }
    let finding = Finding::note(format!("{} is on: it {}", offload.name, offload.what));
    Some(match feature.changeable {
        true => finding.fix(format!("ethtool -K {} {} off", facts.link.name, offload.flag)),
        false => finding.fix("it cannot be turned off on this device"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const NATIVE: XdpFeatures = XdpFeatures(3);

    fn good() -> Facts {
        let link = Link {
            name: "d0".into(),
            up: true,
            running: true,
            ethernet: true,
            mtu: 1500,
            rx_queues: 4,
            tx_queues: 4,
            ..Link::default()
        };
        let feature = Feature {
            name: "rx-gro".into(),
            on: true,
            changeable: true,
        };
        Facts {
            link,
            driver: Some("igb".into()),
            channels: Some(Channels {
                rx: 4,
                tx: 4,
                max_combined: 4,
            }),
            features: vec![feature],
            xdp: Some(NATIVE),
            instance: false,
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
        one(Level::Fail, "loopback", |facts| {
            (facts.link.loopback, facts.link.ethernet) = (true, false)
        });
        one(Level::Fail, "no Ethernet header (tun)", |facts| {
            (facts.link.ethernet, facts.driver) = (false, Some("tun".into()));
        });
        one(Level::Note, "ip link set d0 up", |facts| {
            (facts.link.up, facts.link.running) = (false, false)
        });
        one(Level::Note, "no carrier", |facts| facts.link.running = false);
        one(Level::Note, "belongs to br0", |facts| {
            facts.link.master = Some("br0".into())
        });
        one(Level::Fail, "MTU 9000 does not fit", |facts| facts.link.mtu = 9000);
        one(Level::Fail, "MTU 1779 does not fit", |facts| facts.link.mtu = 1779);
        one(Level::Note, "ethtool -L d0 rx 1", |facts| {
            facts.channels = Some(Channels {
                rx: 2,
                tx: 1,
                max_combined: 0,
            })
        });
        one(Level::Note, "combined 8", |facts| {
            facts.channels = Some(Channels {
                rx: 1,
                tx: 1,
                max_combined: 8,
            })
        });
        one(Level::Fail, "ip link set d0 xdp off", |facts| {
            facts.link.xdp = Some("native")
        });
        one(Level::Note, "running bypath", |facts| {
            (facts.link.xdp, facts.instance) = (Some("native"), true)
        });
        one(Level::Note, "before 6.3", |facts| facts.xdp = None);
    }

    #[test]
    fn gro_matters_only_before_generic_xdp() {
        let found = worst(|facts| facts.xdp = Some(XdpFeatures(0)));
        assert!(
            found.iter().any(|(_, text)| text.contains("ethtool -K d0 gro off")),
            "{found:?}"
        );
    }

    #[test]
    fn offloads_that_cannot_be_changed_are_said_so() {
        let lro = |changeable| Feature {
            name: "rx-lro".into(),
            on: true,
            changeable,
        };
        one(Level::Note, "ethtool -K d0 lro off", |facts| {
            facts.features.push(lro(true))
        });
        one(Level::Note, "cannot be turned off", |facts| {
            facts.features.push(lro(false))
        });
    }
}
