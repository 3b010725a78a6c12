//! flower: fields and their masks, as fl_dump_key (net/sched/cls_flower.c) writes them.
//!
//! Carried under `protocol all`, `ip`, `ipv6` and `arp`: Ethernet addresses, and of IP its addresses, protocol, TOS and TTL, ports and
//! their ranges, and TCP's flags. An address with a mask of no bits (`src_ip 0.0.0.0/0`) has the kernel match nothing, and is
//! not listed: such a filter is taken for one that does not ask for it.

use super::super::nlattr::get_be16;
use super::action::{Acts, Reading};
use super::{Listed, Why, class, options};
use crate::table::filter::flower::{Field, Flower, Rule};
use crate::table::filter::{Match, PROTOCOL_ALL};

const CLASSID: u16 = 1;
pub(super) const ACT: u16 = 3;
const ETH_TYPE: u16 = 8;
const FLAGS: u16 = 22;
const IN_HW_COUNT: u16 = 86;
/// The least and the most of the source port, then of the destination port.
const PORT_SRC_MIN: u16 = 87;
const PORT_DST_MAX: u16 = 90;
/// Protocols under which nothing but these fields decides.
const PROTOCOLS: [u16; 4] = [PROTOCOL_ALL, 0x0800, 0x86dd, 0x0806];

/// A field: its attribute, that of its mask (0 where it has none), and which of IP's versions it belongs to.
const FIELDS: [(u16, u16, Option<u8>, Field); 17] = [
    (4, 5, None, Field::ETH_DST),
    (6, 7, None, Field::ETH_SRC),
    (ETH_TYPE, 0, None, Field::ETH_TYPE),
    (9, 0, None, Field::IP_PROTOCOL),
    (10, 11, Some(4), Field::IPV4_SRC),
    (12, 13, Some(4), Field::IPV4_DST),
    (14, 15, Some(6), Field::IPV6_SRC),
    (16, 17, Some(6), Field::IPV6_DST),
    (18, 35, None, Field::PORT_SRC),
    (19, 36, None, Field::PORT_DST),
    (20, 37, None, Field::PORT_SRC),
    (21, 38, None, Field::PORT_DST),
    (41, 39, None, Field::PORT_SRC),
    (42, 40, None, Field::PORT_DST),
    (71, 72, None, Field::TCP_FLAGS),
    (73, 74, None, Field::TOS),
    (75, 76, None, Field::TTL),
];
const PORTS: [u16; 6] = [18, 19, 20, 21, 41, 42];

pub(super) fn read(below: &[Listed], reading: &mut Reading) -> Result<Option<Match>, Why> {
    let mut rules = Vec::with_capacity(below.len());
    let mut handles = Vec::with_capacity(below.len());
    for one in below {
        if let Some(rule) = rule(one, reading)? {
            rules.push(rule);
            handles.push(one.handle);
        }
    }
    match Flower::new(rules) {
        Ok(rules) => Ok(Some(Match::Flower(rules))),
        Err(at) => Err((
            handles.get(at).copied(),
            "a frame may match another of its preference too, and which is asked first is not told".into(),
        )),
    }
}

/// A filter; none that is in hardware alone.
fn rule(one: &Listed, reading: &mut Reading) -> Result<Option<Rule>, Why> {
    let mut rule = Rule::default();
    let mut says = None;
    let mut software = true;
    let mut acts = Acts::default();
    let mut ends = [None; 4];
    let (mut exact, mut kind_of_frame) = (false, PROTOCOL_ALL);
    options(one, |kind, payload| {
        match kind {
            CLASSID => says = Some(class(payload)?),
            ACT => acts.read(payload),
            FLAGS => software = reading.in_software(payload)?,
            IN_HW_COUNT => {}
            PORT_SRC_MIN..=PORT_DST_MAX => ends[usize::from(kind - PORT_SRC_MIN)] = get_be16(payload),
            _ => {
                let Some(whole) = field(&mut rule, kind, payload) else {
                    return Ok(false);
                };
                exact |= PORTS.contains(&kind);
                if kind == ETH_TYPE {
                    kind_of_frame = get_be16(payload).unwrap_or_default();
                }
                return if whole {
                    Ok(true)
                } else {
                    Err(format!("its attribute {kind} cannot be read"))
                };
            }
        }
        Ok(true)
    })?;
    if !software {
        return Ok(None);
    }
    let fail = |why: &str| Err((Some(one.handle), why.to_string()));
    for (range, ends) in rule.ports.iter_mut().zip(ends.chunks_exact(2)) {
        *range = match *ends {
            [Some(least), Some(most)] => Some((least, most)),
            [None, None] => None,
            _ => return fail("its range of ports has one end"),
        };
    }
    // Kernels before 6.13 read one or the other.
    if exact && rule.ports != [None; 2] {
        return fail("it asks for a port and for a range of ports");
    }
    if !PROTOCOLS.contains(&one.protocol) || kind_of_frame != one.protocol {
        return fail("flower is not carried under this protocol");
    }
    let says = reading.says(says.unwrap_or_default(), acts);
    rule.class = says.map_err(|why| (Some(one.handle), why))?;
    Ok(Some(rule))
}

/// Sets a field or its mask: whether all of its bytes are there; `None` for what is no field that is carried. What comes without a
/// mask counts whole, and masks come behind.
fn field(rule: &mut Rule, kind: u16, payload: &[u8]) -> Option<bool> {
    if let Some((.., field)) = FIELDS.iter().find(|(_, mask, ..)| *mask == kind && kind != 0) {
        rule.mask.set(field, payload);
        return Some(payload.len() == field.len());
    }
    let (_, _, version, field) = FIELDS.iter().find(|(value, ..)| *value == kind)?;
    rule.fields.set(field, payload);
    rule.mask.set(field, &[0xff; 16]);
    if let Some(version) = version {
        rule.fields.set(&Field::ADDRESSES, &[*version]);
        rule.mask.set(&Field::ADDRESSES, &[0xff]);
    }
    Some(payload.len() == field.len())
}
