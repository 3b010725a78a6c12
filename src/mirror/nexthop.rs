//! Nexthop objects (`ip nexthop`): RTM_NEWNEXTHOP and RTM_DELNEXTHOP, and what a route that names one resolves to.
//!
//! The kernel removes an object silently from its groups, and all its IPv4 routes with it, when its link goes down
//! (nexthop_flush_dev); so objects and routes are read anew after such an event. Of a group it takes those members whose
//! neighbour is not known to be gone, whatever the sysctl says that asks for it elsewhere. As net/ipv4/nexthop.c.

use super::netlink::{Message, as_addr, as_u32, u16_at, u32_at};
use super::route::Hop;
use crate::packet::{Addr, Family};
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
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
const NHA_RES_GROUP: u16 = 12;

/// What one object is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    Hop(Hop),
    /// Ids, each with its weight.
    Group(Vec<(u32, u32)>),
    Resilient,
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
                // struct nexthop_grp: id 4, weight 1, the rest 3, of which one has more of the weight.
                NHA_GROUP => {
                    let member = |member: &[u8]| Some((u32_at(member, 0)?, u32_at(member, 4)?));
                    group = Some(value.chunks_exact(8).filter_map(member).collect());
                }
                NHA_GROUP_TYPE if u16_at(value, 0) != Some(0) => special = Some(Object::Resilient),
                NHA_RES_GROUP => special = Some(Object::Resilient),
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
        let is_in =
            |object: &Object| matches!(object, Object::Group(members) if members.iter().any(|member| member.0 == id));
        let groups = self
            .objects
            .iter()
            .filter(|(_, object)| is_in(object))
            .map(|(&group, _)| group);
        groups.chain([id]).collect()
    }

    /// Whether an object's router is this address on the link of this number.
    pub fn has_router(&self, oif: u32, family: Family, addr: Addr) -> bool {
        let is_it = |object: &Object| matches!(object, Object::Hop(hop) if hop.oif == oif && hop.gateway == Some((family, addr)));
        self.objects.values().any(is_it)
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
            Some(Object::Resilient) => Resolved::Left("resilient nexthop group"),
            Some(Object::Blackhole) => Resolved::Blackhole,
            Some(Object::Hop(hop)) => Resolved::Hops(vec![hop.clone()]),
            Some(Object::Group(members)) => self.resolve_group(members),
        }
    }

    fn resolve_group(&self, members: &[(u32, u32)]) -> Resolved {
        let mut hops = Vec::with_capacity(members.len());
        for (member, _) in members {
            match self.objects.get(member) {
                Some(Object::Hop(hop)) => hops.push(hop.clone()),
                Some(Object::Blackhole) if members.len() == 1 => return Resolved::Blackhole,
                _ => return Resolved::Left("a member of its nexthop group is unknown"),
            }
        }
        Resolved::Hops(hops)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::attribute;
    use super::*;

    fn tell(nexthops: &mut Nexthops, id: u32, attributes: &[Vec<u8>]) -> Option<u32> {
        let id = attribute(NHA_ID, &id.to_ne_bytes());
        let payload = [&[0; HEADER][..], &id, &attributes.concat()].concat();
        nexthops.apply(Message {
            kind: RTM_NEWNEXTHOP,
            flags: 0,
            payload: &payload,
        })
    }

    fn group(members: &[(u32, u8)]) -> Vec<u8> {
        let member = |&(id, weight): &(u32, u8)| [&id.to_ne_bytes()[..], &[weight, 0, 0, 0]].concat();
        attribute(NHA_GROUP, &members.iter().flat_map(member).collect::<Vec<u8>>())
    }

    #[test]
    fn a_group_with_other_weights_is_another_one() {
        let mut nexthops = Nexthops::default();
        for (id, host) in [(1, 2), (2, 3)] {
            let hop = [
                attribute(NHA_OIF, &7u32.to_ne_bytes()),
                attribute(NHA_GATEWAY, &[10, 0, 0, host]),
            ];
            assert_eq!(tell(&mut nexthops, id, &hop), Some(id));
        }
        assert_eq!(tell(&mut nexthops, 10, &[group(&[(1, 0), (2, 0)])]), Some(10));
        assert_eq!(tell(&mut nexthops, 10, &[group(&[(1, 0), (2, 0)])]), None);
        assert_eq!(tell(&mut nexthops, 10, &[group(&[(1, 0), (2, 8)])]), Some(10));
        assert!(matches!(nexthops.resolve(10), Resolved::Hops(hops) if hops.len() == 2));
        let mut touched = nexthops.touched_by(2);
        touched.sort_unstable();
        assert_eq!(touched, [2, 10]);
        assert!(nexthops.has_router(7, Family::V4, 0x0a00_0003));
        assert!(!nexthops.has_router(8, Family::V4, 0x0a00_0003) && !nexthops.has_router(7, Family::V4, 0x0a00_0004));
    }

    #[test]
    fn a_resilient_group_is_left() {
        for of_it in [
            attribute(NHA_GROUP_TYPE, &1u16.to_ne_bytes()),
            attribute(NHA_RES_GROUP, &[]),
        ] {
            let mut nexthops = Nexthops::default();
            tell(&mut nexthops, 10, &[group(&[(1, 0)]), of_it]);
            assert_eq!(nexthops.resolve(10), Resolved::Left("resilient nexthop group"));
        }
    }
}
