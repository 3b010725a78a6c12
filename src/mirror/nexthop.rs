//! Nexthop objects (`ip nexthop`): RTM_NEWNEXTHOP and RTM_DELNEXTHOP, and what a route that names one resolves to.
//!
//! The kernel removes an object silently from its groups, and all its IPv4 routes with it, when its link goes down
//! (nexthop_flush_dev); so objects and routes are read anew after such an event. As net/ipv4/nexthop.c.

use super::netlink::{Message, as_addr, as_u32, u16_at, u32_at};
use super::route::Hop;
use std::collections::HashMap;

/// RTM_NEWNEXTHOP
pub const RTM_NEWNEXTHOP: u16 = 104;
/// RTM_DELNEXTHOP
pub const RTM_DELNEXTHOP: u16 = 105;
/// RTM_GETNEXTHOP
pub const RTM_GETNEXTHOP: u16 = 106;

const HEADER: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;

/// What one object is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    Hop(Hop),
    Group(Vec<u32>),
    Blackhole,
    Fdb,
}

/// What a nexthop id means for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// These ways out.
    Hops(Vec<Hop>),
    /// Drops silently.
    Blackhole,
    /// Not carried, and why.
    Left(&'static str),
}

/// All nexthop objects by id.
#[derive(Debug, Default)]
pub struct Nexthops {
    objects: HashMap<u32, Object>,
}

impl Nexthops {
    /// Takes in RTM_NEWNEXTHOP or RTM_DELNEXTHOP; the id that changed.
    pub fn apply(&mut self, message: Message<'_>) -> Option<u32> {
        let (_, attributes) = message.split(HEADER)?;
        let mut id = 0;
        let mut hop = Hop {
            oif: 0,
            gateway: None,
            dead: false,
            encap: 0,
            weight: 0,
        };
        let (mut group, mut special) = (None, None);
        for (kind, value) in attributes {
            match kind {
                NHA_ID => id = as_u32(value),
                // struct nexthop_grp: id 4, weight 1, the rest 3.
                NHA_GROUP => group = Some(value.chunks_exact(8).filter_map(|member| u32_at(member, 0)).collect()),
                NHA_BLACKHOLE => special = Some(Object::Blackhole),
                NHA_FDB => special = Some(Object::Fdb),
                NHA_OIF => hop.oif = as_u32(value),
                NHA_GATEWAY => hop.gateway = as_addr(value),
                NHA_ENCAP_TYPE => hop.encap = u16_at(value, 0).unwrap_or(u16::MAX),
                NHA_ENCAP => hop.encap = hop.encap.max(1),
                _ => {}
            }
        }
        if message.kind == RTM_DELNEXTHOP {
            return self.objects.remove(&id).map(|_| id);
        }
        let object = special.or(group.map(Object::Group)).unwrap_or(Object::Hop(hop));
        let old = self.objects.insert(id, object);
        (old.as_ref() != self.objects.get(&id)).then_some(id)
    }

    /// Every id that `id` and the groups it is in have.
    pub fn touched_by(&self, id: u32) -> Vec<u32> {
        let is_in = |object: &Object| matches!(object, Object::Group(members) if members.contains(&id));
        let groups = self
            .objects
            .iter()
            .filter(|(_, object)| is_in(object))
            .map(|(&group, _)| group);
        groups.chain([id]).collect()
    }

    /// The ids that mean something else in `other`.
    pub fn differing(&self, other: &Nexthops) -> Vec<u32> {
        let ids: std::collections::HashSet<u32> = self.objects.keys().chain(other.objects.keys()).copied().collect();
        ids.into_iter()
            .filter(|id| self.objects.get(id) != other.objects.get(id))
            .collect()
    }

    /// What `id` means now. Groups do not nest.
    pub fn resolve(&self, id: u32) -> Resolved {
        match self.objects.get(&id) {
            None => Resolved::Left("its nexthop object is unknown"),
            Some(Object::Fdb) => Resolved::Left("fdb nexthop"),
            Some(Object::Blackhole) => Resolved::Blackhole,
            Some(Object::Hop(hop)) => Resolved::Hops(vec![hop.clone()]),
            Some(Object::Group(members)) => self.resolve_group(members),
        }
    }

    fn resolve_group(&self, members: &[u32]) -> Resolved {
        let mut hops = Vec::with_capacity(members.len());
        for member in members {
            match self.objects.get(member) {
                Some(Object::Hop(hop)) => hops.push(hop.clone()),
                Some(Object::Blackhole) if members.len() == 1 => return Resolved::Blackhole,
                _ => return Resolved::Left("a member of its nexthop group is unknown"),
            }
        }
        Resolved::Hops(hops)
    }
}
