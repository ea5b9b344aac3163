//! Sockets on fake ports.

mod fake;

use dst_sockets::{Connect, End, ListenError, TransferError};
use dst_tcp::{Reason, State};

use fake::{GROUP, Pair, pattern, server};

/// Moves `bytes` from one side to the other, as far as either takes them, in reads of `most` bytes.
fn moved(pair: &mut Pair, from: (usize, dst_sockets::SocketId), to: dst_sockets::SocketId, most: usize) {
    let bytes = pattern(3_000_000);
    let (mut written, mut received) = (0, Vec::new());
    pair.until(|pair| {
        while written < bytes.len() {
            match pair.write(from.0, from.1, &bytes[written..]) {
                Ok(count) => written += count,
                Err(error) => {
                    assert_eq!(error, TransferError::WouldBlock);
                    break;
                }
            }
        }
        let to_side = 1 - from.0;
        // A socket is ready exactly as long as it has something to read.
        while !pair.ready(to_side).is_empty() {
            received.extend(pair.read(to_side, to, most).expect("it is ready"));
        }
        assert_eq!(pair.read(to_side, to, most), Err(TransferError::WouldBlock));
        (received.len() == bytes.len()).then_some(())
    });
    assert!(received == bytes, "the data is another one");
}

#[test]
fn data_arrives_in_both_directions_and_everything_goes_back() {
    let mut pair = Pair::new();
    let ([client, accepted], listener) = pair.connected();
    moved(&mut pair, (0, client), accepted, 100_000);
    moved(&mut pair, (1, accepted), client, 333);
    let (local, remote) = pair.sides[1].addresses(accepted).expect("it is open");
    assert_eq!((local, remote), (server(), Some(pair.sides[0].addresses(client).expect("it is open").0)));
    pair.sides[0].close(client, pair.now);
    // The peer's end is there to be read until the socket is closed.
    pair.until(|pair| (!pair.ready(1).is_empty()).then_some(()));
    for _ in 0..2 {
        assert_eq!(pair.read(1, accepted, 10), Ok(Vec::new()));
        assert_eq!(pair.ready(1), [1]);
    }
    pair.sides[1].close(accepted, pair.now);
    assert_eq!(pair.ready(1), []);
    pair.sides[1].close(listener, pair.now);
    pair.until(|pair| pair.sides[1].connections().is_empty().then_some(()));
    assert_eq!((pair.held(), pair.sides[0].used_buffers(), pair.sides[1].used_buffers()), (0, 0, 0));
}

#[test]
fn a_port_that_runs_low_gets_its_buffers_back() {
    let mut pair = Pair::new();
    let ([client, accepted], _) = pair.connected();
    pair.cables[1].is_low.set(true);
    let bytes = pattern(200_000);
    pair.write_all(0, client, &bytes);
    (0..10_000).for_each(|_| pair.turn());
    assert_eq!(pair.cables[1].held.get(), 0, "what waits to be read was copied");
    assert!(pair.read(1, accepted, 300_000) == Ok(bytes));
    pair.cables[1].is_low.set(false);
    assert_eq!(pair.write(0, client, &[1; 1000]), Ok(1000));
    pair.until(|pair| (!pair.ready(1).is_empty()).then_some(()));
    assert_eq!(pair.cables[1].held.get(), 1, "what waits to be read was not copied");
}

#[test]
fn a_link_that_goes_down_and_up_is_latency() {
    let mut pair = Pair::new();
    let ([client, accepted], _) = pair.connected();
    pair.cables[1].is_down.set(true);
    assert_eq!(pair.write(0, client, &pattern(50_000)), Ok(50_000));
    (0..50_000).for_each(|_| pair.turn());
    assert_eq!(pair.ready(1), []);
    pair.cables[1].is_down.set(false);
    let mut received = Vec::new();
    pair.until(|pair| {
        received.extend(pair.read(1, accepted, 100_000).unwrap_or_default());
        (received.len() == 50_000).then_some(())
    });
    assert_eq!(received, pattern(50_000));
}

#[test]
fn what_is_queued_is_limited() {
    let mut pair = Pair::new();
    let ([client, accepted], _) = pair.connected();
    pair.cables[1].is_down.set(true);
    // Data that was not sent, up to 128 KiB in buffers of 32 KiB.
    let mut queued = 0;
    while let Ok(count) = pair.write(0, client, &[0; 100_000]) {
        queued += count;
    }
    assert!((128 << 10..160 << 10).contains(&queued), "{queued} bytes were queued");
    assert_eq!(pair.write(0, client, &[1]), Err(TransferError::WouldBlock));
    pair.cables[1].is_down.set(false);
    pair.until(|pair| {
        while pair.read(1, accepted, 1 << 20).is_ok() {}
        pair.write(0, client, &[1]).ok()
    });
    // And memory: each byte takes a buffer of 2 KiB, of 4 MiB.
    pair.until(|pair| (pair.sides[0].used_buffers() == 0).then_some(()));
    pair.cables[1].is_down.set(true);
    let count = std::iter::from_fn(|| pair.write(0, client, &[1]).ok()).count();
    assert_eq!((count, pair.sides[0].used_buffers()), (2048, 4 << 20));
    pair.cables[1].is_down.set(false);
    pair.until(|pair| {
        while pair.read(1, accepted, 1 << 20).is_ok() {}
        pair.write(0, client, &[1]).ok()
    });
}

#[test]
fn a_deleted_interface_ends_its_sockets() {
    let mut pair = Pair::new();
    let ([client, accepted], listener) = pair.connected();
    for (side, id) in [(0, client), (1, accepted)] {
        pair.write_all(side, id, &pattern(300_000));
    }
    (0..200).for_each(|_| pair.turn());
    // A part of a frame was read.
    assert_eq!(pair.read(1, accepted, 10).map(|bytes| bytes.len()), Ok(10));
    assert!(pair.held() > 0, "something waits to be read");
    assert!(!pair.sides[1].is_deleted());
    pair.sides[1].delete(pair.now);
    assert!(pair.sides[1].is_deleted());
    assert!(pair.cables[1].is_closed.get() && pair.cables[1].held.get() == 0);
    assert_eq!(pair.sides[1].used_buffers(), 0);
    // Its sockets are told, until they are closed; nothing new begins.
    let ended = TransferError::Ended(End::InterfaceDeleted);
    assert_eq!(pair.ready(1), [1]);
    assert_eq!(pair.read(1, accepted, 10), Err(ended));
    assert_eq!(pair.write(1, accepted, &[1]), Err(ended));
    assert_eq!(pair.sides[1].accept(listener, pair.now), None);
    assert_eq!(pair.sides[1].listen(server()), Err(ListenError::NotOurs(server().ip())));
    assert!(!pair.sides[1].reaches("10.0.0.1".parse().expect("valid")));
    pair.sides[1].close(accepted, pair.now);
    assert_eq!((pair.ready(1), pair.sides[1].turn(pair.now, |_| {})), (Vec::new(), false));
    // The peer hears of it at once.
    let reset = TransferError::Ended(End::Tcp(Reason::Reset));
    pair.until(|pair| (pair.write(0, client, &[1]) == Err(reset)).then_some(()));
    assert_eq!((pair.ready(0), pair.sides[0].used_buffers()), (vec![0], 0));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut pair = Pair::new();
    let other = "10.0.0.2:4461".parse().expect("valid");
    let refused = pair.sides[0].connect(other, pair.now).expect("it is a neighbour");
    assert_eq!(pair.read(0, refused, 10), Err(TransferError::WouldBlock));
    assert_eq!(pair.write(0, refused, &[1]), Err(TransferError::WouldBlock));
    pair.sides[0].join(refused, GROUP, 5);
    assert_eq!(pair.ready(0), []);
    let failed = Connect::Failed(End::Tcp(Reason::Refused));
    pair.until(|pair| (pair.sides[0].attempt(refused) == failed).then_some(()));
    assert_eq!(pair.ready(0), [5]);

    let ([client, accepted], listener) = pair.connected();
    assert_eq!(pair.sides[1].listen(server()), Err(ListenError::InUse(server())));
    assert!(pair.sides[1].listen("0.0.0.0:1".parse().expect("valid")).is_err());
    assert!(pair.sides[0].connect("10.0.1.1:1".parse().expect("valid"), pair.now).is_err());
    assert_eq!(pair.read(1, listener, 10), Err(TransferError::NotConnected));
    assert_eq!(pair.sides[0].accept(client, pair.now), None);
    // A socket that was closed is nobody's, although another one has taken its place.
    pair.sides[0].close(client, pair.now);
    pair.sides[1].close(accepted, pair.now);
    let next = pair.sides[0].connect(server(), pair.now).expect("it is a neighbour");
    assert_ne!(client, next);
    pair.sides[0].close(client, pair.now);
    assert_eq!(pair.write(0, client, &[1]), Err(TransferError::NotConnected));
    let accepted = pair.until(|pair| pair.sides[1].accept(listener, pair.now));
    assert_eq!(pair.write(1, accepted, &[9]), Ok(1));
    assert_eq!(pair.until(|pair| pair.read(0, next, 10).ok()), [9]);
}

#[test]
fn data_that_nobody_read_resets_the_connection() {
    for most in [0, 10] {
        let mut pair = Pair::new();
        let ([client, accepted], _) = pair.connected();
        assert_eq!(pair.write(0, client, &pattern(1000)), Ok(1000));
        pair.until(|pair| (!pair.ready(1).is_empty()).then_some(()));
        if most > 0 {
            assert_eq!(pair.read(1, accepted, most), Ok(pattern(most)));
        }
        pair.sides[1].close(accepted, pair.now);
        let reset = TransferError::Ended(End::Tcp(Reason::Reset));
        pair.until(|pair| (pair.read(0, client, 10) == Err(reset)).then_some(()));
        assert_eq!(pair.held(), 0);
    }
}

#[test]
fn a_listener_says_when_a_connection_waits() {
    let mut pair = Pair::new();
    let listener = pair.sides[1].listen(server()).expect("nothing listens yet");
    assert!(!pair.sides[1].has_waiting(listener));
    pair.sides[0].connect(server(), pair.now).expect("there is a port");
    pair.until(|pair| pair.sides[1].has_waiting(listener).then_some(()));
    assert!(pair.sides[1].accept(listener, pair.now).is_some());
    assert!(!pair.sides[1].has_waiting(listener));
    // Accepting is how the listener's owner learns of this.
    pair.sides[1].delete(pair.now);
    assert!(pair.sides[1].has_waiting(listener));
}

/// Twice as many as there are sockets and connections that are remembered at a time.
#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let mut pair = Pair::new();
    let listener = pair.sides[1].listen(server()).expect("nothing listens yet");
    for number in 0..10_000_usize {
        let client = pair.sides[0].connect(server(), pair.now).expect("there is a port");
        let accepted = pair.until(|pair| pair.sides[1].accept(listener, pair.now));
        let bytes = number.to_le_bytes();
        pair.until(|pair| pair.write(0, client, &bytes).ok());
        assert!(pair.until(|pair| pair.read(1, accepted, 100).ok()) == bytes);
        // Either side closes first, and some leave data unread.
        let ends = [(0, client), (1, accepted)];
        if number % 3 == 0 {
            assert_eq!(pair.write(1, accepted, &bytes), Ok(bytes.len()));
            pair.until(|pair| (pair.held() > 0).then_some(()));
        }
        pair.sides[ends[number % 2].0].close(ends[number % 2].1, pair.now);
        pair.turn();
        pair.sides[ends[1 - number % 2].0].close(ends[1 - number % 2].1, pair.now);
    }
    (0..100).for_each(|_| pair.turn());
    assert_eq!((pair.held(), pair.sides[0].used_buffers(), pair.sides[1].used_buffers()), (0, 0, 0));
    for side in &mut pair.sides {
        let left = side.connections();
        assert!(left.len() <= 4_096, "{} connections are remembered", left.len());
        assert!(left.iter().all(|found| matches!(found.state, State::TimeWait { .. })));
    }
    // Once their time has passed, none is left.
    pair.now += 61_000_000;
    pair.turn();
    assert!(pair.sides.iter_mut().all(|side| side.connections().is_empty()));
}

#[test]
fn sockets_take_turns_if_many_are_ready() {
    let mut pair = Pair::new();
    let (ends, listener) = pair.connected();
    let more: Vec<_> = (0..4)
        .map(|_| {
            let client = pair.sides[0].connect(server(), pair.now).expect("it is a neighbour");
            let accepted = pair.until(|pair| pair.sides[1].accept(listener, pair.now));
            (client, accepted)
        })
        .chain([(ends[0], ends[1])])
        .collect();
    for (token, (client, accepted)) in more.iter().enumerate() {
        pair.sides[1].join(*accepted, GROUP, token);
        pair.until(|pair| pair.write(0, *client, &[token as u8]).ok());
    }
    pair.until(|pair| (pair.ready(1).len() == 5).then_some(()));
    let mut seen = Vec::new();
    for _ in 0..5 {
        assert_eq!(pair.sides[1].ready(GROUP, 2, |token| seen.push(token)), 2);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    // One that has left its group is not reported, and it is again in the next group.
    assert!(pair.sides[1].is_in_group(more[2].1));
    pair.sides[1].leave(more[2].1);
    assert!(!pair.sides[1].is_in_group(more[2].1));
    assert_eq!(pair.ready(1).len(), 4);
    pair.sides[1].join(more[2].1, GROUP + 1, 9);
    let mut other = Vec::new();
    pair.sides[1].ready(GROUP + 1, 32, |token| other.push(token));
    assert_eq!(other, [9]);
    pair.sides[1].leave(more[2].1);
    pair.sides[1].forget(GROUP + 1);
    // If each leads to much writing, few are reported at a time.
    pair.sides[1].join(more[2].1, GROUP, 2);
    for _ in 0..4 {
        let tokens = pair.ready(1);
        tokens.iter().for_each(|token| pair.write_all(1, more[*token].1, &[0; 60_000]));
    }
    assert!((1..=3).contains(&pair.ready(1).len()));
}
