//! Random ranges and connections: what holds for every choice.
//!
//! The map that stands for the table is small enough to be full of clashes: few clients, few servers, few ports. Every
//! choice is checked against it before it is entered.

use super::*;
use proptest::prelude::*;

prop_compose! {
    fn any_range()(
        family_v6: bool, addresses in prop::option::of((0u128..40, 0u128..40)), high: u128,
        ports in prop::option::of((0u16..2000, 0u16..50)), flags in 0u32..32,
    ) -> (Family, Range) {
        let family = if family_v6 { Family::V6 } else { Family::V4 };
        let base = if family_v6 { high & !0xff } else { high >> 96 & 0xffff_ff00 };
        let range = Range {
            addresses: addresses.map(|(a, b)| (base + a.min(b), base + a.max(b))),
            ports: ports.map(|(first, more)| (first, first + more)),
            base: 0,
            flags: flags & (flag::RANDOM_ALL | flag::PERSISTENT),
        };
        (family, range)
    }
}

proptest! {
    /// Many connections through one range: each is in it, none has what another one has, and a port that may stay does.
    #[test]
    fn choices_are_in_range_and_free_and_keep_ports(
        (family, range) in any_range(), seed: u32, proto in prop::sample::select(vec![6u8, 17, 132, 136, 1, 50]),
        sources in prop::collection::vec((0u128..6, 0u16..3000, 0u128..3, any::<bool>()), 1..80),
    ) {
        let mut town = Town { random: seed, ..Town::default() };
        let proto = if proto == 1 && family == Family::V6 { 58 } else { proto };
        for (client, sport, server, is_source) in sources {
            let manip = if is_source { Manip::Source } else { Manip::Destination };
            let original = Tuple {
                src: 1000 + client,
                dst: 2000 + server,
                sport: if proto == 50 { 0 } else { sport },
                dport: match proto { 1 => 0x0800, 58 => 0x8000, 50 => 0, _ => 443 },
                proto,
                family,
                zone: 0,
            };
            if town.holders.contains_key(&original) {
                continue;
            }
            let mut record = begun(original);
            let fits = setup(&mut record, &range, manip, &mut town).is_ok();
            let translated = record.reply.invert().unwrap();
            prop_assert_eq!(translated.invert(), Some(record.reply));

            // Only the side of the manip changes, and to within the range.
            let (own, stays) = match manip {
                Manip::Source => (translated.src, (translated.dst, translated.dport) == (original.dst, original.dport)),
                Manip::Destination => (translated.dst, translated.src == original.src),
            };
            prop_assert!(stays);
            match range.addresses {
                Some((first, last)) => prop_assert!((first..=last).contains(&own)),
                None => prop_assert_eq!(own, if is_source { original.src } else { original.dst }),
            }
            let port = |tuple: &Tuple| match (manip, proto) {
                (Manip::Source, _) | (_, 1 | 58) => tuple.sport,
                _ => tuple.dport,
            };
            if let (Some((first, last)), true) = (range.ports, proto != 50) {
                prop_assert!((first..=last).contains(&port(&translated)));
            }

            let taken = town.holders.contains_key(&record.reply);
            if manip == Manip::Source {
                prop_assert_eq!(fits, !taken, "it says whether it is free");
            }
            // A port that is in range and free with the address that was chosen stays, but for a mapping that there is.
            let kept = match manip {
                Manip::Source => Tuple { sport: original.sport, ..translated },
                Manip::Destination if matches!(proto, 1 | 58) => Tuple { sport: original.sport, ..translated },
                Manip::Destination => Tuple { dport: original.dport, ..translated },
            };
            let in_range = range.ports.is_none_or(|ports| range::has_port(ports, &kept, manip));
            let free = !town.holders.contains_key(&kept.invert().unwrap());
            let mapped = manip == Manip::Source && town.mapping(&original, |_| Some(())).is_some();
            if in_range && free && !mapped && range.flags & flag::RANDOM_ALL == 0 {
                prop_assert_eq!(translated, kept);
            }
            if !taken {
                town.add(&record);
            }
        }
    }

    /// One source and destination get one address always; with `persistent`, a source gets one for all destinations.
    #[test]
    fn addresses_are_chosen_by_hash((family, range) in any_range(), client: u32, servers: [u32; 4], persistent: bool) {
        let mut range = Range { ports: None, flags: 0, ..range };
        if persistent {
            range.flags = flag::PERSISTENT;
        }
        let mut chosen = Vec::new();
        for (n, server) in servers.iter().chain(&servers).enumerate() {
            let mut record = begun(Tuple {
                src: client.into(), dst: (*server).into(), sport: 5000 + n as u16, dport: 80, proto: 6, family, zone: 0,
            });
            setup(&mut record, &range, Manip::Source, &mut Town::default()).unwrap();
            chosen.push(record.reply.dst);
        }
        prop_assert_eq!(&chosen[..4], &chosen[4..]);
        if persistent && range.addresses.is_some() {
            prop_assert!(chosen.iter().all(|address| *address == chosen[0]));
        }
    }
}
