//! matchall: at most one of a preference. net/sched/cls_matchall.c.

use super::{Listed, Why, action, class, in_software, options};
use crate::table::filter::Match;
use crate::table::qdisc::Handle;

const CLASSID: u16 = 1;
const ACT: u16 = 2;
const FLAGS: u16 = 3;
const PCNT: u16 = 4;
const PAD: u16 = 5;

pub(super) fn read(below: &[Listed]) -> Result<Option<Match>, Why> {
    for one in below {
        // What says no class says 0, which is none, and yet no other filter is asked.
        let mut says = Handle(0);
        let mut software = true;
        let mut acts = Ok(());
        options(one, |kind, payload| {
            match kind {
                CLASSID => says = class(payload)?,
                ACT => acts = action::read(payload),
                FLAGS => software = in_software(payload)?,
                PCNT | PAD => {}
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if software {
            acts.map_err(|why| (Some(one.handle), why))?;
            return Ok(Some(Match::All(says)));
        }
    }
    Ok(None)
}
