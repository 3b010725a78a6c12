//! fw: a mark for each filter, which is its handle; all of a preference share a mask. A preference without any takes the mark for
//! the class, which is not carried: what is behind it is not listed. net/sched/cls_fw.c.

use super::super::nlattr::get_u32;
use super::action::{Acts, Reading};
use super::{Listed, Why, class, options};
use crate::table::filter::{Marks, Match};
use crate::table::qdisc::Handle;

const CLASSID: u16 = 1;
pub(super) const POLICE: u16 = 2;
const INDEV: u16 = 3;
pub(super) const ACT: u16 = 4;
const MASK: u16 = 5;

pub(super) fn read(below: &[Listed], reading: &mut Reading) -> Result<Option<Match>, Why> {
    if below.is_empty() {
        return Err((None, "it takes the mark for the class".into()));
    }
    // A filter that says no class does not tell its mask.
    let mut shared = None;
    let mut classes = Vec::with_capacity(below.len());
    for one in below {
        let mut says = Handle(0);
        let mut mask = u32::MAX;
        let mut acts = Acts::default();
        options(one, |kind, payload| {
            match kind {
                CLASSID => says = class(payload)?,
                MASK => mask = get_u32(payload).ok_or("its mask cannot be read")?,
                ACT => acts.read(payload),
                POLICE => acts.police(payload),
                INDEV => return Err("it asks where a frame came from".into()),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let says = reading.says(says, acts).map_err(|why| (Some(one.handle), why))?;
        if one.options.is_some() {
            if shared.is_some_and(|shared| shared != mask) {
                return Err((Some(one.handle), "its mask is not that of the others".into()));
            }
            shared = Some(mask);
        }
        classes.push((one.handle, says));
    }
    match shared {
        Some(mask) => Ok(Some(Match::Mark(Marks::new(mask, classes)))),
        None => Err((None, "its mask is not told".into())),
    }
}
