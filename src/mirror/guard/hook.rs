//! The functions that are registered at netfilter's hooks, where the kernel lists them (nfnetlink_hook, since Linux 5.14):
//! what no listing of rules shows, such as a BPF netfilter program, a security module, or another module's own hook.
//!
//! Judged by name. A chain of nf_tables is judged by `nft`, so it is passed over here; [`HARMLESS`] names functions that do
//! nothing to a forwarded packet by themselves; every other function leaves its family, or its device. Those of conntrack
//! say that the family is tracked, whoever wanted it, and tracking is carried: then [`TRACKING`] are harmless, and so are those
//! of NAT where `nft` found the chains that they run.
//!
//! They are read when rules or bpf_links have changed, and five times a second: a module may put one there without a word.
//!
//! Where the kernel has no such list, BPF netfilter programs are looked for among all bpf_links. A link does not tell its
//! namespace, so one of another namespace counts too. Legacy ebtables are told by their modules there.

use super::super::nlattr::{Attrs, Message, Request, get_str};
use super::super::nlsock::NlSock;
use super::super::turns::Lookout;
use super::findings::{Collector, Way, name};
use super::nft::{GENMSG_LEN, NFPROTO_BRIDGE, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_NETDEV, families};
use crate::packet::Family;
use crate::port::bpf_query::NetfilterLinks;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// NFNL_SUBSYS_HOOK, NFNL_MSG_HOOK_GET.
const HOOK_GET: u16 = 12 << 8;
const HOOK_HOOKNUM: u16 = 1;
const HOOK_DEV: u16 = 3;
const HOOK_FUNCTION_NAME: u16 = 4;
const HOOK_MODULE_NAME: u16 = 5;
const HOOK_CHAIN_INFO: u16 = 6;
/// After how long they are read without an event.
const READ_AFTER: Duration = Duration::from_millis(200);
/// All of a bridge but that of ebtables alone, whose tables stand at others, too.
const BRIDGE_HOOKS: [(u32, &str); 5] = [
    (0, "prerouting"),
    (1, "input"),
    (2, "forward"),
    (3, "output"),
    (4, "postrouting"),
];
/// Prerouting, forward, postrouting.
const HOOKS: [(u32, &str); 3] = [(0, "prerouting"), (2, "forward"), (4, "postrouting")];
const REMEDY_NAT: &str = "only NAT by chains of nf_tables is carried; it is the kernel's until there is no other";
const REMEDY: &str = "only the kernel runs this hook, so the traffic is the kernel's until it is unregistered";

/// Names, or beginnings of names, of functions that are judged elsewhere or change nothing for a forwarded packet.
const HARMLESS: &[(&str, &str)] = &[
    ("ip_sabotage_in", "br_netfilter: acts on bridged frames only"),
    (
        "br_nf_",
        "br_netfilter: shows bridged packets to the hooks of IP, as the sysctls say",
    ),
    ("apparmor_ip_postroute", "acts on packets with a local socket only"),
    (
        "nf_flow_offload_",
        "does nothing without a flow_offload rule, which `nft` sees",
    ),
    ("ip_vs_", "does nothing without a service, which /proc/net/ip_vs lists"),
];

/// What looks connections up, by [`Family`]. Where it is, the family is tracked.
const LOOKS_UP: [&str; 2] = ["ipv4_conntrack_in", "ipv6_conntrack_in"];
/// What belongs to that: confirmation, and reassembly, which is not harmless alone.
const TRACKING: &[&str] = &[
    "nf_confirm",
    "ipv4_confirm",
    "ipv6_confirm",
    "ipv4_conntrack_defrag",
    "ipv6_defrag",
];
/// The beginning of the names of NAT's functions.
const NAT: &str = "nf_nat_";

/// Reads hooks.
#[derive(Debug)]
pub(super) struct Hooks {
    sock: Option<NlSock>,
    /// Whether the kernel has the list; `None` before the first question.
    listed: Option<bool>,
    lookout: Lookout,
    /// What was read at a hook: of which family, which one, of which link (0: of none).
    known: HashMap<(u8, u32, u32), Vec<Function>>,
    links: NetfilterLinks,
}

/// A function at a hook that is not harmless in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    name: String,
    module: String,
}

/// What the functions at the hooks of a family say together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    tracked: bool,
    nat: bool,
    /// Each leaves the family.
    left: Vec<String>,
}

impl Hooks {
    /// `None` where the kernel has no netfilter.
    pub(super) fn new(sock: Option<NlSock>) -> Self {
        Self {
            sock,
            listed: None,
            lookout: Lookout::new(READ_AFTER),
            known: HashMap::new(),
            links: NetfilterLinks::default(),
        }
    }

    /// Whether the last reading saw the kernel's own list.
    pub(super) fn listed(&self) -> bool {
        self.listed == Some(true)
    }

    /// `events`: rules or bpf_links have changed.
    pub(super) fn read(&mut self, found: &mut Collector, events: bool) {
        if self.listed == Some(false) || self.sock.is_none() {
            return read_links(found, &mut self.links);
        }
        if self.lookout.is_due(events) {
            self.known.clear();
        }
        for (family, nfproto) in [(Family::V4, NFPROTO_IPV4), (Family::V6, NFPROTO_IPV6)] {
            let mut all = Vec::new();
            for (hook, place) in HOOKS {
                match self.functions(nfproto, hook, None) {
                    // nfnetlink's answer for a subsystem that is not there.
                    Err(e) if self.listed.is_none() && e.raw_os_error() == Some(libc::EINVAL) => {
                        self.listed = Some(false);
                        return read_links(found, &mut self.links);
                    }
                    Err(e) => found.leave_families(&[family], format!("hooks at {place} cannot be read: {e}"), REMEDY),
                    Ok(functions) => all.extend(functions.into_iter().map(|function| (function, place))),
                }
                self.listed = Some(true);
            }
            report(found, family, judge(family, &all));
        }
        for (ifindex, name) in found.passed() {
            self.read_device(found, ifindex, &name);
        }
        if found.has_bridge_ports() {
            self.read_bridges(found);
        }
    }

    fn read_bridges(&mut self, found: &mut Collector) {
        for (hook, place) in BRIDGE_HOOKS {
            match self.functions(NFPROTO_BRIDGE, hook, None) {
                Ok(functions) => {
                    for function in functions {
                        found.leave_bridging(function.text(&format!("at {place} of bridges")), REMEDY);
                    }
                }
                // A kernel without hooks at bridges.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP)) => return,
                Err(e) => {
                    let text = format!("hooks at {place} of bridges cannot be read: {e}");
                    found.leave_bridging(text, REMEDY);
                }
            }
        }
    }

    fn read_device(&mut self, found: &mut Collector, ifindex: u32, name: &str) {
        for (hook, way, place) in [(0, Way::Ingress, "ingress"), (1, Way::Egress, "egress")] {
            match self.functions(NFPROTO_NETDEV, hook, Some((ifindex, name))) {
                Ok(functions) => {
                    for function in functions {
                        found.leave_port(ifindex, way, function.text(&format!("at {place} of {name}")), REMEDY);
                    }
                }
                // Gone meanwhile; or a kernel without hooks on devices.
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::ENODEV | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP)
                    ) => {}
                Err(e) => found.leave_port(ifindex, way, format!("hooks at {place} cannot be read: {e}"), REMEDY),
            }
        }
    }

    /// The functions at a hook that are not known to be harmless.
    fn functions(&mut self, family: u8, hook: u32, device: Option<(u32, &str)>) -> io::Result<Vec<Function>> {
        let place = (family, hook, device.map_or(0, |(ifindex, _)| ifindex));
        if let Some(known) = self.known.get(&place) {
            return Ok(known.clone());
        }
        let functions = self.ask(family, hook, device.map(|(_, name)| name))?;
        self.known.insert(place, functions.clone());
        Ok(functions)
    }

    /// Reads them. A list that changes meanwhile is read again.
    fn ask(&mut self, family: u8, hook: u32, device: Option<&str>) -> io::Result<Vec<Function>> {
        let Some(sock) = &mut self.sock else {
            return Ok(Vec::new());
        };
        let mut tries = 0;
        loop {
            let request = Request::new(HOOK_GET, libc::NLM_F_DUMP as u16, &[family, 0, 0, 0]);
            let mut request = request.attr(HOOK_HOOKNUM, &hook.to_be_bytes());
            if let Some(device) = device {
                request = request.attr_str(HOOK_DEV, device);
            }
            let mut functions = Vec::new();
            let result = sock.dump(request, |m| functions.extend(function(m)));
            tries += 1;
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted && tries < 3 => {}
                other => return other.map(|()| functions),
            }
        }
    }
}

impl Function {
    fn text(&self, place: &str) -> String {
        match self.name.as_str() {
            "ipv4_conntrack_defrag" | "ipv6_defrag" => format!("fragments are reassembled: {} {place}", self.name),
            "nf_hook_run_bpf" => format!("a BPF netfilter program {place}"),
            "" => format!("a netfilter hook without a name {place}"),
            _ if self.module.is_empty() => format!("netfilter hook {} {place}", self.name),
            _ => format!("netfilter hook {} of module {} {place}", self.name, self.module),
        }
    }
}

fn judge(family: Family, functions: &[(Function, &str)]) -> Verdict {
    let tracked = functions.iter().any(|(f, _)| f.name == LOOKS_UP[family as usize]);
    let tracks = |f: &Function| LOOKS_UP.contains(&&*f.name) || TRACKING.contains(&&*f.name);
    let is_nat = |f: &Function| f.name.starts_with(NAT);
    let others = functions.iter().filter(|(f, _)| !(is_nat(f) || tracked && tracks(f)));
    Verdict {
        tracked,
        nat: functions.iter().any(|(f, _)| is_nat(f)),
        left: others
            .map(|(f, place)| f.text(&format!("at {place} of {}", name(family))))
            .collect(),
    }
}

fn report(found: &mut Collector, family: Family, verdict: Verdict) {
    if verdict.tracked && !found.is_tracked(family) {
        found.track(
            &[family],
            format!("conntrack active for {}: by its hooks", name(family)),
        );
    }
    if verdict.nat && found.is_tracked(family) && !found.runs_nat(family) {
        found.leave_families(&[family], "NAT is registered at the hooks".to_owned(), REMEDY_NAT);
    }
    // Of a family that is left by something with a better name, its hooks say nothing new.
    if !found.is_left(family) {
        for text in verdict.left {
            found.leave_families(&[family], text, REMEDY);
        }
    }
}

/// The function of one message, unless it is known to be harmless or judged elsewhere.
fn function(m: &Message) -> Option<Function> {
    let attrs: Attrs = m.attrs(GENMSG_LEN);
    let text = |kind| get_str(attrs.find(kind).unwrap_or_default());
    let name = text(HOOK_FUNCTION_NAME);
    // A chain without its description is one that a commit is just removing or adding: `nft` sees which.
    let chain = attrs.find(HOOK_CHAIN_INFO).is_some() || name.starts_with("nft_do_chain");
    let bpf = name == "nf_hook_run_bpf";
    let harmless = HARMLESS.iter().any(|(begin, _)| name.starts_with(begin));
    (bpf || !chain && !harmless).then(|| Function {
        module: text(HOOK_MODULE_NAME),
        name,
    })
}

/// BPF netfilter programs, where only the bpf_links tell.
fn read_links(found: &mut Collector, links: &mut NetfilterLinks) {
    match links.read() {
        Ok(links) => {
            for link in links {
                let Some((_, place)) = HOOKS.iter().find(|h| h.0 == link.hook) else {
                    continue;
                };
                if matches!(link.family as u8, NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET) {
                    let text = format!(
                        "a BPF netfilter program at {place} (bpf_link {}), perhaps of another namespace",
                        link.id
                    );
                    found.leave_families(
                        families(link.family as u8),
                        text,
                        "BPF programs in the path are not carried; detach it",
                    );
                }
            }
        }
        Err(e) => {
            let text = format!("BPF netfilter programs cannot be listed: {e}");
            found.leave_families(
                &Family::ALL,
                text,
                "grant CAP_SYS_ADMIN, or use a kernel with CONFIG_NETFILTER_NETLINK_HOOK",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::nlattr::Messages;
    use super::*;

    fn parse(name: &str, chain: bool) -> Option<Function> {
        let mut request = Request::new(HOOK_GET, 0, &[NFPROTO_IPV4, 0, 0, 0]).attr_str(HOOK_FUNCTION_NAME, name);
        if chain {
            request = request.attr(HOOK_CHAIN_INFO, &[]);
        }
        let bytes = request.attr_str(HOOK_MODULE_NAME, "m").finish(1);
        Messages(&bytes).next().as_ref().and_then(function)
    }

    fn judged(names: &[&str]) -> Verdict {
        let functions: Vec<_> = names
            .iter()
            .filter_map(|n| parse(n, false))
            .map(|f| (f, "here"))
            .collect();
        judge(Family::V4, &functions)
    }

    #[test]
    fn functions_are_judged_by_name() {
        assert_eq!(parse("nft_do_chain_ipv4", true), None);
        let harmless = [
            "apparmor_ip_postroute",
            "ip_sabotage_in",
            "ip_vs_out_hook",
            "br_nf_forward",
        ];
        assert_eq!(judged(&harmless), Verdict::default());
        let left = |text: &str| Verdict {
            left: vec![text.into()],
            ..Verdict::default()
        };
        assert!(
            parse("nf_hook_run_bpf", true).is_some(),
            "though it has a chain's description"
        );
        assert_eq!(
            judged(&["nf_hook_run_bpf"]),
            left("a BPF netfilter program at here of IPv4")
        );
        assert_eq!(
            judged(&["selinux_ip_forward"]),
            left("netfilter hook selinux_ip_forward of module m at here of IPv4")
        );
        assert_eq!(judged(&[""]), left("a netfilter hook without a name at here of IPv4"));
    }

    #[test]
    fn conntrack_is_harmless_as_a_whole_and_nat_is_noted() {
        let verdict = judged(&["ipv4_conntrack_defrag", "ipv4_conntrack_in", "nf_confirm", "x"]);
        assert!(verdict.tracked && !verdict.nat);
        assert_eq!(verdict.left, ["netfilter hook x of module m at here of IPv4"]);
        let alone = judged(&["ipv4_conntrack_defrag"]);
        assert!(!alone.tracked);
        assert_eq!(
            alone.left,
            ["fragments are reassembled: ipv4_conntrack_defrag at here of IPv4"]
        );
        let other = judged(&["ipv6_conntrack_in"]);
        assert!(!other.tracked, "of the other family");
        assert_eq!(other.left.len(), 1);
        let nat = judged(&["nf_nat_ipv4_pre_routing"]);
        assert!(nat.nat && nat.left.is_empty(), "nothing without tracking");
    }
}
