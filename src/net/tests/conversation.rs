//! Whole conversations between two interfaces: questions for addresses, TCP, and its end.

mod pair;

use std::net::{IpAddr, SocketAddr};

use dst_net::{Config, DropReason, NetEvent, Offloads, Prefix, Route, Verified};
use dst_tcp::Reason;
use pair::{Pair, config, pattern, server};

/// The frame types of ARP and of IPv6.
const ARP: [u8; 2] = [8, 6];
const IPV6: [u8; 2] = [0x86, 0xdd];

fn converse(configs: [Config; 2], is_ipv6: bool) -> Pair {
    let mut pair = Pair::new(configs);
    let (client, server) = pair.connect(is_ipv6);
    let data = pattern(300_000);
    for chunk in data.chunks(10_001) {
        pair.hosts[0].interface.tcp().send(client, chunk.to_vec()).expect("there is room");
    }
    pair.hosts[1].interface.tcp().send(server, pattern(7_777)).expect("there is room");
    pair.until(1_000_000, |pair| pair.hosts[1].received.len() == data.len());
    pair.until(1_000_000, |pair| pair.hosts[0].received.len() == 7_777);
    assert!(pair.hosts[1].received == data && pair.hosts[0].received == pattern(7_777));
    pair.hosts[0].interface.tcp().close(client, pair.now);
    pair.hosts[1].interface.tcp().close(server, pair.now);
    pair.until(10_000_000, |pair| pair.hosts.iter().all(|host| !host.closed.is_empty()));
    assert_eq!(pair.hosts[0].closed, [(client, Reason::Finished)]);
    for host in &pair.hosts {
        let counters = host.interface.counters();
        for reason in DropReason::ALL {
            assert_eq!(counters.dropped(reason), 0, "{reason:?}");
        }
        assert_eq!((counters.conflicts, counters.failed), (0, 0));
    }
    let sent = |host: usize| pair.hosts[host].interface.counters().sent;
    assert_eq!(sent(0), pair.hosts[1].interface.counters().received);
    assert_eq!(sent(0), pair.sent[0].len() as u64);
    pair
}

#[test]
fn ipv4_after_one_question() {
    let pair = converse([config(0), config(1)], false);
    assert_eq!(pair.hosts[0].interface.counters().asked, 1);
    // The second host has learned the first one's address from the question.
    assert_eq!(pair.hosts[1].interface.counters().asked, 0);
    assert!(pair.sent[0].iter().all(|frame| frame.len() <= 1514));
    assert_eq!(pair.sent[0].iter().map(Vec::len).max(), Some(1514), "the MTU is used");
}

#[test]
fn ipv6_after_one_question() {
    let pair = converse([config(0), config(1)], true);
    assert_eq!(pair.hosts[0].interface.counters().asked, 1);
    assert_eq!(pair.sent[0].iter().map(Vec::len).max(), Some(1514), "the MTU is used");
    assert!(pair.sent[0].iter().filter(|frame| frame[12..14] == IPV6).count() > 200);
}

#[test]
fn each_address_is_probed_however_little_room_there_is() {
    let config = Config { detect_duplicates: true, max_answers: 1, ..config(0) };
    let mut pair = Pair::new([config, self::config(1)]);
    pair.pass(500_000);
    // An address of IPv4, one of IPv6, and the link-local one.
    assert_eq!(pair.sent[0].len(), 3, "{:?}", pair.hosts[0].interface.counters());
}

#[test]
fn only_other_hosts_are_within_reach() {
    let mut config = config(0);
    let gateway = |destination: Prefix, gateway: IpAddr| Route { destination, gateway };
    config.routes = vec![
        gateway(Prefix::new([0, 0, 0, 0], 0), IpAddr::from([10, 0, 0, 254])),
        gateway(Prefix::new([0u16; 8], 0), "fe80::1".parse().expect("valid")),
    ];
    let mut pair = Pair::new([config, self::config(1)]);
    pair.pass(1_000);
    for (text, within) in [
        ("10.0.0.2", true),
        ("192.0.2.1", true),
        ("fd01::1", true),
        ("10.0.0.1", false),
        ("127.0.0.1", false),
        ("0.0.0.0", false),
        ("10.0.0.255", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("::1", false),
        ("::", false),
        ("ff02::1", false),
        ("::ffff:10.0.0.2", false),
    ] {
        let address: IpAddr = text.parse().expect("valid");
        let interface = &mut pair.hosts[0].interface;
        assert_eq!(interface.reaches(address), within, "{text}");
        assert_eq!(interface.connect(SocketAddr::new(address, 1), 1_001_000).is_ok(), within, "{text}");
    }
}

#[test]
fn a_vlan_tag_is_on_each_frame() {
    let tagged = |host| Config { vlan: Some(7), ..config(host) };
    for is_ipv6 in [false, true] {
        let pair = converse([tagged(0), tagged(1)], is_ipv6);
        assert!(pair.sent.iter().flatten().all(|frame| frame[12..16] == [0x81, 0, 0, 7]));
    }
}

#[test]
fn jumbo_frames_and_segments_that_the_port_cuts() {
    let jumbo = |host| Config { mtu: 9000, ..config(host) };
    assert_eq!(converse([jumbo(0), jumbo(1)], false).sent[0].iter().map(Vec::len).max(), Some(9014));
    let segmentation = Offloads { segmentation: true, ..Offloads::default() };
    let cut = |host| Config { offloads: segmentation, ..config(host) };
    let longest = converse([cut(0), cut(1)], true).sent[0].iter().map(Vec::len).max();
    assert!(longest.is_some_and(|longest| (16_000..=65_535).contains(&longest)), "{longest:?}");
}

/// The test's wire does not complete what a port would; a receiver that trusts its port accepts the
/// frames.
#[test]
fn offloaded_checksums_are_left_to_the_port() {
    let offloads = Offloads { ipv4_checksum: true, tcp_checksum: true, segmentation: false };
    let mut pair = Pair::new([Config { offloads, ..config(0) }, config(1)]);
    pair.hosts[0].interface.connect(server(false), pair.now).expect("there is room");
    // The SYN has waited for the address, so it is complete.
    pair.pass(500_000);
    let arp = |frame: &&Vec<u8>| frame[12..14] != ARP && frame[12..14] != IPV6;
    let frames: Vec<_> = pair.sent[0].iter().filter(arp).cloned().collect();
    assert_ne!(frames[0][24..26], [0, 0], "it is complete");
    assert_eq!(frames[1][24..26], [0, 0], "the port completes it");
    assert!(pair.hosts[1].interface.counters().dropped(DropReason::Checksum) > 0);
    let mut other = Pair::new([config(0), config(1)]).hosts;
    other[1].interface.transmit(1_000_000, usize::MAX, |_| {});
    other[1].interface.receive(frames[1].clone(), Verified { ipv4: true, tcp: true }, 1_000_000);
    assert_eq!(other[1].interface.counters().dropped(DropReason::Checksum), 0);
    assert_eq!(other[1].interface.tcp().counters().checksum_errors, 0);
}

#[test]
fn addresses_are_probed_before_they_are_used() {
    let careful = |host| Config { detect_duplicates: true, ..config(host) };
    let mut pair = Pair::new([careful(0), careful(1)]);
    assert!(pair.hosts[0].interface.connect(server(false), pair.now).is_err(), "no address is usable");
    pair.pass(1_100_000);
    assert_eq!(pair.hosts[0].told.len(), 3, "{:?}", pair.hosts[0].told);
    assert!(pair.hosts[0].told.iter().all(|event| matches!(event, NetEvent::Usable(_))));
    for is_ipv6 in [false, true] {
        pair.hosts[1].accepted.clear();
        pair.connect(is_ipv6);
    }
}

#[test]
fn of_two_hosts_with_an_address_one_has_it() {
    let careful = |host: usize| {
        let mut config = Config { detect_duplicates: true, ..config(host) };
        config.addresses = pair::config(0).addresses;
        config
    };
    let mut pair = Pair::new([careful(0), Config { detect_duplicates: false, ..careful(1) }]);
    pair.pass(1_100_000);
    let duplicates =
        pair.hosts[0].told.iter().filter(|event| matches!(event, NetEvent::Duplicate(..))).count();
    assert_eq!(duplicates, 2, "{:?}", pair.hosts[0].told);
    assert!(!pair.hosts[0].interface.owns(config(0).addresses[0].address));
    assert!(pair.hosts[1].interface.owns(config(0).addresses[0].address));
}

/// The first answers get lost.
#[test]
fn a_question_is_repeated() {
    for is_ipv6 in [false, true] {
        let mut pair = Pair::new([config(0), config(1)]);
        // The announcements are over.
        pair.pass(3_000_000);
        pair.drop = |from, frame| {
            let is_question = frame[12..14] == ARP || (frame[12..14] == IPV6 && frame[20] == 58);
            from == 1 && is_question
        };
        pair.hosts[0].interface.connect(server(is_ipv6), pair.now).expect("there is room");
        pair.pass(1_500_000);
        pair.drop = |_, _| false;
        pair.until(1_500_000, |pair| !pair.hosts[1].accepted.is_empty());
        assert_eq!(pair.hosts[0].interface.counters().asked, 3);
    }
}

#[test]
fn a_connection_to_nobody_fails_soon() {
    for is_ipv6 in [false, true] {
        let mut pair = Pair::new([config(0), config(1)]);
        pair.drop = |_, _| true;
        pair.hosts[0].interface.connect(server(is_ipv6), pair.now).expect("there is room");
        let took = pair.until(4_000_000, |pair| !pair.hosts[0].closed.is_empty());
        assert_eq!((pair.hosts[0].closed[0].1, took), (Reason::Unreachable, 3_000_000));
        assert_eq!(pair.hosts[0].interface.counters().failed, 1);
        // The next connection fails without waiting.
        pair.hosts[0].interface.connect(server(is_ipv6), pair.now).expect("there is room");
        assert_eq!(pair.until(4_000_000, |pair| pair.hosts[0].closed.len() == 2), 0);
    }
}

/// The peer's port is replaced by another one, which announces nothing.
#[test]
fn a_neighbour_that_has_moved_is_found_again() {
    for is_ipv6 in [false, true] {
        let mut pair = Pair::new([config(0), config(1)]);
        let (client, _) = pair.connect(is_ipv6);
        pair.pass(1_000_000);
        // From now on, frames to the old address get lost.
        pair.drop = |from, frame| from == 0 && frame[..6] == [2, 0, 0, 0, 0, 2];
        for _ in 0..80 {
            let _ = pair.hosts[0].interface.tcp().send(client, vec![1; 1000]);
            pair.pass(500_000);
        }
        let is_question =
            |frame: &&Vec<u8>| frame[12..14] == ARP || (frame[12..14] == IPV6 && frame[20] == 58);
        let to: Vec<u8> = pair.sent[0].iter().filter(is_question).map(|frame| frame[0] & 1).collect();
        let [.., a, b, c, d] = to[..] else { panic!("{to:?}") };
        assert_eq!([a, b, c, d], [0, 0, 0, 1], "three at the old address, then everybody");
    }
}
