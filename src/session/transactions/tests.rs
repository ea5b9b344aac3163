use super::*;
use proptest::prelude::*;

fn write(len: u32) -> Request {
    Request { op: Op::Write, start: 0, count: 1, request_len: len, answer_len: 0 }
}

const READ: Request = Request { op: Op::Read, start: 5, count: 1, request_len: 0, answer_len: 512 };

fn answer_to(header: &[u8], status: Status, data_len: u32) -> Header {
    let mut answer = Header::decode(header.try_into().unwrap()).unwrap();
    answer.kind = Kind::Answer;
    answer.code = status as u8;
    answer.data_len = data_len;
    answer
}

#[test]
fn nothing_begins_without_credit() {
    let mut slab = Transactions::new(2);
    assert_eq!(slab.begin(READ, 'a', 0, None), Err('a'));
    assert!(slab.grant(2, None));
    assert!(slab.begin(READ, 'a', 0, None).is_ok() && slab.begin(READ, 'b', 0, None).is_ok());
    assert_eq!(slab.begin(READ, 'c', 0, None), Err('c'));
    assert_eq!(slab.outstanding(), 2);
}

#[test]
fn an_answer_must_fit_its_transaction() {
    let mut slab = Transactions::new(2);
    slab.grant(2, None);
    slab.begin(READ, 'a', 7, None).unwrap();
    let header = slab.outgoing().next().unwrap().header.to_vec();
    let good = answer_to(&header, Status::Success, 512);
    assert_eq!(slab.answer(&good), Err(Violation::Answer(good.id)), "before it was sent");
    assert_eq!(slab.sent(HEADER_LEN), 1);
    let short = answer_to(&header, Status::Success, 511);
    assert!(matches!(slab.answer(&short), Err(Violation::Data { found: 511, expected: 512, .. })));
    let failed = answer_to(&header, Status::Failed, 0);
    assert_eq!(
        slab.answer(&failed),
        Ok(Answer { slot: 0, status: Status::Failed, data_len: 0, digest: None, awaited: Awaited::ByUser })
    );
    let mut other = good;
    other.id += 1 << 16;
    assert_eq!(slab.answer(&other), Err(Violation::Answer(other.id)));
    other.id = u64::MAX;
    assert_eq!(slab.answer(&other), Err(Violation::Answer(other.id)));
    assert!(slab.answer(&good).is_ok());
    assert_eq!(slab.finish(0), ('a', READ, 7));
    assert_eq!(slab.answer(&good), Err(Violation::Answer(good.id)), "a second time");
}

#[test]
fn a_new_connection_sends_all_again_in_order() {
    let mut slab = Transactions::new(4);
    slab.grant(4, None);
    for user in ['a', 'b', 'c'] {
        slab.begin(write(100), user, 0, None).unwrap();
    }
    slab.sent(HEADER_LEN + 100 + 3);
    slab.disconnected(Unanswered::MayBeExecuted);
    assert_eq!(slab.begin(READ, 'd', 0, None), Err('d'));
    assert!(!slab.grant(2, None), "slot 2 is in use");
    assert!(slab.grant(3, None));
    let users: Vec<char> = slab.outgoing().map(|out| *out.user).collect();
    assert_eq!(users, ['a', 'b', 'c']);
    for out in slab.outgoing() {
        let header = Header::decode(out.header.try_into().unwrap()).unwrap();
        assert!(header.flags.contains(Flags::RESENT));
        assert_eq!((out.data_from, out.data_len), (0, 100));
    }
    assert_eq!(slab.begin(READ, 'd', 0, None), Err('d'), "three were granted, three are in use");
}

#[test]
fn abandoning_gives_every_user_back_once_the_oldest_first() {
    let mut slab = Transactions::new(4);
    slab.grant(4, None);
    for user in 0..4 {
        slab.begin(write(user), user, u64::from(user) * 10, None).unwrap();
    }
    slab.sent(3 * HEADER_LEN + 10);
    slab.finish(1);
    slab.disconnected(Unanswered::MayBeExecuted);
    assert_eq!(slab.oldest_us(), Some(0));
    assert_eq!(slab.abandon_oldest(), Some(0));
    assert_eq!(slab.oldest_us(), Some(20), "the second was answered");
    let mut users = Vec::new();
    slab.abandon(|request, past| request.request_len == 3 && past.resends == 0, |user| users.push(user));
    assert_eq!(users, [3]);
    assert_eq!((slab.abandon_oldest(), slab.abandon_oldest()), (Some(2), None));
    assert_eq!((slab.outstanding(), slab.oldest_us()), (0, None));
    slab.grant(4, None);
    assert!(slab.begin(READ, 9, 50, None).is_ok());
    assert_eq!(slab.oldest_us(), Some(50));
}

#[test]
fn what_a_lost_connection_has_not_answered_may_be_executed_unless_the_target_says_otherwise() {
    let mut slab = Transactions::new(3);
    let known = |slab: &mut Transactions<char>| {
        let mut not_executed = Vec::new();
        let is_not = |_: &Request, past: Past| past.unanswered == Unanswered::NotExecuted;
        slab.abandon(is_not, |user| not_executed.push(user));
        not_executed
    };
    slab.grant(3, None);
    slab.begin(write(1), 'a', 0, None).unwrap();
    slab.sent(HEADER_LEN + 1);
    slab.disconnected(Unanswered::MayBeExecuted);
    slab.grant(3, None);
    slab.begin(write(1), 'b', 0, None).unwrap();
    slab.begin(write(1), 'c', 0, None).unwrap();
    slab.sent(3 * (HEADER_LEN + 1));
    slab.disconnected(Unanswered::NotExecuted);
    assert_eq!(known(&mut slab.clone()), ['b', 'c'], "nothing is known of the connection before");
    slab.grant(3, None);
    slab.sent(3 * (HEADER_LEN + 1));
    slab.finish(2);
    slab.begin(write(1), 'd', 0, None).unwrap();
    slab.disconnected(Unanswered::NotExecuted);
    assert_eq!(known(&mut slab.clone()), ['b', 'd']);
    slab.grant(3, None);
    slab.sent(3 * (HEADER_LEN + 1));
    slab.disconnected(Unanswered::MayBeExecuted);
    assert_eq!(known(&mut slab), []);
    assert_eq!(slab.outstanding(), 3);
}

#[test]
fn what_was_not_sent_completely_is_not_executed() {
    let mut slab = Transactions::new(4);
    let not_executed = |slab: &Transactions<char>| {
        let mut users = Vec::new();
        let is_not = |_: &Request, past: Past| past.unanswered == Unanswered::NotExecuted;
        slab.clone().abandon(is_not, |user| users.push(user));
        users
    };
    slab.grant(4, None);
    for user in ['a', 'b', 'c', 'd'] {
        slab.begin(write(1), user, 0, None).unwrap();
    }
    slab.sent(2 * (HEADER_LEN + 1) + HEADER_LEN);
    // What is sent twice may be executed, although it waits to be sent.
    slab.repeat(1, None).unwrap();
    slab.disconnected(Unanswered::MayBeExecuted);
    assert_eq!(not_executed(&slab), ['c', 'd']);
    // On the next connection, 'c' is sent and 'd' is not.
    slab.grant(4, None);
    slab.sent(3 * (HEADER_LEN + 1));
    slab.disconnected(Unanswered::MayBeExecuted);
    assert_eq!(not_executed(&slab), ['d']);
    slab.grant(4, None);
    slab.disconnected(Unanswered::MayBeExecuted);
    assert_eq!(not_executed(&slab), ['d'], "'a' to 'c' were sent before");
}

#[test]
fn connections_are_counted() {
    let mut slab = Transactions::new(1);
    slab.grant(1, None);
    slab.begin(write(1), 'a', 0, None).unwrap();
    for resends in 0..3 {
        slab.disconnected(Unanswered::MayBeExecuted);
        slab.abandon(
            |_, past| past.resends != resends,
            |user| panic!("{user} was sent again {resends} times"),
        );
        slab.grant(1, None);
    }
}

proptest! {
    #[test]
    fn all_bytes_go_out_once_in_order(
        lens in proptest::collection::vec(0u32..300, 1..30),
        cuts in proptest::collection::vec(1usize..500, 1..200),
    ) {
        let mut slab = Transactions::new(30);
        slab.grant(30, None);
        for (i, &len) in lens.iter().enumerate() {
            slab.begin(write(len), i, 0, None).unwrap();
        }
        // For each user: the bytes seen, header first.
        let mut seen = vec![0; lens.len()];
        let mut cuts = cuts.into_iter().cycle();
        while slab.wants_to_send() {
            let mut budget = cuts.next().unwrap();
            let mut moved = 0;
            for out in slab.outgoing() {
                prop_assert_eq!(seen[*out.user], HEADER_LEN - out.header.len() + out.data_from);
                let take = budget.min(out.header.len() + out.data_len);
                seen[*out.user] += take;
                budget -= take;
                moved += take;
                if budget == 0 { break; }
            }
            slab.sent(moved);
        }
        for (i, &len) in lens.iter().enumerate() {
            prop_assert_eq!(seen[i], HEADER_LEN + len as usize);
        }
    }
}

proptest! {
    /// A further part of a long I/O has the time of the whole, which is before that of others in use.
    #[test]
    fn the_oldest_is_found_whatever_the_order(
        steps in proptest::collection::vec((0u64..8, any::<proptest::sample::Index>()), 1..60),
    ) {
        let mut slab = Transactions::new(6);
        slab.grant(6, None);
        let mut used: Vec<(u64, u16)> = Vec::new();
        for (begun_us, which) in steps {
            match slab.begin(READ, begun_us, begun_us, None) {
                Ok(slot) => used.push((begun_us, slot)),
                Err(_) => {
                    let (begun_us, slot) = used.swap_remove(which.index(used.len()));
                    slab.sent(slab.to_send.len() * HEADER_LEN);
                    prop_assert_eq!(slab.finish(slot), (begun_us, READ, begun_us));
                }
            }
            prop_assert_eq!(slab.oldest_us(), used.iter().map(|&(begun_us, _)| begun_us).min());
        }
        slab.disconnected(Unanswered::MayBeExecuted);
        let mut times: Vec<_> = used.iter().map(|&(begun_us, _)| begun_us).collect();
        times.sort_unstable();
        prop_assert_eq!(std::iter::from_fn(|| slab.abandon_oldest()).collect::<Vec<_>>(), times);
    }
}
