//! Filter chains at each hook where nothing is tracked: their rules are run, and what they let pass is forwarded.

use crate::lab::packet::{Packet, tcp, udp};
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};

/// To three ports, in both families.
fn packets() -> Vec<Packet> {
    let each = |at: u16| {
        plan::pairs(0, 1, at).into_iter().flat_map(move |(src, dst)| {
            [
                udp(src, dst, (1000, 7), 30),
                udp(src, dst, (1000, 9), 30),
                tcp(src, dst, (at, 80), 2, 0),
            ]
        })
    };
    (0..30).flat_map(each).collect()
}

/// A chain at a hook, which drops a third of one or both families, from the start or from the middle on.
fn judge(name: &str, more: &[&str], least: f64) {
    for live in [false, true] {
        let config = plan::config_with(2, if live { &[] } else { more });
        let mut twin = Twin::start(Setup {
            filters: true,
            fence: Fence::None,
            ..Setup::new(&format!("nft_chain_{name}_{live}"), 2, config)
        });
        twin.send(0, packets());
        if live {
            twin.change(more);
            twin.send(0, packets());
        }
        twin.compare_counters();
        twin.finish(Share::AtLeast(least));
    }
}

#[test]
fn of_each_hook() {
    for hook in ["prerouting", "forward", "postrouting"] {
        let chain = format!("nft add chain inet t c {{ type filter hook {hook} priority 0 ; }}");
        judge(
            hook,
            &[
                "nft add table inet t",
                &chain,
                "nft add rule inet t c udp dport 9 counter drop",
            ],
            0.6,
        );
    }
}

#[test]
fn of_one_family_and_two_at_a_hook() {
    let more = [
        "nft add table ip6 t",
        "nft add chain ip6 t late { type filter hook postrouting priority 300 ; policy drop ; }",
        "nft add rule ip6 t late tcp dport 80 counter accept",
        "nft add chain ip6 t early { type filter hook postrouting priority -10 ; }",
        "nft add rule ip6 t early oifname d1 ip6 hoplimit 63 counter",
        "nft add chain ip6 t first { type filter hook prerouting priority -150 ; }",
        "nft add rule ip6 t first oifname d1 drop",
        "nft add rule ip6 t first ip6 hoplimit 64 counter",
    ];
    judge("ip6", &more, 0.6);
}
