//! The kernel's names, and the numbers that they become.

use crate::table::rules::program::{ChainId, ObjectId, SetId, TableId};
use std::collections::HashMap;

/// What names lead to. Chains, sets and objects have theirs within a table; objects also within their kind.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) tables: HashMap<(u8, String), TableId>,
    chains: HashMap<TableId, HashMap<String, ChainId>>,
    sets: HashMap<TableId, HashMap<String, SetId>>,
    objects: HashMap<(TableId, u32), HashMap<String, ObjectId>>,
}

impl Names {
    pub(super) fn add_chain(&mut self, table: TableId, name: &str, id: ChainId) {
        self.chains.entry(table).or_default().insert(name.to_owned(), id);
    }

    pub(super) fn add_set(&mut self, table: TableId, name: &str, id: SetId) {
        self.sets.entry(table).or_default().insert(name.to_owned(), id);
    }

    pub(super) fn add_object(&mut self, table: TableId, kind: u32, name: &str, id: ObjectId) {
        self.objects
            .entry((table, kind))
            .or_default()
            .insert(name.to_owned(), id);
    }

    pub(super) fn chain(&self, table: TableId, name: &str) -> Option<ChainId> {
        self.chains.get(&table)?.get(name).copied()
    }

    pub(super) fn set(&self, table: TableId, name: &str) -> Option<SetId> {
        self.sets.get(&table)?.get(name).copied()
    }

    pub(super) fn object(&self, table: TableId, kind: u32, name: &str) -> Option<ObjectId> {
        self.objects.get(&(table, kind))?.get(name).copied()
    }
}
