//! `show bridge` and `show fdb` as text, in the words of `bridge -d link`, `bridge vlan` and `bridge fdb show`.
//!
//! Pure, as `text`: rows in, lines out. What does not touch a bridged frame (flood, guard, fastleave ...) is not shown, for
//! bypath does not look at it; what is left to the kernel is, with its reason.

use crate::cli::output::grouped;
use crate::control::report::{BridgeLink, FdbEntry, Vlan};
use std::fmt::Write as _;

/// `show bridge`: lines like those of `bridge -d link` and `bridge vlan`.
pub fn links(links: &[BridgeLink]) -> String {
    let mut text = String::new();
    for link in links {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}: {}: mtu {}", link.ifindex, link.ifname, link.mtu);
        if let Some(bridge) = &link.bridge {
            let _ = write!(
                text,
                " bridge ageing_time {} vlan_filtering {} vlan_protocol {} nf_call_iptables {} nf_call_ip6tables {}\n    fdb {} of {}",
                bridge.ageing_time,
                u8::from(bridge.vlan_filtering),
                bridge.vlan_protocol,
                u8::from(bridge.nf_call_iptables),
                u8::from(bridge.nf_call_ip6tables),
                grouped(bridge.fdb_entries),
                grouped(bridge.fdb_capacity)
            );
            if bridge.fdb_refused > 0 {
                let _ = write!(text, ", {} refused", grouped(bridge.fdb_refused));
            }
        }
        if let (Some(port), Some(master)) = (&link.port, &link.master) {
            let state = if port.forwarding {
                "forwarding"
            } else {
                "not forwarding"
            };
            let whose = if port.ours { "" } else { " (no port of bypath)" };
            let _ = write!(text, " master {master} state {state}{whose}\n   ");
            let flags = [
                ("hairpin", port.hairpin),
                ("learning", port.learning),
                ("isolated", port.isolated),
                ("locked", port.locked),
            ];
            for (word, on) in flags {
                let _ = write!(text, " {word} {}", if on { "on" } else { "off" });
            }
        }
        text += "\n";
        for vlan in &link.vlans {
            let _ = writeln!(text, "    vlan {}", self::vlan(vlan));
        }
        for (way, why) in [("arriving", &link.left), ("leaving", &link.left_egress)] {
            if let Some(why) = why {
                let way = if link.bridge.is_some() { "all" } else { way };
                let _ = writeln!(text, "    {way} left to the kernel: {why}");
            }
        }
    }
    text
}

fn vlan(vlan: &Vlan) -> String {
    let flags = vlan.flags.iter().map(String::as_str);
    let words: Vec<String> = std::iter::once(vlan.vlan.to_string())
        .chain(flags.map(str::to_owned))
        .collect();
    words.join(" ")
}

/// `show fdb`: a line like that of `bridge fdb show`.
pub fn entry(entry: &FdbEntry) -> String {
    let mut words = vec![entry.mac.clone(), "dev".into(), entry.ifname.clone()];
    words.extend(entry.vlan.map(|vlan| format!("vlan {vlan}")));
    words.push(format!("master {}", entry.master));
    words.extend(entry.flags.iter().cloned());
    words.extend((!entry.state.is_empty()).then(|| entry.state.clone()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{Bridge, BridgePort};

    #[test]
    fn a_bridge_and_its_port_read_as_bridge_prints_them() {
        let bridge = Bridge {
            ageing_time: 30_000,
            vlan_filtering: true,
            vlan_protocol: "802.1Q".into(),
            nf_call_iptables: true,
            fdb_entries: 1234,
            fdb_capacity: 4096,
            ..Bridge::default()
        };
        let of_bridge = BridgeLink {
            ifindex: 4,
            ifname: "br0".into(),
            mtu: 1500,
            bridge: Some(bridge),
            left: Some("fdb_max_learned is set".into()),
            ..BridgeLink::default()
        };
        let port = BridgePort {
            forwarding: true,
            learning: true,
            ..BridgePort::default()
        };
        let vlan = |vlan, flags: &[&str]| Vlan {
            vlan,
            flags: flags.iter().map(ToString::to_string).collect(),
        };
        let of_port = BridgeLink {
            ifindex: 5,
            ifname: "p0".into(),
            mtu: 1500,
            master: Some("br0".into()),
            port: Some(port),
            vlans: vec![vlan(1, &["PVID", "Egress Untagged"]), vlan(10, &[])],
            left_egress: Some("qdisc htb 1: on p0".into()),
            ..BridgeLink::default()
        };
        let expected = "\
4: br0: mtu 1500 bridge ageing_time 30000 vlan_filtering 1 vlan_protocol 802.1Q nf_call_iptables 1 nf_call_ip6tables 0
    fdb 1,234 of 4,096
    all left to the kernel: fdb_max_learned is set
5: p0: mtu 1500 master br0 state forwarding (no port of bypath)
    hairpin off learning on isolated off locked off
    vlan 1 PVID Egress Untagged
    vlan 10
    leaving left to the kernel: qdisc htb 1: on p0
";
        assert_eq!(links(&[of_bridge, of_port]), expected);
    }

    #[test]
    fn an_entry_reads_as_bridge_prints_it() {
        let one = FdbEntry {
            mac: "02:00:00:00:00:05".into(),
            ifname: "p0".into(),
            vlan: Some(10),
            master: "br0".into(),
            state: "static".into(),
            flags: vec!["sticky".into()],
            seen_ms: None,
        };
        assert_eq!(entry(&one), "02:00:00:00:00:05 dev p0 vlan 10 master br0 sticky static");
        let learned = FdbEntry {
            mac: "02:00:00:00:00:06".into(),
            ifname: "p0".into(),
            master: "br0".into(),
            ..FdbEntry::default()
        };
        assert_eq!(entry(&learned), "02:00:00:00:00:06 dev p0 master br0");
    }
}
