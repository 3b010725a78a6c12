//! The functions that are registered at netfilter's hooks, where the kernel lists them (nfnetlink_hook, since Linux 5.14):
//! what no listing of rules shows, such as a BPF netfilter program, a security module, or another module's own hook.
//!
//! Judged by name. A chain of nf_tables is judged by `nft`, so it is passed over here; [`HARMLESS`] names functions that do
//! nothing to a forwarded packet by themselves; every other function leaves its family, or its device.
//!
//! Where the kernel has no such list, BPF netfilter programs are looked for among all bpf_links. A link does not tell its
//! namespace, so one of another namespace counts too.

use super::super::nlattr::{Attrs, Message, Request, get_str};
use super::super::nlsock::NlSock;
use super::findings::{Collector, Way, name};
use super::link::LinkFacts;
use super::nft::{GENMSG_LEN, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_NETDEV, families};
use crate::packet::Family;
use crate::port::bpf_query;
use std::io;

/// NFNL_SUBSYS_HOOK, NFNL_MSG_HOOK_GET.
const HOOK_GET: u16 = 12 << 8;
const HOOK_HOOKNUM: u16 = 1;
const HOOK_DEV: u16 = 3;
const HOOK_FUNCTION_NAME: u16 = 4;
const HOOK_MODULE_NAME: u16 = 5;
const HOOK_CHAIN_INFO: u16 = 6;
/// Prerouting, forward, postrouting.
const HOOKS: [(u32, &str); 3] = [(0, "prerouting"), (2, "forward"), (4, "postrouting")];
const REMEDY: &str = "only the kernel runs this hook, so the traffic is the kernel's until it is unregistered";

/// Names, or beginnings of names, of functions that are judged elsewhere or change nothing for a forwarded packet.
const HARMLESS: &[(&str, &str)] = &[
    ("ip_sabotage_in", "br_netfilter: acts on bridged frames only"),
    ("apparmor_ip_postroute", "acts on packets with a local socket only"),
    ("nf_nat_", "does nothing where nothing is tracked"),
    (
        "nf_flow_offload_",
        "does nothing without a flow_offload rule, which `nft` sees",
    ),
    ("ip_vs_", "does nothing without a service, which /proc/net/ip_vs lists"),
];

/// Reads hooks.
#[derive(Debug)]
pub(super) struct Hooks {
    sock: Option<NlSock>,
    /// Whether the kernel has the list; `None` before the first question.
    listed: Option<bool>,
}

/// A function at a hook.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    module: String,
}

impl Hooks {
    /// `None` where the kernel has no netfilter.
    pub(super) fn new(sock: Option<NlSock>) -> Self {
        Self { sock, listed: None }
    }

    /// Whether the last reading saw the kernel's own list.
    pub(super) fn listed(&self) -> bool {
        self.listed == Some(true)
    }

    pub(super) fn read(&mut self, found: &mut Collector, links: &[LinkFacts]) {
        if self.listed == Some(false) || self.sock.is_none() {
            return read_links(found);
        }
        for (family, nfproto) in [(Family::V4, NFPROTO_IPV4), (Family::V6, NFPROTO_IPV6)] {
            for (hook, place) in HOOKS {
                match self.functions(nfproto, hook, None) {
                    // nfnetlink's answer for a subsystem that is not there.
                    Err(e) if self.listed.is_none() && e.raw_os_error() == Some(libc::EINVAL) => {
                        self.listed = Some(false);
                        return read_links(found);
                    }
                    Err(e) => found.leave_families(&[family], format!("hooks at {place} cannot be read: {e}"), REMEDY),
                    // Of a family that is left by something with a better name, its hooks say nothing new.
                    Ok(_) if found.is_left(family) => {}
                    Ok(functions) => {
                        for function in functions {
                            found.leave_families(
                                &[family],
                                function.text(&format!("at {place} of {}", name(family))),
                                REMEDY,
                            );
                        }
                    }
                }
                self.listed = Some(true);
            }
        }
        for port in links.iter().filter(|l| l.is_port) {
            self.read_device(found, port);
        }
    }

    fn read_device(&mut self, found: &mut Collector, port: &LinkFacts) {
        for (hook, way, place) in [(0, Way::Ingress, "ingress"), (1, Way::Egress, "egress")] {
            match self.functions(NFPROTO_NETDEV, hook, Some(&port.name)) {
                Ok(functions) => {
                    for function in functions {
                        found.leave_port(
                            port.ifindex,
                            way,
                            function.text(&format!("at {place} of {}", port.name)),
                            REMEDY,
                        );
                    }
                }
                // Gone meanwhile; or a kernel without hooks on devices.
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::ENODEV | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP)
                    ) => {}
                Err(e) => found.leave_port(
                    port.ifindex,
                    way,
                    format!("hooks at {place} cannot be read: {e}"),
                    REMEDY,
                ),
            }
        }
    }

    /// The functions at a hook that are not known to be harmless. A list that changes meanwhile is read again.
    fn functions(&mut self, family: u8, hook: u32, device: Option<&str>) -> io::Result<Vec<Function>> {
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
            let result = sock.dump(request, |m| functions.extend(suspicious(m)));
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
            "ipv4_conntrack_in" | "ipv6_conntrack_in" | "nf_confirm" => {
                format!("conntrack active: {} {place}", self.name)
            }
            "ipv4_conntrack_defrag" | "ipv6_defrag" => format!("fragments are reassembled: {} {place}", self.name),
            "nf_hook_run_bpf" => format!("a BPF netfilter program {place}"),
            "" => format!("a netfilter hook without a name {place}"),
            _ if self.module.is_empty() => format!("netfilter hook {} {place}", self.name),
            _ => format!("netfilter hook {} of module {} {place}", self.name, self.module),
        }
    }
}

/// The function of one message, unless it is known to be harmless or judged elsewhere.
fn suspicious(m: &Message) -> Option<Function> {
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
fn read_links(found: &mut Collector) {
    match bpf_query::netfilter_links() {
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

    fn judge(function: &str, chain: bool) -> Option<String> {
        let mut request = Request::new(HOOK_GET, 0, &[NFPROTO_IPV4, 0, 0, 0]).attr_str(HOOK_FUNCTION_NAME, function);
        if chain {
            request = request.attr(HOOK_CHAIN_INFO, &[]);
        }
        let bytes = request.attr_str(HOOK_MODULE_NAME, "m").finish(1);
        Messages(&bytes)
            .next()
            .as_ref()
            .and_then(suspicious)
            .map(|f| f.text("here"))
    }

    #[test]
    fn functions_are_judged_by_name() {
        assert_eq!(judge("nft_do_chain_ipv4", true), None);
        for function in [
            "apparmor_ip_postroute",
            "ip_sabotage_in",
            "nf_nat_ipv4_pre_routing",
            "ip_vs_out_hook",
        ] {
            assert_eq!(judge(function, false), None);
        }
        assert_eq!(
            judge("ipv4_conntrack_in", false).unwrap(),
            "conntrack active: ipv4_conntrack_in here"
        );
        assert_eq!(judge("nf_hook_run_bpf", true).unwrap(), "a BPF netfilter program here");
        assert_eq!(
            judge("selinux_ip_forward", false).unwrap(),
            "netfilter hook selinux_ip_forward of module m here"
        );
        assert_eq!(judge("", false).unwrap(), "a netfilter hook without a name here");
    }
}
