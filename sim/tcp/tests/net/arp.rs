//! ARP (RFC 826, RFC 5227), and the rules about neighbours that IPv6 shares.

use dst_net::{Config, DropReason, NetEvent};
use dst_tcp::Reason;
use dst_tcp_sim::lab::{Lab, config, ip, mac};

fn texts(sent: Vec<(u64, String)>) -> Vec<String> {
    sent.into_iter().map(|(_, text)| text).collect()
}

pub fn rfc_826_a_question_is_answered_and_its_sender_learned() {
    let mut lab = Lab::quiet();
    lab.arp(true, (9, "10.0.0.9"), "10.0.0.1", true);
    assert_eq!(lab.sent(), ["10.0.0.1 is-at 1 to 9"]);
    lab.connect("10.0.0.9");
    assert_eq!(lab.sent(), ["S 10.0.0.1 > 10.0.0.9 len 0 to 9"]);
    lab.arp(true, (9, "10.0.0.9"), "10.0.0.77", true);
    assert_eq!(lab.sent(), [""; 0], "somebody else will answer");
}

pub fn rfc_1122_the_first_packet_waits_for_the_answer() {
    let mut lab = Lab::quiet();
    lab.connect("10.0.0.9");
    assert_eq!(lab.sent(), ["who-has 10.0.0.9 tell 10.0.0.1 to *"]);
    lab.now += 500_000;
    lab.arp_answer(9, "10.0.0.9");
    assert_eq!(lab.sent(), ["S 10.0.0.1 > 10.0.0.9 len 0 to 9"]);
}

pub fn a_question_is_repeated_and_then_the_connection_fails() {
    let mut lab = Lab::quiet();
    lab.connect("10.0.0.9");
    let ask = "who-has 10.0.0.9 tell 10.0.0.1 to *".to_string();
    assert_eq!(lab.wait(2_900_000), [(0, ask.clone()), (1000, ask.clone()), (2000, ask)]);
    assert!(lab.closed.is_empty());
    lab.wait(100_000);
    assert!(matches!(lab.closed[..], [(_, Reason::Unreachable)]), "{:?}", lab.closed);
    assert_eq!(lab.interface.counters().failed, 1);
    // A connection that is attempted right afterwards fails at once and causes no question.
    lab.connect("10.0.0.9");
    assert_eq!(lab.sent(), [""; 0]);
    assert_eq!(lab.closed.len(), 2);
    lab.now += 1_000_000;
    lab.connect("10.0.0.9");
    assert_eq!(lab.sent(), ["who-has 10.0.0.9 tell 10.0.0.1 to *"]);
}

/// An answer is good for 30 s. Another 5 s later the neighbour itself is asked, and after three
/// questions all hosts are.
pub fn rfc_4861_a_neighbour_is_asked_whether_it_is_still_there() {
    let mut lab = Lab::quiet();
    let id = lab.open(9, "10.0.0.9");
    lab.wait(31_000_000);
    let send = |lab: &mut Lab| drop(lab.interface.tcp().send(id, dst_tcp_sim::lab::Bytes(vec![1; 10])));
    send(&mut lab);
    let is_question = |text: &String| text.starts_with("who-has");
    let asked: Vec<_> = texts(lab.wait(7_900_000)).into_iter().filter(is_question).collect();
    assert_eq!(asked, ["who-has 10.0.0.9 tell 10.0.0.1 to 9"; 3]);
    let asked: Vec<_> = texts(lab.wait(3_000_000)).into_iter().filter(is_question).collect();
    assert_eq!(asked.first().map(String::as_str), Some("who-has 10.0.0.9 tell 10.0.0.1 to *"));
}

/// An answer that nobody asked for is not trusted for 30 s.
pub fn answers_count_only_if_somebody_has_asked() {
    let mut lab = Lab::quiet();
    let id = lab.open(9, "10.0.0.9");
    lab.now += 2_000_000;
    lab.arp_answer(66, "10.0.0.9");
    let _ = lab.interface.tcp().send(id, dst_tcp_sim::lab::Bytes(vec![1; 10]));
    let sent = texts(lab.wait(5_000_000));
    assert!(sent[0].ends_with("to 42"), "RFC 826 wants it: {sent:?}");
    assert!(sent.contains(&"who-has 10.0.0.9 tell 10.0.0.1 to 42".to_string()), "but it is asked: {sent:?}");
}

/// The first of two answers counts.
pub fn two_answers_do_not_alternate() {
    let mut lab = Lab::quiet();
    lab.connect("10.0.0.9");
    lab.sent();
    lab.arp_answer(9, "10.0.0.9");
    lab.arp_answer(66, "10.0.0.9");
    assert_eq!(lab.sent(), ["S 10.0.0.1 > 10.0.0.9 len 0 to 9"]);
    lab.now += 999_000;
    lab.arp_answer(66, "10.0.0.9");
    lab.connect("10.0.0.9");
    assert_eq!(lab.sent(), ["S 10.0.0.1 > 10.0.0.9 len 0 to 9"]);
}

/// Nobody has asked for 10.0.0.9.
pub fn announcements_do_not_create_entries() {
    let mut lab = Lab::quiet();
    lab.arp(true, (66, "10.0.0.9"), "10.0.0.9", true);
    lab.arp(false, (66, "10.0.0.9"), "10.0.0.9", true);
    lab.arp(false, (66, "10.0.0.9"), "10.0.0.1", false);
    lab.arp(true, (66, "10.0.0.9"), "10.0.0.8", true);
    lab.connect("10.0.0.9");
    assert_eq!(lab.sent(), ["who-has 10.0.0.9 tell 10.0.0.1 to *"]);
}

/// A host takes over another host's address.
pub fn rfc_5227_an_announcement_moves_a_known_neighbour() {
    let mut lab = Lab::quiet();
    let id = lab.open(9, "10.0.0.9");
    lab.now += 1_000_000;
    lab.arp(true, (8, "10.0.0.9"), "10.0.0.9", true);
    let _ = lab.interface.tcp().send(id, dst_tcp_sim::lab::Bytes(vec![1; 10]));
    assert_eq!(lab.sent(), [". 10.0.0.1 > 10.0.0.9 len 10 to 8"]);
}

pub fn hosts_that_cannot_be_neighbours_are_not_believed() {
    let mut lab = Lab::quiet();
    for address in ["10.0.1.9", "10.0.0.255", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        lab.arp(true, (66, address), "10.0.0.1", true);
        lab.arp(false, (66, address), "10.0.0.1", false);
    }
    lab.arp(true, (1, "10.0.0.9"), "10.0.0.1", true);
    assert_eq!(lab.sent(), [""; 0]);
    let counters = lab.interface.counters();
    assert_eq!(counters.dropped(DropReason::Untrusted), 10);
    assert_eq!(counters.dropped(DropReason::OwnFrame), 1);
}

pub fn rfc_5227_an_address_is_probed_used_and_announced() {
    let config = config();
    let addresses = vec![config.addresses[0]];
    let mut lab = Lab::new(Config { detect_duplicates: true, addresses, routes: Vec::new(), ..config });
    let announce = "who-has 10.0.0.1 tell 10.0.0.1 to *".to_string();
    let expected =
        [(0, "who-has 10.0.0.1 tell 0.0.0.0 to *".to_string()), (1000, announce.clone()), (3000, announce)];
    assert_eq!(lab.wait(10_000_000), expected);
    assert_eq!(lab.told, [NetEvent::Usable(ip("10.0.0.1"))]);
}

/// The other host has the address already, or wants it at the same time.
pub fn rfc_5227_an_address_that_another_host_has_is_not_used() {
    for probes in [false, true] {
        let mut lab = Lab::new(Config { detect_duplicates: true, ..config() });
        lab.sent();
        lab.now += 500_000;
        if probes {
            lab.arp(true, (66, "0.0.0.0"), "10.0.0.1", true);
        } else {
            lab.arp(false, (66, "10.0.0.1"), "10.0.0.1", false);
        }
        assert_eq!(lab.told, [NetEvent::Duplicate(ip("10.0.0.1"), mac(66))]);
        lab.wait(1_000_000);
        assert!(!lab.interface.owns(ip("10.0.0.1")) && lab.interface.owns(ip("fd00::1")));
        lab.arp(true, (9, "10.0.0.9"), "10.0.0.1", true);
        assert_eq!(lab.sent(), [""; 0], "it is not answered for");
    }
}

pub fn rfc_5227_an_address_in_use_is_defended_once_in_ten_seconds() {
    let mut lab = Lab::quiet();
    let defence = ["who-has 10.0.0.1 tell 10.0.0.1 to *"];
    for _ in 0..5 {
        lab.arp(true, (66, "10.0.0.1"), "10.0.0.1", true);
    }
    assert_eq!(lab.sent(), defence);
    lab.now += 10_000_000;
    lab.arp(false, (66, "10.0.0.1"), "10.0.0.7", true);
    assert_eq!(lab.sent(), defence);
    assert_eq!(lab.interface.counters().conflicts, 6);
    lab.arp(true, (66, "0.0.0.0"), "10.0.0.1", true);
    assert_eq!(lab.sent(), ["10.0.0.1 is-at 1 to 42"], "who asks before use is told");
}

/// RFC 6583: SYNs come from invented neighbours, whose link-layer addresses the answers would need.
pub fn rfc_6583_strangers_do_not_get_all_questions() {
    let mut lab = Lab::quiet();
    lab.interface.tcp().listen("10.0.0.1:4460".parse().expect("valid"), 100).expect("nothing listens yet");
    for host in 20..120 {
        lab.syn(66, &format!("10.0.0.{host}"), "10.0.0.1");
    }
    let sent = lab.sent();
    assert_eq!(sent.iter().filter(|text| text.starts_with("who-has")).count(), 32);
    assert!(lab.interface.counters().dropped(DropReason::NeighboursFull) >= 68);
    lab.connect("10.0.0.10");
    assert_eq!(lab.sent(), ["who-has 10.0.0.10 tell 10.0.0.1 to *"]);
}

pub fn rfc_1812_the_longest_prefix_decides() {
    for (remote, gateway) in [("10.9.1.1", "10.0.0.253"), ("10.8.1.1", "10.0.0.254"), ("fd01::1", "fe80::fe")]
    {
        let mut lab = Lab::quiet();
        lab.connect(remote);
        let asked = lab.sent();
        assert!(asked[0].starts_with(&format!("who-has {gateway} ")), "{remote}: {asked:?}");
    }
}
