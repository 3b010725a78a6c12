//! u32: tables and what is in them, as u32_walk and u32_dump of net/sched/cls_u32.c list them.
//!
//! All u32 filters of a qdisc or class share one list of tables, and a link may lead to one of another preference. Which table is a
//! preference's root is not told: it is the one that has one bucket, a number of the kernel's own choice (800 or more), and to
//! which no link leads (the kernel refuses such links). Where that could be two, the filter is not carried.
//!
//! A mark is listed only by a kernel that was built to look at it; one that was not takes `match mark`, and forgets it.

use super::super::nlattr::{get_u16, get_u32};
use super::action::{Acts, Reading};
use super::{Listed, Why, class, options};
use crate::table::filter::u32::{Key, Link, Mark, Node, Shift, Table, U32, Variable};
use std::collections::HashMap;

const CLASSID: u16 = 1;
const HASH: u16 = 2;
const LINK: u16 = 3;
const DIVISOR: u16 = 4;
const SEL: u16 = 5;
pub(super) const POLICE: u16 = 6;
pub(super) const ACT: u16 = 7;
const INDEV: u16 = 8;
const PCNT: u16 = 9;
const MARK: u16 = 10;
const FLAGS: u16 = 11;
const PAD: u16 = 12;
/// Of a `struct tc_u32_sel`, and of each of its keys.
const SEL_LEN: usize = 16;
const KEY_LEN: usize = 16;
/// `flags` of a `struct tc_u32_sel`.
const TERMINAL: u8 = 1;
const OFFSET: u8 = 2;
const VAROFFSET: u8 = 4;
const EAT: u8 = 8;
/// Numbers from here on are chosen by the kernel.
const OWN_TABLES: u32 = 0x800 << 20;
/// A kernel's own bound.
const DIVISOR_MAX: u32 = 256;

/// What is in the list of tables.
#[derive(Debug, Default)]
pub(super) struct Tables<'a> {
    /// By number.
    tables: HashMap<u32, Listing<'a>>,
    /// What could not be read, by preference.
    odd: HashMap<u16, Why>,
}

#[derive(Debug)]
struct Listing<'a> {
    preference: u16,
    buckets: Vec<Vec<(u32, Entry)>>,
    /// A link leads here.
    linked: bool,
    of: &'a Listed,
}

/// A filter, with its link as the kernel says it.
#[derive(Debug)]
struct Entry {
    node: Node,
    link: Option<u32>,
}

/// `fh` of tc.
pub(super) fn name(handle: u32) -> String {
    let (table, bucket, node) = (handle >> 20, handle >> 12 & 0xff, handle & 0xfff);
    match (bucket, node) {
        (0, 0) => format!("{table:x}:"),
        (0, node) => format!("{table:x}::{node:x}"),
        (bucket, 0) => format!("{table:x}:{bucket:x}"),
        (bucket, node) => format!("{table:x}:{bucket:x}:{node:x}"),
    }
}

/// The number of the table that a handle is of.
fn table_of(handle: u32) -> u32 {
    handle & 0xfff0_0000
}

impl<'a> Tables<'a> {
    /// All of chain 0.
    pub(super) fn of(listed: &'a [Listed], reading: &mut Reading) -> Self {
        let mut tables = Self::default();
        for one in listed
            .iter()
            .filter(|one| one.chain == 0 && one.kind == "u32" && one.handle != 0)
        {
            if let Err(why) = tables.add(one, reading) {
                tables.odd.entry(one.preference).or_insert(why);
            }
        }
        let links = tables.tables.values().flat_map(|table| table.buckets.iter().flatten());
        let links: Vec<u32> = links.filter_map(|(_, entry)| entry.link).collect();
        for link in links {
            if let Some(table) = tables.tables.get_mut(&link) {
                table.linked = true;
            }
        }
        tables
    }

    fn add(&mut self, one: &'a Listed, reading: &mut Reading) -> Result<(), Why> {
        let fail = |why: &str| (Some(one.handle), why.to_string());
        if one.handle == table_of(one.handle) {
            let mut divisor = 0;
            options(one, |kind, payload| {
                match kind {
                    DIVISOR => divisor = get_u32(payload).unwrap_or(0),
                    FLAGS | PAD => {}
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
            if divisor == 0 || divisor > DIVISOR_MAX {
                return Err(fail("its divisor is not known"));
            }
            let listing = Listing {
                preference: one.preference,
                buckets: (0..divisor).map(|_| Vec::new()).collect(),
                linked: false,
                of: one,
            };
            return match self.tables.insert(one.handle, listing) {
                None => Ok(()),
                Some(_) => Err(fail("it is listed twice")),
            };
        }
        let Some(entry) = entry(one, reading)? else {
            return Ok(());
        };
        let bucket = (one.handle >> 12 & 0xff) as usize;
        let table = self.tables.get_mut(&table_of(one.handle));
        let bucket = table.and_then(|table| table.buckets.get_mut(bucket));
        bucket
            .ok_or_else(|| fail("its table is not listed"))?
            .push((one.handle, entry));
        Ok(())
    }

    /// The filters of a preference; none where nothing is in its root.
    pub(super) fn read(&self, preference: u16) -> Result<Option<U32>, Why> {
        if let Some(why) = self.odd.get(&preference) {
            return Err(why.clone());
        }
        let Some(root) = self.root(preference)? else {
            return Ok(None);
        };
        let mut numbers = vec![root];
        let mut tables: Vec<Table> = Vec::new();
        while let Some(&number) = numbers.get(tables.len()) {
            let listing = self
                .tables
                .get(&number)
                .ok_or((None, "a table is not listed".to_string()))?;
            if let Some(why) = self.odd.get(&listing.preference) {
                return Err(why.clone());
            }
            let mut table = Table::default();
            for bucket in &listing.buckets {
                let mut nodes = Vec::with_capacity(bucket.len());
                for (_, entry) in bucket {
                    let mut node = entry.node.clone();
                    if let (Some(link), Some(to)) = (&mut node.link, entry.link) {
                        link.table = numbers.iter().position(|&of| of == to).unwrap_or_else(|| {
                            numbers.push(to);
                            numbers.len() - 1
                        });
                    }
                    nodes.push(node);
                }
                table.buckets.push(nodes);
            }
            tables.push(table);
        }
        let handle = |[table, bucket, at]: [usize; 3]| {
            let listing = self.tables.get(numbers.get(table)?)?;
            listing.buckets.get(bucket)?.get(at).map(|&(handle, _)| handle)
        };
        match U32::new(tables) {
            Ok(tables) => Ok(Some(tables)),
            Err((place, odd)) => Err((handle(place), odd.to_string())),
        }
    }

    fn root(&self, preference: u16) -> Result<Option<u32>, Why> {
        let may_be = |(number, table): &(&u32, &Listing)| {
            table.preference == preference && table.buckets.len() == 1 && !table.linked && **number >= OWN_TABLES
        };
        let roots: Vec<_> = self.tables.iter().filter(may_be).collect();
        match roots[..] {
            [(&root, table)] if !table.buckets[0].is_empty() => Ok(Some(root)),
            [] => Err((None, "its root is not listed".into())),
            _ if roots.iter().all(|(_, table)| table.buckets.iter().all(Vec::is_empty)) => Ok(None),
            _ => Err((
                roots.iter().map(|(_, table)| table.of.handle).max(),
                "whether the kernel begins with this table is not told".into(),
            )),
        }
    }
}

/// A filter; none that is in hardware alone.
fn entry(one: &Listed, reading: &mut Reading) -> Result<Option<Entry>, Why> {
    let mut entry = Entry {
        node: Node::default(),
        link: None,
    };
    let mut says = None;
    let mut selector = None;
    let mut software = true;
    let (mut acts, mut not_carried) = (Acts::default(), Ok(()));
    options(one, |kind, payload| {
        match kind {
            CLASSID => says = Some(class(payload)?),
            LINK => entry.link = Some(get_u32(payload).ok_or("its link cannot be read")?).filter(|&link| link != 0),
            SEL => selector = Some(read_selector(payload).ok_or("its keys cannot be read")?),
            MARK => entry.node.mark = read_mark(payload).ok_or("its mark cannot be read")?,
            FLAGS => software = reading.in_software(payload)?,
            ACT => acts.read(payload),
            POLICE => acts.police(payload),
            INDEV => not_carried = Err("it asks where a frame came from".to_string()),
            HASH | PCNT | PAD => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !software {
        return Ok(None);
    }
    let fail = |why: String| (Some(one.handle), why);
    not_carried.map_err(fail)?;
    let says = reading.says(says.unwrap_or_default(), acts).map_err(fail)?;
    let (flags, keys, link) = selector.ok_or_else(|| fail("it has no keys".into()))?;
    entry.node.keys = keys;
    entry.node.class = (flags & TERMINAL != 0).then_some(says);
    entry.node.link = entry.link.map(|_| link);
    Ok(Some(entry))
}

fn read_mark(payload: &[u8]) -> Option<Mark> {
    let (value, mask) = (get_u32(payload)?, get_u32(payload.get(4..)?)?);
    Some(Mark { value, mask })
}

/// A `struct tc_u32_sel`: its flags, its keys, and how a link of it would lead.
fn read_selector(payload: &[u8]) -> Option<(u8, Box<[Key]>, Link)> {
    let half = |at: usize| get_u16(payload.get(at..)?);
    let (head, keys) = payload.split_at_checked(SEL_LEN)?;
    let (flags, right, count) = (head[0], head[1], usize::from(head[2]));
    let variable = Variable {
        offset: half(8)? as i16,
        mask: u16::from_be(half(4)?),
        right,
    };
    let shift = Shift {
        fixed: half(6)?,
        variable: (flags & VAROFFSET != 0).then_some(variable),
    };
    let link = Link {
        table: 0,
        hash_offset: half(10)? as i16,
        hash_mask: u32::from_be(get_u32(payload.get(12..)?)?),
        shift: (flags & (OFFSET | VAROFFSET) != 0).then_some(shift),
        eat: flags & EAT != 0,
    };
    if keys.len() < count * KEY_LEN || right > 31 || flags & !(TERMINAL | OFFSET | VAROFFSET | EAT) != 0 {
        return None;
    }
    let word = |key: &[u8], at: usize| get_u32(key.get(at..)?);
    let keys = keys.chunks_exact(KEY_LEN).take(count).map(|key| {
        Some(Key {
            mask: u32::from_be(word(key, 0)?),
            value: u32::from_be(word(key, 4)?),
            offset: word(key, 8)? as i32,
            offset_mask: word(key, 12)? as i32,
        })
    });
    Some((flags, keys.collect::<Option<_>>()?, link))
}
