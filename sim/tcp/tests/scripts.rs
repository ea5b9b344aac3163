//! The RFCs' corner cases, in the manner of packetdrill: the test is the peer, and writes its
//! segments.

use dst_tcp::{Config, Event, KeepAlive, Reason};
use dst_tcp_sim::script::{Offers, Script, Segment, ack};
use smoltcp::wire::TcpControl;

fn config() -> Config {
    Config { mss: 1000, peer_ack_delay: 2_000, time_wait: 1_000_000, ..Config::default() }
}

fn rst(seq: u32) -> Segment {
    Segment { control: TcpControl::Rst, ack: None, ..ack(seq, 0) }
}

fn data(seq: u32, bytes: usize, acked: u32) -> Segment {
    Segment { data: bytes, ..ack(seq, acked) }
}

fn is_closed(script: &Script, reason: Reason) -> bool {
    script.events.iter().any(|event| matches!(event, Event::Closed(_, why) if *why == reason))
}

#[test]
fn rfc_5961_a_reset_has_to_be_exact() {
    let mut script = Script::open(config());
    script.inject(rst(500));
    assert_eq!(script.sent(), [". 1:1 ack 1"], "a challenge");
    script.inject(rst(0));
    assert_eq!(script.sent(), [""; 0], "outside of the window");
    script.inject(rst(1));
    assert!(is_closed(&script, Reason::Reset));
}

#[test]
fn rfc_5961_a_syn_is_challenged() {
    let mut script = Script::open(config());
    for seq in [0, 1, 700] {
        script.inject(Segment { control: TcpControl::Syn, ack: None, ..ack(seq, 0) });
        assert_eq!(script.sent(), [". 1:1 ack 1"], "{seq}");
    }
    assert_eq!(script.events, []);
}

#[test]
fn rfc_5961_acks_of_what_was_not_sent_or_long_ago_are_challenged() {
    let mut script = Script::open(config());
    script.inject(ack(1, 5));
    assert_eq!(script.sent(), [". 1:1 ack 1"]);
    script.inject(data(1, 10, 1u32.wrapping_sub(100_000)));
    assert_eq!(script.sent(), [". 1:1 ack 11"], "older than any window: its data is taken, its ACK is not");
}

#[test]
fn rfc_5961_challenges_are_limited() {
    let mut script = Script::open(config());
    let mut count = 0;
    for _ in 0..100 {
        script.inject(rst(500));
        count += script.sent().len();
    }
    assert_eq!(count, 10);
    script.wait(100_000);
    script.inject(rst(500));
    assert_eq!(script.sent().len(), 1);
}

#[test]
fn rfc_7323_an_old_timestamp_is_not_taken() {
    let offers = Offers { mss: Some(1000), shift: Some(7), sack: true, timestamp: Some(50_000) };
    let mut script = Script::open_with(config(), offers);
    let echo = script.clock();
    script.inject(Segment { timestamp: Some((50_010, echo)), ..data(1, 100, 1) });
    script.wait(2_000);
    script.inject(Segment { timestamp: Some((49_000, echo)), ..data(101, 100, 1) });
    assert_eq!(script.sent(), [". 1:1 ack 101"]);
    script.inject(data(101, 100, 1));
    assert_eq!(script.sent(), [""; 0], "without the agreed timestamp");
    assert_eq!(script.read(), 100);
    script.inject(Segment { timestamp: Some((50_011, echo)), ..data(101, 100, 1) });
    assert_eq!(script.read(), 100);
}

/// The segments after the first have its header, so they are predicted.
#[test]
fn rfc_7323_an_old_segment_is_not_continued() {
    let offers = Offers { mss: Some(1000), shift: Some(7), sack: true, timestamp: Some(50_000) };
    let mut script = Script::open_with(config(), offers);
    let echo = script.clock();
    let stamped =
        |timestamp: u32, seq: u32| Segment { timestamp: Some((timestamp, echo)), ..data(seq, 100, 1) };
    for seq in [1, 101, 201] {
        script.inject(stamped(50_010, seq));
    }
    assert_eq!(script.read(), 300);
    // Two old ones, of which the second continues the first and has the next sequence number.
    script.inject(stamped(49_000, 201));
    script.inject(stamped(49_000, 301));
    assert_eq!(script.sent(), [". 1:1 ack 301 sack 201:301"]);
    assert_eq!(script.read(), 0);
    // New ones, and a repeat of one of them, which has the timestamp of the newest.
    script.inject(stamped(50_020, 301));
    script.inject(stamped(50_020, 401));
    script.inject(stamped(50_020, 301));
    assert_eq!(script.sent(), [". 1:1 ack 501 sack 301:401"]);
    assert_eq!(script.read(), 200);
}

#[test]
fn rfc_2018_early_data_is_reported_and_rfc_2883_duplicates_too() {
    let mut script = Script::open(config());
    script.inject(data(1001, 1000, 1));
    assert_eq!(script.sent(), [". 1:1 ack 1 sack 1001:2001"]);
    script.inject(data(3001, 1000, 1));
    assert_eq!(script.sent(), [". 1:1 ack 1 sack 3001:4001 sack 1001:2001"]);
    script.inject(data(3001, 1000, 1));
    assert_eq!(script.sent(), [". 1:1 ack 1 sack 3001:4001 sack 3001:4001 sack 1001:2001"]);
    script.inject(data(1, 1000, 1));
    assert_eq!(script.sent(), [". 1:1 ack 2001 sack 3001:4001"]);
    script.inject(data(1, 1000, 1));
    assert_eq!(script.sent(), [". 1:1 ack 2001 sack 1:1001 sack 3001:4001"]);
}

#[test]
fn rfc_2018_many_gaps_at_once_take_several_acks() {
    let mut script = Script::open(config());
    for start in [1001, 3001, 5001, 7001, 9001] {
        script.inject(data(start, 1000, 1));
    }
    assert_eq!(
        script.sent(),
        [
            ". 1:1 ack 1 sack 9001:10001 sack 7001:8001 sack 5001:6001",
            ". 1:1 ack 1 sack 3001:4001 sack 1001:2001 sack 9001:10001",
        ]
    );
}

#[test]
fn rfc_5681_without_sack_each_early_segment_has_its_ack() {
    let offers = Offers { mss: Some(1000), shift: None, sack: false, timestamp: None };
    let mut script = Script::open_with(config(), offers);
    for start in [1001, 2001, 3001] {
        script.inject(data(start, 1000, 1));
    }
    assert_eq!(script.sent(), [". 1:1 ack 1"; 3]);
}

#[test]
fn rfc_9293_every_second_full_segment_is_acknowledged_at_once_and_one_alone_soon() {
    let mut script = Script::open(config());
    script.inject(data(1, 1000, 1));
    assert_eq!(script.sent(), [""; 0]);
    assert_eq!(script.wait(1_000), [(1_000, ". 1:1 ack 1001".to_string())]);
    script.inject(data(1001, 1000, 1));
    script.inject(data(2001, 1000, 1));
    assert_eq!(script.sent(), [". 1:1 ack 3001"]);
    script.inject(data(3001, 48, 1));
    script.send(48);
    assert_eq!(script.sent(), [". 1:49 ack 3049"], "an answer takes the ACK along, and does not wait");
    assert_eq!(script.wait(1_500), []);
}

#[test]
fn rfc_9293_nothing_beyond_the_window_is_taken() {
    let mut script =
        Script::open(Config { initial_receive_window: 2_000, max_receive_window: 2_000, ..config() });
    script.inject(data(1, 1000, 1));
    script.inject(data(1001, 3000, 1));
    assert_eq!(script.sent(), [". 1:1 ack 2001"]);
    script.inject(data(2001, 1, 1));
    assert_eq!(script.sent(), [". 1:1 ack 2001"]);
    assert_eq!(script.read(), 2000);
}

#[test]
fn rfc_9293_a_window_that_opens_is_told() {
    let mut script =
        Script::open(Config { initial_receive_window: 2_000, max_receive_window: 2_000, ..config() });
    script.inject(data(1, 1000, 1));
    script.inject(data(1001, 1000, 1));
    assert_eq!(script.sent(), [". 1:1 ack 2001"]);
    assert_eq!(script.read(), 2000);
    assert_eq!(script.sent(), [". 1:1 ack 2001"]);
}

#[test]
fn rfc_9293_a_closed_window_is_probed_with_longer_and_longer_pauses() {
    let mut script = Script::open(config());
    script.send(500);
    assert_eq!(script.sent(), [". 1:501 ack 1"]);
    script.now += 1_000;
    script.inject(Segment { window: 0, ..ack(1, 501) });
    script.send(500);
    assert_eq!(script.sent(), [""; 0]);
    let probes: Vec<_> = script.wait(100_000).into_iter().map(|(at, text)| (at / 1_000, text)).collect();
    assert!(probes.len() >= 3 && probes.iter().all(|(_, text)| text == ". 500:500 ack 1"), "{probes:?}");
    let pauses: Vec<_> = probes.windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert!(pauses.windows(2).all(|two| two[1] >= 2 * two[0]), "{pauses:?}");
    script.inject(Segment { window: 500, ..ack(1, 501) });
    assert_eq!(script.sent(), [". 501:1001 ack 1"]);
}

#[test]
fn rfc_2018_a_peer_may_drop_what_it_had_reported() {
    let mut script = Script::open(config());
    script.send(4_000);
    assert_eq!(script.sent().len(), 4);
    script.now += 1_000;
    script.inject(Segment { sack: [Some((1001, 4001)), None, None], ..ack(1, 1) });
    assert_eq!(script.sent(), [". 1:1001 ack 1"]);
    script.now += 1_000;
    // The first segment has arrived, and all others were dropped.
    script.inject(ack(1, 1001));
    let again = script.wait(30_000);
    assert!(again.iter().any(|(_, text)| text == ". 1001:2001 ack 1"), "{again:?}");
}

#[test]
fn rfc_8985_the_probe_is_the_last_segment() {
    let mut script = Script::open(Config { probe_margin: 1_000, ..config() });
    script.send(3_000);
    assert_eq!(script.sent().len(), 3);
    // Two round trips of 1 ms, and the margin.
    assert_eq!(script.wait(4_000), [(3_000, ". 2001:3001 ack 1".to_string())]);
    script.inject(Segment { sack: [Some((2001, 3001)), None, None], ..ack(1, 1) });
    // One segment arrived out of order: after the tolerance, the others count as lost.
    let again: Vec<_> = script.wait(2_000).into_iter().map(|(_, text)| text).collect();
    assert_eq!(again, [". 1:1001 ack 1", ". 1001:2001 ack 1"]);
}

#[test]
fn rfc_8985_a_probe_takes_the_place_of_the_timeout_that_would_be_before_it() {
    let mut script = Script::open(Config { probe_margin: 1_000_000, ..config() });
    script.send(3_000);
    assert_eq!(script.sent().len(), 3);
    // The timeout, 5 ms, then counts from the probe.
    let expected = [(5_000, ". 2001:3001 ack 1"), (10_000, ". 1:1001 ack 1")];
    assert_eq!(script.wait(12_000), expected.map(|(at, text)| (at, text.to_string())));
}

#[test]
fn rfc_3522_a_spurious_timeout_is_undone() {
    let offers = Offers { mss: Some(1012), shift: None, sack: true, timestamp: Some(1) };
    let mut script = Script::open_with(Config { mss: 1012, ..config() }, offers);
    script.send(10_000);
    assert_eq!(script.sent().len(), 10);
    let before = script.clock();
    let window =
        |script: &Script| script.stack.information(script.id.expect("open")).expect("open").congestion_window;
    let full = window(&script);
    let again = script.wait(25_000);
    assert!(again.len() >= 2 && window(&script) < full, "{again:?}");
    // The peer was late, and acknowledges the original transmission.
    script.inject(Segment { timestamp: Some((2, before)), ..ack(1, 5001) });
    assert!(window(&script) >= full);
    assert_eq!(script.sent(), [""; 0], "nothing is sent again");
}

#[test]
fn rfc_9293_both_close_and_a_repeated_fin_is_acknowledged() {
    let mut script = Script::open(config());
    let id = script.id.expect("open");
    script.stack.close(id, script.now);
    assert_eq!(script.sent(), ["F. 1:1 ack 1"]);
    script.inject(ack(1, 2));
    let fin = Segment { control: TcpControl::Fin, ..ack(1, 2) };
    script.inject(fin);
    assert_eq!(script.sent(), [". 2:2 ack 2"]);
    assert!(is_closed(&script, Reason::Finished));
    script.inject(fin);
    assert_eq!(script.sent(), [". 2:2 ack 2"]);
    assert!(script.wait(1_100_000).is_empty());
    script.inject(fin);
    assert_eq!(script.sent(), ["R 2:2"], "it is forgotten");
}

#[test]
fn rfc_6191_a_syn_takes_the_place_of_a_connection_in_time_wait() {
    let mut script = Script::open(config());
    let id = script.id.expect("open");
    script.stack.close(id, script.now);
    script.sent();
    script.inject(Segment { control: TcpControl::Fin, ..ack(1, 2) });
    script.sent();
    script.inject(Segment { control: TcpControl::Syn, ack: None, ..ack(0, 0) });
    assert_eq!(script.sent().len(), 1, "an old SYN is challenged");
    script.inject(Segment { control: TcpControl::Syn, ack: None, ..ack(5_000, 0) });
    assert_eq!(script.sent(), ["S. 0:0 ack 5001"]);
}

#[test]
fn rfc_9293_repeats_are_acknowledged_and_begin_time_wait_anew() {
    let mut script = Script::open(config());
    let id = script.id.expect("open");
    script.stack.shutdown(id, script.now);
    script.sent();
    let fin = Segment { control: TcpControl::Fin, ..data(1, 100, 2) };
    // The acknowledgement is lost three times, and then the peer sends the data and the FIN one by one.
    let last = Segment { control: TcpControl::Fin, ..ack(101, 2) };
    for again in [fin, fin, fin, data(1, 100, 2), last] {
        script.inject(again);
        let answers = script.sent();
        assert!(answers.len() == 1 && answers[0].starts_with(". 2:2 ack 102"), "{answers:?}");
        assert_eq!(script.wait(900_000), []);
    }
    script.wait(200_000);
    script.inject(last);
    assert_eq!(script.sent(), ["R 2:2"]);
}

#[test]
fn rfc_2525_data_that_nobody_reads_is_answered_with_a_reset() {
    let mut script = Script::open(config());
    let id = script.id.expect("open");
    script.stack.close(id, script.now);
    script.sent();
    script.inject(data(1, 100, 2));
    assert_eq!(script.sent(), ["R. 2:2 ack 1"]);
    assert!(is_closed(&script, Reason::Unread));
}

#[test]
fn rfc_9293_what_belongs_to_nothing_is_reset() {
    let mut script = Script::open(config());
    let id = script.id.expect("open");
    script.stack.abort(id, script.now);
    assert_eq!(script.sent(), ["R. 1:1 ack 1"]);
    script.inject(data(1, 10, 77));
    assert_eq!(script.sent(), ["R 77:77"]);
    script.inject(rst(1));
    assert_eq!(script.sent(), [""; 0]);
}

#[test]
fn rfc_5482_a_peer_that_acknowledges_nothing_is_given_up() {
    let mut script = Script::open(config());
    script.send(100);
    let sent = script.wait(31_000_000);
    assert!(is_closed(&script, Reason::TimedOut));
    assert!(
        sent.last().is_some_and(|(at, text)| *at == 30_000_000 && text.starts_with('R')),
        "{:?}",
        sent.last()
    );
    assert!(script.events.iter().any(|event| matches!(event, Event::Released(..))));
}

#[test]
fn rfc_9293_a_silent_peer_is_probed() {
    let keep_alive = Some(KeepAlive { idle: 1_000_000, interval: 100_000, probes: 3 });
    let mut script = Script::open(Config { keep_alive, ..config() });
    let probes = script.wait(1_250_000);
    assert_eq!(
        probes.iter().map(|(at, text)| (*at / 1000, &text[..])).collect::<Vec<_>>(),
        [(1_000, ". 0:0 ack 1"), (1_100, ". 0:0 ack 1"), (1_200, ". 0:0 ack 1")]
    );
    script.inject(ack(1, 1));
    assert_eq!(script.wait(950_000), [], "it has answered");
    script.wait(1_000_000);
    assert!(is_closed(&script, Reason::TimedOut));
}

#[test]
fn half_open_connections_are_bounded_and_the_oldest_goes() {
    let mut script = Script::new(
        Config { max_half_open: 8, syn_cookies: false, ..config() },
        Offers { mss: None, shift: None, sack: false, timestamp: None },
    );
    for port in 0..100 {
        script.peer_port(2_000 + port);
        script.inject_syn();
    }
    assert_eq!(script.stack.counters().half_open_evicted, 92);
    let mut count = 0;
    script.stack.connections(|_, _| count += 1);
    assert_eq!(count, 8);
}

/// A hundred SYNs arrive; the last peer answers and is served.
#[test]
fn rfc_4987_a_cookie_keeps_nothing_and_opens_a_connection() {
    let mut script = Script::new(
        Config { max_half_open: 8, ..config() },
        Offers { mss: Some(1000), shift: Some(7), sack: true, timestamp: Some(5) },
    );
    for port in 0..100 {
        script.peer_port(2_000 + port);
        script.inject_syn();
        assert_eq!(script.sent(), ["S. 0:0 ack 1"]);
    }
    let count = |script: &Script| {
        let mut count = 0;
        script.stack.connections(|_, _| count += 1);
        count
    };
    assert_eq!((count(&script), script.stack.counters().cookies_sent), (8, 92));
    // This peer was never sent a SYN-ACK.
    script.peer_port(5_000);
    script.inject(ack(1, 1));
    assert_eq!((script.sent(), count(&script)), (vec!["R 1:1".to_string()], 8));
    script.peer_port(2_099);
    script.inject(ack(2, 1));
    assert_eq!(script.sent(), ["R 1:1"], "another sequence number");
    script.inject(data(1, 100, 1));
    assert!(script.id.is_some() && script.stack.counters().cookies_accepted == 1);
    assert_eq!(script.read(), 100);
    script.send(2_000);
    assert_eq!(
        script.sent(),
        [". 1:537 ack 101", ". 537:1073 ack 101", ". 1073:1609 ack 101", ". 1609:2001 ack 101"]
    );
    script.now += 1_000;
    script.inject(ack(101, 2001));
    assert_eq!(script.wait(100_000), []);
}

#[test]
fn rfc_4987_a_cookie_does_not_last() {
    let mut script = Script::new(
        Config { max_half_open: 1, ..config() },
        Offers { mss: Some(1000), shift: None, sack: false, timestamp: None },
    );
    for port in 0..2 {
        script.peer_port(2_000 + port);
        script.inject_syn();
        script.sent();
    }
    script.wait(128_000_000);
    script.inject(ack(1, 1));
    assert!(script.id.is_none() && script.stack.counters().cookies_accepted == 0);
}

#[test]
fn a_syn_is_answered_again_until_the_peer_has_it() {
    let offers = Offers { mss: Some(1000), shift: None, sack: true, timestamp: None };
    let mut script = Script::new(config(), offers);
    script.inject_syn();
    assert_eq!(script.sent(), ["S. 0:0 ack 1"]);
    assert_eq!(script.wait(1_000_000), [(1_000_000, "S. 0:0 ack 1".to_string())]);
    script.inject_syn();
    assert_eq!(script.sent(), ["S. 0:0 ack 1"], "the peer has not got it");
    script.inject(data(1, 10, 1));
    assert_eq!(script.read(), 10, "an ACK with data opens it too");
}

#[test]
fn rfc_9293_a_peer_that_has_filled_the_window_may_still_acknowledge() {
    let mut script =
        Script::open(Config { initial_receive_window: 2_000, max_receive_window: 2_000, ..config() });
    script.send(100);
    assert_eq!(script.sent(), [". 1:101 ack 1"]);
    script.inject(data(1001, 1000, 1));
    assert_eq!(script.sent(), [". 101:101 ack 1 sack 1001:2001"]);
    script.inject(ack(2001, 101));
    assert!(matches!(script.events[..], [Event::Released(..)]), "{:?}", script.events);
}

/// The peer closed its window with data in flight. It answers, but reads nothing for longer than
/// the user timeout.
#[test]
fn rfc_9293_a_peer_that_answers_may_keep_its_window_closed() {
    let mut script = Script::open(config());
    script.send(2_000);
    script.sent();
    script.now += 1_000;
    script.inject(Segment { window: 0, ..ack(1, 1001) });
    for _ in 0..40 {
        script.wait(1_000_000);
        script.inject(Segment { window: 0, ..ack(1, 1001) });
    }
    assert!(!is_closed(&script, Reason::TimedOut));
    script.wait(31_000_000);
    assert!(is_closed(&script, Reason::TimedOut));
}

/// A router reports the first of two segments as too long. It is believed only about data in
/// flight.
#[test]
fn rfc_1191_segments_become_as_short_as_the_path_wants() {
    let mut script = Script::open(config());
    script.send(2_000);
    assert_eq!(script.sent(), [". 1:1001 ack 1", ". 1001:2001 ack 1"]);
    script.too_big(5_000, 600);
    assert_eq!(script.sent(), [""; 0]);
    script.too_big(1, 600);
    assert_eq!(
        script.sent(),
        [". 1:601 ack 1", ". 601:1001 ack 1", ". 1001:1601 ack 1", ". 1601:2001 ack 1"]
    );
    script.now += 1_000;
    script.inject(ack(1, 2001));
    script.send(1_000);
    assert_eq!(script.sent(), [". 2001:2601 ack 1", ". 2601:3001 ack 1"]);
    script.inject(ack(1, 3001));
    script.send(1_000);
    script.sent();
    script.too_big(3001, 10);
    assert_eq!(script.sent()[0], ". 3001:3473 ack 1", "nobody needs less");
}
