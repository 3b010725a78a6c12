//! The actions of a filter. At a qdisc that shapes all but `action pass` do something to a frame, or send it elsewhere, which is
//! not carried; at ingress a filter may have a policer, too (see `police`), and the class that it says means nothing.
//! net/sched/act_api.c, act_gact.c.
//!
//! ```text
//!  its attribute for actions  --Acts::read--->  nothing | a policer --Acts::says--> Classes: the class, or why not
//!  its old one for `police`   --Acts::police->                                     Ingress: 0 | the policer's place + 1
//! ```

use super::super::nlattr::{Attrs, get_str, get_u32};
use super::police;
use super::{FLAG_IN_HW, FLAG_SKIP_SW, FLAGS_KNOWN};
use crate::table::police::Police;
use crate::table::qdisc::Handle;

pub(super) const ACT_KIND: u16 = 1;
pub(super) const ACT_OPTIONS: u16 = 2;
/// A bitfield: what it says, then which bits of it count.
const ACT_FLAGS: u16 = 7;
const ACT_SKIP_SW: u32 = 4;
const ACT_IN_HW_COUNT: u16 = 10;
const GACT_TM: u16 = 1;
const GACT_PARMS: u16 = 2;
const GACT_PAD: u16 = 4;
/// Of `action` in a `struct tc_gact`.
const GACT_ACTION: usize = 8;
/// TC_ACT_OK: the frame is what the filter says.
const OK: u32 = 0;

/// What filters are read for.
#[derive(Debug)]
pub(super) enum Reading {
    /// The classes that they say.
    Classes,
    /// Their policers, each once.
    Ingress(Vec<Police>),
}

/// What the actions of one filter come to.
#[derive(Debug, Default)]
pub(super) struct Acts {
    police: Option<Police>,
    not_carried: Option<String>,
}

impl Acts {
    /// Its attribute for actions.
    pub(super) fn read(&mut self, payload: &[u8]) {
        let count = Attrs(payload).count();
        for (_, action) in Attrs(payload) {
            let attrs = Attrs(action);
            let word = |kind| attrs.find(kind).and_then(get_u32).unwrap_or(0);
            let kind = attrs.find(ACT_KIND).map(get_str).unwrap_or_default();
            let options = attrs.find(ACT_OPTIONS).unwrap_or_default();
            match kind.as_str() {
                "gact" if passes(options) => {}
                "police" if count > 1 => self.refuse("it has a policer and other actions".into()),
                "police" => self.police(options),
                _ => self.refuse(format!("its action {kind} is not carried")),
            }
            if word(ACT_IN_HW_COUNT) != 0 || word(ACT_FLAGS) & ACT_SKIP_SW != 0 {
                self.refuse(format!("its action {kind} is offloaded"));
            }
        }
    }

    /// Its policer.
    pub(super) fn police(&mut self, options: &[u8]) {
        match police::read(options) {
            Ok(police) => self.police = Some(police),
            Err(why) => self.refuse(format!("its action police {why}")),
        }
    }

    fn refuse(&mut self, why: String) {
        self.not_carried.get_or_insert(why);
    }
}

impl Reading {
    /// What a filter says that names `class` and has these actions.
    ///
    /// # Errors
    /// Why that is not carried.
    pub(super) fn says(&mut self, class: Handle, acts: Acts) -> Result<Handle, String> {
        match (self, acts) {
            (Self::Classes, Acts { police: Some(_), .. }) => Err("its action police is not carried".into()),
            (
                _,
                Acts {
                    not_carried: Some(why), ..
                },
            ) => Err(why),
            (Self::Classes, _) => Ok(class),
            (Self::Ingress(_), Acts { police: None, .. }) => Ok(Handle(0)),
            (
                Self::Ingress(all),
                Acts {
                    police: Some(police), ..
                },
            ) => {
                let known = all.iter().position(|one| one.index == police.index);
                match known {
                    Some(at) if all[at] != police => Err("it changed while it was read".into()),
                    Some(at) => Ok(Handle(at as u32 + 1)),
                    None => {
                        all.push(police);
                        Ok(Handle(all.len() as u32))
                    }
                }
            }
        }
    }

    /// Whether frames meet a filter, by its flags.
    ///
    /// # Errors
    /// Where they say what is not known, or at ingress that a card filters, and nobody can say which frames still come.
    pub(super) fn in_software(&self, payload: &[u8]) -> Result<bool, String> {
        match get_u32(payload) {
            Some(flags) if flags & !FLAGS_KNOWN != 0 => Err("its flags are not known".into()),
            Some(flags) if matches!(self, Self::Ingress(_)) && flags & (FLAG_SKIP_SW | FLAG_IN_HW) != 0 => {
                Err("it is offloaded".into())
            }
            Some(flags) => Ok(flags & FLAG_SKIP_SW == 0),
            None => Err("its flags are not known".into()),
        }
    }
}

/// Whether it is `pass`, always.
fn passes(options: &[u8]) -> bool {
    let mut attrs = Attrs(options);
    let action = attrs
        .find(GACT_PARMS)
        .and_then(|parms| get_u32(parms.get(GACT_ACTION..)?));
    action == Some(OK) && attrs.all(|(kind, _)| matches!(kind, GACT_TM | GACT_PARMS | GACT_PAD))
}
