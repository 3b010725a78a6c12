//! A service of two endpoints, one behind a port and one on the box itself: of what a rule chooses by chance each gets its half,
//! though the packets to the one are bypath's and those to the other the kernel's, which would choose anew.

use crate::net::Net;
use std::net::UdpSocket;
use std::time::Duration;

const SERVICE: &str = "10.9.9.9:53";
const ENDPOINTS: [&str; 2] = ["10.0.1.2", "10.0.0.1"];
const QUESTIONS: u32 = 400;
/// Six times the standard deviation of a fair choice: 400 throws of a coin.
const OFF_AT_MOST: u32 = 60;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Answers everything with its own number, for as long as the test runs.
fn endpoint(socket: UdpSocket, number: u8) {
    std::thread::spawn(move || {
        let mut question = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&[number], from);
        }
    });
}

/// Who answers how often, each question by a connection of its own.
fn answers(net: &Net) -> [u32; 2] {
    let mut counts = [0; 2];
    for question in 0..QUESTIONS {
        let socket = net.hosts[0].enter(|| UdpSocket::bind("10.0.0.2:0")).expect("bind");
        socket.set_read_timeout(Some(ANSWER_WITHIN)).expect("a timeout");
        socket.send_to(b"who are you?", SERVICE).expect("a question");
        let mut number = [0];
        let (_, from) = socket
            .recv_from(&mut number)
            .unwrap_or_else(|error| panic!("question {question}: {error}"));
        assert_eq!(from.to_string(), SERVICE);
        counts[usize::from(number[0])] += 1;
    }
    counts
}

fn each_gets_its_half(ruleset: &[String]) {
    let net = Net::new(2);
    net.router.apply(ruleset);
    for (number, (host, address)) in [&net.hosts[1], &net.router].into_iter().zip(ENDPOINTS).enumerate() {
        endpoint(
            host.enter(|| UdpSocket::bind((address, 5300))).expect("bind"),
            number as u8,
        );
    }
    let bypath = net.bypath("");
    let counts = answers(&net);
    let totals = bypath.totals();
    println!("{QUESTIONS} questions, a half to each of two endpoints: {counts:?}; {totals:?}");
    assert!(counts[1].abs_diff(QUESTIONS / 2) <= OFF_AT_MOST, "{counts:?}");
    assert!(totals.punted.values().sum::<u64>() > 0, "{totals:?}");
    bypath.stop();
    net.assert_nothing_left();
}

#[test]
fn by_numgen() {
    each_gets_its_half(&["ruleset table ip nat {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                ip daddr 10.9.9.9 udp dport 53 dnat to numgen random mod 2 map { 0 : 10.0.1.2, 1 : 10.0.0.1 } : 5300
            }
        }"
    .into()]);
}

#[test]
fn by_statistic() {
    let rule = "-A PREROUTING -p udp -d 10.9.9.9 -m udp --dport 53";
    let chance = "-m statistic --mode random --probability 0.5";
    let nat = [
        format!("{rule} {chance} -j DNAT --to-destination 10.0.1.2:5300"),
        format!("{rule} -j DNAT --to-destination 10.0.0.1:5300"),
    ];
    each_gets_its_half(&[format!("iptables-nft-restore *nat\n{}\nCOMMIT", nat.join("\n"))]);
}
