//! The routes of one family, live: the store of what the kernel said, and the tables that lookups use, prefix by prefix the
//! same. A notification changes one prefix of both. See `reread` for how both are read anew.
//!
//! ```text
//!  RTM_NEWROUTE -> Store: (table, prefix) -> [route, route, ..] -- select --> Lpm: prefix -> Arc<Route>
//! ```
//!
//! Bounds: none of its own, the kernel's tables are mirrored whole. Equal routes are one `Arc<Route>`.

use super::address::Addresses;
use super::interned::Interned;
use super::link::Links;
use super::netlink::Message;
use super::nexthop::Nexthops;
use super::reread::Reread;
use super::resolve::{Policy, Resolver, left};
use super::route::{Key, RouteMessage, Shape, now_s, parse};
use super::store::Store;
use super::{MirrorError, route4, route6};
use crate::packet::{Addr, Family};
use crate::table::fib::{Lpm, Route, RouteKind, TABLE_LOCAL};
use std::sync::Arc;

/// What routes refer to.
#[derive(Debug, Default)]
pub struct World {
    /// All links.
    pub links: Links,
    /// The addresses of the box.
    pub addresses: Addresses,
    /// All nexthop objects.
    pub nexthops: Nexthops,
}

/// A route notification, ready for a store.
#[derive(Clone, Debug)]
pub struct Update {
    /// The table's number.
    pub table: u32,
    /// The destination.
    pub key: Key,
    /// The route; of IPv6, one per way out.
    pub entries: Vec<Arc<Shape>>,
    /// RTM_NEWROUTE, not RTM_DELROUTE.
    pub new: bool,
    /// NLM_F_* of the notification.
    pub flags: u16,
}

impl Update {
    /// Changes `store`; whether it is certain that the prefix is then as in the kernel.
    pub fn apply(&self, family: Family, store: &mut Store) -> bool {
        store.change(self.table, self.key, |routes| match (family, self.new) {
            (Family::V4, true) => {
                self.entries
                    .iter()
                    .for_each(|entry| route4::add(routes, Arc::clone(entry), self.flags));
                true
            }
            (Family::V4, false) => self.entries.iter().all(|entry| route4::delete(routes, entry)),
            (Family::V6, true) => route6::add(routes, self.entries.clone(), self.flags),
            (Family::V6, false) => route6::delete(routes, &self.entries),
        })
    }
}

/// What happened to the tables since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoutesChange {
    /// Some lookup may find another route.
    pub tables: bool,
    /// The kernel may choose otherwise among the nexthops of a route that looks the same.
    pub choice: bool,
}

/// All routes of a family.
#[derive(Debug)]
pub struct Routes {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Every route the kernel told.
    pub store: Store,
    /// What lookups use.
    pub tables: Vec<(u32, Lpm<Arc<Route>>)>,
    /// What the routes were resolved with.
    pub policy: Policy,
    /// What changed.
    pub change: RoutesChange,
    /// Some IPv4 route has, or had, a realm, or is local without being an address of the box: then the kernel validates
    /// sources by a full lookup (fib_num_tclassid_users, fib_has_custom_local_routes).
    pub full_source_check: bool,
    /// Reading everything anew, when that is going on.
    pub reread: Reread,
    pub(super) shapes: Interned<Shape>,
    known: Interned<Route>,
    /// When the next lifetime of a route ends, in seconds of CLOCK_MONOTONIC; 0 if none has one.
    lapses_s: u64,
    unknown_links: std::collections::HashSet<u32>,
}

impl Routes {
    /// No routes yet; the first re-read is wanted.
    pub fn new(family: Family) -> Result<Self, MirrorError> {
        Ok(Self {
            family,
            store: Store::default(),
            tables: Vec::new(),
            policy: Policy::default(),
            change: RoutesChange::default(),
            full_source_check: false,
            reread: Reread::new()?,
            shapes: Interned::default(),
            known: Interned::default(),
            lapses_s: 0,
            unknown_links: std::collections::HashSet::new(),
        })
    }

    /// The place of a table, made if it is new.
    pub fn table(&mut self, number: u32) -> usize {
        self.tables
            .iter()
            .position(|table| table.0 == number)
            .unwrap_or_else(|| {
                self.tables.push((number, Lpm::new(self.family.bits())));
                self.tables.len() - 1
            })
    }

    /// Takes in a notification of this family.
    pub fn event(&mut self, message: Message<'_>, world: &World) {
        let Some(update) = to_update(self.family, &mut self.shapes, message) else {
            return;
        };
        let certain = update.apply(self.family, &mut self.store);
        if !certain && !self.reread.is_replay() {
            self.reread.want();
        }
        let found = self.select_prefix(update.table, update.key, world);
        self.change.choice |= found == Selected::SameOfSeveral;
        self.reread.log(update);
    }

    /// Brings the lookup table in line with the store at one prefix.
    pub fn select_prefix(&mut self, table: u32, key: Key, world: &World) -> Selected {
        let place = self.table(table);
        let mut resolver = Resolver {
            world,
            policy: &self.policy,
            unknown: &mut self.unknown_links,
        };
        let routes = self.store.get(table, key);
        if !self.full_source_check && routes.iter().any(|route| needs_full_check(table, route)) {
            self.full_source_check = true;
            self.change.tables = true;
        }
        let ends = routes
            .iter()
            .map(|route| route.until)
            .filter(|&end| end != 0 && end > now_s())
            .min();
        if let Some(end) = ends
            && (self.lapses_s == 0 || end < self.lapses_s)
        {
            self.lapses_s = end;
        }
        let selected = match self.family {
            Family::V4 => route4::select(routes, &mut resolver).map(|route| merged_tries(table, route)),
            Family::V6 => route6::select(routes, &mut resolver),
        };
        let selected = selected.map(|route| self.known.intern(route));
        let lpm = &mut self.tables[place].1;
        let new = selected.clone();
        let old = match selected {
            None => lpm.remove(key.addr(), key.len),
            // A trie that shares structure with a snapshot would copy its path for nothing.
            Some(route) => match lpm.get(key.addr(), key.len) {
                Some(same) if Arc::ptr_eq(same, &route) => Some(route),
                _ => lpm.insert(key.addr(), key.len, route),
            },
        };
        let same = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        match new {
            _ if !same => {
                self.change.tables = true;
                Selected::Other
            }
            Some(route) if route.nexthops.len() > 1 => Selected::SameOfSeveral,
            _ => Selected::Same,
        }
    }

    /// Leaves routes whose lifetime is over, which the kernel uses no more, though it tells so only when it collects them. It may
    /// have lengthened a lifetime meanwhile, so all are read anew. To be called ten times a second.
    pub fn lapse(&mut self, world: &World) {
        if self.lapses_s == 0 || now_s() < self.lapses_s {
            return;
        }
        self.lapses_s = 0;
        self.select_where(world, |shape| shape.until != 0);
        self.reread.want();
    }

    /// Brings all prefixes in line, of which some route has one of these nexthop objects.
    pub fn select_of_nexthops(&mut self, ids: &[u32], world: &World) {
        self.select_where(world, |shape| shape.nh_id != 0 && ids.contains(&shape.nh_id));
    }

    /// Brings all prefixes in line, of which some route has this router, or a nexthop object that may.
    pub fn select_of_router(&mut self, addr: Addr, world: &World) {
        let router = Some((Family::V4, addr));
        self.select_where(world, |shape| {
            shape.nh_id != 0 || shape.hops.iter().any(|hop| hop.gateway == router)
        });
    }

    /// Brings all prefixes in line with another policy.
    pub fn set_policy(&mut self, policy: Policy, world: &World) {
        if self.policy != policy {
            self.policy = policy;
            self.select_where(world, |_| true);
        }
    }

    /// A link came: routes may have been waiting for it.
    pub fn link_came(&mut self, ifindex: u32, world: &World) {
        if self.unknown_links.remove(&ifindex) {
            self.select_where(world, |_| true);
        }
    }

    fn select_where(&mut self, world: &World, wanted: impl Fn(&Shape) -> bool) {
        let touched: Vec<(u32, Key)> = self
            .store
            .iter()
            .filter(|(_, _, routes)| routes.iter().any(|route| wanted(route)))
            .map(|(table, key, _)| (table, key))
            .collect();
        for (table, key) in touched {
            let found = self.select_prefix(table, key, world);
            self.change.choice |= found == Selected::SameOfSeveral;
        }
    }
}

/// A message as an update; `None` for other families and what is no route.
pub(super) fn to_update(wanted: Family, shapes: &mut Interned<Shape>, message: Message<'_>) -> Option<Update> {
    let RouteMessage {
        family,
        table,
        key,
        shape,
    } = parse(message)?;
    if family != wanted {
        return None;
    }
    let entries = match family {
        Family::V4 => vec![shapes.intern(shape)],
        Family::V6 => route6::entries(shape)
            .into_iter()
            .map(|entry| shapes.intern(entry))
            .collect(),
    };
    Some(Update {
        table,
        key,
        entries,
        new: route4::is_new(&message),
        flags: message.flags,
    })
}

/// What [`Routes::select_prefix`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// Another route than before, or now none or one.
    Other,
    /// The same as before.
    Same,
    /// The same as before, with several ways out: weights may have changed.
    SameOfSeveral,
}

/// See [`Routes::full_source_check`].
fn needs_full_check(table: u32, route: &Shape) -> bool {
    const RTPROT_KERNEL: u8 = 2;
    let of_address = table == TABLE_LOCAL && route.protocol == RTPROT_KERNEL;
    route.realm || (route.kind == libc::RTN_LOCAL && !of_address)
}

/// Until the first own rule the kernel keeps local and main in one trie, and then a longer prefix of main goes before a
/// shorter one of local; whether it still does cannot be seen. What is local or refused is the kernel's anyway.
fn merged_tries(table: u32, route: Route) -> Route {
    let moves_on = matches!(route.kind, RouteKind::Unicast | RouteKind::Throw);
    if table == TABLE_LOCAL && moves_on && route.left.is_none() {
        left("unicast or throw route in table local")
    } else {
        route
    }
}
