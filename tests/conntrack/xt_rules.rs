//! Rulesets of iptables-nft: what Docker, ufw and kube-proxy install, and every match as a rule that counts. Both labs have
//! them from `iptables-nft-restore`; frames, tables and counters must be equal. NAT in all its forms is in `xt_nat`.

use crate::flow::{CLIENT, Flow, SERVER};
use crate::forward_rules;
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat::{BOTH, FORWARDED, MASQUERADED, PLAIN, flows, traffic};
use crate::script::{one, play_for};

/// A twin of two ports under these rules of IPv4 and IPv6.
pub fn start(name: &str, four: &str, six: &str) -> Twin {
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

/// The rules that `run` so, as bypath shows them.
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

/// What Docker 28 has before tracking: containers are reached by what they publish alone.
const DOCKER_RAW: &str = "
    *raw
    :PREROUTING ACCEPT [0:0]
    -A PREROUTING -d 10.101.0.7/32 ! -i d1 -j DROP
    COMMIT";

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
    let rules = docker("d1").replace("-A POSTROUTING -s 10.100", "-A POSTROUTING -s 10.101") + DOCKER_RAW;
    let mut twin = start("xt_docker_in", &rules, "");
    assert_eq!(rows(&twin, "punted"), [""; 0]);
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

/// Marks are kept in the connection, and found there by what comes later; some is not tracked.
#[test]
fn marks_of_connections() {
    let rules = "*raw
        :PREROUTING ACCEPT [0:0]
        -A PREROUTING -p udp -m udp --dport 123 -j CT --notrack
        -A PREROUTING -p udp -m udp --sport 123 -j CT --notrack
        COMMIT
        *mangle
        :PREROUTING ACCEPT [0:0]
        :POSTROUTING ACCEPT [0:0]
        -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff
        -A PREROUTING -m mark ! --mark 0 -j ACCEPT
        -A PREROUTING -p tcp -m tcp --dport 80 -j MARK --set-mark 1
        -A PREROUTING -p tcp -m multiport --dports 22,443 -m state --state NEW -j MARK --set-xmark 0x2/0xff
        -A PREROUTING -p udp -j CONNMARK --set-xmark 0x30/0xf0
        -A PREROUTING -m mark ! --mark 0 -j CONNMARK --save-mark
        -A POSTROUTING -m connmark --mark 0x30/0xf0 -m conntrack --ctdir REPLY -j CONNMARK --set-xmark 0x4/0x4
        COMMIT
        *filter
        :FORWARD ACCEPT [0:0]
        -A FORWARD -m mark --mark 1
        -A FORWARD -m connmark --mark 2/0xff -j ACCEPT
        -A FORWARD -m connmark ! --mark 0
        -A FORWARD -m conntrack --ctstate UNTRACKED -j ACCEPT
        COMMIT";
    let mut twin = start("xt_marks", rules, rules);
    assert_eq!(rows(&twin, "punted"), [""; 0]);
    forward_rules::traffic(&mut twin);
    assert!(twin.compare_counters() >= 20);
    twin.finish(Share::AtLeast(0.7));
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
