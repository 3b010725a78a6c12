//! IPv6 routes of one prefix: how a notification changes the list, and which one a lookup uses. As fib6_add_rt2node,
//! fib6_table_lookup and find_match (net/ipv6/).
//!
//! The kernel has one entry per nexthop and joins those of one metric into a multipath route, which it tells as one message;
//! here they are single entries again, without order. A replace takes the place of all of its metric.

use super::resolve::{Resolver, left, may_be_sibling};
use super::route::Shape;
use crate::table::fib::{Nexthop, Route, RouteKind};
use netlink_packet_core::NLM_F_REPLACE;
use std::sync::Arc;

/// Takes a multipath route apart: one shape per way out.
pub fn entries(shape: Shape) -> Vec<Shape> {
    if shape.hops.len() <= 1 {
        return vec![shape];
    }
    let one = |hop| Shape {
        hops: [hop].into(),
        ..shape.clone()
    };
    shape.hops.iter().cloned().map(one).collect()
}

/// Takes in the entries of one message; `flags` are the notification's. Whether it is certain that the kernel now has just
/// these.
pub fn add(routes: &mut Vec<Arc<Shape>>, entries: Vec<Arc<Shape>>, flags: u16) -> bool {
    let Some(first) = entries.first() else { return true };
    let of_metric = |route: &Arc<Shape>| (route.priority, route.src) == (first.priority, first.src);
    let mut certain = true;
    if flags & NLM_F_REPLACE != 0 {
        // Of several that are no multipath route, the kernel has replaced just one.
        certain = routes.iter().filter(|route| of_metric(route)).count() < 2
            || routes
                .iter()
                .filter(|route| of_metric(route))
                .all(|route| may_be_sibling(route));
        routes.retain(|route| !of_metric(route));
    }
    for entry in entries {
        match routes.iter_mut().find(|route| route.is_same(&entry)) {
            Some(same) => *same = entry,
            None => routes.push(entry),
        }
    }
    sort(routes);
    certain
}

/// Takes the entries of one message out; whether all were there.
pub fn delete(routes: &mut Vec<Arc<Shape>>, entries: &[Arc<Shape>]) -> bool {
    let mut all = true;
    for entry in entries {
        let at = routes.iter().position(|route| route.is_same(entry));
        all &= at.map(|at| routes.swap_remove(at)).is_some();
    }
    sort(routes);
    all
}

/// Without an order of the kernel's, an order that makes equal sets equal lists.
fn sort(routes: &mut [Arc<Shape>]) {
    let order = |route: &Arc<Shape>| {
        let hop = route
            .hops
            .first()
            .map(|hop| (hop.oif, hop.gateway.map(|(_, addr)| addr)));
        (route.priority, route.src, route.kind, route.nh_id, route.protocol, hop)
    };
    if routes.len() > 1 {
        routes.sort_by_key(order);
    }
}

/// What a lookup uses of the prefix: the least metric with a way out alive, all of its multipath group.
pub fn select(routes: &[Arc<Shape>], resolver: &mut Resolver<'_>) -> Option<Route> {
    if routes.iter().any(|route| route.src.1 != 0) {
        return Some(left("source-specific routes"));
    }
    for of_metric in routes.chunk_by(|a, b| a.priority == b.priority) {
        let alive: Vec<Route> = of_metric.iter().filter_map(|route| resolver.route(route)).collect();
        let Some(first) = alive.first() else { continue };
        if alive.iter().all(|route| route == first) && (alive.len() == 1 || first.kind != RouteKind::Unicast) {
            return Some(first.clone());
        }
        if !of_metric.iter().all(|route| may_be_sibling(route)) {
            return Some(left("several equal routes"));
        }
        if let Some(not_carried) = alive.iter().find(|route| route.left.is_some()) {
            return Some(not_carried.clone());
        }
        let nexthops: Vec<Nexthop> = alive.iter().flat_map(|route| route.nexthops.iter().copied()).collect();
        return Some(Route {
            nexthops: nexthops.into(),
            ..first.clone()
        });
    }
    None
}
