//! matchall: at most one of a preference. net/sched/cls_matchall.c.

use super::action::{Acts, Reading};
use super::{Listed, Why, class, options};
use crate::table::filter::Match;
use crate::table::qdisc::Handle;

const CLASSID: u16 = 1;
pub(super) const ACT: u16 = 2;
const FLAGS: u16 = 3;
const PCNT: u16 = 4;
const PAD: u16 = 5;

pub(super) fn read(below: &[Listed], reading: &mut Reading) -> Result<Option<Match>, Why> {
    for one in below {
        // What says no class says 0, which is none, and yet no other filter is asked.
        let mut says = Handle(0);
        let mut software = true;
        let mut acts = Acts::default();
        options(one, |kind, payload| {
            match kind {
                CLASSID => says = class(payload)?,
                ACT => acts.read(payload),
                FLAGS => software = reading.in_software(payload)?,
                PCNT | PAD => {}
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if software {
            let says = reading.says(says, acts).map_err(|why| (Some(one.handle), why))?;
            return Ok(Some(Match::All(says)));
        }
    }
    Ok(None)
}
