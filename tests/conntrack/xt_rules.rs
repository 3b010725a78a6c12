//! Rulesets of iptables-nft: what Docker and ufw install, NAT in all forms, segment sizes, and every match as a rule that
//! counts. Both labs have them from `iptables-nft-restore`; frames, tables and counters must be equal.

use crate::flow::{ACK, CLIENT, Flow, SERVER, SYN, c, s};
use crate::forward_rules;
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat::{BOTH, FORWARDED, FROM_POOL, MASQUERADED, PLAIN, flows, pool, traffic};
use crate::nat_more::{self, clashing, datagrams, stream};
use crate::script::{Step, one, play_each, play_for};
use crate::view::View;

/// A twin of two ports under these rules of IPv4 and IPv6.
fn start(name: &str, four: &str, six: &str) -> Twin {
    let lines = [("iptables-nft-restore", four), ("ip6tables-nft-restore", six)];
    let lines: Vec<String> = lines
        .iter()
        .filter(|(_, rules)| !rules.is_empty())
        .map(|(program, rules)| format!("{program} {}", trimmed(rules)))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut twin = Twin::start(Setup {
        filters: true,
        fence: Fence::None,
        ..Setup::new(name, 2, plan::config_with(2, &lines))
    });
    twin.hand_over();
    twin
}

/// Without the spaces in front of lines.
fn trimmed(rules: &str) -> String {
    rules.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

fn rows(twin: &Twin, run: &str) -> Vec<String> {
    let rows = twin.bypath().map(|bypath| bypath.rules()).unwrap_or_default();
    let of_run = rows.iter().filter(|row| row["run"] == run);
    of_run
        .map(|row| format!("{} {} {}", row["chain"], row["handle"], row["why"]))
        .collect()
}

/// Docker 28 with iptables (`iptables-save` of a box with one container that publishes a port), the bridge being a port of
/// the lab: containers are behind it.
fn docker(bridge: &str) -> String {
    "*filter
     :INPUT ACCEPT [0:0]
     :FORWARD DROP [0:0]
     :OUTPUT ACCEPT [0:0]
     :DOCKER - [0:0]
     :DOCKER-BRIDGE - [0:0]
     :DOCKER-CT - [0:0]
     :DOCKER-FORWARD - [0:0]
     :DOCKER-ISOLATION-STAGE-1 - [0:0]
     :DOCKER-ISOLATION-STAGE-2 - [0:0]
     :DOCKER-USER - [0:0]
     -A FORWARD -j DOCKER-USER
     -A FORWARD -j DOCKER-FORWARD
     -A DOCKER -d 10.101.0.7/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
     -A DOCKER -d 10.101.0.7/32 ! -i docker0 -o docker0 -p udp -m udp --dport 80 -j ACCEPT
     -A DOCKER ! -i docker0 -o docker0 -j DROP
     -A DOCKER-BRIDGE -o docker0 -j DOCKER
     -A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
     -A DOCKER-FORWARD -j DOCKER-CT
     -A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
     -A DOCKER-FORWARD -j DOCKER-BRIDGE
     -A DOCKER-FORWARD -i docker0 -j ACCEPT
     -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
     -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
     COMMIT
     *nat
     :PREROUTING ACCEPT [0:0]
     :INPUT ACCEPT [0:0]
     :OUTPUT ACCEPT [0:0]
     :POSTROUTING ACCEPT [0:0]
     :DOCKER - [0:0]
     -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
     -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
     -A POSTROUTING -s 10.100.0.0/16 ! -o docker0 -j MASQUERADE
     -A DOCKER -i docker0 -j RETURN
     -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.101.0.7:80
     -A DOCKER ! -i docker0 -p udp -m udp --dport 8080 -j DNAT --to-destination 10.101.0.7:80
     COMMIT"
        .replace("docker0", bridge)
}

/// Containers go out, masqueraded; nothing comes in but answers.
#[test]
fn docker_out() {
    let mut twin = start("xt_docker_out", &docker("d0"), "");
    assert_eq!(rows(&twin, "punted"), [""; 0]);
    traffic(&mut twin, "out", &MASQUERADED, &[true]);
    traffic(&mut twin, "of the other family", &PLAIN, &[false]);
    let stray = one("stray", SERVER, |flow: &Flow| flow.udp(SERVER, 33)).lost();
    play_for(&mut twin, "stray", &flows(&PLAIN, &[true]), [stray]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

/// A port is published; all else is lost.
#[test]
fn docker_in() {
    let mut twin = start(
        "xt_docker_in",
        &docker("d1").replace("-A POSTROUTING -s 10.100", "-A POSTROUTING -s 10.101"),
        "",
    );
    traffic(&mut twin, "published", &FORWARDED, &[true]);
    let stray = one("stray", CLIENT, |flow: &Flow| flow.udp(CLIENT, 33)).lost();
    play_for(&mut twin, "stray", &flows(&PLAIN, &[true]), [stray]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.75));
}

/// ufw 0.36 as a router (`before.rules`, `after.rules`, `ufw route allow`): chains for what comes before, what the user says,
/// what is logged.
const UFW: &str = "*filter
    :INPUT DROP [0:0]
    :FORWARD DROP [0:0]
    :OUTPUT ACCEPT [0:0]
    :ufw-before-forward - [0:0]
    :ufw-after-forward - [0:0]
    :ufw-before-logging-forward - [0:0]
    :ufw-after-logging-forward - [0:0]
    :ufw-reject-forward - [0:0]
    :ufw-track-forward - [0:0]
    :ufw-user-forward - [0:0]
    :ufw-user-limit - [0:0]
    :ufw-user-limit-accept - [0:0]
    -A FORWARD -j ufw-before-logging-forward
    -A FORWARD -j ufw-before-forward
    -A FORWARD -j ufw-after-forward
    -A FORWARD -j ufw-after-logging-forward
    -A FORWARD -j ufw-reject-forward
    -A FORWARD -j ufw-track-forward
    -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A ufw-before-forward -p icmp -m icmp --icmp-type 3 -j ACCEPT
    -A ufw-before-forward -p icmp -m icmp --icmp-type 11 -j ACCEPT
    -A ufw-before-forward -p icmp -m icmp --icmp-type 12 -j ACCEPT
    -A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT
    -A ufw-before-forward -j ufw-user-forward
    -A ufw-user-forward -i d0 -o d1 -p tcp -m multiport --dports 22,80,443 -m comment --comment \"'dapp_Web%20Server'\" -j ACCEPT
    -A ufw-user-forward -d 10.101.0.0/16 -p udp -m udp --dport 53 -j ACCEPT
    -A ufw-user-forward -p udp -m multiport --dports 5000:6000 -j ACCEPT
    -A ufw-user-forward -p tcp -m tcp --dport 8080 -j REJECT --reject-with tcp-reset
    -A ufw-user-forward -p udp -m udp --dport 123 -j REJECT --reject-with icmp-port-unreachable
    -A ufw-after-logging-forward -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix \"[UFW BLOCK] \"
    -A ufw-user-limit -m limit --limit 3/min -j LOG --log-prefix \"[UFW LIMIT BLOCK] \"
    -A ufw-user-limit -j REJECT --reject-with icmp-port-unreachable
    -A ufw-user-limit-accept -j ACCEPT
    COMMIT
    *nat
    :POSTROUTING ACCEPT [0:0]
    -A POSTROUTING -s 10.100.0.0/16 -o d1 -j MASQUERADE
    COMMIT";

#[test]
fn ufw() {
    let six = "*filter
        :FORWARD DROP [0:0]
        -A FORWARD -m rt --rt-type 0 -j DROP
        -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 1 -j ACCEPT
        -A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT
        -A FORWARD -p tcp -m multiport --dports 22,80,443 -j ACCEPT
        -A FORWARD -p udp -m udp --dport 53 -j ACCEPT
        COMMIT"
        .replace("-A FORWARD -m rt --rt-type 0 -j DROP", "");
    let nat = UFW.find("*nat").expect("it has one");
    let mut twin = start("xt_ufw", &UFW[..nat], &six);
    forward_rules::traffic(&mut twin);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.5));
    // `ufw route allow in on d0 out on d1 proto udp`
    let allow = "-A ufw-user-forward -i d0 -o d1 -p udp -j ACCEPT";
    let open = UFW.replace("-A ufw-after-logging", &format!("{allow}\n -A ufw-after-logging"));
    let mut twin = start("xt_ufw_masquerade", &open, "");
    traffic(&mut twin, "out", &MASQUERADED, &[true]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.3));
}

/// Every match, as a rule that counts. Those before the first blank line are of both families.
const COUNTED: &str = "-m comment --comment all
    -m conntrack --ctstate NEW
    -m conntrack ! --ctstate NEW
    -m conntrack --ctstate RELATED,ESTABLISHED
    -m conntrack --ctstate INVALID
    -m conntrack --ctstate UNTRACKED
    -m conntrack --ctstate SNAT,DNAT
    -m conntrack ! --ctstate SNAT,DNAT
    -m conntrack --ctproto udp
    -m conntrack ! --ctproto udp
    -p tcp -m conntrack --ctorigdstport 80:443
    -p udp -m conntrack --ctreplsrcport 53
    -p udp -m conntrack ! --ctorigsrcport 1000:30000
    -p tcp -m conntrack --ctrepldstport 10000:65535
    -m conntrack --ctdir ORIGINAL
    -m conntrack --ctdir REPLY
    -m conntrack --ctstatus SEEN_REPLY
    -m conntrack --ctstatus EXPECTED
    -m conntrack ! --ctstatus CONFIRMED
    -m conntrack --ctstate ESTABLISHED --ctexpire 0:1000000
    -m state --state NEW
    -m addrtype --dst-type UNICAST
    -m addrtype --dst-type LOCAL
    -m addrtype ! --src-type LOCAL --dst-type UNICAST
    -p tcp -m tcp --tcp-option 2
    -p tcp -m tcp ! --tcp-option 3
    -p tcp -m tcp --tcp-option 2 --dport 80:443
    -p tcp -m tcp --syn
    -p tcp -m tcp ! --syn --sport 0:20000
    -p tcp -m multiport --dports 22,80:90,443
    -p udp -m multiport ! --sports 1000:30000
    -p udp -m multiport --ports 53,8080
    -m mark --mark 0/0xf
    -m connmark --mark 0
    -m connmark ! --mark 0
    -m length --length 40:100
    -m length ! --length 0:60
    -m dscp --dscp 0
    -m tos ! --tos 0/0xff
    -m physdev ! --physdev-is-bridged
    -m physdev --physdev-in d0
    -m pkttype --pkt-type unicast
    -m pkttype ! --pkt-type unicast
    -p tcp -m tcpmss --mss 1000:2000
    -p tcp -m tcpmss ! --mss 1000:2000
    -m mac ! --mac-source 00:00:00:00:00:01
    -m policy --dir in --pol none
    -m policy --dir out --pol none
    -m statistic --mode random --probability 1
    -m statistic --mode random ! --probability 1";

const COUNTED_4: &str = "-m conntrack --ctorigsrc 10.100.0.0/17
    -m conntrack ! --ctorigdst 10.101.0.0/24
    -m conntrack --ctreplsrc 10.101.0.0/16
    -m conntrack ! --ctrepldst 10.100.0.0/24
    -m addrtype --src-type BROADCAST
    -p icmp -m icmp --icmp-type any
    -p icmp -m icmp --icmp-type echo-request
    -p icmp -m icmp ! --icmp-type port-unreachable
    -m ttl --ttl-eq 63
    -m ttl --ttl-lt 64
    -m ttl ! --ttl-eq 63
    -m iprange --src-range 10.100.0.1-10.100.0.40
    -m iprange ! --dst-range 10.100.0.1-10.101.0.40
    -f";

const COUNTED_6: &str = "-m conntrack --ctorigsrc fd00:100::/32
    -m conntrack ! --ctreplsrc fd00:101::/124
    -p ipv6-icmp -m icmp6 --icmpv6-type echo-request
    -p ipv6-icmp -m icmp6 ! --icmpv6-type 1/4
    -m hl --hl-eq 63
    -m hl --hl-gt 63
    -m iprange --src-range fd00:100::1-fd00:100::4";

#[test]
fn every_match_counts_the_same() {
    let table = |matches: [&str; 2]| {
        let rules = matches.iter().flat_map(|all| all.lines());
        let rules: String = rules.map(|rule| format!("-A FORWARD {}\n", rule.trim())).collect();
        format!("*filter\n:FORWARD ACCEPT [0:0]\n{rules}COMMIT\n")
    };
    let mut twin = start("xt_counted", &table([COUNTED, COUNTED_4]), &table([COUNTED, COUNTED_6]));
    assert_eq!(rows(&twin, "punted"), [""; 0]);
    forward_rules::traffic(&mut twin);
    let counted = twin.compare_counters();
    assert!(counted >= 80, "only {counted} counters counted anything");
    twin.finish(Share::AtLeast(0.7));
}

/// What asks whether a connection is assured has those of UDP begin in the kernel.
#[test]
fn assured() {
    let rules = "*filter
        :FORWARD ACCEPT [0:0]
        -A FORWARD -m conntrack --ctstatus ASSURED
        -A FORWARD -m conntrack ! --ctstatus ASSURED,EXPECTED
        COMMIT";
    let mut twin = start("xt_assured", rules, rules);
    forward_rules::traffic(&mut twin);
    assert_eq!(twin.compare_counters(), 6, "those of the policies too");
    twin.finish(Share::AtLeast(0.4));
}

/// What is the kernel's has the packets that reach it, and no others.
#[test]
fn rules_that_stay() {
    let rules = "*filter
        :FORWARD ACCEPT [0:0]
        -A FORWARD -m conntrack --ctstate ESTABLISHED
        -A FORWARD -p tcp -m tcp --dport 22 -m recent --set --name ssh
        -A FORWARD -p tcp -m tcp --dport 443 -m statistic --mode nth --every 2 --packet 0
        -A FORWARD -p udp -m udp --dport 53 -m hashlimit --hashlimit-upto 5/sec --hashlimit-name dns -j ACCEPT
        -A FORWARD -p udp -m udp --dport 123 -j NFLOG --nflog-group 1
        -A FORWARD -p udp -m udp --sport 5000 -m u32 --u32 0>>24&0xf=0
        COMMIT";
    let mut twin = start("xt_punted", rules, &rules.replace("0>>24&0xf=0", "0>>24=0"));
    let punted = rows(&twin, "punted").join("\n");
    for name in [
        "xt match recent",
        "xt match statistic",
        "xt match hashlimit",
        "xt match u32",
        "log",
    ] {
        assert!(punted.is_empty() || punted.contains(name), "no {name} in\n{punted}");
    }
    forward_rules::traffic(&mut twin);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.4));
}

/// As kube-proxy has it in its iptables mode: a mark has what comes from outside come back through the box.
#[test]
fn kube_services() {
    let rules = "*nat
        :PREROUTING ACCEPT [0:0]
        :POSTROUTING ACCEPT [0:0]
        :KUBE-SERVICES - [0:0]
        :KUBE-NODEPORTS - [0:0]
        :KUBE-POSTROUTING - [0:0]
        :KUBE-MARK-MASQ - [0:0]
        :KUBE-EXT-A - [0:0]
        :KUBE-SVC-A - [0:0]
        :KUBE-SEP-A - [0:0]
        :KUBE-SEP-B - [0:0]
        -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
        -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
        -A KUBE-SERVICES -m comment --comment \"nodeports\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        -A KUBE-NODEPORTS -p tcp -m comment --comment web -m tcp --dport 8080 -j KUBE-EXT-A
        -A KUBE-NODEPORTS -p udp -m comment --comment web -m udp --dport 8080 -j KUBE-EXT-A
        -A KUBE-EXT-A -m comment --comment \"masquerade traffic for web\" -j KUBE-MARK-MASQ
        -A KUBE-EXT-A -j KUBE-SVC-A
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
        -A KUBE-SVC-A -m comment --comment \"web -> b\" -m statistic --mode random --probability 0 -j KUBE-SEP-B
        -A KUBE-SVC-A -m comment --comment \"web -> a\" -j KUBE-SEP-A
        -A KUBE-SEP-A -s 10.101.0.7/32 -m comment --comment web -j KUBE-MARK-MASQ
        -A KUBE-SEP-A -p tcp -m comment --comment web -m tcp -j DNAT --to-destination 10.101.0.7:80
        -A KUBE-SEP-A -p udp -m comment --comment web -m udp -j DNAT --to-destination 10.101.0.7:80
        -A KUBE-SEP-B -p tcp -m comment --comment web -m tcp -j DNAT --to-destination 10.101.0.8:80
        -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
        -A KUBE-POSTROUTING -m comment --comment \"service traffic requiring SNAT\" -j MASQUERADE --random-fully
        COMMIT
        *filter
        :FORWARD DROP [0:0]
        :KUBE-FORWARD - [0:0]
        -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
        -A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name none -j DROP
        -A KUBE-FORWARD -m comment --comment rules -m mark --mark 0x4000/0x4000 -j ACCEPT
        -A KUBE-FORWARD -m comment --comment rule -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        COMMIT"
        .replace(" -m nfacct --nfacct-name none", "")
        .replace(" --random-fully", "");
    let mut twin = start("xt_kube", &rules, "");
    assert_eq!(rows(&twin, "punted"), [""; 0]);
    traffic(&mut twin, "service", &BOTH, &[true]);
    traffic(&mut twin, "of the other family", &PLAIN, &[false]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.75));
}

fn nat_table(rules: &str) -> String {
    let rules: String = rules.lines().map(|rule| format!("-A {}\n", rule.trim())).collect();
    format!("*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{rules}COMMIT\n")
}

#[test]
fn sources_of_both_families() {
    let mut twin = start(
        "xt_snat",
        &nat_table("POSTROUTING -s 10.100.0.0/16 -o d1 -j SNAT --to-source 10.0.1.200"),
        &nat_table("POSTROUTING -s fd00:100::/32 -j SNAT --to-source fd00:0:0:1::200"),
    );
    twin.answer_for(SERVER, pool(true), crate::lab::packet::neighbor_mac(SERVER, 0));
    traffic(&mut twin, "pool", &FROM_POOL, &[true, false]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
    let rule = nat_table("POSTROUTING -o d1 -j MASQUERADE");
    let mut twin = start("xt_masquerade", &rule, &rule);
    traffic(&mut twin, "masquerade", &MASQUERADED, &[true, false]);
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn destinations_of_both_families() {
    let rules = |to: &str| {
        nat_table(&format!(
            "PREROUTING -i d0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination {to}
             PREROUTING -i d0 -p udp -m udp --dport 8080 -j DNAT --to-destination {to}"
        ))
    };
    let mut twin = start("xt_dnat", &rules("10.101.0.7:80"), &rules("[fd00:101::7]:80"));
    traffic(&mut twin, "forwarded", &FORWARDED, &[true, false]);
    traffic(&mut twin, "plain", &PLAIN, &[true, false]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn ranges_and_random_ports() {
    for (name, how, ports) in [
        ("xt_random", "MASQUERADE --random", 1024..=65535),
        ("xt_range", "MASQUERADE --to-ports 2000-2999", 2000..=2999),
        (
            "xt_range_random",
            "MASQUERADE --to-ports 3000-3999 --random-fully",
            3000..=3999,
        ),
        (
            "xt_snat_range",
            "SNAT --to-source OWN:4000-4999 --persistent",
            4000..=4999,
        ),
    ] {
        let table = |own: &str| {
            let how = how.replace("OWN", own);
            nat_table(&format!(
                "POSTROUTING -o d1 -p tcp -j {how}
                 POSTROUTING -o d1 -p udp -j {how}"
            ))
        };
        let mut twin = start(name, &table("10.0.1.1"), &table("[fd00:0:0:1::1]"));
        let fresh = || -> Vec<View> {
            let mut views = nat_more::views(|_| {});
            views.extend(clashing(4));
            views.into_iter().map(View::random).collect()
        };
        for (what, steps) in [("udp", datagrams()), ("tcp", stream())] {
            let mut views = fresh();
            play_each(&mut twin, &format!("{name}: {what}"), &mut views, steps);
            for view in &views {
                let all = view.ports();
                assert!(all.iter().all(|port| ports.contains(port)), "{how}: {all:?}");
            }
        }
        twin.compare_counters();
        twin.finish(Share::AtLeast(0.8));
    }
}

/// A network becomes another one, host by host; ports are counted from a base; all that asks for the box is its own.
#[test]
fn networks_offsets_and_redirects() {
    let mut twin = start(
        "xt_netmap",
        &nat_table(
            "PREROUTING -i d0 -d 10.201.0.0/16 -j NETMAP --to 10.101.0.0/16
             PREROUTING -i d0 -p tcp -m tcp --dport 5000:5100 -j DNAT --to-destination 10.101.0.7:6000-6100/5000
             PREROUTING -i d0 -p udp -m udp --dport 7000 -j REDIRECT --to-ports 9999
             POSTROUTING -o d1 -s 10.100.0.0/16 -j NETMAP --to 10.200.0.0/16",
        ),
        &nat_table(
            "PREROUTING -i d0 -d fd00:201::/32 -j NETMAP --to fd00:101::/32
             PREROUTING -i d0 -p tcp -m tcp --dport 5000 -j REDIRECT --to-ports 9999
             POSTROUTING -o d1 -s fd00:100::/32 -j NETMAP --to fd00:200::/32",
        ),
    );
    let named = |flow: &mut Flow| {
        flow.ends[SERVER] = match flow.ends[SERVER] {
            std::net::IpAddr::V4(server) => {
                let [_, _, high, low] = server.octets();
                std::net::Ipv4Addr::new(10, 201, high, low).into()
            }
            std::net::IpAddr::V6(server) => {
                let mut words = server.segments();
                words[1] = 0x201;
                std::net::Ipv6Addr::from(words).into()
            }
        };
    };
    let all = nat_more::traffic(&mut twin, "prefix", || nat_more::views(named));
    for view in all {
        let [client, server] = view.labs[0].seen_by(SERVER).ends.map(|end| end.to_string());
        let mapped = [["10.200.", "10.101."], ["fd00:200:", "fd00:101:"]];
        assert!(
            mapped
                .iter()
                .any(|[from, to]| client.starts_with(from) && server.starts_with(to)),
            "{client} {server}"
        );
    }
    let mut views = nat_more::views(|flow| flow.ports[SERVER] = 5042);
    views.retain(|view| view.labs[0].is_ipv4());
    play_each(&mut twin, "offset", &mut views, stream());
    assert!(
        views
            .iter()
            .all(|view| view.labs[0].seen_by(SERVER).ports[SERVER] == 6042)
    );
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

/// The size of segments is cut where connections begin; where it is not there, the kernel makes room for it.
#[test]
fn segment_sizes() {
    for (name, how, mtu, share) in [
        ("xt_clamp", "--clamp-mss-to-pmtu", 1400, 0.6),
        ("xt_set_mss", "--set-mss 1200", 1500, 0.6),
        ("xt_set_mss_larger", "--set-mss 9000", 1500, 0.6),
    ] {
        let rules = format!(
            "*mangle
             :FORWARD ACCEPT [0:0]
             -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS {how}
             -A FORWARD -m conntrack --ctstate INVALID -j DROP
             COMMIT
             *nat
             :POSTROUTING ACCEPT [0:0]
             -A POSTROUTING -o d1 -j MASQUERADE
             COMMIT"
        );
        let mut twin = start(name, &rules, &rules);
        twin.change(&[&format!("ip link set d1 mtu {mtu}")]);
        let steps = [
            Step::from(c(SYN, 0, 0).mss()),
            Step::from(s(SYN | ACK, 0, 1).mss()),
            Step::from(c(ACK, 1, 1)),
            Step::from(c(ACK, 1, 1).data(600)),
            Step::from(s(ACK, 1, 601).data(11)),
            Step::from(c(ACK, 601, 12).mss()),
        ];
        play_for(&mut twin, "tcp", &flows(&MASQUERADED, &[true, false]), steps);
        let steps = [
            Step::from(c(SYN, 0, 0).option(&[1]).mss()),
            Step::from(c(SYN, 0, 0).option(&[2, 4, 0, 100])),
            Step::from(c(SYN, 0, 0).option(&[2, 3, 1]).mss()),
        ];
        play_for(&mut twin, "odd", &flows(&MASQUERADED, &[true, false]), steps);
        let steps = [
            Step::from(c(SYN, 0, 0)),
            Step::from(s(SYN | ACK, 0, 1)),
            Step::from(c(ACK, 1, 1)),
            Step::from(c(ACK, 1, 1).data(60)),
        ];
        play_for(&mut twin, "without", &flows(&MASQUERADED, &[true, false]), steps);
        let udp = |from: usize| one("udp", from, move |flow: &Flow| flow.udp(from, 20));
        let steps = [udp(CLIENT), udp(SERVER)];
        play_for(&mut twin, "udp", &flows(&MASQUERADED, &[true, false]), steps);
        twin.compare_counters();
        twin.finish(Share::AtLeast(share));
    }
}
