//! Findings that hold for every port: permissions, the kernel, another instance, forwarding.
//!
//! [`facts`] asks and [`findings`] judges, so that the judgement is tested on hosts that are not at hand. What only a trial
//! can tell (AF_XDP sockets, the transmit budget) was tried; what a version tells is compared.

use super::Finding;
use crate::control::api::Served;
use crate::control::caps;
use crate::control::kernel::{self, Kernel, Version};
use crate::mirror::PUNT_DEVICE;
use crate::port::link;

/// The kernel whose TAP devices have room for metadata, which the better of the two ways back into the kernel needs besides
/// tcx (6.6).
const TAP_METADATA: Version = Version(6, 16);

/// The oldest kernel whose verifier and helpers the programs are made for.
const OLDEST: Version = Version(6, 1);

/// What was found out about the host.
pub struct Facts {
    missing: Vec<&'static str>,
    memlock: Option<u64>,
    kernel: Kernel,
    /// /dev/net/tun can be opened; `Err` is why not.
    tun: Result<(), String>,
    /// By what an instance shows in this network namespace, and how to stop it.
    pub instance: Option<(String, String)>,
    /// `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`; `None` where the family is not there.
    forwarding: [Option<bool>; 2],
}

/// Asks the host. Changes nothing.
pub fn facts() -> Facts {
    let sysctl = |path: &str| std::fs::read_to_string(path).ok().map(|value| value.trim() != "0");
    Facts {
        missing: caps::missing_capabilities(),
        memlock: caps::memlock_limit(),
        kernel: kernel::kernel(),
        tun: tun(),
        instance: instance(),
        forwarding: [
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/net/ipv6/conf/all/forwarding",
        ]
        .map(sysctl),
    }
}

/// Opens what the punt device is made by; no device comes of that.
fn tun() -> Result<(), String> {
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    open.map(drop).map_err(|error| error.to_string())
}

/// The sign of an instance, whatever its control socket is called, and how to stop it.
fn instance() -> Option<(String, String)> {
    let served: Vec<String> = Served::list().into_iter().map(|served| served.socket).collect();
    let device = link::ifindex(PUNT_DEVICE).map(|_| format!("the device {PUNT_DEVICE} exists"));
    let sign = (!served.is_empty()).then(|| served.join(", ")).or(device)?;
    Some((sign, Served::how_to_stop()))
}

/// Judges the facts.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    found.push(permissions(facts));
    found.extend(kernel_has(&facts.kernel));
    found.push(match &facts.tun {
        Ok(()) => Finding::ok("/dev/net/tun: frames can be given back to the kernel"),
        Err(error) => {
            Finding::fail(format!("/dev/net/tun: {error}")).fix("modprobe tun, or let the container have the device")
        }
    });
    found.push(match &facts.instance {
        None => Finding::ok("no bypath runs in this network namespace"),
        Some((sign, stop)) => Finding::fail(format!("a bypath runs in this network namespace ({sign})")).fix(stop),
    });
    let names = [
        ("IPv4", "net.ipv4.ip_forward"),
        ("IPv6", "net.ipv6.conf.all.forwarding"),
    ];
    for ((family, sysctl), forwarding) in names.into_iter().zip(facts.forwarding) {
        found.extend(match forwarding {
            None => None,
            Some(true) => Some(Finding::ok(format!("the kernel forwards {family}"))),
            Some(false) => Some(
                Finding::note(format!(
                    "the kernel does not forward {family}, so bypath does not either"
                ))
                .fix(format!("sysctl -w {sysctl}=1")),
            ),
        });
    }
    found
}

fn permissions(facts: &Facts) -> Finding {
    if facts.missing.is_empty() {
        return Finding::ok("capabilities: all that are needed");
    }
    let memlock = match facts.memlock {
        Some(bytes) if facts.missing.contains(&"CAP_IPC_LOCK") => {
            format!(", or raise RLIMIT_MEMLOCK, now {} KiB", bytes / 1024)
        }
        _ => String::new(),
    };
    Finding::fail(format!("capabilities: {} missing", facts.missing.join(", "))).fix(format!("run it as root{memlock}"))
}

fn kernel_has(kernel: &Kernel) -> Vec<Finding> {
    let release = &kernel.release;
    let mut found = vec![match &kernel.af_xdp {
        Ok(()) => Finding::ok(format!("kernel {release}: has AF_XDP sockets")),
        // Without CAP_NET_RAW the question is refused, which the line on capabilities says already.
        Err(error) => Finding::fail(format!("kernel {release}: no AF_XDP socket, {error}"))
            .fix("CAP_NET_RAW, and a kernel with CONFIG_XDP_SOCKETS"),
    }];
    if kernel.version < OLDEST {
        found.push(Finding::fail(format!("kernel {release} is too old")).fix("6.1 is the oldest that will do"));
    }
    found.push(if kernel.version >= TAP_METADATA {
        Finding::ok("punts go by XDP metadata and tcx (6.16)")
    } else {
        Finding::note("punts go by clsact, which loses frames that end within their own IP headers")
            .fix("kernel 6.16 has TAP metadata, which loses none")
    });
    if kernel.af_xdp.is_ok() {
        found.push(if kernel.tx_budget {
            Finding::ok("copy-mode transmit may take more than 32 frames per call (6.17)")
        } else {
            Finding::note("copy-mode transmit takes at most 32 frames per call").fix("kernel 6.17 lifts that")
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn facts() -> Facts {
        let kernel = Kernel {
            release: "6.18.5".into(),
            version: Version(6, 18),
            af_xdp: Ok(()),
            tx_budget: true,
        };
        Facts {
            missing: vec![],
            memlock: None,
            kernel,
            tun: Ok(()),
            instance: None,
            forwarding: [Some(true); 2],
        }
    }

    fn worst(facts: &Facts) -> Vec<(Level, String)> {
        let found = findings(facts).into_iter().filter(|finding| finding.level != Level::Ok);
        found
            .map(|finding| {
                (
                    finding.level,
                    format!("{} {}", finding.what, finding.fix.unwrap_or_default()),
                )
            })
            .collect()
    }

    #[test]
    fn a_good_host_is_all_ok() {
        assert_eq!(worst(&facts()), []);
    }

    #[test]
    fn each_shortcoming_is_named_with_its_fix() {
        let poor = Facts {
            missing: vec!["CAP_BPF", "CAP_IPC_LOCK"],
            memlock: Some(8 << 20),
            kernel: Kernel {
                release: "5.15.0".into(),
                version: Version(5, 15),
                af_xdp: Err("denied".into()),
                tx_budget: false,
            },
            tun: Err("No such file".into()),
            instance: Some(("@bypath.x".into(), "stop it first, `kill 7`".into())),
            forwarding: [Some(false), None],
        };
        let found = worst(&poor);
        let has = |level, part: &str| found.iter().any(|(is, text)| *is == level && text.contains(part));
        assert!(
            has(Level::Fail, "CAP_BPF, CAP_IPC_LOCK missing") && has(Level::Fail, "now 8192 KiB"),
            "{found:?}"
        );
        assert!(
            has(Level::Fail, "no AF_XDP socket, denied") && has(Level::Note, "by clsact"),
            "{found:?}"
        );
        assert!(
            has(
                Level::Fail,
                "a bypath runs in this network namespace (@bypath.x) stop it first, `kill 7`"
            ) && has(Level::Note, "sysctl -w net.ipv4.ip_forward=1"),
            "{found:?}"
        );
        assert!(!has(Level::Note, "IPv6"), "{found:?}");
        assert!(
            has(Level::Fail, "kernel 5.15.0 is too old 6.1 ")
                && has(Level::Fail, "/dev/net/tun: No such file modprobe tun"),
            "{found:?}"
        );
    }

    #[test]
    fn the_oldest_kernel_is_old_enough() {
        let mut facts = facts();
        facts.kernel.version = Version(6, 1);
        assert!(worst(&facts).iter().all(|(level, _)| *level == Level::Note));
    }

    #[test]
    fn an_old_transmit_path_is_a_note() {
        let mut facts = facts();
        facts.kernel.tx_budget = false;
        assert!(matches!(worst(&facts).as_slice(), [(Level::Note, text)] if text.contains("32 frames")));
    }
}
