//! `ip rule`: RTM_NEWRULE of one family, as a whole list (they are few, and any change reads them anew), and what the rules
//! mean for a forwarded packet: selectors that are constant for such packets (no mark, no output link, no socket) are
//! decided here; those that are not carried leave what the rest of the rule selects to the kernel. As net/core/fib_rules.c
//! (fib_rule_match), net/ipv4/fib_rules.c, net/ipv6/fib6_rules.c.

use super::link::Links;
use super::netlink::{Message, as_addr, as_str, as_u32, family, u32_at};
use crate::packet::Family;
use crate::table::fib::{Action, Prefix, Rule};
use crate::table::iface::{IfaceIndex, Left};

const HEADER: usize = 12;
const FIB_RULE_INVERT: u32 = 2;
/// struct fib_rule_hdr's action: FR_ACT_*.
const TO_TBL: u8 = 1;
const GOTO: u8 = 2;
const NOP: u8 = 3;
const REFUSE: [u8; 3] = [6, 7, 8];

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FLOW: u16 = 11;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;

/// A rule as the kernel says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRule {
    pref: u32,
    action: u8,
    table: u32,
    goto: u32,
    invert: bool,
    from: Prefix,
    to: Prefix,
    iif: Option<String>,
    tos: u8,
    mark: u32,
    mask: u32,
    oif: bool,
    l3mdev: bool,
    suppress_prefix_len: i32,
    not_carried: Option<&'static str>,
}

/// Reads RTM_NEWRULE; `None` for other families.
pub fn parse(message: Message<'_>, wanted: Family) -> Option<RawRule> {
    let (header, attributes) = message.split(HEADER)?;
    if family(header[0]) != Some(wanted) {
        return None;
    }
    let flags = u32_at(header, 8)?;
    let mut rule = RawRule {
        pref: 0,
        action: header[7],
        table: header[4].into(),
        goto: 0,
        invert: flags & FIB_RULE_INVERT != 0,
        from: Prefix {
            addr: 0,
            len: header[2],
        },
        to: Prefix {
            addr: 0,
            len: header[1],
        },
        iif: None,
        tos: header[3],
        mark: 0,
        mask: 0,
        oif: false,
        l3mdev: false,
        suppress_prefix_len: -1,
        not_carried: None,
    };
    let mut mask = None;
    for (kind, value) in attributes {
        match kind {
            FRA_SRC => rule.from.addr = as_addr(value)?.1,
            FRA_DST => rule.to.addr = as_addr(value)?.1,
            FRA_IIFNAME => rule.iif = Some(as_str(value)),
            FRA_GOTO => rule.goto = as_u32(value),
            FRA_PRIORITY => rule.pref = as_u32(value),
            FRA_FWMARK => rule.mark = as_u32(value),
            FRA_FWMASK => mask = Some(as_u32(value)),
            FRA_TABLE => rule.table = as_u32(value),
            FRA_SUPPRESS_PREFIXLEN => rule.suppress_prefix_len = as_u32(value) as i32,
            FRA_OIFNAME => rule.oif = true,
            FRA_L3MDEV => rule.l3mdev = value.first() != Some(&0),
            FRA_PAD | FRA_PROTOCOL => {}
            other => rule.not_carried = Some(selector_name(other)),
        }
    }
    // A rule that names a mark without a mask compares all of it.
    rule.mask = mask.unwrap_or(if rule.mark != 0 { u32::MAX } else { 0 });
    Some(rule)
}

fn selector_name(kind: u16) -> &'static str {
    match kind {
        FRA_FLOW => "realms",
        FRA_TUN_ID => "tun_id",
        FRA_SUPPRESS_IFGROUP => "suppress_ifgroup",
        FRA_UID_RANGE => "uidrange",
        FRA_IP_PROTO => "ipproto",
        FRA_SPORT_RANGE => "sport",
        FRA_DPORT_RANGE => "dport",
        25 | 30 => "dscp",
        26 | 27 => "flowlabel",
        _ => "an unknown selector",
    }
}

/// A rule with what cannot be said in a [`Rule`] before all are known.
enum Selects {
    /// No forwarded packet.
    Nothing,
    /// What the selectors say.
    Some {
        from: Prefix,
        to: Prefix,
        iif: Option<IfaceIndex>,
        tos: u8,
        invert: bool,
        left: Left,
    },
}

impl RawRule {
    /// Whether it is one of the kernel's own of a new namespace.
    fn is_default(&self, family: Family) -> bool {
        let defaults: &[(u32, u32)] = match family {
            Family::V4 => &[(0, 255), (32766, 254), (32767, 253)],
            Family::V6 => &[(0, 255), (32766, 254)],
        };
        let plain = RawRule {
            from: Prefix { addr: 0, len: 0 },
            to: Prefix { addr: 0, len: 0 },
            iif: None,
            ..self.clone()
        };
        let constant = !self.invert && !self.oif && !self.l3mdev && self.mask == 0 && self.tos == 0;
        *self == plain
            && constant
            && self.action == TO_TBL
            && self.suppress_prefix_len < 0
            && self.not_carried.is_none()
            && defaults.contains(&(self.pref, self.table))
    }

    /// What it selects of the forwarded packets: their mark is 0, their output link and socket are none, and their link of
    /// arrival has no VRF.
    fn selects(&self, links: &Links) -> Selects {
        let everything = Prefix { addr: 0, len: 0 };
        let all = |left: Option<&str>| Selects::Some {
            from: everything,
            to: everything,
            iif: None,
            tos: 0,
            invert: false,
            left: left.map(Into::into),
        };
        // Of a packet that no selector can match an inverted rule is for every one.
        let nothing = || if self.invert { all(None) } else { Selects::Nothing };
        if self.oif || self.l3mdev || self.mark & self.mask != 0 {
            return nothing();
        }
        if self.invert && self.not_carried.is_some() {
            return all(Some("not"));
        }
        let iif = match &self.iif {
            None => None,
            Some(name) => match links.named(name) {
                None => return nothing(), // [detached]
                Some(link) if link.index.is_none() => return all(Some("iif of a link without an index")),
                Some(link) => link.index,
            },
        };
        Selects::Some {
            from: self.from,
            to: self.to,
            iif,
            tos: self.tos,
            invert: self.invert,
            left: self.not_carried.map(Into::into),
        }
    }

    fn left(&self, why: &str) -> Left {
        Some(format!("rule {}: {why}", self.pref).into())
    }

    fn refined(&self, selects: Selects, mut place: impl FnMut(u32) -> usize) -> Option<Rule> {
        let Selects::Some {
            from,
            to,
            iif,
            tos,
            invert,
            left,
        } = selects
        else {
            return None;
        };
        let mut left = left.and_then(|why| self.left(&why));
        let action = match self.action {
            TO_TBL => Action::Lookup(place(self.table)),
            GOTO | NOP => Action::Nop, // where a goto goes is set when all rules are known
            action if REFUSE.contains(&action) => Action::Refuse,
            _ => {
                left = self.left("an unknown action");
                Action::Nop
            }
        };
        let suppress_prefix_len = self.suppress_prefix_len.clamp(-1, 128) as i16;
        Some(Rule {
            pref: self.pref,
            from,
            to,
            iif,
            tos,
            invert,
            action,
            suppress_prefix_len,
            left,
        })
    }
}

/// The rules of one family.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// In the kernel's order.
    pub raw: Vec<RawRule>,
}

impl Rules {
    /// Whether there are others than the kernel's own, or fewer.
    pub fn is_custom(&self, family: Family) -> bool {
        let own = if family == Family::V4 { 3 } else { 2 };
        self.raw.len() != own || !self.raw.iter().all(|rule| rule.is_default(family))
    }

    /// Whether one asks for a mark, if only for none.
    pub fn ask_for_marks(&self) -> bool {
        self.raw.iter().any(|rule| rule.mask != 0)
    }

    /// The rules as lookups use them; `place` tells a table's place by its number.
    pub fn compile(&self, links: &Links, mut place: impl FnMut(u32) -> usize) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::with_capacity(self.raw.len());
        let mut jumps: Vec<(usize, u32)> = Vec::new();
        for raw in &self.raw {
            let Some(rule) = raw.refined(raw.selects(links), &mut place) else {
                continue;
            };
            if raw.action == GOTO {
                jumps.push((rules.len(), raw.goto));
            }
            rules.push(rule);
        }
        for (at, target) in jumps {
            // To the first rule of that preference; one without such a rule is passed over ([unresolved]).
            if self.raw.iter().any(|raw| raw.pref == target) && target > rules[at].pref {
                let to = rules.iter().position(|rule| rule.pref >= target).unwrap_or(rules.len());
                rules[at].action = Action::Goto(to);
            }
        }
        rules
    }
}
