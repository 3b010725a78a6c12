//! IPv4 routes of one prefix: how a notification changes the list, and which one a lookup uses. As fib_table_insert and
//! fib_table_lookup (net/ipv4/fib_trie.c).
//!
//! The list is ordered by TOS, most first, then by metric, least first, and holds equals in the order that the kernel has
//! them. What the kernel did is told by the notification's flags: EXCL a plain add (there was no equal), REPLACE the first
//! equal went, APPEND behind the last equal, none of them before the first.

use super::netlink::Message;
use super::resolve::{Resolver, left};
use super::route::Shape;
use crate::table::fib::Route;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_EXCL, NLM_F_REPLACE};
use std::sync::Arc;

/// Whether two routes of a prefix are equals: only their order decides between them.
fn equal(a: &Shape, b: &Shape) -> bool {
    (a.tos, a.priority) == (b.tos, b.priority)
}

/// Takes a route in; `flags` are the notification's.
pub fn add(routes: &mut Vec<Arc<Shape>>, shape: Arc<Shape>, flags: u16) {
    if let Some(same) = routes.iter_mut().find(|route| route.is_same(&shape)) {
        *same = shape;
        return;
    }
    let first = routes.iter().position(|route| equal(route, &shape));
    match first {
        Some(at) if flags & NLM_F_REPLACE != 0 => {
            routes[at] = shape;
            return;
        }
        // What still seems equal here was flushed without a word.
        Some(_) if flags & NLM_F_EXCL != 0 => routes.retain(|route| !equal(route, &shape)),
        _ => {}
    }
    let order = |shape: &Shape| (u8::MAX - shape.tos, shape.priority);
    let before_equals = first.is_some() && flags & NLM_F_APPEND == 0;
    let at = routes.partition_point(|route| {
        if before_equals {
            order(route) < order(&shape)
        } else {
            order(route) <= order(&shape)
        }
    });
    routes.insert(at, shape);
}

/// Takes a route out; whether it was there.
pub fn delete(routes: &mut Vec<Arc<Shape>>, shape: &Shape) -> bool {
    let at = routes.iter().position(|route| route.is_same(shape));
    at.map(|at| routes.remove(at)).is_some()
}

/// Takes in a route of a dump: they come in the kernel's order.
pub fn add_dumped(routes: &mut Vec<Arc<Shape>>, shape: Arc<Shape>) {
    add(routes, shape, NLM_F_APPEND);
}

/// What a lookup uses of the prefix: the first by order with a way out alive. `None`: the prefix counts for nothing now.
pub fn select(routes: &[Arc<Shape>], resolver: &mut Resolver<'_>) -> Option<Route> {
    if routes.iter().any(|route| route.tos != 0) {
        return Some(left("TOS routes"));
    }
    for equals in routes.chunk_by(|a, b| equal(a, b)) {
        let mut alive = equals.iter().filter_map(|route| resolver.route(route));
        let Some(first) = alive.next() else { continue };
        // The kernel would use the first, but for default routes, where it tries which router lives (fib_select_default).
        return Some(if alive.all(|other| other == first) {
            first
        } else {
            left("several equal routes")
        });
    }
    None
}

/// Whether a notification adds.
pub fn is_new(message: &Message<'_>) -> bool {
    message.kind == libc::RTM_NEWROUTE
}

#[cfg(test)]
mod tests {
    use super::super::fibs::World;
    use super::super::resolve::Policy;
    use super::super::route::Hop;
    use super::*;
    use std::collections::HashSet;

    fn shape(kind: u8, tos: u8, priority: u32, prefsrc: u32) -> Arc<Shape> {
        let hop = Hop {
            oif: 0,
            gateway: None,
            dead: false,
            encap: 0,
            weight: 0,
        };
        Arc::new(Shape {
            kind,
            scope: 0,
            protocol: 3,
            tos,
            priority,
            prefsrc: prefsrc.into(),
            src: (0, 0),
            nh_id: 0,
            hops: [hop].into(),
            mtu: 0,
            mtu_locked: false,
            realm: false,
            until: 0,
            unknown: 0,
        })
    }

    fn marks(routes: &[Arc<Shape>]) -> Vec<(u32, u128)> {
        routes.iter().map(|route| (route.priority, route.prefsrc)).collect()
    }

    #[test]
    fn the_list_keeps_the_kernels_order() {
        let mut routes = vec![];
        add(&mut routes, shape(1, 0, 10, 1), NLM_F_EXCL);
        add(&mut routes, shape(1, 0, 5, 2), NLM_F_EXCL);
        add(&mut routes, shape(1, 0, 10, 3), NLM_F_APPEND);
        add(&mut routes, shape(1, 0, 10, 4), 0);
        add(&mut routes, shape(1, 8, 99, 5), NLM_F_EXCL);
        assert_eq!(marks(&routes), [(99, 5), (5, 2), (10, 4), (10, 1), (10, 3)]);
        add(&mut routes, shape(1, 0, 10, 6), NLM_F_REPLACE);
        assert_eq!(marks(&routes), [(99, 5), (5, 2), (10, 6), (10, 1), (10, 3)]);
        assert!(delete(&mut routes, &shape(1, 0, 10, 1)));
        assert!(!delete(&mut routes, &shape(1, 0, 10, 1)));
        // A plain add proves that its equals are gone.
        add(&mut routes, shape(1, 0, 10, 7), NLM_F_EXCL);
        assert_eq!(marks(&routes), [(99, 5), (5, 2), (10, 7)]);
    }

    #[test]
    fn the_least_metric_wins_and_doubt_is_left_to_the_kernel() {
        let (world, policy) = (World::default(), Policy::default());
        let mut unknown = HashSet::new();
        let mut resolver = Resolver {
            world: &world,
            policy: &policy,
            unknown: &mut unknown,
        };
        let (blackhole, local) = (shape(libc::RTN_BLACKHOLE, 0, 1, 0), shape(libc::RTN_LOCAL, 0, 2, 0));
        let route = select(&[blackhole.clone(), local.clone()], &mut resolver).unwrap();
        assert_eq!(route.kind, crate::table::fib::RouteKind::Refused);
        let same = shape(libc::RTN_PROHIBIT, 0, 1, 9);
        assert_eq!(select(&[blackhole.clone(), same], &mut resolver), Some(route));
        let other = shape(libc::RTN_LOCAL, 0, 1, 9);
        let several = select(&[blackhole.clone(), other], &mut resolver).unwrap();
        assert_eq!(several.left.as_deref(), Some("several equal routes"));
        let tos = select(&[shape(libc::RTN_LOCAL, 8, 1, 9), blackhole], &mut resolver).unwrap();
        assert_eq!(tos.left.as_deref(), Some("TOS routes"));
        let mut dead = (*shape(libc::RTN_UNICAST, 0, 0, 0)).clone();
        dead.hops[0].dead = true;
        let route = select(&[dead.clone().into(), local], &mut resolver).unwrap();
        assert_eq!(route.kind, crate::table::fib::RouteKind::Local);
        assert_eq!(select(&[dead.into()], &mut resolver), None);
    }
}
