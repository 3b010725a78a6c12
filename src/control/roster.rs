//! Who is to be a port: the names of the command line against the links that there are.
//!
//! ```text
//!  run eth0 br0 --> eth0: a port by its name, for good       its number (PortIndex) is its place on the command line
//!                   br0:  what has br0 as master, now and later; such a port is known by its ifindex, and takes a free number
//! ```
//!
//! A bridge is a bridge from the start on: whatever else takes its name later is waited past, as a link that a port's name was
//! taken by. A port that is named itself and has the bridge as master is one port, by its name.
//!
//! Numbers are used again, since there are only [`PORTS_MAX`] and pods come and go for months: the same name gets the number
//! that it had, with what was counted, and another name gets it only after `REST`, when no frame is on its way any more that
//! bears the number of the port that was.

use super::config::RunConfig;
use crate::mirror::LinkInfo;
use crate::packet::{PORTS_MAX, PortIndex};
use std::time::{Duration, Instant};

/// How long a number is not given to another port. What is in a queue of bypath leaves it within milliseconds.
const REST: Duration = Duration::from_secs(1);

/// The kind of a link that stands for its ports.
pub const BRIDGE: &str = "bridge";

/// The names of the command line.
#[derive(Debug, Default)]
pub struct Roster {
    /// Those of single links.
    pub ports: Vec<String>,
    /// Those of bridges.
    pub bridges: Vec<String>,
}

/// A link that is a port since it is one of a bridge.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The bridge's name.
    pub bridge: &'a str,
    /// The link.
    pub link: &'a LinkInfo,
}

impl Roster {
    /// Tells bridges from other links. A wire has none: its two ports are what they are.
    pub fn new(config: &RunConfig, links: &[LinkInfo]) -> Self {
        let is_bridge = |name: &String| !config.wire && bridge(links, name).is_some();
        let (bridges, ports) = config.ports.iter().cloned().partition(is_bridge);
        Self { ports, bridges }
    }

    /// The links that are ports for their bridge's sake, in the order of the links.
    pub fn members<'a>(&'a self, links: &'a [LinkInfo]) -> Vec<Member<'a>> {
        let masters: Vec<(u32, &str)> = self
            .bridges
            .iter()
            .filter_map(|name| Some((bridge(links, name)?.ifindex, name.as_str())))
            .collect();
        let member = |link: &'a LinkInfo| {
            let &(_, bridge) = masters.iter().find(|(ifindex, _)| *ifindex == link.master)?;
            let named = self.ports.iter().any(|name| **name == *link.name);
            (!named).then_some(Member { bridge, link })
        };
        links.iter().filter_map(member).collect()
    }
}

/// The bridge of that name.
pub fn bridge<'a>(links: &'a [LinkInfo], name: &str) -> Option<&'a LinkInfo> {
    links.iter().find(|link| *link.name == *name && link.kind == BRIDGE)
}

/// The numbers of ports: whose they are, or were.
#[derive(Debug)]
pub struct Numbers(Vec<Number>);

#[derive(Clone, Debug, Default)]
struct Number {
    /// Who has it, or had it last; empty if nobody had.
    name: String,
    taken: bool,
    freed: Option<Instant>,
}

/// A number that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub index: PortIndex,
    /// Another port had it before: what was counted under it is that one's.
    pub of_another: bool,
}

impl Default for Numbers {
    /// All free.
    fn default() -> Self {
        Self(vec![Number::default(); PORTS_MAX])
    }
}

impl Numbers {
    /// A number for the port `name`: the one it had, else one that nobody had, else the one that is free for longest. `None`
    /// if all are taken or rest still.
    pub fn take(&mut self, name: &str, now: Instant) -> Option<Taken> {
        let free = || self.0.iter().enumerate().filter(|(_, number)| !number.taken);
        let own = free().find(|(_, number)| number.name == name).map(|(n, _)| n);
        let fresh = || free().find(|(_, number)| number.name.is_empty()).map(|(n, _)| n);
        let rested = || {
            let rested = |number: &Number| number.freed.is_none_or(|at| now.saturating_duration_since(at) >= REST);
            let rested = free().filter(|(_, number)| rested(number));
            rested.min_by_key(|(_, number)| number.freed).map(|(n, _)| n)
        };
        let n = own.or_else(fresh).or_else(rested)?;
        let number = &mut self.0[n];
        let of_another = !number.name.is_empty() && number.name != name;
        *number = Number {
            name: name.to_owned(),
            taken: true,
            freed: None,
        };
        Some(Taken {
            index: PortIndex(n as u16),
            of_another,
        })
    }

    /// The port is gone.
    pub fn free(&mut self, index: PortIndex, now: Instant) {
        if let Some(number) = self.0.get_mut(usize::from(index.0)) {
            (number.taken, number.freed) = (false, Some(now));
        }
    }

    /// The port that has the number has another name now.
    pub fn rename(&mut self, index: PortIndex, name: &str) {
        if let Some(number) = self.0.get_mut(usize::from(index.0)) {
            number.name = name.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str, kind: &str, master: u32) -> LinkInfo {
        LinkInfo {
            ifindex,
            name: name.into(),
            kind: kind.into(),
            group: 0,
            hardware: 1,
            mac: [0; 6],
            mtu: 1500,
            flags: 0,
            operstate: 6,
            carrier: true,
            master,
            link: 0,
            link_netnsid: None,
            takes: Box::default(),
            vnet_hdr: false,
            promiscuous: false,
            has_xdp: false,
            num_rx_queues: 1,
            num_tx_queues: 1,
        }
    }

    fn roster(names: &[&str], links: &[LinkInfo]) -> Roster {
        let config = RunConfig {
            ports: names.iter().map(|&name| name.into()).collect(),
            ..RunConfig::default()
        };
        Roster::new(&config, links)
    }

    fn names(members: &[Member<'_>]) -> Vec<String> {
        let name = |member: &Member<'_>| format!("{}:{}", member.bridge, member.link.name);
        members.iter().map(name).collect()
    }

    #[test]
    fn a_bridge_is_its_ports_and_one_that_is_named_too_is_one_port() {
        let mut links = vec![
            link(2, "eth0", "", 0),
            link(3, "br0", "bridge", 0),
            link(4, "v0", "veth", 3),
            link(5, "v1", "veth", 3),
            link(6, "v2", "veth", 7),
            link(7, "br1", "bridge", 0),
            link(8, "s0", "veth", 9),
            link(9, "bond0", "bond", 0),
        ];
        let roster = roster(&["eth0", "br0", "v1"], &links);
        assert_eq!((roster.ports.len(), &roster.bridges[..]), (2, &["br0".to_owned()][..]));
        assert_eq!(names(&roster.members(&links)), ["br0:v0"]);
        links[4].master = 3;
        assert_eq!(names(&roster.members(&links)), ["br0:v0", "br0:v2"]);
        // Something else of the bridge's name has no ports.
        links[1].kind = "veth".into();
        assert!(roster.members(&links).is_empty());
        links.remove(1);
        assert!(roster.members(&links).is_empty());
    }

    #[test]
    fn a_wire_takes_a_bridge_for_what_it_is() {
        let links = [link(3, "br0", "bridge", 0)];
        let config = RunConfig {
            ports: vec!["br0".into()],
            wire: true,
            ..RunConfig::default()
        };
        assert!(Roster::new(&config, &links).bridges.is_empty());
    }

    #[test]
    fn numbers_return_to_their_names_and_rest_before_others_get_them() {
        let (mut numbers, start) = (Numbers::default(), Instant::now());
        let mut take = |name: &str, ms| {
            let taken = numbers.take(name, start + Duration::from_millis(ms));
            taken.map(|taken| (taken.index.0, taken.of_another))
        };
        assert_eq!((take("a", 0), take("b", 0)), (Some((0, false)), Some((1, false))));
        for n in 2..PORTS_MAX {
            assert_eq!(take(&format!("v{n}"), 0), Some((n as u16, false)));
        }
        assert_eq!(take("c", 0), None, "all are taken");
        numbers.free(PortIndex(1), start);
        numbers.free(PortIndex(0), start + Duration::from_millis(5));
        let mut take = |name: &str, ms| {
            let taken = numbers.take(name, start + Duration::from_millis(ms));
            taken.map(|taken| (taken.index.0, taken.of_another))
        };
        assert_eq!(take("c", 900), None, "both rest");
        assert_eq!(take("a", 900), Some((0, false)), "but not for their own");
        assert_eq!(take("c", 1000), Some((1, true)));
    }

    #[test]
    fn the_number_that_is_free_for_longest_is_taken_first() {
        let (mut numbers, start) = (Numbers::default(), Instant::now());
        for n in 0..PORTS_MAX {
            numbers.take(&format!("v{n}"), start);
        }
        numbers.free(PortIndex(9), start);
        numbers.free(PortIndex(3), start + Duration::from_millis(1));
        let later = start + 2 * REST;
        assert_eq!(numbers.take("x", later).map(|taken| taken.index.0), Some(9));
        numbers.rename(PortIndex(9), "y");
        numbers.free(PortIndex(9), later);
        assert_eq!(
            numbers.take("y", later).map(|taken| (taken.index.0, taken.of_another)),
            Some((9, false))
        );
    }
}
