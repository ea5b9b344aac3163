//! Whole conversations between two stacks: open, transfer, close.

mod pair;

use std::net::SocketAddr;

use dst_tcp::{Config, Datagram, Event, Reason, State};
use pair::{Packet, Pair, pattern};

fn config() -> Config {
    Config { peer_ack_delay: 1_000, time_wait: 1_000_000, ..Config::default() }
}

#[test]
fn connects_transfers_and_closes() {
    converse(Pair::new(config()));
}

#[test]
fn ipv6_is_no_different() {
    let address = |last| SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, last], 4460));
    converse(Pair::at([address(1), address(2)], config()));
}

/// Segments of many times the MSS, as for a port that cuts them.
#[test]
fn offloaded_segments_are_no_different() {
    converse(Pair::new(Config { offload_bytes: 65_000, ..config() }));
}

fn converse(mut pair: Pair) {
    let (client, server) = pair.connect();
    let data = pattern(3_000_000);
    for chunk in data.chunks(100_001) {
        pair.hosts[0].stack.send(client, chunk.to_vec()).expect("there is room");
    }
    pair.hosts[1].stack.send(server, pattern(7_777)).expect("there is room");
    pair.until(1_000_000, |pair| pair.hosts[1].received.len() == 3_000_000);
    pair.until(1_000_000, |pair| pair.hosts[0].received.len() == 7_777);
    assert!(pair.hosts[1].received == data && pair.hosts[0].received == pattern(7_777));
    let state = |pair: &Pair, host: usize, id| pair.hosts[host].stack.information(id).map(|i| i.state);
    pair.hosts[0].stack.shutdown(client, pair.now);
    pair.until(100_000, |pair| pair.hosts[1].stack.is_at_end(server));
    assert_eq!(state(&pair, 1, server), Some(State::CloseWait));
    pair.hosts[1].stack.send(server, vec![1; 10]).expect("its direction is open");
    pair.hosts[1].stack.close(server, pair.now);
    pair.until(100_000, |pair| pair.hosts[0].stack.is_at_end(client));
    pair.hosts[0].stack.close(client, pair.now);
    while pair.step() {}
    let released = |event: &&Event<Vec<u8>>| matches!(event, Event::Released(..));
    assert_eq!(pair.hosts[0].events.iter().filter(released).count(), 30);
    for (host, id) in [(0, client), (1, server)] {
        assert_eq!(pair.hosts[host].events.last(), Some(&Event::Closed(id, Reason::Finished)));
        assert_eq!(state(&pair, host, id), None);
    }
    assert_eq!(pair.hosts[0].received.len(), 7_787);
}

/// Hands a changed segment to the second host, whose checksum would be right.
fn inject(pair: &mut Pair, packet: &Packet, change: impl Fn(&mut [u8])) {
    let mut frame = packet.bytes.clone();
    change(&mut frame);
    pair.hosts[1].stack.receive(
        Datagram {
            source: packet.source.ip(),
            destination: packet.destination.ip(),
            range: 0..frame.len(),
            frame,
            is_verified: true,
        },
        pair.now,
    );
}

/// Adds to a number of 4 bytes.
fn add(bytes: &mut [u8], more: u32) {
    let old = u32::from_be_bytes(bytes.try_into().expect("there are 4"));
    bytes.copy_from_slice(&old.wrapping_add(more).to_be_bytes());
}

/// Where the sequence number and the timestamp are in a segment whose only option is the timestamp,
/// as this stack places it.
const SEQ: std::ops::Range<usize> = 4..8;
const TIMESTAMP: std::ops::Range<usize> = 22..26;

/// An old segment is refused by its timestamp (PAWS). The one after it, which predicted headers would
/// take, is just as old.
#[test]
fn what_continues_an_old_segment_is_old() {
    let mut pair = Pair::new(config());
    let (client, _) = pair.connect();
    pair.now += 10_000;
    pair.hosts[0].stack.send(client, vec![1; 100]).expect("there is room");
    pair.until(1_000, |pair| pair.hosts[1].received.len() == 100);
    let newest = pair.last[0].clone().expect("it has sent the data");
    let make_older = |bytes: &mut [u8]| add(&mut bytes[TIMESTAMP], 0u32.wrapping_sub(1));
    inject(&mut pair, &newest, make_older);
    inject(&mut pair, &newest, |bytes| {
        make_older(bytes);
        add(&mut bytes[SEQ], 100);
    });
    let event = pair.hosts[1].stack.event();
    assert_eq!(event, None, "an old segment was taken for new data");
}

/// Data that nothing follows is acknowledged after the delay, without the peer sending it again.
#[test]
fn data_that_comes_alone_is_acknowledged() {
    let mut pair = Pair::new(Config { peer_ack_delay: 40_000, ..config() });
    let (client, _) = pair.connect();
    let released = |pair: &Pair| {
        pair.hosts[0].events.iter().any(|event| matches!(event, Event::Released(id, _) if *id == client))
    };
    // The first data's ACK tells of the scaled window, for which it is sent at once.
    pair.hosts[0].stack.send(client, vec![1; 100]).expect("there is room");
    pair.until(1_000, released);
    pair.now += 10_000;
    pair.hosts[0].events.clear();
    let (began, sent) = (pair.now, pair.count[0]);
    pair.hosts[0].stack.send(client, vec![1; 100]).expect("there is room");
    // There and back, and the delay between; a timer that does nothing would make it no later.
    for _ in 0..10 {
        if !released(&pair) {
            pair.step();
        }
    }
    assert!(released(&pair), "no ACK came");
    assert_eq!((pair.now - began, pair.count[0] - sent), (1_100, 1));
}

/// With its receive window closed, an end heeds only ACKs that are not beyond it. A forged one would
/// make all that the peer says of its own window look old.
#[test]
fn a_closed_window_lets_no_ack_in_from_beyond() {
    let mut pair =
        Pair::new(Config { initial_receive_window: 10_000, max_receive_window: 10_000, ..config() });
    let (client, server) = pair.connect();
    for (host, id) in [(0, client), (1, server)] {
        pair.hosts[host].reads = false;
        pair.hosts[host].stack.send(id, pattern(20_000)).expect("there is room");
    }
    let closed = |pair: &Pair, host: usize, id| {
        pair.hosts[host].stack.information(id).is_some_and(|information| information.peer_window == 0)
    };
    pair.until(100_000, |pair| closed(pair, 0, client) && closed(pair, 1, server));
    let last = pair.last[0].clone().expect("it has sent data");
    inject(&mut pair, &last, |bytes| add(&mut bytes[SEQ], 1 << 30));
    pair.hosts[0].reads = true;
    let now = pair.now;
    pair.hosts[0].read(client, now);
    pair.until(500_000, |pair| pair.hosts[0].received.len() == 20_000);
}
