//! The rulesets that firewalls install on a router (tests/rulesets), and what passes such a box on a day: the LAN goes out
//! masqueraded, a server inside is reached by a port of the box, whatever else begins outside is dropped or refused, and some
//! of what begins inside too. IPv6 goes out as it is.
//!
//! ```text
//!   LAN: 10.100.0.0/16, fd00:100::/32 -- d0 [router] d1 -- WAN: 10.101.0.0/16, fd00:101::/32
//!        the server 10.100.0.7:80 is 10.0.1.1:8080 out there
//! ```

use crate::flow::{ACK, CLIENT, FIN, Flow, PSH, RST, SERVER, SYN, c, s};
use crate::lab::namespace::Namespace;
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::load::{load, loader};
use crate::nat_more::{clashing, datagrams, error, stream, traffic, udp, views};
use crate::script::{Step, one, play_each, wait};
use crate::view::View;

const LAN: usize = 0;
const WAN: usize = 1;

/// The configuration lines that load these files, without what this kernel lacks, and with other names of devices.
pub fn lines(files: &[&str], names: &[(&str, &str)]) -> Vec<String> {
    let scratch = Namespace::new();
    let line = |file: &&str| {
        let (mut text, _) = load(file, |line, input| scratch.output(line, input));
        for (name, ours) in names {
            text = text.replace(name, ours);
        }
        match loader(file) {
            "nft -f -" => format!("ruleset {text}"),
            program => format!("{program} {text}"),
        }
    };
    files.iter().map(line).collect()
}

/// A router of two ports under these files.
fn router(name: &str, files: &[&str]) -> Twin {
    let mut config = plan::config(2);
    config.extend(lines(files, &[]));
    let mut twin = Twin::start(Setup {
        filters: true,
        fence: Fence::None,
        ..Setup::new(name, 2, config)
    });
    twin.hand_over();
    twin
}

/// A flow that begins out there, to a host of the LAN by its own address.
fn from_outside(four: bool) -> View {
    let mut flow = Flow::new(four);
    flow.ends.swap(CLIENT, SERVER);
    View::new(flow).behind([WAN, LAN])
}

/// Flows that begin out there, to what the box is for the WAN.
fn to_the_box(port: u16) -> Vec<View> {
    let one = |_| {
        let mut view = from_outside(true);
        for flow in &mut view.labs {
            flow.ends[SERVER] = plan::own(WAN)[0];
            flow.ports[SERVER] = port;
        }
        view
    };
    (0..4).map(one).collect()
}

fn echo(from: usize, sequence: u16) -> Step {
    one("echo", from, move |flow: &Flow| flow.echo(from, sequence))
}

/// A transfer with all that belongs to it: sizes, acknowledgements, a pause, and its end.
fn transfer() -> Vec<Step> {
    let mut steps: Vec<Step> = vec![
        c(SYN, 0, 0).mss().sack_permitted().scale(7).into(),
        s(SYN | ACK, 0, 1).mss().sack_permitted().scale(7).into(),
        c(ACK, 1, 1).passes(),
        c(ACK | PSH, 1, 1).data(400).passes(),
        s(ACK, 1, 401).passes(),
    ];
    for at in 0..6 {
        steps.push(s(ACK, 1 + at * 1400, 401).data(1400).passes());
        steps.push(c(ACK, 401, 1401 + at * 1400).passes());
    }
    steps.push(wait(300));
    steps.extend([
        c(ACK | PSH, 401, 8401).data(90).passes(),
        s(ACK | PSH, 8401, 491).data(1200).passes(),
        s(FIN | ACK, 9601, 491).passes(),
        c(FIN | ACK, 491, 9602).passes(),
        s(ACK, 9602, 492).passes(),
    ]);
    steps
}

/// What the LAN does all day: it goes out.
fn out(twin: &mut Twin) {
    traffic(twin, "out", || views(|_| {}));
    play_each(twin, "a transfer", &mut views(|_| {}), transfer());
    let mut same = clashing(6);
    play_each(twin, "clients of one port", &mut same, datagrams());
    let refused = [c(SYN, 0, 0).mss().passes(), s(RST | ACK, 0, 1).passes()];
    play_each(twin, "refused by the server", &mut views(|_| {}), refused);
}

/// The server inside, from out there.
fn forwarded(twin: &mut Twin) {
    play_each(twin, "in: tcp", &mut to_the_box(8080), stream());
    play_each(twin, "in: a transfer", &mut to_the_box(8080), transfer());
}

/// What nobody asked for, and what is wrong.
fn strays(twin: &mut Twin) {
    let fresh = || [true, false, true, false].map(from_outside);
    let begun = [udp(CLIENT, 20), udp(CLIENT, 21)];
    play_each(twin, "stray datagrams", &mut fresh(), begun);
    play_each(twin, "stray echoes", &mut fresh(), [echo(CLIENT, 1), echo(CLIENT, 2)]);
    let syns = [Step::from(c(SYN, 0, 0).mss()), Step::from(c(SYN, 0, 0).mss())];
    play_each(twin, "stray connections", &mut fresh(), syns);
    let middle = [
        Step::from(c(ACK, 1, 1).data(9)),
        Step::from(c(0, 1, 1)),
        Step::from(c(SYN | FIN, 1, 1)),
        Step::from(c(RST, 1, 0)),
    ];
    play_each(twin, "the middle of nothing, from outside", &mut fresh(), middle);
    let middle = [
        Step::from(c(0, 1, 1)),
        Step::from(c(SYN | FIN, 1, 1)),
        Step::from(c(SYN | RST, 1, 1)),
    ];
    play_each(twin, "wrong flags, from inside", &mut views(|_| {}), middle);
    // In the middle of something, but far off.
    let mut off = stream();
    off.insert(4, c(ACK | PSH, 400_000_000, 1).data(100).into());
    off.insert(6, s(ACK | PSH, 400_000_000, 601).data(100).into());
    off.insert(7, error(SERVER));
    play_each(twin, "out of the window", &mut views(|_| {}), off);
}

/// Connections from inside to these ports, which not all rulesets let out.
fn to_ports(twin: &mut Twin, ports: &[u16]) {
    for &port in ports {
        let mut views = views(|flow| flow.ports[SERVER] = port);
        let syns = [Step::from(c(SYN, 0, 0).mss()), Step::from(c(SYN, 0, 0).mss())];
        play_each(twin, &format!("to port {port}"), &mut views, syns);
    }
}

/// A home router that is written by hand: nothing of it stays in the kernel.
#[test]
fn home_router() {
    let mut twin = router("installed_home_router", &["home-router.nft"]);
    out(&mut twin);
    forwarded(&mut twin);
    play_each(&mut twin, "a telephone", &mut to_the_box(5060), datagrams());
    strays(&mut twin);
    to_ports(&mut twin, &[25, 135, 443]);
    // Sources that nobody has.
    let mut martian = from_outside(true);
    for flow in &mut martian.labs {
        flow.ends = ["192.0.2.9", "10.0.1.1"].map(|text| text.parse().expect("an address"));
        flow.ports[SERVER] = 8080;
    }
    play_each(&mut twin, "a bogon", &mut [martian], [Step::from(c(SYN, 0, 0).mss())]);
    assert!(twin.compare_counters() >= 6, "every rule that counts has counted");
    twin.finish(Share::AtLeast(0.8));
}

/// What OpenWrt ships, with one port forward.
#[test]
fn openwrt() {
    let mut twin = router("installed_openwrt", &["openwrt-fw4.nft"]);
    out(&mut twin);
    forwarded(&mut twin);
    strays(&mut twin);
    // From the LAN's own network by the outer address, which is reflected.
    let mut inside = to_the_box(8080);
    for view in &mut inside {
        view.behind = [LAN, LAN];
        view.labs
            .iter_mut()
            .for_each(|flow| flow.ends[CLIENT] = "10.0.0.3".parse().expect("an address"));
    }
    play_each(&mut twin, "reflected", &mut inside, stream());
    // By these the box's own packets leave, too.
    twin.compare_counters_but(&["accept_to_lan", "accept_to_wan"]);
    twin.finish(Share::AtLeast(0.75));
}

/// With zones, a policy between them, and a port forward.
#[test]
fn firewalld() {
    let mut twin = router("installed_firewalld", &["firewalld.nft"]);
    out(&mut twin);
    forwarded(&mut twin);
    strays(&mut twin);
    twin.finish(Share::AtLeast(0.8));
}

/// iptables-nft, with chains for everything, a limited log at the end, and some ports that are not let out.
#[test]
fn ufw() {
    let mut twin = router("installed_ufw", &["ufw.iptables", "ufw.ip6tables"]);
    out(&mut twin);
    forwarded(&mut twin);
    strays(&mut twin);
    to_ports(&mut twin, &[25, 135, 445, 443]);
    // By the others the box's own packets leave, and some come to it.
    twin.compare_counters_but(&["output", "OUTPUT", "input", "INPUT"]);
    twin.finish(Share::AtLeast(0.85));
}
