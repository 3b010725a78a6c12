//! The routes of one family as the kernel told them: by table and prefix, all of them, also those that a better one hides.
//! What a lookup then uses is selected from a prefix's list by `route4` and `route6`.
//!
//! Memory: 40 bytes and the hash's slack per prefix; shapes are shared.

use super::route::{Key, Shape};
use hashbrown::HashMap;
use std::sync::Arc;

/// The routes of one prefix, in the kernel's order. Most prefixes have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// One route.
    One(Arc<Shape>),
    /// Several, never empty.
    Many(Box<[Arc<Shape>]>),
}

impl List {
    /// The routes.
    pub fn routes(&self) -> &[Arc<Shape>] {
        match self {
            List::One(route) => std::slice::from_ref(route),
            List::Many(routes) => routes,
        }
    }
}

/// The routes of one table.
pub type Prefixes = HashMap<Key, List, foldhash::fast::RandomState>;

/// All routes of a family.
#[derive(Debug, Default)]
pub struct Store {
    tables: HashMap<u32, Prefixes, foldhash::fast::RandomState>,
}

impl Store {
    /// The routes of a prefix.
    pub fn get(&self, table: u32, key: Key) -> &[Arc<Shape>] {
        self.tables
            .get(&table)
            .and_then(|prefixes| prefixes.get(&key))
            .map_or(&[], List::routes)
    }

    /// Changes the routes of a prefix by `change`, which gets them as a vector.
    pub fn change<R>(&mut self, table: u32, key: Key, change: impl FnOnce(&mut Vec<Arc<Shape>>) -> R) -> R {
        let prefixes = self.tables.entry(table).or_default();
        let mut routes = match prefixes.remove(&key) {
            None => Vec::new(),
            Some(List::One(route)) => vec![route],
            Some(List::Many(routes)) => routes.into_vec(),
        };
        let result = change(&mut routes);
        match routes.len() {
            0 => {}
            1 => drop(routes.pop().map(|route| prefixes.insert(key, List::One(route)))),
            _ => drop(prefixes.insert(key, List::Many(routes.into()))),
        }
        result
    }

    /// All prefixes with their routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Key, &[Arc<Shape>])> {
        self.tables
            .iter()
            .flat_map(|(&table, prefixes)| prefixes.iter().map(move |(&key, list)| (table, key, list.routes())))
    }
}
