use proptest::prelude::*;

use super::*;

fn at(offset: u64) -> Seq {
    Seq::initial(u32::MAX - 1000) + offset
}

/// Ten segments of 100 bytes, one sent each microsecond.
fn ten() -> Scoreboard {
    let mut board = Scoreboard::new(at(0));
    for index in 0..10 {
        board.sent(at(100 * index), at(100 * index + 100), index);
    }
    board
}

#[test]
fn a_sack_block_may_begin_and_end_within_segments() {
    let mut board = ten();
    let mut delivered = 0;
    board.sack((at(150), at(420)), |sent| delivered += sent.len());
    board.check();
    assert_eq!(delivered, 270);
    assert_eq!(board.in_flight(), 730);
    board.sack((at(150), at(500)), |sent| delivered += sent.len());
    board.check();
    assert_eq!(delivered, 350);
    board.ack(at(300), |sent| delivered += sent.len());
    board.check();
    assert_eq!(delivered, 500);
    assert_eq!(board.in_flight(), 500);
}

#[test]
fn what_was_sent_before_something_that_arrived_is_lost() {
    let mut board = ten();
    board.sack((at(300), at(400)), |_| ());
    // As RACK without tolerance.
    let losses = board.detect(5, |sent_at, _| (sent_at < 3).then_some(5));
    assert_eq!(losses, Losses { bytes: 300, next_at: None });
    assert_eq!(board.next_lost(), Some((at(0), at(100))));
    board.resent(at(0), at(40), 20);
    board.check();
    assert_eq!(board.next_lost(), Some((at(40), at(100))));
    board.resent(at(40), at(100), 20);
    assert_eq!(board.next_lost(), Some((at(100), at(200))));
    // The transmission that was repeated is lost too, when something sent later has arrived.
    let losses = board.detect(30, |sent_at, _| (sent_at <= 20).then_some(30));
    assert_eq!(losses.bytes, 100 + 600);
    board.check();
}

#[test]
fn a_peer_may_drop_what_it_had_reported() {
    let mut board = ten();
    board.sack((at(0), at(1000)), |_| ());
    assert!(board.is_first_sacked());
    board.forget_sacks();
    board.check();
    assert_eq!(board.lost(), 1000);
    let mut again = 0;
    board.sack((at(0), at(1000)), |sent| again += sent.len());
    assert_eq!(again, 1000);
}

#[test]
fn a_false_loss_is_undone() {
    let mut board = ten();
    board.lose_if(|_| true);
    board.resent(at(0), at(100), 20);
    board.spare_lost();
    board.check();
    assert_eq!((board.in_flight(), board.lost()), (1000, 0));
    // All of them can be found lost again.
    let losses = board.detect(30, |_, _| Some(30));
    assert_eq!(losses.bytes, 1000);
}

#[test]
fn sack_blocks_do_not_split_without_end() {
    let mut board = Scoreboard::new(at(0));
    for index in 0..MAX_SEGMENTS as u64 {
        board.sent(at(100 * index), at(100 * index + 100), index);
    }
    for block in [(at(150), at(200)), (at(100), at(150)), (at(110), at(120))] {
        board.sack(block, |_| panic!("it is part of a segment"));
    }
    assert_eq!(board.segments(), MAX_SEGMENTS);
    let mut delivered = 0;
    board.sack((at(100), at(300)), |sent| delivered += sent.len());
    assert_eq!((delivered, board.segments()), (200, MAX_SEGMENTS));
    board.check();
}

#[test]
fn the_first_segment_may_be_lost_in_part() {
    let mut board = ten();
    assert_eq!(board.lose_first(40), 40);
    board.check();
    assert_eq!(board.next_lost(), Some((at(0), at(40))));
    assert_eq!(board.lose_first(40), 0, "it is lost already");
    assert_eq!(board.segments(), 11);
}

#[derive(Debug, Clone)]
enum Step {
    Send(u64),
    Sack(u64, u64),
    Ack(u64),
    Detect(u64),
    Resend(u64),
    Timeout,
    Undo,
    Renege,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..100).prop_map(Step::Send),
        4 => (0u64..2000, 1u64..300).prop_map(|(start, len)| Step::Sack(start, start + len)),
        2 => (0u64..2000).prop_map(Step::Ack),
        2 => (0u64..60).prop_map(Step::Detect),
        4 => (1u64..80).prop_map(Step::Resend),
        1 => Just(Step::Timeout),
        1 => Just(Step::Undo),
        1 => Just(Step::Renege),
    ]
}

proptest! {
    /// The counters match the segments, and no byte is delivered twice.
    #[test]
    fn the_accounts_balance(steps in prop::collection::vec(step(), 1..200)) {
        let mut board = Scoreboard::new(at(0));
        let (mut una, mut end, mut reneged) = (at(0), at(0), false);
        let (mut delivered, mut sent) = (0, 0);
        for (now, step) in steps.into_iter().enumerate() {
            let now = now as u64;
            match step {
                Step::Send(len) => { board.sent(end, end + len, now); end += len; sent += len; }
                Step::Sack(start, to) => {
                    let block = (at(start).max(una), at(to).min(end));
                    if block.0 < block.1 { board.sack(block, |sent| delivered += sent.len()); }
                }
                Step::Ack(to) => { una = una.max(at(to).min(end)); board.ack(una, |sent| delivered += sent.len()); }
                Step::Detect(age) => { board.detect(now, |sent_at, _| (sent_at + age <= now).then_some(now)); }
                Step::Resend(len) => if let Some((start, end)) = board.next_lost() {
                    board.resent(start, end.min(start + len), now);
                },
                Step::Timeout => { board.lose_if(|_| true); }
                Step::Undo => board.spare_lost(),
                Step::Renege => { board.forget_sacks(); reneged = true; }
            }
            board.check();
        }
        board.ack(end, |sent| delivered += sent.len());
        board.check();
        prop_assert!(board.is_empty());
        prop_assert!(delivered == sent || (reneged && delivered > sent));
    }
}
