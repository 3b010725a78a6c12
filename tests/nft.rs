//! Rulesets of a real kernel: loaded with `nft`, read by netlink, looked at. Needs root, nft and network namespaces; each
//! test has a namespace of its own.

#[path = "nft/bridge.rs"]
mod bridge;
#[path = "env/mod.rs"]
mod env;
#[path = "nft/kernel.rs"]
mod kernel;
#[path = "netns/mod.rs"]
mod netns;
#[path = "nft/rulesets.rs"]
mod rulesets;
#[path = "nft/sets.rs"]
mod sets;
#[path = "nft/xt.rs"]
mod xt;

use bypath::mirror::nft::{Nft, NftError};
use bypath::table::rules::expr::*;
use bypath::table::rules::keys::{CtKey, MetaKey, RtKey};
use bypath::table::rules::program::*;
use netns::{isolated, sh};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

fn nft(script: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(script.as_bytes())
        .expect("nft reads");
    assert!(child.wait().expect("nft").success(), "nft refused the ruleset");
}

fn read() -> Ruleset {
    Nft::open().unwrap().read(0).unwrap()
}

fn load(script: &str) -> Ruleset {
    nft("flush ruleset");
    nft(script);
    read()
}

fn chain<'a>(ruleset: &'a Ruleset, name: &str) -> &'a Chain {
    ruleset
        .chains
        .iter()
        .find(|chain| &*chain.name == name)
        .unwrap_or_else(|| panic!("no chain {name}"))
}

/// Why what is not carried is not, and how often.
fn uncarried(ruleset: &Ruleset) -> BTreeMap<&str, usize> {
    let mut found = BTreeMap::new();
    for rule in ruleset.chains.iter().flat_map(|chain| &chain.rules) {
        for name in rule.exprs.iter().filter_map(|expr| ruleset.uncarried(expr)) {
            *found.entry(name).or_default() += 1;
        }
    }
    found
}

fn reg(number: u32) -> Register {
    Register::of(number).unwrap()
}

/// All of the ruleset's rules with this expression in them.
fn rules_with<'a>(chain: &'a Chain, expr: &Expr) -> Vec<&'a [Expr]> {
    let rules = chain.rules.iter().map(|rule| &*rule.exprs);
    rules.filter(|exprs| exprs.contains(expr)).collect()
}

#[test]
fn every_expression_is_decoded() {
    isolated("every_expression_is_decoded", || {
        let ruleset = load(rulesets::EXPRESSIONS);
        let expected = [
            ("connlimit", 1),
            ("exthdr", 1),
            ("jhash without a seed", 1),
            ("osf", 1),
            ("symhash", 1),
        ];
        assert_eq!(uncarried(&ruleset), BTreeMap::from(expected));
        let pre = chain(&ruleset, "prerouting");
        let base = pre.base.as_ref().unwrap();
        assert_eq!(
            (base.hook, base.priority, base.kind, base.policy_drop),
            (0, -300, ChainType::Filter, false)
        );
        let states = &ruleset.states;
        for state in [
            Stateful::Counter { packets: 7, bytes: 900 },
            Stateful::Quota {
                bytes: 10 << 20,
                consumed: 3 << 10,
                inverted: true,
            },
            Stateful::Quota {
                bytes: 10,
                consumed: 0,
                inverted: true,
            },
            Stateful::Connlimit {
                count: 5,
                inverted: true,
            },
            Stateful::Numgen { modulus: 3 },
            limit(10, 60, 3, false, false),
            limit(5120, 1, 7168, true, true),
            limit(5, 3600, 5, false, false),
        ] {
            assert!(states.contains(&state), "{state:?} is not among {states:?}");
        }
        let choice = states.iter().position(|state| *state == Stateful::Choice);
        let choice = StateId(choice.expect("numgen random") as u32);
        for (expr, rules) in decoded(choice) {
            assert_eq!(rules_with(pre, &expr).len(), rules, "{expr:?}");
        }
        let post = chain(&ruleset, "post");
        let nat = |kind, family, addresses, ports, flags| {
            Expr::Nat(Nat {
                kind,
                family,
                addresses,
                ports,
                flags,
            })
        };
        let range = Some((reg(1), reg(2)));
        let masquerade = nat(NatKind::Masquerade, NFPROTO_INET, None, range, 0x10);
        assert_eq!(rules_with(post, &masquerade).len(), 1, "ports, fully random");
        assert_eq!(
            rules_with(post, &nat(NatKind::Masquerade, NFPROTO_INET, None, None, 8)).len(),
            1,
            "persistent"
        );
        let prefix = nat(NatKind::Source, NFPROTO_IPV4, Some((reg(1), reg(9))), None, 0x40);
        assert_eq!(rules_with(post, &prefix).len(), 1, "netmap");
        let pre = chain(&ruleset, "pre");
        let dnat = nat(NatKind::Destination, NFPROTO_IPV4, range, Some((reg(3), reg(4))), 4);
        assert_eq!(rules_with(pre, &dnat).len(), 1);
    });
}

fn limit(rate: u64, seconds: u64, burst: u32, of_bytes: bool, inverted: bool) -> Stateful {
    let per_ns = seconds * 1_000_000_000;
    Stateful::Limit(Limit {
        rate,
        per_ns,
        burst,
        of_bytes,
        inverted,
    })
}

/// Expressions, and in how many rules of the chain they are.
fn decoded(choice: StateId) -> Vec<(Expr, usize)> {
    let (dest, source) = (reg(1), reg(1));
    let store = |base, offset, len, own| Expr::PayloadStore {
        base,
        offset,
        len,
        source,
        fix: ChecksumFix {
            own,
            pseudo_header: false,
        },
    };
    let exthdr = |options, kind, offset, len, act| Expr::Exthdr {
        options,
        kind,
        offset,
        len,
        act,
    };
    let log = |group| {
        Expr::Log(Log {
            prefix: "seen ".into(),
            group,
        })
    };
    let shift = Expr::Bitwise {
        source,
        dest,
        len: 4,
        op: BitOp::Left(8),
    };
    let mask = BitOp::MaskXor([0, 0, 0, 255].into(), [0; 4].into());
    vec![
        (
            Expr::Payload {
                base: Base::Link,
                offset: 6,
                len: 6,
                dest,
            },
            1,
        ),
        (store(Base::Network, 1, 1, None), 1),
        (store(Base::Network, 0, 2, Some(10)), 1),
        (store(Base::Transport, 2, 2, Some(6)), 1),
        (
            Expr::Cmp {
                source,
                op: CmpOp::Eq,
                data: b"eth"[..].into(),
            },
            1,
        ),
        (
            Expr::MetaSet {
                key: MetaKey::Mark,
                source,
            },
            2,
        ),
        (
            Expr::MetaSet {
                key: MetaKey::Nftrace,
                source,
            },
            1,
        ),
        (
            Expr::Ct {
                key: CtKey::SrcIp,
                reply: Some(false),
                dest,
            },
            1,
        ),
        (
            Expr::Ct {
                key: CtKey::Bytes,
                reply: None,
                dest,
            },
            1,
        ),
        (
            Expr::CtSet {
                key: CtKey::Zone,
                reply: None,
                source,
            },
            1,
        ),
        (
            Expr::CtSet {
                key: CtKey::Labels,
                reply: None,
                source,
            },
            1,
        ),
        (exthdr(Options::Tcp, 2, 2, 2, ExthdrDo::Load(dest)), 1),
        (exthdr(Options::Tcp, 4, 0, 1, ExthdrDo::Present(dest)), 1),
        (exthdr(Options::Ipv6, 44, 0, 1, ExthdrDo::Present(dest)), 1),
        (exthdr(Options::Ipv4, 148, 0, 1, ExthdrDo::Present(dest)), 1),
        (exthdr(Options::Tcp, 4, 0, 0, ExthdrDo::Strip), 1),
        (
            Expr::Bitwise {
                source,
                dest,
                len: 4,
                op: mask,
            },
            1,
        ),
        (shift, 1),
        (
            Expr::Byteorder {
                source,
                dest,
                len: 8,
                size: 8,
            },
            1,
        ),
        (
            Expr::Range {
                source,
                inverted: true,
                from: [0, 20].into(),
                to: [0, 30].into(),
            },
            1,
        ),
        (
            Expr::NumgenRandom {
                state: choice,
                modulus: 3,
                offset: 0,
                dest,
            },
            1,
        ),
        (
            Expr::Fib {
                result: bypath::table::rules::keys::FibResult::Addrtype,
                flags: FibFlags(2),
                dest,
            },
            1,
        ),
        (
            Expr::Rt {
                key: RtKey::Classid,
                dest,
            },
            1,
        ),
        (log(Some(3)), 1),
        (log(None), 1),
        (Expr::Notrack, 1),
        (Expr::Reject(Reject::Icmpx(3)), 1),
        (Expr::Reject(Reject::TcpReset), 1),
        (Expr::Reject(Reject::Icmp(10)), 1),
    ]
}

#[test]
fn firewalls_of_the_field_are_understood() {
    isolated("firewalls_of_the_field_are_understood", || {
        for (script, expected) in [
            (rulesets::FIREWALLD, vec![("object", 1)]),
            (rulesets::FW4, vec![]),
            (rulesets::DOCKER, vec![]),
            (rulesets::KUBE, vec![("a set that packets add to", 1), ("dynset", 1)]),
        ] {
            assert_eq!(uncarried(&load(script)), BTreeMap::from_iter(expected));
        }
        let ruleset = load(rulesets::FW4);
        let store = ExthdrDo::Store(reg(1));
        let mss = Expr::Exthdr {
            options: Options::Tcp,
            kind: 2,
            offset: 2,
            len: 2,
            act: store,
        };
        let clamps = rules_with(chain(&ruleset, "mangle_forward"), &mss);
        assert!(clamps[0].contains(&Expr::Rt {
            key: RtKey::Tcpmss,
            dest: reg(1)
        }));
        assert!(clamps[1].contains(&Expr::Immediate {
            dest: reg(1),
            data: 1452u16.to_be_bytes().into()
        }));
        let names = |hook| {
            ruleset
                .bases(NFPROTO_IPV4, hook)
                .into_iter()
                .map(|id| &*ruleset[id].name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(0), ["raw_prerouting", "dstnat"]);
        assert_eq!(names(2), ["mangle_forward", "forward"]);
    });
}

/// Extensions of iptables that are not carried keep their structs, for whoever will read them.
#[test]
fn iptables_extensions_are_named() {
    isolated("iptables_extensions_are_named", || {
        sh("iptables-nft -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        sh("iptables-nft -A FORWARD -m recent --set --name all");
        sh("iptables-nft -t mangle -A FORWARD -p udp -j CHECKSUM --checksum-fill");
        let ruleset = read();
        let expected = [("xt match recent", 1), ("xt target CHECKSUM", 1)];
        assert_eq!(uncarried(&ruleset), BTreeMap::from(expected));
        let exprs = ruleset
            .chains
            .iter()
            .flat_map(|chain| &chain.rules)
            .flat_map(|rule| &rule.exprs);
        let xts: Vec<_> = exprs
            .filter_map(|expr| {
                if let Expr::Uncarried(what) = expr {
                    what.xt.as_ref()
                } else {
                    None
                }
            })
            .collect();
        let checksum = xts.iter().find(|xt| xt.target).unwrap();
        assert_eq!((&*checksum.name, checksum.info[0]), ("CHECKSUM", 1));
    });
}

#[test]
fn dormant_tables_have_no_base_chains_and_the_latest_hook_is_the_first() {
    isolated(
        "dormant_tables_have_no_base_chains_and_the_latest_hook_is_the_first",
        || {
            assert_eq!(read().chains.len(), 0, "an empty namespace");
            let ruleset = load(
            "table ip a { chain x { type filter hook forward priority 0; }; chain y { type filter hook forward priority 0; }; }
             table inet b { chain z { type filter hook forward priority 0; policy drop; }; }
             table ip s { flags dormant; chain d { type filter hook forward priority -9; }; }",
        );
            let names: Vec<_> = ruleset
                .bases(NFPROTO_IPV4, 2)
                .into_iter()
                .map(|id| ruleset.describe(id))
                .collect();
            assert_eq!(
                names,
                ["table inet b, chain z", "table ip a, chain y", "table ip a, chain x"]
            );
            assert_eq!(ruleset.bases(NFPROTO_IPV6, 2).len(), 1);
            // One that comes later to an older table, and one that is hooked anew.
            nft("add chain ip a w { type filter hook forward priority 0; }");
            nft("add table inet b { flags dormant; }");
            nft("add table inet b");
            let ruleset = read();
            let names: Vec<_> = ruleset
                .bases(NFPROTO_IPV4, 2)
                .into_iter()
                .map(|id| &*ruleset[id].name)
                .collect();
            assert_eq!(names, ["z", "w", "y", "x"]);
        },
    );
}

/// While one commit after the other replaces a chain and its set by others, a reading has both of one commit or says that it
/// could not.
#[test]
fn no_reading_mixes_two_commits() {
    isolated("no_reading_mixes_two_commits", || {
        let version = |n: u8| {
            let rules: String = (0..40)
                .map(|_| format!("ip saddr @s meta mark {n} counter\n"))
                .collect();
            let elements: Vec<_> = (0..60).map(|host| format!("10.0.{n}.{host}")).collect();
            format!(
                "table ip t {{}}\ndelete table ip t\ntable ip t {{ set s {{ type ipv4_addr; elements = {{ {} }}; }}\n
                 chain c {{ type filter hook forward priority 0;\n{rules} }}\n}}",
                elements.join(",")
            )
        };
        let [one, two] = [version(1), version(2)];
        nft(&one);
        let stop = AtomicBool::new(false);
        let (mut whole, mut busy) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    nft(&two);
                    nft(&one);
                }
            });
            let mut nft = Nft::open().unwrap();
            while whole < 100 && busy < 10_000 {
                match nft.read(0) {
                    Ok(ruleset) => {
                        whole += 1;
                        assert_one_version(&ruleset);
                    }
                    Err(NftError::Busy) => busy += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        println!("{whole} whole, {busy} busy");
        assert_eq!(whole, 100);
    });
}

fn assert_one_version(ruleset: &Ruleset) {
    assert_eq!((ruleset.chains[0].rules.len(), ruleset.sets[0].len()), (40, 60));
    let version = if ruleset.sets[0].lookup(&[10, 0, 1, 0], 0).is_some() {
        1u32
    } else {
        2
    };
    let mark = Expr::Cmp {
        source: reg(1),
        op: CmpOp::Eq,
        data: version.to_ne_bytes().into(),
    };
    assert_eq!(rules_with(&ruleset.chains[0], &mark).len(), 40);
}
