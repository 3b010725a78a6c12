//! Sets and objects of nf_tables that make the kernel track connections by being there.
//!
//! As net/netfilter/nf_tables_api.c (nf_tables_fill_set, nf_tables_fill_setelem, nf_tables_fill_obj_info).

use super::super::nlattr::{Attrs, Request, get_be32};
use super::super::nlsock::NlSock;
use super::expr::{self, Tracks};
use super::nft::{GENMSG_LEN, Ruleset, SUBSYS, all, dump, text, word};
use std::io;

const NEWSET: u16 = SUBSYS | 9;
const GETSET: u16 = SUBSYS | 10;
const NEWSETELEM: u16 = SUBSYS | 12;
const GETSETELEM: u16 = SUBSYS | 13;
const NEWOBJ: u16 = SUBSYS | 18;
const GETOBJ: u16 = SUBSYS | 19;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;

/// NFT_OBJECT_CT_HELPER.
const HELPER: u32 = 3;

const OBJECT_DATA: u16 = 4;
const HELPER_NAME: u16 = 1;
/// Helpers that expect answers to what the box itself has sent, and nothing else (nf_conntrack_broadcast_help): no forwarded
/// packet is ever expected. Who is given one is the kernel's by the rule that gives it.
const FOR_THE_BOX: [&str; 2] = ["netbios-ns", "snmp"];
/// Helpers that expect connections between the two ends of the one that they look into, which no third party can name.
const BETWEEN_TWO_ENDS: [&str; 6] = ["amanda", "ftp", "irc", "pptp", "sane", "tftp"];

/// Objects that track by being there: helpers, timeouts, expectations, connection limits, SYN proxies.
///
/// A helper does no more than that to forwarded connections where none of them is given one, and none is expected by one of the
/// box itself: it is for the box alone, or between two ends, of which the box is one. (Not where NAT may have led to the box
/// what the client takes for another end.)
pub(super) fn load_objects(sock: &mut NlSock, ruleset: &mut Ruleset) -> io::Result<()> {
    let helpers_are_reached = ruleset.rules.reach_object(HELPER);
    dump(sock, all(GETOBJ), NEWOBJ, ruleset.generation, |family, m| {
        let attrs = m.attrs(GENMSG_LEN);
        let kind = attrs.find(3).and_then(get_be32);
        // counter, quota, limit, tunnel, secmark
        if !matches!(kind, Some(1 | 2 | 4 | 6 | 8)) {
            let [table, object] = [text(&attrs, 1), text(&attrs, 2)];
            let helper = text(&Attrs(attrs.find(OBJECT_DATA).unwrap_or_default()), HELPER_NAME);
            let is_of_the_box = !helpers_are_reached && !ruleset.nat && BETWEEN_TWO_ENDS.contains(&&*helper);
            ruleset.track(
                family,
                format!("nft table {} {table}, object {object}", word(family)),
                kind == Some(HELPER) && (FOR_THE_BOX.contains(&&*helper) || is_of_the_box),
            );
        }
    })
}

/// Sets whose elements carry an expression. Where the set itself does not say which, the elements tell; that can be only in
/// sets that packets may fill and that never forget (a connlimit needs exactly those).
pub(super) fn load_sets(sock: &mut NlSock, ruleset: &mut Ruleset) -> io::Result<()> {
    let mut ask = Vec::new();
    dump(sock, all(GETSET), NEWSET, ruleset.generation, |family, m| {
        let attrs = m.attrs(GENMSG_LEN);
        let [table, set] = [text(&attrs, 1), text(&attrs, 2)];
        let flags = attrs.find(3).and_then(get_be32).unwrap_or(0);
        match element_tracking(&attrs, 17, 18) {
            Some(tracks) => track(ruleset, family, &table, &set, tracks),
            None if flags & (SET_EVAL | SET_TIMEOUT) == SET_EVAL => ask.push((family, table, set)),
            None => {}
        }
    })?;
    for (family, table, set) in ask {
        let mut tracking = None;
        dump_elements(sock, family, &table, &set, ruleset.generation, |element| {
            tracking = expr::worst(
                tracking
                    .take()
                    .into_iter()
                    .chain(element_tracking(&Attrs(element), 7, 11)),
            );
        })?;
        if let Some(tracks) = tracking {
            track(ruleset, family, &table, &set, tracks);
        }
    }
    Ok(())
}

fn dump_elements(
    sock: &mut NlSock,
    family: u8,
    table: &str,
    set: &str,
    generation: u32,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let request = Request::new(GETSETELEM, libc::NLM_F_DUMP as u16, &[family, 0, 0, 0]);
    let request = request.attr_str(1, table).attr_str(2, set);
    dump(sock, request, NEWSETELEM, generation, |_, m| {
        let elements = Attrs(m.attrs(GENMSG_LEN).find(3).unwrap_or_default());
        elements.for_each(|(_, element)| each(element));
    })
}

fn track(ruleset: &mut Ruleset, family: u8, table: &str, set: &str, tracks: Tracks) {
    let (plainly, name) = tracks.into_parts();
    let what = format!("nft table {} {table}, set {set}: {name}", word(family));
    ruleset.track(family, what, plainly);
}

/// What the expressions that a set or an element carries mean: one attribute for one, another for a list.
fn element_tracking(attrs: &Attrs, one: u16, list: u16) -> Option<Tracks> {
    let one = attrs.find(one).and_then(expr::tracking);
    let list = attrs.find(list).and_then(expr::tracking_in_list);
    expr::worst(one.into_iter().chain(list))
}
