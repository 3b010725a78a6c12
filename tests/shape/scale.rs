//! A thousand classes, chosen by a map of rules, or by u32 with a table of hashes as tc's documentation shows it.

use crate::net::{Flow, Shaped, behind};
use std::time::Duration;

const CLASSES: u16 = 1000;
const QUIET: Duration = Duration::from_millis(700);

fn classes() -> Vec<String> {
    let mut lines = vec![
        "tc qdisc add dev d1 root handle 1: htb default 1".to_string(),
        "tc class add dev d1 parent 1: classid 1:1 htb rate 100mbit".to_string(),
    ];
    for host in 0..CLASSES {
        let id = 0x100 + host;
        lines.push(format!(
            "tc class add dev d1 parent 1:1 classid 1:{id:x} htb rate 64kbit ceil 64kbit burst 1200 cburst 1200"
        ));
    }
    lines
}

/// Each class gets five frames, of which three pass at once and the others wait for a token each.
fn all_classes(mut shaped: Shaped, least: f64) {
    for hosts in (0..CLASSES).collect::<Vec<_>>().chunks(12) {
        let bursts: Vec<_> = hosts
            .iter()
            .map(|host| (Flow::new(*host, 500).host(*host), 4))
            .collect();
        shaped.burst(&bursts);
        shaped.drain();
    }
    shaped.rest(QUIET);
    shaped.same_frames();
    let [kernel, tested] = shaped.sides().map(|side| side.came.len());
    assert_eq!((kernel, tested), (4 * CLASSES as usize, 4 * CLASSES as usize));
    // What waited had its own class: nobody waited for longer than one frame's tokens (and a reader of a busy machine).
    for flow in [0, CLASSES / 2, CLASSES - 1] {
        let [wanted, found] = shaped.delays(flow);
        println!(
            "twin {}: flow {flow}: {found:.1?} ms, of the kernel {wanted:.1?} ms",
            shaped.name
        );
        let apart = wanted.iter().zip(&found).map(|(wanted, found)| (wanted - found).abs());
        assert!(
            apart.fold(0.0, f64::max) < 30.0,
            "flow {flow}: {found:?} ms, of the kernel {wanted:?} ms"
        );
    }
    shaped.finish(least);
}

#[test]
fn a_map_of_rules() {
    let elements: Vec<String> = (0..CLASSES)
        .map(|host| format!("{} : 0x1{:04x}", behind(1, host), 0x100 + host))
        .collect();
    let rules = format!(
        "ruleset table ip t {{ chain c {{ type filter hook forward priority 0; meta priority set ip daddr map {{ {} }}; }}; }}",
        elements.join(", ")
    );
    let lines = classes();
    let lines: Vec<&str> = lines.iter().chain([&rules]).map(String::as_str).collect();
    all_classes(Shaped::start("scale_rules", 2, &lines), 1.0);
}

#[test]
fn a_table_of_hashes() {
    let mut lines = classes();
    // By the last byte of the destination, 256 buckets of four.
    lines.push("tc filter add dev d1 parent 1: prio 1 protocol ip handle 2: u32 divisor 256".into());
    for host in 0..CLASSES {
        lines.push(format!(
            "tc filter add dev d1 parent 1: prio 1 protocol ip u32 ht 2:{:x}: match ip dst {}/32 flowid 1:{:x}",
            host & 0xff,
            behind(1, host),
            0x100 + host
        ));
    }
    lines.push(
        "tc filter add dev d1 parent 1: prio 1 protocol ip u32 ht 800:: match ip dst 10.101.0.0/16 \
         hashkey mask 0x000000ff at 16 link 2:"
            .into(),
    );
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    all_classes(Shaped::start("scale_u32", 2, &lines), 1.0);
}
