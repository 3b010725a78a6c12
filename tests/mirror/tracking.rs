//! What is said of tracking comes into one snapshot, with what follows from it for links; and the nf_conntrack sysctls are in
//! force within 100 ms, while something is tracked.

use super::lab::*;
use bypath::mirror::{Findings, LinkFindings, Mirror};
use bypath::packet::PortIndex;
use bypath::table::Snapshot;
use bypath::table::conntrack::{Config, TIMEOUT_MAX};
use bypath::table::rules::live::Rules;
use bypath::table::rules::program::Ruleset;
use std::sync::Arc;

fn ifindex(mirror: &Mirror, name: &str) -> u32 {
    mirror.links().find(|link| &*link.name == name).expect("link").ifindex
}

fn tracked(tracked: [bool; 2]) -> Findings {
    Findings {
        tracked,
        ..Findings::default()
    }
}

fn snapshot(mirror: &mut Mirror) -> Snapshot {
    settle(mirror);
    mirror.snapshot()
}

#[test]
fn a_finding_comes_into_the_snapshot_as_a_whole() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let d0 = ifindex(&mirror, "d0");
        mirror.set_port(d0, Some(PortIndex(0)));
        let before = snapshot(&mut mirror);
        assert_eq!(*before.conntrack, Config::default());
        let ruleset = Ruleset {
            generation: 7,
            ..Ruleset::default()
        };
        let rules = Arc::new(Rules::new(ruleset, None, 0));
        let mut findings = tracked([true, false]);
        findings.rules = rules.clone();
        mirror.set_findings(findings.clone());
        let after = snapshot(&mut mirror);
        assert!(after.generation > before.generation);
        assert_eq!(after.conntrack.tracked, [true, false]);
        assert!(Arc::ptr_eq(&after.rules, &rules));
        mirror.set_findings(findings);
        let same = snapshot(&mut mirror);
        assert_eq!(same.generation, after.generation, "nothing new was said");
        assert!(Arc::ptr_eq(&same.conntrack, &after.conntrack));
        ip("link set d0 mtu 1400");
        let other = snapshot(&mut mirror);
        assert!(other.generation > same.generation);
        assert!(
            Arc::ptr_eq(&other.conntrack, &after.conntrack),
            "an MTU says nothing about tracking"
        );
        mirror.set_findings(Findings::default());
        let end = snapshot(&mut mirror);
        assert_eq!(*end.conntrack, Config::default());
        assert_eq!(end.rules.ruleset.generation, 0);
    });
}

#[test]
fn what_arrives_at_the_kernel_must_not_leave_by_us() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let d0 = ifindex(&mirror, "d0");
        mirror.set_port(d0, Some(PortIndex(0)));
        let mut findings = tracked([true, false]);
        let arriving = || (Some("qdisc".into()), None);
        let family = [arriving(), arriving()];
        findings.links.insert(
            d0,
            LinkFindings {
                family,
                ..LinkFindings::default()
            },
        );
        mirror.set_findings(findings.clone());
        let egress = |snapshot: &Snapshot| {
            let (_, port) = snapshot.port(PortIndex(0)).expect("the port");
            [0, 1].map(|family| port.family[family].left_egress.as_deref().map(str::to_owned))
        };
        let why = Some("replies would be the kernel's: qdisc".to_owned());
        assert_eq!(egress(&snapshot(&mut mirror)), [why.clone(), None]);
        findings.tracked = [true, true];
        mirror.set_findings(findings.clone());
        assert_eq!(egress(&snapshot(&mut mirror)), [why.clone(), why]);
        findings.tracked = [false, false];
        mirror.set_findings(findings);
        assert_eq!(egress(&snapshot(&mut mirror)), [None, None]);
    });
}

#[test]
fn alone_is_who_has_all_links_that_forward() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let [d0, d1] = ["d0", "d1"].map(|name| ifindex(&mirror, name));
        // The far ends live in this namespace too, and would forward.
        for far in ["p0", "p1"] {
            sysctl(&format!("ipv4/conf/{far}/forwarding"), "0");
        }
        mirror.set_findings(tracked([true, true]));
        let alone = |mirror: &mut Mirror| snapshot(mirror).conntrack.alone;
        assert_eq!(alone(&mut mirror), [false; 2], "no link is a port");
        mirror.set_port(d0, Some(PortIndex(0)));
        assert_eq!(alone(&mut mirror), [false; 2], "d1 is none");
        mirror.set_port(d1, Some(PortIndex(1)));
        assert_eq!(alone(&mut mirror), [true; 2]);
        ip("link add other type veth peer name quiet");
        assert_eq!(alone(&mut mirror), [true; 2], "a link that is down forwards nothing");
        ip("link set other up");
        assert_eq!(alone(&mut mirror), [false; 2]);
        sysctl("ipv4/conf/other/forwarding", "0");
        assert_eq!(alone(&mut mirror), [true, false], "IPv6 is forwarded by all or none");
        ip("link set other down");
        ip("link set other name bypath0");
        ip("link set bypath0 up");
        sysctl("ipv4/conf/bypath0/forwarding", "1");
        assert_eq!(
            alone(&mut mirror),
            [true; 2],
            "the punt device forwards nothing by itself"
        );
        let mut findings = tracked([true, true]);
        let family = [(None, None), (Some("x".into()), None)];
        findings.links.insert(
            d1,
            LinkFindings {
                family,
                ..LinkFindings::default()
            },
        );
        mirror.set_findings(findings);
        assert_eq!(alone(&mut mirror), [true, false], "what arrives on d1 is the kernel's");
        mirror.set_findings(tracked([true, false]));
        assert_eq!(
            alone(&mut mirror),
            [true, false],
            "of what is not tracked nothing is said"
        );
        sysctl("ipv4/conf/d1/forwarding", "0");
        mirror.set_port(d1, None);
        assert_eq!(alone(&mut mirror), [true, false], "d1 forwards no IPv4");
    });
}

#[test]
fn sysctls_of_conntrack_are_in_force_within_100_ms() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        sysctl("netfilter/nf_conntrack_udp_timeout", "17");
        assert!(!mirror.poll_sysctls(), "nothing is tracked");
        assert_eq!(*mirror.snapshot().conntrack, Config::default());
        mirror.set_findings(tracked([false, true]));
        assert_eq!(mirror.snapshot().conntrack.udp[0], 1700, "at once when tracking begins");
        type Is = fn(&Config) -> bool;
        let changes: &[(&str, &str, Is)] = &[
            ("tcp_timeout_established", "1000", |c| c.tcp[3] == 100_000),
            ("tcp_timeout_established", "20000000", |c| c.tcp[3] == TIMEOUT_MAX),
            ("tcp_timeout_close", "-1", |c| c.tcp[8] == 0),
            ("tcp_timeout_max_retrans", "7", |c| c.tcp[10] == 700),
            ("tcp_timeout_unacknowledged", "8", |c| c.tcp[11] == 800),
            ("tcp_loose", "0", |c| !c.tcp_loose),
            ("tcp_be_liberal", "1", |c| c.tcp_be_liberal),
            ("tcp_ignore_invalid_rst", "1", |c| c.tcp_ignore_invalid_rst),
            ("tcp_max_retrans", "255", |c| c.tcp_max_retrans == 255),
            ("checksum", "0", |c| !c.checksum),
            ("acct", "1", |c| c.acct),
            ("udp_timeout_stream", "9", |c| c.udp == [1700, 900]),
            ("icmp_timeout", "3", |c| c.icmp == 300),
            ("icmpv6_timeout", "4", |c| c.icmpv6 == 400),
            ("gre_timeout_stream", "5", |c| c.gre[1] == 500),
            ("sctp_timeout_heartbeat_sent", "6", |c| c.sctp[8] == 600),
            ("generic_timeout", "0", |c| c.generic == 0),
        ];
        for (name, value, is) in changes {
            let before = mirror.snapshot().generation;
            let path = format!("netfilter/nf_conntrack_{name}");
            if std::fs::write(format!("/proc/sys/net/{path}"), value).is_err() {
                // A kernel of another HZ takes shorter timeouts only.
                assert_eq!(*value, "20000000", "{path}");
                continue;
            }
            assert!(mirror.poll_sysctls(), "{path}");
            let snapshot = mirror.snapshot();
            assert!(is(&snapshot.conntrack), "{path} = {value}: {:?}", snapshot.conntrack);
            assert!(snapshot.generation > before, "{path}");
            assert!(!mirror.poll_sysctls(), "{path}: changed again");
        }
        let mut times: Vec<_> = (0..100)
            .map(|_| {
                let start = std::time::Instant::now();
                mirror.poll_sysctls();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("poll_sysctls() while tracking: {:?} (median)", times[50]);
        assert!(times[50] < std::time::Duration::from_millis(2));
        mirror.set_findings(Findings::default());
        assert_eq!(*mirror.snapshot().conntrack, Config::default());
    });
}
