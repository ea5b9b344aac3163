//! Data that is lent to a socket, on fake ports.

mod fake;

use std::rc::Rc;

use dst_sockets::{End, SocketId, TransferError};
use dst_tcp::Reason;

use fake::{Lent, Pair, pattern};

/// Lends data in pieces, of which each is a clone of what is returned.
fn lend(pair: &mut Pair, id: SocketId, bytes: usize) -> Result<Vec<Lent>, TransferError> {
    let parts: Vec<Lent> = pattern(bytes).chunks(10_000).map(|part| Lent(Rc::new(part.to_vec()))).collect();
    pair.sides[0].lend(id, parts.clone(), bytes)?;
    Ok(parts)
}

/// Returns whether the sockets still have any of the data.
fn has_any(parts: &[Lent]) -> bool {
    parts.iter().any(|part| Rc::strong_count(&part.0) > 1)
}

#[test]
fn lent_data_comes_back_when_it_is_acknowledged() {
    let mut pair = Pair::new();
    let ([client, accepted], _) = pair.connected();
    let mut received = Vec::new();
    // Between what is copied, it keeps its place.
    pair.write_all(0, client, &[1, 2, 3]);
    let parts = lend(&mut pair, client, 123_456).expect("there is room");
    pair.write_all(0, client, &[4, 5, 6]);
    assert_eq!(pair.sides[0].released(client), 0);
    assert!(parts.iter().all(|part| Rc::strong_count(&part.0) == 2));
    let all = [&[1, 2, 3][..], &pattern(123_456), &[4, 5, 6]].concat();
    pair.until(|pair| {
        received.extend(pair.read(1, accepted, 100_000).unwrap_or_default());
        (received.len() == all.len()).then_some(())
    });
    assert!(received == all, "the data is another one");
    pair.until(|pair| (pair.sides[0].released(client) == 123_456).then_some(()));
    assert_eq!((has_any(&parts), pair.held()), (false, 0));
}

#[test]
fn nothing_more_is_lent_than_a_connection_may_have_queued() {
    let mut pair = Pair::new();
    let ([client, _], _) = pair.connected();
    pair.cables[1].is_down.set(true);
    let mut lent = 0;
    let refused = loop {
        match lend(&mut pair, client, 1 << 20) {
            Ok(_) => lent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((lent, refused), (4, TransferError::WouldBlock));
    assert_eq!(pair.write(0, client, &[1]), Err(TransferError::WouldBlock));
}

#[test]
fn what_is_recalled_is_not_sent_any_more() {
    let mut pair = Pair::new();
    let ([client, accepted], _) = pair.connected();
    pair.sides[0].recall(client, pair.now);
    assert_eq!(pair.sides[0].released(client), 0, "nothing was lent, so nothing happens");
    pair.cables[1].is_down.set(true);
    let parts = lend(&mut pair, client, 500_000).expect("there is room");
    (0..10).for_each(|_| pair.turn());
    pair.sides[0].recall(client, pair.now);
    assert!(!has_any(&parts));
    assert_eq!(pair.sides[0].released(client), u64::MAX);
    assert_eq!(lend(&mut pair, client, 1).err(), Some(TransferError::Ended(End::Tcp(Reason::Aborted))));
    // What the port had taken before arrives, and then the reset.
    pair.cables[1].is_down.set(false);
    let mut received = Vec::new();
    let ended = pair.until(|pair| match pair.read(1, accepted, 100_000) {
        Ok(bytes) => {
            received.extend(bytes);
            None
        }
        Err(TransferError::WouldBlock) => None,
        Err(error) => Some(error),
    });
    assert_eq!(ended, TransferError::Ended(End::Tcp(Reason::Reset)));
    assert!(received.len() < 100_000, "{} bytes were sent", received.len());
}

#[test]
fn sockets_that_end_give_back_what_is_lent() {
    // Closed here, reset by the peer, and deleted with their interface.
    let ends: [fn(&mut Pair, [SocketId; 2]); 3] = [
        |pair, [client, _]| pair.sides[0].close(client, pair.now),
        |pair, [client, accepted]| {
            pair.cables[1].is_down.set(false);
            pair.until(|pair| (!pair.ready(1).is_empty()).then_some(()));
            pair.sides[1].close(accepted, pair.now);
            pair.until(|pair| (pair.sides[0].released(client) == u64::MAX).then_some(()));
        },
        |pair, _| pair.sides[0].delete(pair.now),
    ];
    for end in ends {
        let mut pair = Pair::new();
        let (ids, _) = pair.connected();
        pair.cables[1].is_down.set(true);
        let parts = lend(&mut pair, ids[0], 2_000_000).expect("there is room");
        (0..10).for_each(|_| pair.turn());
        assert!(has_any(&parts));
        end(&mut pair, ids);
        assert!(!has_any(&parts));
        assert_eq!(pair.sides[0].released(ids[0]), u64::MAX);
    }
}
