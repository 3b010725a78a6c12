//! Reading small tables whole: links, addresses, neighbours, nexthops, rules. At the start, after an overrun, and where one
//! event stands for changes that the kernel does not tell. A dump that a change interrupted (NLM_F_DUMP_INTR) is repeated, a
//! bounded number of times: the change itself comes as an event, too.

use super::address::Addresses;
use super::netlink::{self, af};
use super::nexthop::{Nexthops, RTM_GETNEXTHOP};
use super::state::{State, Wanted};
use super::vlans::{self, RTM_GETVLAN};
use super::{MirrorError, neighbor, rule};
use crate::packet::Family;
use crate::table::neighbor::Neighbors;
use std::collections::HashSet;

/// How often a dump that was interrupted by a change is repeated before the last try counts.
const DUMP_TRIES: usize = 10;

impl State {
    /// Reads anew what is small and wanted. What fails for the moment is wanted again, with the next turn.
    pub(super) fn read_small(&mut self) -> Result<(), MirrorError> {
        let wanted = std::mem::take(&mut self.wanted);
        self.read_these(wanted)
    }

    /// The same of VLANs alone, while there are events to take in.
    pub(super) fn read_wanted_vlans(&mut self) -> Result<(), MirrorError> {
        let vlans = std::mem::take(&mut self.wanted.vlans);
        match vlans {
            true => self.read_these(Wanted {
                vlans,
                ..Wanted::default()
            }),
            false => Ok(()),
        }
    }

    fn read_these(&mut self, wanted: Wanted) -> Result<(), MirrorError> {
        let read = self.read(wanted);
        self.is_failing = !MirrorError::passing(read, &mut self.trouble)?;
        if self.is_failing {
            self.wanted = self.wanted.and(wanted);
        }
        Ok(())
    }

    fn read(&mut self, wanted: Wanted) -> Result<(), MirrorError> {
        if wanted.all || wanted.links {
            self.read_links()?;
        }
        if wanted.all || wanted.vlans {
            self.read_vlans()?;
        }
        if wanted.all {
            self.read_addresses()?;
            self.read_neighbors()?;
            self.poll_sysctls(|_| true);
        }
        if wanted.all || wanted.nexthops {
            self.read_nexthops()?;
        }
        for family in Family::ALL {
            if wanted.all || wanted.rules[family as usize] {
                self.read_rules(family)?;
            }
        }
        Ok(())
    }

    fn read_links(&mut self) -> Result<(), MirrorError> {
        const IFLA_EXT_MASK: u16 = 29;
        const SKIP_STATS: u32 = 8;
        let mut request = vec![0; 16];
        request.extend_from_slice(&8u16.to_ne_bytes());
        request.extend_from_slice(&IFLA_EXT_MASK.to_ne_bytes());
        request.extend_from_slice(&SKIP_STATS.to_ne_bytes());
        let mut seen = HashSet::new();
        let mut changes = Vec::new();
        let mut dumped = Ok(false);
        for _ in 0..DUMP_TRIES {
            seen.clear();
            dumped = self.requests.dump(libc::RTM_GETLINK, &request, |message| {
                seen.extend(netlink::u32_at(message.payload, 4));
                changes.push(self.world.links.apply(message));
            });
            if !matches!(dumped, Ok(false)) {
                break;
            }
        }
        if let Err(error) = dumped {
            // What it told before is told once.
            changes.into_iter().for_each(|change| self.link_changed(change));
            return Err(error);
        }
        let gone: Vec<u32> = self
            .world
            .links
            .iter()
            .map(|link| link.info.ifindex)
            .filter(|ifindex| !seen.contains(ifindex))
            .collect();
        changes.extend(gone.into_iter().map(|ifindex| self.world.links.remove(ifindex)));
        changes.into_iter().for_each(|change| self.link_changed(change));
        let bridges: Vec<u32> = self.fdbs.iter().map(|(ifindex, _)| ifindex).collect();
        for ifindex in seen.into_iter().chain(bridges) {
            self.fdbs.follow(&self.world.links, ifindex);
        }
        Ok(())
    }

    fn read_vlans(&mut self) -> Result<(), MirrorError> {
        let mut new = vlans::ByLink::new();
        for _ in 0..DUMP_TRIES {
            new.clear();
            let request = [libc::AF_BRIDGE as u8, 0, 0, 0, 0, 0, 0, 0];
            let consistent = self
                .requests
                .dump(RTM_GETVLAN, &request, |message| vlans::apply(&mut new, message))?;
            if consistent {
                break;
            }
        }
        if self.vlans != new {
            self.vlans = new;
            self.stale.ifaces = true;
            self.changed.links = true;
        }
        Ok(())
    }

    fn read_addresses(&mut self) -> Result<(), MirrorError> {
        let mut new = Addresses::default();
        for _ in 0..DUMP_TRIES {
            new = Addresses::default();
            let mut consistent = true;
            for family in Family::ALL {
                let request = [af(family), 0, 0, 0, 0, 0, 0, 0];
                consistent &= self.requests.dump(libc::RTM_GETADDR, &request, |message| {
                    new.apply(message);
                })?;
            }
            if consistent {
                break;
            }
        }
        let (differ, sources) = self.world.addresses.become_like(new);
        self.sources_changed(sources);
        for addr in differ {
            self.address_changed(addr);
        }
        Ok(())
    }

    fn read_neighbors(&mut self) -> Result<(), MirrorError> {
        self.neighbors = Neighbors::default();
        for family in Family::ALL {
            let mut request = [0; 12];
            request[0] = af(family);
            let (neighbors, links) = (&mut self.neighbors, &self.world.links);
            self.requests.dump(libc::RTM_GETNEIGH, &request, |message| {
                neighbor::apply(neighbors, links, message);
            })?;
        }
        self.changed.neighbors = true;
        self.stale.neighbors = true;
        self.stale.choice = true;
        Ok(())
    }

    fn read_nexthops(&mut self) -> Result<(), MirrorError> {
        let mut new = Nexthops::default();
        for _ in 0..DUMP_TRIES {
            new = Nexthops::default();
            let consistent = self.requests.dump(RTM_GETNEXTHOP, &[0; 8], |message| {
                new.apply(message);
            })?;
            if consistent {
                break;
            }
        }
        let ids = self.world.nexthops.differing(&new);
        if !ids.is_empty() {
            self.world.nexthops = new;
            let ids: Vec<u32> = ids
                .into_iter()
                .flat_map(|id| self.world.nexthops.touched_by(id))
                .collect();
            self.stale.choice = true;
            self.routes
                .iter_mut()
                .for_each(|routes| routes.select_of_nexthops(&ids, &self.world));
        }
        Ok(())
    }

    fn read_rules(&mut self, family: Family) -> Result<(), MirrorError> {
        let mut request = [0; 12];
        request[0] = af(family);
        let mut raw = Vec::new();
        for _ in 0..DUMP_TRIES {
            raw.clear();
            let dumped = self.requests.dump(libc::RTM_GETRULE, &request, |message| {
                raw.extend(rule::parse(message, family));
            })?;
            if dumped {
                break;
            }
        }
        let rules = &mut self.rules[family as usize];
        if rules.raw != raw {
            rules.raw = raw;
            self.stale.rules = true;
            self.stale.choice = true;
            self.changed.routes = true;
        }
        // The kernel never forgets that it once had others.
        self.custom_rules |= family == Family::V4 && rules.is_custom(family);
        Ok(())
    }
}
