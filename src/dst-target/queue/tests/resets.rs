//! Resets, and what they end.

use super::*;

fn reset(id: u64) -> Header {
    Rig::request(Op::Reset, id, 0, 0)
}

fn read(slot: u16) -> Header {
    Rig::request(Op::Read, id(1, slot), 0, 1)
}

#[test]
fn a_reset_is_for_the_control_thread_and_answered_when_that_says_so() {
    let mut rig = Rig::plain();
    for slot in [3, 1] {
        assert!(rig.comes(&reset(id(1, slot)), &[]).is_none(), "the backend gets it");
    }
    assert!(rig.holds_nothing() && rig.answers().is_empty() && rig.queue.in_backend() == 0);
    assert_eq!([(); 3].map(|()| rig.queue.next_asked()), [Some(3), Some(1), None]);
    rig.queue.answer_reset(2, Status::Success, 0);
    rig.queue.answer_reset(1, Status::Failed, 0);
    rig.queue.answer_reset(1, Status::Success, 0);
    assert_eq!(rig.answers(), [(id(1, 1), Status::Failed, vec![])]);
    // One that nobody waits for any more may come again.
    rig.queue.disconnected(&rig.pools);
    rig.queue.answer_reset(3, Status::Success, 0);
    assert!(rig.answers().is_empty());
    assert_eq!(rig.queue.into_slots().arrive(id(1, 3), Op::Reset), Ok(Arrival::Execute));
}

#[test]
fn a_round_waits_for_what_was_there_when_it_began() {
    let mut rig = Rig::plain();
    let old = [0, 1].map(|slot| rig.comes(&read(slot), &[]).unwrap());
    rig.comes(&reset(id(1, 2)), &[]);
    rig.queue.quiesce(7);
    assert!(rig.queue.is_attended());
    let new = rig.comes(&read(3), &[]).unwrap();
    let [first, second] = old;
    rig.complete(first, Status::Failed);
    rig.answers();
    // The same slot has another request by now.
    let again = rig.comes(&Rig::request(Op::Read, id(2, 0), 0, 1), &[]).unwrap();
    assert_eq!(rig.queue.quiesced(), None);
    rig.complete(second, Status::Success);
    assert_eq!((rig.queue.quiesced(), rig.queue.quiesced()), (Some(7), None));
    assert!(!rig.queue.is_attended());
    rig.complete(new, Status::Success);
    rig.complete(again, Status::Success);
    rig.queue.quiesce(8);
    assert_eq!(rig.queue.quiesced(), Some(8));
}

#[test]
fn a_round_that_was_given_up_waits_for_nothing() {
    let mut rig = Rig::plain();
    let hung = rig.comes(&read(0), &[]).unwrap();
    rig.queue.quiesce(7);
    rig.queue.abandon(6);
    assert!(rig.queue.is_attended(), "that was another round");
    rig.queue.abandon(7);
    assert!(!rig.queue.is_attended());
    rig.complete(hung, Status::Success);
    assert_eq!(rig.queue.quiesced(), None);
}

#[test]
fn what_another_sessions_reset_has_ended_is_executed_again_when_that_is_over() {
    let mut rig = Rig::plain();
    let ended = rig.comes(&read(0), &[]).unwrap().io;
    assert!(!rig.queue.is_executed_again(&ended, Status::Aborted), "nothing was reset");
    rig.backend_resets.begin();
    assert!(rig.queue.is_executed_again(&ended, Status::Aborted));
    rig.queue.keep_ended(ended, 10);
    assert!(rig.queue.next_ended(10).is_none() && rig.queue.in_backend() == 1 && rig.queue.is_attended());
    rig.backend_resets.end(20);
    let again = rig.queue.next_ended(21).expect("the reset is over");
    assert!(!rig.queue.is_attended() && rig.queue.stats.executed_again == 1);
    assert!(!rig.queue.is_executed_again(&again, Status::Failed), "the reset was over when it began");
    rig.queue.completed(again, Status::Failed, 22, &rig.pools);
    assert_eq!(rig.answers(), [(id(1, 0), Status::Failed, vec![])]);
    assert!(rig.holds_nothing() && rig.queue.in_backend() == 0);
}

#[test]
fn what_the_sessions_own_reset_has_ended_is_answered() {
    let mut rig = Rig::plain();
    let ended = rig.comes(&read(0), &[]).unwrap().io;
    rig.queue.own_reset(false, 0);
    rig.backend_resets.begin();
    assert!(!rig.queue.is_executed_again(&ended, Status::Aborted));
    rig.backend_resets.end(20);
    rig.queue.own_reset(true, 21);
    assert!(!rig.queue.is_executed_again(&ended, Status::Aborted), "its completion comes late");
}

#[test]
fn a_lost_connection_executes_nothing_again() {
    let mut rig = Rig::plain();
    let ended = rig.comes(&read(0), &[]).unwrap().io;
    rig.backend_resets.begin();
    rig.queue.keep_ended(ended, 10);
    rig.queue.disconnected(&rig.pools);
    rig.backend_resets.end(20);
    assert!(rig.queue.next_ended(21).is_none() && rig.holds_nothing() && rig.queue.in_backend() == 0);
    // The client's next connection has it executed, if the client still wants that.
    assert_eq!(rig.queue.into_slots().arrive(id(1, 0), Op::Read), Ok(Arrival::Execute));
}
