//! Sets as the kernel lists them: each kind answers as its elements say.

use super::netns::isolated;
use super::{Nft, load, nft, read};
use bypath::table::rules::expr::{Stateful, Verdict};
use bypath::table::rules::program::{Ruleset, SetId};
use bypath::table::rules::set::{Data, Set};
use std::time::{Duration, Instant};

fn set<'a>(ruleset: &'a Ruleset, name: &str) -> &'a Set {
    let found = ruleset.sets.iter().find(|set| &*set.spec.name == name);
    found.unwrap_or_else(|| panic!("no set {name}"))
}

fn has(set: &Set, key: &[u8]) -> bool {
    assert_eq!(set.spec.opaque, None);
    set.lookup(key, 0).is_some()
}

#[test]
fn every_kind_of_set_answers() {
    isolated("sets::every_kind_of_set_answers", || {
        let ruleset = load(
            "table inet t {
                counter hits { }
                set bytes { type inet_proto; elements = { tcp, udp }; }
                set net { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/8, 192.168.1.1, 11.0.0.0/9, 224.0.0.0-255.255.255.255 }; }
                set net6 { type ipv6_addr; flags interval; elements = { fe80::/10, 2001:db8::5 }; }
                set pair { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80-90, 192.168.1.3-192.168.1.9 . 0-65535, 1.1.1.1 . 53 }; }
                set name { type ifname; elements = { \"eth0\", \"wan\" }; }
                set old { type ipv4_addr; flags timeout; timeout 1h; elements = { 1.1.1.1, 2.2.2.2 timeout 10s expires 5s }; }
                set counted { type ipv4_addr; counter; elements = { 1.1.1.1 counter packets 5 bytes 6, 2.2.2.2 }; }
                set odd { type ipv4_addr; flags dynamic; elements = { 1.1.1.1 }; }
                map ports { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1, * : 10.0.0.9 }; }
                map ranges { type inet_service : verdict; flags interval; elements = { 0-1023 : drop, 8080 : jump c }; }
                map objects { type ipv4_addr : counter; elements = { 1.1.1.1 : \"hits\" }; }
                chain c { tcp dport { 22, 80-90, 443 }; ip saddr vmap { 10.0.0.0/24 : accept, 10.0.1.0/24 : drop }; }
            }",
        );
        let bytes = set(&ruleset, "bytes");
        assert!(has(bytes, &[6]) && has(bytes, &[17]) && !has(bytes, &[1]));
        let net = set(&ruleset, "net");
        assert!(has(net, &[10, 0, 0, 0]) && has(net, &[11, 127, 255, 255]) && !has(net, &[11, 128, 0, 0]));
        assert!(has(net, &[192, 168, 1, 1]) && !has(net, &[192, 168, 1, 2]) && !has(net, &[192, 168, 1, 0]));
        assert!(has(net, &[255; 4]) && !has(net, &[223, 255, 255, 255]) && !has(net, &[0; 4]));
        let net6 = set(&ruleset, "net6");
        let with = |first: [u8; 2]| [&first[..], &[0xff; 14]].concat();
        assert!(has(net6, &with([0xfe, 0xbf])) && !has(net6, &with([0xfe, 0xc0])));
        let pair = set(&ruleset, "pair");
        let key = |host: [u8; 4], port: u16| [&host[..], &port.to_be_bytes(), &[0, 0]].concat();
        assert!(has(pair, &key([10, 9, 9, 9], 85)) && !has(pair, &key([10, 9, 9, 9], 91)));
        assert!(has(pair, &key([192, 168, 1, 9], 7)) && !has(pair, &key([192, 168, 1, 10], 7)));
        assert!(has(pair, &key([1, 1, 1, 1], 53)) && !has(pair, &key([1, 1, 1, 1], 54)));
        assert!(has(set(&ruleset, "name"), b"eth0\0\0\0\0\0\0\0\0\0\0\0\0"));
        counted_and_timed(&ruleset);
        maps(&ruleset);
        let anonymous: Vec<_> = ruleset.sets.iter().filter(|set| set.spec.anonymous).collect();
        assert_eq!(anonymous.len(), 2);
        assert!(
            anonymous
                .iter()
                .all(|set| set.spec.constant && set.spec.interval && set.spec.opaque.is_none())
        );
        assert!(set(&ruleset, "odd").spec.opaque.is_some() && set(&ruleset, "odd").is_empty());
    });
}

fn counted_and_timed(ruleset: &Ruleset) {
    let second = 1_000_000_000;
    let old = set(ruleset, "old");
    assert_eq!(old.spec.timeout_ms, Some(3_600_000));
    assert!(old.lookup(&[1; 4], 3590 * second).is_some() && old.lookup(&[1; 4], 3601 * second).is_none());
    assert!(old.lookup(&[2; 4], 2 * second).is_some() && old.lookup(&[2; 4], 6 * second).is_none());
    let counted = set(ruleset, "counted");
    let states = counted.lookup(&[1; 4], 0).unwrap().states;
    assert_eq!(
        counted.states()[states.start as usize],
        Stateful::Counter { packets: 5, bytes: 6 }
    );
}

fn maps(ruleset: &Ruleset) {
    let ports = set(ruleset, "ports");
    let value = |host: [u8; 4]| Data::Value(host.into());
    assert_eq!(
        ports.lookup(&80u16.to_be_bytes(), 0).unwrap().data,
        &value([10, 0, 0, 1])
    );
    assert!(ports.lookup(&81u16.to_be_bytes(), 0).is_none());
    assert_eq!(ports.catch_all(0).unwrap().data, &value([10, 0, 0, 9]));
    let ranges = set(ruleset, "ranges");
    let verdict = |port: u16| ranges.lookup(&port.to_be_bytes(), 0).map(|found| found.data);
    assert_eq!(verdict(1023), Some(&Data::Verdict(Verdict::Drop)));
    assert!(matches!(verdict(8080), Some(Data::Verdict(Verdict::Jump(to))) if &*ruleset[*to].name == "c"));
    assert_eq!((verdict(1024), verdict(8081)), (None, None));
    let Some(Data::Object(object)) = set(ruleset, "objects").lookup(&[1; 4], 0).map(|found| found.data) else {
        panic!("no object");
    };
    assert_eq!(&*ruleset[*object].name, "hits");
}

#[test]
fn a_hundred_thousand_elements_are_read() {
    isolated("sets::a_hundred_thousand_elements_are_read", || {
        let host = |n: u32| format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
        let hosts: Vec<_> = (0..100_000).map(host).collect();
        let ranges: Vec<_> = (0..20_000)
            .map(|n| format!("{}-{}", host(n * 8), host(n * 8 + 3)))
            .collect();
        nft(&format!(
            "table ip t {{ set h {{ type ipv4_addr; elements = {{ {} }}; }}\n
             set r {{ type ipv4_addr; flags interval; elements = {{ {} }}; }}\n }}",
            hosts.join(","),
            ranges.join(",")
        ));
        let begin = Instant::now();
        let ruleset = read();
        let took = begin.elapsed();
        println!("read in {took:?}");
        assert_eq!(ruleset[SetId(0)].len(), 100_000);
        assert!(has(&ruleset[SetId(0)], &[10, 1, 0x86, 0x9f]) && !has(&ruleset[SetId(0)], &[10, 1, 0x86, 0xa0]));
        let in_range = |n: u32| has(&ruleset[SetId(1)], &(0x0a00_0000 + n).to_be_bytes());
        assert!((0..160_000).step_by(7).all(|n| in_range(n) == (n % 8 < 4)));
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        assert_eq!(Nft::open().unwrap().generation().unwrap(), ruleset.generation);
    });
}
