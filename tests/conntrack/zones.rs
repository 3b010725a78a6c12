//! Zones: two networks of the same addresses behind one outer address, as the kernel's own test nft_nat_zones has it. A rule
//! that sets a zone leaves both families, so nothing may be forwarded here, and `check` says why.
//!
//! ```text
//!   10.100.0.0/16 -- d0, zone 1 \
//!                                [router] d1 -- 10.101.0.0/16     answers find back by the mark of their connection
//!   10.100.0.0/16 -- d2, zone 2 /
//! ```

use crate::flow::{CLIENT, Flow};
use crate::lab::bypath::BINARY;
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat_more::{datagrams, stream};
use crate::script::play_each;
use crate::view::View;

const RULESET: &str = "table inet zones {
    chain zoning {
        type filter hook prerouting priority raw; policy accept;
        ct original zone set meta iifname map { \"d0\" : 1, \"d2\" : 2 }
    }
    chain marking {
        type filter hook prerouting priority mangle; policy accept;
        iifname \"d2\" ct state new ct mark set 2
        iifname \"d1\" meta mark set ct mark
    }
    chain leaving {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"d1\" counter masquerade
    }
}";

#[test]
fn networks_of_the_same_addresses() {
    let mut config = plan::config_with(
        3,
        &[
            "ip rule add fwmark 2 lookup 102",
            "ip route add 10.100.0.0/16 via 10.0.2.2 table 102",
        ],
    );
    config.push(format!("ruleset {RULESET}"));
    let mut twin = Twin::start(Setup {
        filters: true,
        fence: Fence::None,
        ..Setup::new("zones_same_addresses", 3, config)
    });
    for (what, steps) in [("udp", datagrams as fn() -> _), ("tcp", stream)] {
        let flows: Vec<Flow> = (0..4).map(|_| Flow::new(true)).collect();
        for port in [0, 2] {
            let view = |flow: &Flow| View::new(flow.clone()).behind([port, 1]).random();
            let mut views: Vec<View> = flows.iter().map(view).collect();
            play_each(&mut twin, &format!("{what} from port {port}"), &mut views, steps());
            for view in &views {
                let kept = view.ports()[0] == view.labs[0].ports[CLIENT];
                assert_eq!(
                    kept,
                    port == 0,
                    "who comes second gets another port: {:?}",
                    view.ports()
                );
            }
        }
    }
    let output = twin.tested_router().output(&format!("{BINARY} check d0 d1 d2"), "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("ct zone set"), "{said}");
    twin.compare_counters();
    twin.finish(Share::Nothing);
}
