//! What the router does, and how the kernel is told so. Each case is a word of the command line and of the report.
//!
//! | case | the router |
//! |---|---|
//! | `wire` | nothing of the kernel: what comes in on one side leaves on the other |
//! | `route` | routes 10.64.0.0/10 |
//! | `route-1m` | has a million host routes there, and traffic goes to as many of them as there are flows |
//! | `bridge` | has no address: d0 and d1 are ports of br0 |
//! | `nat` | tracks connections, lets established ones and those from the client pass, masquerades them |
//! | `nat-1000-rules` | asks a thousand rules before, none of which matches, in the way of each packet |
//! | `nat-tbf` | has a token bucket at d1 which never binds |

use super::program::run;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Routes of `route-1m`.
const ROUTES: u32 = 1_000_000;
/// The first destination; flows go to it and the addresses that follow.
pub const DESTINATION: u32 = 10 << 24 | 64 << 16;
/// Destinations at most, but for `route-1m`: sixteen times what bypath keeps ways to.
const DESTINATIONS_MAX: u32 = 65_536;
/// Rules that match nothing.
const RULES: u32 = 1_000;
/// More than any subject sends here, and the tokens of 5 ms of it.
const TBF: &str = "rate 40gbit burst 25000000 limit 250000000";

/// What the router does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// Joins the two ports.
    Wire,
    /// Routes.
    Route,
    /// Routes by a million routes.
    #[serde(rename = "route-1m")]
    Route1m,
    /// Bridges.
    Bridge,
    /// Routes, tracks, masquerades.
    Nat,
    /// The same behind a thousand rules.
    #[serde(rename = "nat-1000-rules")]
    Nat1000Rules,
    /// The same, and a token bucket at the way out.
    NatTbf,
}

impl Case {
    /// All of them, in the order in which they are measured best: what takes longest to tear down comes last.
    pub const ALL: [Self; 7] = [
        Case::Wire,
        Case::Bridge,
        Case::Route,
        Case::Nat,
        Case::Nat1000Rules,
        Case::NatTbf,
        Case::Route1m,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Case::Wire => "wire",
            Case::Route => "route",
            Case::Route1m => "route-1m",
            Case::Bridge => "bridge",
            Case::Nat => "nat",
            Case::Nat1000Rules => "nat-1000-rules",
            Case::NatTbf => "nat-tbf",
        }
    }

    /// Whether the router has addresses and routes.
    pub fn routes(self) -> bool {
        !matches!(self, Case::Wire | Case::Bridge)
    }

    /// Whether it tracks connections.
    pub fn tracks(self) -> bool {
        matches!(self, Case::Nat | Case::Nat1000Rules | Case::NatTbf)
    }

    /// To how many destinations so many flows go.
    pub fn destinations(self, flows: u32) -> u32 {
        let most = if self == Case::Route1m {
            ROUTES
        } else {
            DESTINATIONS_MAX
        };
        flows.clamp(1, most)
    }

    /// Tells the kernel of the router, whose links are there and up.
    pub(super) fn configure(self) -> Result<(), String> {
        match self {
            Case::Wire | Case::Bridge => {}
            Case::Route1m => run("ip -batch -", &host_routes())?,
            _ => run("ip route add 10.64.0.0/10 via 10.2.0.2", "")?,
        }
        if self.tracks() {
            run("nft -f -", &ruleset(if self == Case::Nat1000Rules { RULES } else { 0 }))?;
        }
        if self == Case::NatTbf {
            run(&format!("tc qdisc replace dev d1 root handle 1: tbf {TBF}"), "")?;
        }
        Ok(())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Case::ALL.iter().find(|case| case.word() == word);
        known.copied().ok_or_else(|| {
            let words: Vec<&str> = Case::ALL.iter().map(|case| case.word()).collect();
            format!("no case is called `{word}`: name one or more of {}", words.join(", "))
        })
    }
}

/// A host route for each destination, so that any two of them are two entries.
fn host_routes() -> String {
    let mut lines = String::with_capacity(44 * ROUTES as usize);
    for address in DESTINATION..DESTINATION + ROUTES {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "route add {} via 10.2.0.2", std::net::Ipv4Addr::from(address));
    }
    lines
}

/// A stateful filter at forward, behind so many rules that match nothing, and masquerading.
fn ruleset(rules: u32) -> String {
    let mut text = String::from(
        "table inet filter { chain forward { type filter hook forward priority filter; policy drop;\n\
         ct state invalid drop\n",
    );
    for n in 0..rules {
        let _ = writeln!(
            text,
            "ip daddr 192.0.{}.{} tcp dport {} drop",
            n / 256,
            n % 256,
            1_000 + n
        );
    }
    text.push_str(
        "ct state established,related accept\niifname \"d0\" accept\n}\n}\n\
         table inet nat { chain postrouting { type nat hook postrouting priority srcnat; policy accept;\n\
         oifname \"d1\" masquerade\n}\n}\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for case in Case::ALL {
            assert_eq!(case.word().parse(), Ok(case));
            let json = serde_json::to_string(&case).unwrap();
            assert_eq!(json, format!("\"{case}\""));
        }
        assert!("router".parse::<Case>().unwrap_err().contains("route, "));
    }

    #[test]
    fn a_million_routes_are_as_many_lines() {
        let lines = host_routes();
        assert_eq!(lines.lines().count(), 1_000_000);
        assert_eq!(lines.lines().last(), Some("route add 10.79.66.63 via 10.2.0.2"));
    }

    #[test]
    fn rules_stand_in_front() {
        let text = ruleset(2);
        let at = |words: &str| text.find(words).unwrap();
        assert!(at("dport 1001 drop") < at("established"));
        assert_eq!(text.matches("tcp dport").count(), 2);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn destinations_are_as_many_as_flows_up_to_a_bound() {
        assert_eq!(Case::Route.destinations(1), 1);
        assert_eq!(Case::Nat.destinations(1_000_000), 65_536);
        assert_eq!(Case::Route1m.destinations(10_000_000), 1_000_000);
    }
}
