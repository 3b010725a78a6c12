//! The ports of bridges: those that a bridge gets at run time are added, those that leave it are taken away.
//!
//! A link is known by its ifindex here, since pods' veths are renamed; one that moves to another bridge of the command line
//! stays a port. There is room for as many as were planned at the start (`plan.rs`): more stay with the kernel, which bridges them
//! as before, until another one leaves.

use super::{NUMBER_PAUSE, Port, Ports};
use crate::control::roster::{self, Member, Roster};
use crate::mirror::LinkInfo;
use crate::packet::PORTS_MAX;
use std::time::Instant;

impl Ports {
    /// Queues that ports of bridges have, or will have at least.
    pub(super) fn queues_of_bridges(&self) -> usize {
        let of_bridges = self.ports.iter().filter(|port| port.member.is_some());
        let queues = |port: &Port| port.open.as_ref().map_or(1, |open| open.workers.len());
        of_bridges.map(queues).sum()
    }

    /// Adds and takes away the ports of bridges.
    pub(super) fn follow_bridges(&mut self, links: &[LinkInfo], now: Instant, starting: bool) -> bool {
        if self.roster.bridges.is_empty() {
            return false;
        }
        let roster = std::mem::take(&mut self.roster);
        let members = roster.members(links);
        let mut changed = false;
        for n in (0..self.ports.len()).rev() {
            let Some((bridge, ifindex)) = &self.ports[n].member else {
                continue;
            };
            match members.iter().find(|member| member.link.ifindex == *ifindex) {
                Some(member) => self.keep(n, member),
                None => {
                    let gone = !links.iter().any(|link| link.ifindex == *ifindex);
                    let what = if gone { "is gone" } else { "is none of it any more" };
                    say!("bypath: port {} of {bridge} {what}", self.ports[n].name);
                    changed |= self.ports[n].open.is_some();
                    self.remove(n, now);
                }
            }
        }
        for member in &members {
            let is_ours = |port: &Port| matches!(port.member, Some((_, ifindex)) if ifindex == member.link.ifindex);
            if !self.ports.iter().any(is_ours) {
                self.admit(member, now, starting);
            }
        }
        self.say_of_bridges(&roster, links, &members);
        self.roster = roster;
        changed
    }

    /// A port that is one still: its name may be another, and its bridge.
    fn keep(&mut self, n: usize, member: &Member<'_>) {
        let port = &mut self.ports[n];
        if let Some((bridge, _)) = &mut port.member
            && bridge != member.bridge
        {
            *bridge = member.bridge.to_owned();
        }
        if *port.name != *member.link.name {
            say!("bypath: port {} is called {} now", port.name, member.link.name);
            port.name = member.link.name.to_string();
            self.numbers.rename(port.index, &port.name);
            let (index, name, bridge) = (port.index, port.name.clone(), member.bridge.to_owned());
            self.in_table(index, |facts| (facts.port, facts.bridge) = (name, Some(bridge)));
        }
    }

    /// Takes a bridge's port up if there is room for it, and says so if there is not.
    fn admit(&mut self, member: &Member<'_>, now: Instant, starting: bool) {
        let name = &*member.link.name;
        // How many queues it has in use is known when it is up; one is taken for each until then.
        if self.queues_of_bridges() >= self.room.queues {
            let room = self.room.queues;
            let line = format!(
                "bypath: port {name} of {} stays with the kernel: there was room for {room} ports of bridges at the start; \
                 start again to have more",
                member.bridge
            );
            return self.say(name, line);
        }
        let key = Some((member.bridge.to_owned(), member.link.ifindex));
        if self.add(name, key, now) {
            self.said.remove(name);
            if !starting {
                say!("bypath: port {name} of {} is taken up", member.bridge);
            }
        } else {
            // They rest for a moment.
            self.again = Some(now + NUMBER_PAUSE);
            let line = format!(
                "bypath: port {name} of {} waits for one of {PORTS_MAX} numbers",
                member.bridge
            );
            self.say(name, line);
        }
    }

    /// Says of each bridge that it is missing or has no ports, where that is news.
    fn say_of_bridges(&mut self, roster: &Roster, links: &[LinkInfo], members: &[Member<'_>]) {
        for name in &roster.bridges {
            let is_named = |link: &LinkInfo| roster.ports.iter().any(|port| **port == *link.name);
            let line = match roster::bridge(links, name) {
                None => format!("bypath: bridge {name} is gone; its ports are taken up again when it comes back"),
                Some(bridge) if links.iter().any(|link| link.master == bridge.ifindex && is_named(link)) => {
                    String::new()
                }
                Some(_) if !members.iter().any(|member| member.bridge == name) => {
                    format!("bypath: bridge {name} has no ports; each that it gets is taken up")
                }
                Some(_) => String::new(),
            };
            self.say(name, line);
        }
        let links: Vec<&str> = members.iter().map(|member| &*member.link.name).collect();
        self.said
            .retain(|name, _| links.contains(&name.as_str()) || roster.bridges.contains(name));
    }

    /// Prints a line about `name` unless it was the last one about it.
    fn say(&mut self, name: &str, line: String) {
        if self.said.get(name) == Some(&line) {
            return;
        }
        if !line.is_empty() {
            say!("{line}");
        }
        self.said.insert(name.to_owned(), line);
    }
}
