//! The actions of a filter: all but `action pass` do something to a frame, or send it elsewhere, which is not carried.
//! net/sched/act_api.c, act_gact.c.

use super::super::nlattr::{Attrs, get_str, get_u32};

const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const GACT_TM: u16 = 1;
const GACT_PARMS: u16 = 2;
const GACT_PAD: u16 = 4;
/// Of `action` in a `struct tc_gact`.
const GACT_ACTION: usize = 8;
/// TC_ACT_OK: the frame is what the filter says.
const OK: u32 = 0;

/// Nothing, where the actions in a filter's attribute change nothing.
pub(super) fn read(payload: &[u8]) -> Result<(), String> {
    for (_, action) in Attrs(payload) {
        let attrs = Attrs(action);
        let kind = attrs.find(ACT_KIND).map(get_str).unwrap_or_default();
        if kind != "gact" || !passes(attrs.find(ACT_OPTIONS).unwrap_or_default()) {
            return Err(format!("its action {kind} is not carried"));
        }
    }
    Ok(())
}

/// Whether it is `pass`, always.
fn passes(options: &[u8]) -> bool {
    let mut attrs = Attrs(options);
    let action = attrs
        .find(GACT_PARMS)
        .and_then(|parms| get_u32(parms.get(GACT_ACTION..)?));
    action == Some(OK) && attrs.all(|(kind, _)| matches!(kind, GACT_TM | GACT_PARMS | GACT_PAD))
}
