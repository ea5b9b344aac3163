//! Frames of aborts and holds.

use super::*;
use crate::holds::HoldNotice;

fn abort(id: u64) -> Header {
    Header { id, ..Header::new(Kind::Abort) }
}

fn write(id: u64) -> Header {
    Header { code: Op::Write as u8, id, count: 1, ..Header::new(Kind::Request) }
}

/// An admitted connection that has agreed on aborts.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.sends(Header::new(Kind::Hello), &hello().encode());
    rig.receive().unwrap();
    let requests = Some(rig.requests());
    let welcome = Welcome { aborts: true, ..welcome(1) };
    rig.connection.borrow_mut().welcome(&welcome, requests, rig.began_us);
    assert_eq!(rig.flush(), [Kind::Welcome]);
    rig
}

impl Rig {
    fn notices(&self) -> Vec<HoldNotice> {
        self.connection.borrow_mut().take_notices()
    }

    fn held(&self, id: u64) {
        self.connection.borrow_mut().held(id);
    }
}

#[test]
fn an_abort_that_was_not_agreed_on_is_a_violation() {
    let rig = Rig::ready(true, 0);
    rig.sends(abort(1 << 16), &[]);
    assert_eq!(rig.fails(), Violation::Unexpected(Kind::Abort).into());
    // A session's first connection has nothing to abort.
    let rig = Rig::new();
    rig.sends(Header::new(Kind::Hello), &hello().encode());
    rig.receive().unwrap();
    rig.connection.borrow_mut().welcome(&Welcome { aborts: true, ..welcome(0) }, None, rig.began_us);
    rig.sends(abort(1 << 16), &[]);
    assert_eq!(rig.fails(), Violation::Unexpected(Kind::Abort).into());
}

#[test]
fn the_client_is_told_when_all_groups_hold_its_request_and_not_before() {
    let rig = rig();
    rig.sends(write(1 << 16), &[1; BLOCK as usize]);
    rig.sends(abort(1 << 16), &[]);
    rig.receive().unwrap();
    assert!(matches!(rig.notices().as_slice(), [HoldNotice::Hold(hold)] if hold.id.request == 1 << 16));
    assert!(rig.flush().is_empty(), "the groups do not hold it yet");
    rig.held(1 << 16);
    rig.held(2 << 16);
    assert_eq!(rig.flush(), [Kind::Held]);
    assert!(rig.backend_finishes().is_none());
    assert!(matches!(rig.notices().as_slice(), [HoldNotice::Release { .. }]));
    assert_eq!(rig.flush(), [Kind::Answer]);
}

/// Otherwise the client would hear that a request is held which was answered: a violation.
#[test]
fn a_held_goes_before_the_answer_of_its_request() {
    let rig = rig();
    // More than the socket takes.
    for slot in [1, 2] {
        rig.sends(Header { count: 100, ..read(1, slot) }, &[]);
    }
    rig.receive().unwrap();
    assert!(rig.backend_finishes().is_none());
    rig.sends(write(1 << 16), &[1; BLOCK as usize]);
    rig.sends(abort(1 << 16), &[]);
    rig.receive().unwrap();
    assert_eq!(rig.notices().len(), 1);
    let flush = || rig.connection.borrow_mut().flush(&rig.pools, rig.began_us).unwrap();
    flush();
    // The second answer is sent in part.
    rig.held(1 << 16);
    assert!(rig.backend_finishes().is_none());
    let mut bytes = Vec::new();
    while rig.connection.borrow().wants_to_send() {
        bytes.extend(rig.client_bytes());
        flush();
    }
    bytes.extend(rig.client_bytes());
    assert_eq!(kinds(&bytes), [Kind::Answer, Kind::Answer, Kind::Held, Kind::Answer]);
}

#[test]
fn a_request_that_ends_meanwhile_is_answered_and_not_said_to_be_held() {
    let rig = rig();
    rig.sends(write(1 << 16), &[1; BLOCK as usize]);
    rig.sends(abort(1 << 16), &[]);
    rig.receive().unwrap();
    assert!(rig.backend_finishes().is_none());
    assert_eq!(rig.notices().len(), 2);
    rig.held(1 << 16);
    assert_eq!(rig.flush(), [Kind::Answer]);
}

#[test]
fn a_closed_connection_releases_what_it_had_held() {
    let rig = rig();
    rig.sends(write(1 << 16), &[1; BLOCK as usize]);
    rig.sends(abort(1 << 16), &[]);
    rig.receive().unwrap();
    assert_eq!(rig.notices().len(), 1);
    assert!(matches!(rig.shut(), Shut::Draining));
    rig.held(1 << 16);
    assert!(rig.backend_finishes().is_some());
    assert!(matches!(rig.notices().as_slice(), [HoldNotice::Release { .. }]));
}
