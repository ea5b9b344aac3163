//! Whole conversations between two stacks: open, transfer, close.

mod pair;

use std::net::SocketAddr;

use dst_tcp::{Config, Event, Reason, State};
use pair::{Pair, pattern};

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
