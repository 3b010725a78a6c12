//! The client's and the server's namespaces and the links between them and the router, which is the process' own
//! namespace; see the picture in `mod.rs`. One topology serves all subjects of a case, and goes when it is dropped.
//!
//! Links of veth, one queue each, neighbours fixed, IPv4; GRO at d0 has it run NAPI, without which live frames do not arrive.

use super::case::Case;
use super::program::{output, run};
use crate::port::netns::Netns;
use std::fs;

/// With the Ethernet header 1518 bytes, the longest frame of the standard sizes.
const MTU: u32 = 1504;

/// Namespaces and links.
pub struct Topology {
    client: Netns,
    server: Netns,
    /// c0, d0, d1, s0.
    macs: [[u8; 6]; 4],
    bridged: bool,
}

impl Topology {
    /// Makes them, and has the router do what the case says.
    pub fn build(case: Case) -> Result<Self, String> {
        let lab = Self::links(case == Case::Bridge)?;
        if lab.bridged {
            lab.bridge()?;
        } else if case.routes() {
            lab.addresses()?;
        }
        case.configure()?;
        Ok(lab)
    }

    /// Makes the links, up but without addresses.
    fn links(bridged: bool) -> Result<Self, String> {
        let namespace = |made: std::io::Result<Netns>| {
            made.map_err(|error| format!("cannot make a network namespace, {error}: run it as root"))
        };
        let (client, server) = (namespace(Netns::new())?, namespace(Netns::new())?);
        quiet()?;
        inside(&client, quiet)?;
        inside(&server, quiet)?;
        let (c, s) = (client.path(), server.path());
        run(
            "ip -batch -",
            &format!(
                "link set lo up\n\
                 link add d0 mtu {MTU} type veth peer name c0 mtu {MTU} netns {c}\n\
                 link add d1 mtu {MTU} type veth peer name s0 mtu {MTU} netns {s}\n\
                 link set d0 up\nlink set d1 up\n"
            ),
        )?;
        inside(&client, || run("ip link set c0 up", ""))?;
        inside(&server, || run("ip link set s0 up", ""))?;
        run("ethtool -K d0 gro on", "")?;
        let macs = [
            inside(&client, || mac_of("c0"))?,
            mac_of("d0")?,
            mac_of("d1")?,
            inside(&server, || mac_of("s0"))?,
        ];
        Ok(Self {
            client,
            server,
            macs,
            bridged,
        })
    }

    fn addresses(&self) -> Result<(), String> {
        let [client, .., server] = self.macs.map(text);
        run(
            "ip -batch -",
            &format!(
                "addr add 10.1.0.1/24 dev d0\naddr add 10.2.0.1/24 dev d1\n\
                 neigh replace 10.1.0.2 lladdr {client} dev d0 nud permanent\n\
                 neigh replace 10.2.0.2 lladdr {server} dev d1 nud permanent\n"
            ),
        )
    }

    /// d0 and d1 as ports of br0, which knows both stations.
    fn bridge(&self) -> Result<(), String> {
        let [client, .., server] = self.macs.map(text);
        run(
            "ip -batch -",
            "link add br0 type bridge\nlink set d0 master br0\nlink set d1 master br0\nlink set br0 up\n",
        )?;
        run(
            "bridge -batch -",
            &format!("fdb replace {client} dev d0 master static\nfdb replace {server} dev d1 master static\n"),
        )?;
        // Where br_netfilter is loaded on the machine, frames would pass the chains of IP.
        let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
        Ok(())
    }

    /// The Ethernet addresses of c0, d0, d1 and s0.
    pub fn macs(&self) -> [[u8; 6]; 4] {
        self.macs
    }

    /// To which Ethernet address the client sends.
    pub fn next_hop(&self, case: Case) -> [u8; 6] {
        self.macs[if case.routes() { 1 } else { 3 }]
    }

    /// The client's.
    pub fn client(&self) -> &Netns {
        &self.client
    }

    /// The server's.
    pub fn server(&self) -> &Netns {
        &self.server
    }
}

impl Drop for Topology {
    /// The router's namespace lives on, for the next case.
    fn drop(&mut self) {
        let _ = run("nft flush ruleset", "");
        let bridge = if self.bridged { "link del br0\n" } else { "" };
        let _ = run("ip -batch -", &format!("{bridge}link del d0\nlink del d1\n"));
    }
}

/// Runs something in a namespace; both kinds of errors are one line.
pub fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    netns
        .run(work)
        .map_err(|error| format!("cannot enter a network namespace of the lab, {error}: run it as root"))?
}

/// Forwards IPv4 from anywhere, and says nothing by itself.
fn quiet() -> Result<(), String> {
    for (name, value) in [
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
    ] {
        let path = format!("/proc/sys/net/{name}");
        match fs::write(&path, value) {
            // A kernel without IPv6 is quiet.
            Err(_) if name.starts_with("ipv6") && !fs::exists(&path).unwrap_or(false) => {}
            Err(error) => {
                return Err(format!(
                    "cannot write {path} in the lab, {error}: mount /proc there writable"
                ));
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The Ethernet address of a link in the calling thread's namespace.
fn mac_of(link: &str) -> Result<[u8; 6], String> {
    let shown = output(&format!("ip -o link show dev {link}"), "")?;
    let word = shown
        .split("link/ether ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let bytes: Option<Vec<u8>> =
        word.and_then(|word| word.split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect());
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("`ip` shows no Ethernet address of {link} in the lab: see its version (ip -V)"))
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
