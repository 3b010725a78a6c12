//! Concatenations of ranges: the first element all of whose fields hold, by as many hash lookups as there are forms.
//!
//! ```text
//!  element   10.0.0.0/8 . 80-87    ->  cells   10.0.0.0 . 80   under the mask  ff000000 . fff8   (a range is some prefixes)
//!  lookup    for each mask: hash of (key & mask) -> elements, in their order
//! ```
//!
//! Rulesets use few forms of range (exact, a few prefix lengths, any), so that there are few masks. A range that is no
//! prefix is split into the prefixes that make it up; an element that would be more than [`CELLS_MAX`] cells stays whole
//! in a list that every lookup goes through, as do all that would bring more than [`MASKS_MAX`] masks.
//! Answers as nft_pipapo_lookup does: the lowest place among those that hold and are there.

use super::KEY_MAX;
use std::collections::HashMap;
use std::ops::Range;

/// The most cells of an element.
const CELLS_MAX: usize = 64;
/// The most masks.
const MASKS_MAX: usize = 256;

type Key = Box<[u8]>;
type Cells = HashMap<Key, Vec<u32>, foldhash::fast::RandomState>;

/// See the file's head.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    fields: Vec<Range<usize>>,
    masks: Vec<(Key, Cells)>,
    /// First, last, place.
    whole: Vec<(Key, Key, u32)>,
}

impl Ranges {
    /// Of elements (first, last, place), places rising.
    pub(super) fn new(fields: &[Range<usize>], elements: impl Iterator<Item = (Key, Key, u32)>) -> Self {
        let mut ranges = Self {
            fields: fields.to_vec(),
            masks: Vec::new(),
            whole: Vec::new(),
        };
        let mut by_mask: HashMap<Key, usize> = HashMap::new();
        for (first, last, place) in elements {
            let Some(cells) = cells(fields, &first, &last) else {
                ranges.whole.push((first, last, place));
                continue;
            };
            let fresh = cells.iter().filter(|(mask, _)| !by_mask.contains_key(mask)).count();
            if by_mask.len() + fresh > MASKS_MAX {
                ranges.whole.push((first, last, place));
                continue;
            }
            for (mask, value) in cells {
                let at = *by_mask.entry(mask.clone()).or_insert_with(|| {
                    ranges.masks.push((mask, Cells::default()));
                    ranges.masks.len() - 1
                });
                ranges.masks[at].1.entry(value).or_default().push(place);
            }
        }
        ranges
    }

    /// The lowest place that holds `key` and is there.
    pub(super) fn first(&self, key: &[u8], is_there: impl Fn(u32) -> bool) -> Option<u32> {
        let mut lowest = None;
        let mut better = |place: u32| {
            if lowest.is_none_or(|found| place < found) && is_there(place) {
                lowest = Some(place);
            }
        };
        let mut masked = [0u8; KEY_MAX];
        let masked = masked.get_mut(..key.len())?;
        for (mask, cells) in &self.masks {
            for (out, (byte, mask)) in masked.iter_mut().zip(key.iter().zip(mask)) {
                *out = byte & mask;
            }
            cells
                .get(&*masked)
                .into_iter()
                .flatten()
                .for_each(|&place| better(place));
        }
        for (first, last, place) in &self.whole {
            if self
                .fields
                .iter()
                .all(|f| first[f.clone()] <= key[f.clone()] && key[f.clone()] <= last[f.clone()])
            {
                better(*place);
            }
        }
        lowest
    }
}

/// The cells of an element: masks and values of the whole key. None if they are too many.
fn cells(fields: &[Range<usize>], first: &[u8], last: &[u8]) -> Option<Vec<(Key, Key)>> {
    let mut cells: Vec<(Key, Key)> = vec![(vec![0; first.len()].into(), vec![0; first.len()].into())];
    for field in fields {
        let prefixes = prefixes(&first[field.clone()], &last[field.clone()])?;
        if cells.len() * prefixes.len() > CELLS_MAX {
            return None;
        }
        let with = |(mask, value): &(Key, Key), (bits, prefix): &(usize, Key)| {
            let (mut mask, mut value) = (mask.clone(), value.clone());
            fill_ones(&mut mask[field.clone()], *bits);
            value[field.clone()].copy_from_slice(prefix);
            (mask, value)
        };
        cells = cells
            .iter()
            .flat_map(|cell| prefixes.iter().map(move |prefix| with(cell, prefix)))
            .collect();
    }
    Some(cells)
}

/// The prefixes (length in bits, address) that make up a range, from its beginning; none if they are too many. A range that
/// ends before it begins has none at all.
fn prefixes(first: &[u8], last: &[u8]) -> Option<Vec<(usize, Key)>> {
    let mut found = Vec::new();
    let mut at: Key = first.into();
    while *at <= *last {
        // The longest block that starts here and does not reach beyond the end.
        let mut bits = first.len() * 8;
        let mut end = at.clone();
        while bits > 0 && !bit(&at, bits - 1) {
            set_bit(&mut end, bits - 1);
            if *end > *last {
                end = with_ones(&at, bits);
                break;
            }
            bits -= 1;
        }
        found.push((bits, at.clone()));
        if found.len() > CELLS_MAX {
            return None;
        }
        match successor(&end) {
            Some(next) => at = next,
            None => break,
        }
    }
    Some(found)
}

fn bit(bytes: &[u8], at: usize) -> bool {
    bytes[at / 8] & (0x80 >> (at % 8)) != 0
}

fn set_bit(bytes: &mut [u8], at: usize) {
    bytes[at / 8] |= 0x80 >> (at % 8);
}

/// The address with all bits from `from` on set.
fn with_ones(address: &[u8], from: usize) -> Key {
    let mut end: Key = address.into();
    (from..address.len() * 8).for_each(|at| set_bit(&mut end, at));
    end
}

/// Sets the first `bits` bits.
fn fill_ones(bytes: &mut [u8], bits: usize) {
    (0..bits).for_each(|at| set_bit(bytes, at));
}

/// The next number; none behind the last.
fn successor(bytes: &[u8]) -> Option<Key> {
    let mut next: Key = bytes.into();
    for byte in next.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(first: u16, last: u16) -> Vec<String> {
        let found = prefixes(&first.to_be_bytes(), &last.to_be_bytes()).unwrap();
        let number = |key: &Key| u16::from_be_bytes((**key).try_into().unwrap());
        found
            .iter()
            .map(|(bits, key)| format!("{}/{bits}", number(key)))
            .collect()
    }

    #[test]
    fn a_range_is_the_prefixes_that_make_it_up() {
        assert_eq!(text(80, 80), ["80/16"]);
        assert_eq!(text(80, 87), ["80/13"]);
        assert_eq!(text(0, 65535), ["0/0"]);
        assert_eq!(text(1024, 65535).len(), 6);
        assert_eq!(text(1, 6), ["1/16", "2/15", "4/15", "6/16"]);
        assert_eq!(text(65535, 65535), ["65535/16"]);
        assert_eq!(text(5, 4), [""; 0]);
        assert_eq!(text(1, 65534).len(), 30);
        assert!(prefixes(&[0, 0, 0, 0, 0, 1], &[0xff; 6]).is_some_and(|p| p.len() == 48));
        assert!(
            prefixes(
                &[[0; 15].as_slice(), &[1]].concat(),
                &[[0xff; 15].as_slice(), &[0xfe]].concat()
            )
            .is_none()
        );
    }
}
