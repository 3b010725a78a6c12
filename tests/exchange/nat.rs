//! The exchange under NAT: the box's own connections, those that are translated, and addresses that go.

use super::*;

/// A datagram's, of a client behind the box, masqueraded behind [`LOCAL`].
fn masqueraded(sport: u16, seconds: u32) -> Record {
    let mut record = record(Protocol::UDP, sport, 53, seconds);
    record.reply.dst = LOCAL;
    record.status = record.status | Status::SRC_NAT | Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    record
}

/// The box asks that server itself, by this port.
fn of_the_box(sport: u16, seconds: u32) -> Record {
    let mut record = record(Protocol::UDP, sport, 53, seconds);
    record.original.src = LOCAL;
    record.reply.dst = LOCAL;
    record
}

/// Somebody asks the box.
fn to_the_box(sport: u16, seconds: u32) -> Record {
    let mut record = record(Protocol::UDP, sport, 53, seconds);
    record.original.dst = LOCAL;
    record.reply.src = LOCAL;
    record
}

fn within_the_box(sport: u16) -> Record {
    let mut record = of_the_box(sport, 100);
    record.original.dst = LOCAL;
    record.reply.src = LOCAL;
    record
}

/// Somebody asks the box, whose rule leads them on.
fn led_on(sport: u16) -> Record {
    let mut record = record(Protocol::UDP, sport, 53, 100);
    record.original.dst = LOCAL;
    record
}

impl Box {
    fn create(&mut self, record: &Record) {
        self.user
            .create(std::slice::from_ref(record), now(), |_, errno| {
                panic!("refused: {errno}")
            })
            .expect("create");
    }

    fn marks(&self, record: &Record) -> Option<Marks> {
        self.ours(&record.original).map(|record| record.marks)
    }

    fn is_kernels(&self, record: &Record) -> bool {
        self.marks(record)
            .is_some_and(|marks| marks.any(Marks::KERNEL) && !marks.any(Marks::ADOPTABLE))
    }

    fn is_adoptable(&self, record: &Record) -> bool {
        self.marks(record).is_some_and(|marks| marks.any(Marks::ADOPTABLE))
    }

    fn displaced(&self) -> u64 {
        self.exchange.counts.displaced.load(Relaxed)
    }
}

#[test]
fn the_boxs_own_are_known_under_nat_and_stay_the_kernels() {
    let own = [of_the_box(1, 100), to_the_box(2, 100)];
    let (inside, led, masked) = (within_the_box(3), led_on(4), masqueraded(5, 100));
    let before = [&own[..], &[inside.clone(), led.clone(), masked.clone()]].concat();

    let mut set = Box::made(&before, false);
    assert_eq!(own.each_ref().map(|own| set.marks(own)), [None, None]);
    assert!(
        set.is_kernels(&led) && set.is_kernels(&masked),
        "nothing here translates"
    );
    // When NAT comes into force, they are known before.
    set.follow(true);
    assert!(own.iter().all(|own| set.is_kernels(own)));
    assert!(set.is_adoptable(&led) && set.is_adoptable(&masked));
    assert_eq!(set.marks(&inside), None, "no frame bears its tuples");
    let told = set.ours(&masked.original).expect("there");
    assert_eq!((told.reply, told.status), (masked.reply, masked.status));

    // So are those that begin later, and no longer than they last.
    set.start();
    let later = of_the_box(6, 100);
    set.create(&later);
    assert!(within(2.0, || set.is_kernels(&later)));
    set.namespace.run("conntrack -D -p udp --orig-port-src 6");
    assert!(within(2.0, || set.marks(&later).is_none()));
    assert!(
        own.iter().all(|own| set.kernels(&own.original).is_some()),
        "the kernel's own"
    );
}

/// What a port of the box's is, the next client must not get. Where it has it already, the kernel's word counts.
#[test]
fn a_tuple_that_the_kernel_gave_away_is_not_ours() {
    let mut set = Box::made(&[], true);
    let client = masqueraded(7, 100);
    set.insert(&client);
    let own = of_the_box(7, 100);
    assert_eq!(own.reply, client.reply);
    set.create(&own);
    // Only now: it would tell the kernel of the client's.
    set.start();
    assert!(within(2.0, || set.is_kernels(&own)), "{:?}", set.exchange.counts);
    assert_eq!((set.ours(&client.original), set.displaced()), (None, 1));
    // And now it is taken.
    let handle = set.table.register();
    let guard = handle.pin();
    assert!(set.table.insert(&client, now(), &guard).is_err());
    drop(guard);
    std::thread::sleep(Duration::from_millis(300));
    assert!(set.kernels(&own.original).is_some());
}

/// A connection that the kernel began for us is known by its first packet; then its event says what NAT made of it.
#[test]
fn what_nat_made_of_a_punted_connection_is_learned() {
    let mut set = Box::made(&[], true);
    let begun = record(Protocol::UDP, 8, 53, 10);
    let mut known = begun.clone();
    known.marks = Marks(Marks::KERNEL);
    set.insert(&known);
    // The answer comes before the event, and is taken for a beginning.
    let mut early = masqueraded(8, 10);
    (early.original, early.reply) = (early.reply, early.reply.invert().expect("a query"));
    early.marks = Marks(Marks::KERNEL);
    set.insert(&early);
    set.start();
    let told = masqueraded(8, 100);
    set.create(&told);
    assert!(within(2.0, || set.is_adoptable(&told)), "{:?}", set.exchange.counts);
    assert_eq!(set.ours(&told.original).map(|ours| ours.reply), Some(told.reply));
    assert_eq!(set.ours(&told.reply).map(|ours| ours.original), Some(told.original));
    assert_eq!((set.table.len(), set.displaced()), (1, 0), "both were the kernel's");
}

/// The answer to a SYN that the kernel led elsewhere comes before the event, so that nobody here can tell whose it is.
#[test]
fn an_answer_that_comes_before_its_event_does_not_keep_a_connection_there() {
    let led = |state| {
        let mut led = record(Protocol::TCP, 9, 80, 100);
        led.reply.src += 1;
        let answered = if state == 1 { Status(0) } else { Status::SEEN_REPLY };
        led.status = answered | Status::CONFIRMED | Status::DST_NAT | Status::DST_NAT_DONE | Status::SRC_NAT_DONE;
        led.proto = Protoinfo::to_state(Protoinfo::Tcp {
            state,
            wscale: [7, 7],
            flags: [3, 3],
        });
        led
    };
    let mut begun = record(Protocol::TCP, 9, 80, 10);
    (begun.status, begun.proto) = (Status(0), led(1).proto);
    begun.marks = Marks(Marks::KERNEL | Marks::FOLLOWED);
    for states in [&[1, 2, 3][..], &[2, 3], &[3]] {
        let mut set = Box::made(&[], true);
        set.insert(&begun);
        set.start();
        let (first, later) = states.split_first().expect("states");
        set.create(&led(*first));
        for state in later {
            assert!(within(2.0, || set
                .marks(&begun)
                .is_some_and(|marks| marks.any(Marks::EXPORTED))));
            assert!(!set.is_adoptable(&begun), "it has no handshake yet: {states:?}");
            let told = led(*state);
            set.user
                .update(&[told], now(), |_, errno| panic!("refused: {errno}"))
                .expect("update");
        }
        assert!(
            within(2.0, || set.is_adoptable(&begun)),
            "{states:?}: {:?}",
            set.marks(&begun)
        );
    }
}

/// Its packets pass steer, and no event tells that it lives on.
#[test]
fn a_connection_of_the_box_is_known_for_as_long_as_it_lives() {
    let mut set = Box::made(&[], true);
    set.namespace.run_with(
        "ip -batch -",
        "link add e0 type veth peer name e1\nlink set e0 up\nlink set e1 up\naddr add 10.0.0.254/24 dev e0\n\
         route add 10.0.1.0/24 dev e0\nneigh add 10.0.1.2 lladdr 02:00:00:00:00:02 dev e0\n",
    );
    set.namespace.sysctl(&[("net.netfilter.nf_conntrack_udp_timeout", "3")]);
    set.start();
    let socket = set
        .namespace
        .enter(|| std::net::UdpSocket::bind("10.0.0.254:9"))
        .expect("bind");
    let own = of_the_box(9, 3);
    for _ in 0..4 {
        socket.send_to(b"ask", "10.0.1.2:53").expect("send");
        assert!(within(1.0, || set.is_kernels(&own)), "{:?}", set.exchange.counts);
        std::thread::sleep(Duration::from_millis(1500));
        assert!(set.is_kernels(&own), "it lives on there: {:?}", set.exchange.counts);
    }
    assert!(within(5.0, || set.marks(&own).is_none()), "it has ended there");
    assert_eq!(set.exchange.counts.imported.load(Relaxed), 1, "it was never forgotten");
    assert_eq!(set.exchange.counts.deleted_by_user.load(Relaxed), 0);
}

#[test]
fn an_address_that_goes_ends_what_was_masqueraded_behind_it() {
    let mut set = Box::made(&[], true);
    set.start();
    let (client, other, led) = (masqueraded(10, 100), record(Protocol::UDP, 11, 53, 100), led_on(12));
    let mut elsewhere = masqueraded(13, 100);
    elsewhere.reply.dst = LOCAL - 1;
    for record in [&client, &other, &led, &elsewhere] {
        set.insert(record);
    }
    assert!(within(3.0, || set.count() == 4), "all are in the kernel");
    let local = |addresses: &[u128]| {
        let addresses = addresses.iter().map(|&addr| (Family::V4, addr));
        set.exchange.set_local(addresses.collect());
    };
    local(&[LOCAL, LOCAL - 1]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        set.ours(&client.original).is_some(),
        "an address that comes ends nothing"
    );
    local(&[LOCAL - 1]);
    assert!(within(2.0, || set.ours(&client.original).is_none()));
    assert!(within(2.0, || set.kernels(&client.original).is_none()), "its copy");
    for record in [&other, &led, &elsewhere] {
        assert!(set.ours(&record.original).is_some() && set.kernels(&record.original).is_some());
    }
}

/// The uplink's device is gone, and its port with it: what was given to the kernel first is its own no more than before.
#[test]
fn an_address_that_goes_ends_what_was_given_to_the_kernel_too() {
    let mut set = Box::made(&[], true);
    let kernels = of_the_box(18, 100);
    set.create(&kernels);
    set.start();
    let client = masqueraded(17, 100);
    set.insert(&client);
    assert!(within(3.0, || set.count() == 2 && set.is_kernels(&kernels)));
    set.exchange.let_go([true; 2]);
    assert!(set.is_adoptable(&client));
    set.exchange.set_local(Default::default());
    assert!(within(2.0, || set.ours(&client.original).is_none()));
    assert!(within(2.0, || set.kernels(&client.original).is_none()), "its copy");
    assert!(set.kernels(&kernels.original).is_some(), "the kernel ends its own");
}

/// A connection that ended here is followed by one that the kernel begins: its packet must not meet the copy.
#[test]
fn a_copy_is_gone_before_the_kernel_begins_what_comes_next() {
    let mut set = Box::made(&[], true);
    let mut exporter = set.namespace.enter(|| set.exchange.exporter()).expect("exporter");
    let old = masqueraded(19, 100);
    set.insert(&old);
    exporter.export(Some(&Leaving::AsItIs(old.original)));
    assert!(set.kernels(&old.original).is_some());
    set.remove(&old.original);
    let mut next = record(Protocol::UDP, 19, 53, 10);
    (next.status, next.marks) = (Status(0), Marks(Marks::KERNEL));
    set.insert(&next);
    exporter.export(None);
    assert!(set.kernels(&old.original).is_none());
    // One that the kernel has begun is not ours to delete.
    set.create(&next);
    set.start();
    assert!(within(2.0, || set
        .marks(&next)
        .is_some_and(|marks| marks.any(Marks::EXPORTED))));
    set.remove(&next.original);
    std::thread::sleep(Duration::from_millis(300));
    assert!(set.kernels(&next.original).is_some());
}

/// What only one side sends is never assured; but a user may want to end it, whose endpoint is gone.
#[test]
fn datagrams_that_go_on_one_way_are_known_to_the_kernel() {
    let mut set = Box::made(&[], true);
    set.start();
    let ago = |seconds: u32| now().wrapping_sub(seconds * TICKS_PER_SECOND);
    let young = |sport: u16, began: u32| {
        let mut record = masqueraded(sport, 30);
        record.status = Status(record.status.0 & !(Status::SEEN_REPLY | Status::ASSURED).0);
        record.proto = tracker::begun(Protocol::UDP.0, ago(began));
        record
    };
    let (long, short, mut plain) = (young(20, 20), young(21, 0), young(22, 20));
    (plain.reply, plain.status) = (plain.original.invert().expect("a query"), Status::CONFIRMED);
    let mut idle = young(23, 25);
    idle.deadline = now().wrapping_add(7 * TICKS_PER_SECOND);
    for record in [&long, &short, &plain, &idle] {
        set.insert(record);
    }
    assert!(within(3.0, || set.kernels(&long.original).is_some()));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(set.count(), 1);
    assert_eq!(set.exchange.counts.exported.load(Relaxed), 1);
    assert_eq!(set.exchange.counts.refreshed.load(Relaxed), 0, "once");
    set.namespace.run("conntrack -D -p udp --orig-port-src 20");
    assert!(within(2.0, || set.ours(&long.original).is_none()));
}

/// The kernel's entry has the same first tuple, and other answers: of a connection before.
#[test]
fn an_entry_with_other_answers_gives_way() {
    let mut set = Box::made(&[], true);
    let mut exporter = set.namespace.enter(|| set.exchange.exporter()).expect("exporter");
    let client = masqueraded(24, 100);
    let mut before = client.clone();
    before.reply.dport = 2400;
    set.create(&before);
    set.insert(&client);
    exporter.export(Some(&Leaving::AsItIs(client.original)));
    let there = set.kernels(&client.original).map(|entry| entry.record.reply);
    assert_eq!((there, set.count()), (Some(client.reply), 1));
}

/// It is deleted there, a packet is punted, whose entry is made anew, and only then is the event read.
#[test]
fn an_entry_that_was_made_anew_before_its_deletion_was_heard_goes_too() {
    let mut set = Box::made(&[], true);
    let mut exporter = set.namespace.enter(|| set.exchange.exporter()).expect("exporter");
    let mut young = masqueraded(25, 100);
    young.status = Status(young.status.0 & !Status::ASSURED.0);
    set.insert(&young);
    exporter.export(Some(&Leaving::AsItIs(young.original)));
    set.namespace.run("conntrack -D -p udp --orig-port-src 25");
    exporter.export(Some(&Leaving::AsItIs(young.original)));
    assert!(set.kernels(&young.original).is_some(), "anew");
    set.start();
    assert!(within(2.0, || set.ours(&young.original).is_none()));
    assert!(within(2.0, || set.kernels(&young.original).is_none()), "its copy");
}

/// Then the kernel translates nothing, and so do we.
#[test]
fn without_nat_what_was_translated_is_the_kernels() {
    let mut set = Box::made(&[], true);
    let (client, plain) = (masqueraded(14, 100), record(Protocol::UDP, 15, 53, 100));
    set.insert(&client);
    set.insert(&plain);
    set.follow(false);
    assert!(set.is_kernels(&client));
    assert!(set.marks(&plain).is_some_and(|marks| !marks.any(Marks::KERNEL)));
    assert_eq!(
        set.kernels(&client.original).map(|entry| entry.record.reply),
        Some(client.reply)
    );
}

/// The entry under which a packet is invalid has the packet's tuples, which a translated connection's need not be.
#[test]
fn the_entry_of_an_invalid_answer_is_taken_back() {
    let mut set = Box::made(&[], true);
    let mut exporter = set.namespace.enter(|| set.exchange.exporter()).expect("exporter");
    let mut tcp = record(Protocol::TCP, 16, 80, 100);
    tcp.reply.dst = LOCAL;
    tcp.status = tcp.status | Status::SRC_NAT | Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    set.insert(&tcp);
    for packet in [tcp.reply, tcp.original] {
        exporter.export(Some(&Leaving::AsItIs(tcp.original)));
        assert_eq!(
            set.kernels(&tcp.original).map(|entry| entry.record.reply),
            Some(tcp.reply)
        );
        exporter.export(Some(&Leaving::Invalid {
            packet,
            original: tcp.original,
        }));
        let known = set.kernels(&packet).map(|entry| entry.record.reply);
        assert_eq!((known, set.count()), (Some(packet), 1), "turned round");
        std::thread::sleep(Duration::from_millis(40));
        exporter.rest();
        assert_eq!(set.count(), 0);
    }
    // One after the other, without a rest between.
    for packet in [tcp.reply, tcp.original] {
        exporter.export(Some(&Leaving::Invalid {
            packet,
            original: tcp.original,
        }));
        assert_eq!(set.count(), 1);
    }
    exporter.export(Some(&Leaving::Over(tcp.original)));
    assert_eq!(set.count(), 0);
}
