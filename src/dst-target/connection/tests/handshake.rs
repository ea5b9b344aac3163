//! From the accept to the Welcome, with and without a key agreement.

use super::*;
use dst_security::handshake::ENTROPY_LEN;
use dst_security::{Initiator, Psk, accept};
use dst_wire::secure::{Offer, Secure};
use dst_wire::{RefusalReason, WireError};
use zeroize::Zeroizing;

#[test]
fn a_hello_is_for_the_control_thread_and_nothing_may_follow_it() {
    let rig = Rig::new();
    let bytes = hello().encode();
    let header = Header { data_len: bytes.len() as u32, ..Header::new(Kind::Hello) };
    let frame = [&header.encode()[..], &bytes].concat();
    rig.sends_bytes(&frame[..60]);
    assert!(rig.receive().unwrap().question.is_none(), "it is not complete");
    rig.sends_bytes(&frame[60..]);
    let Some(HandshakeQuestion::Hello(asked)) = rig.receive().unwrap().question else {
        panic!("nobody is asked")
    };
    assert_eq!(*asked, hello());
    assert!(!rig.connection.borrow().wants_to_send());
    rig.sends_bytes(&frame);
    let why = rig.fails();
    assert_eq!(why, Violation::Unexpected(Kind::Hello).into());
    assert_eq!(rig.over(&why), Ending::Unexpected);
    assert_eq!(rig.over(&why), Ending::Known);
    // Only those that were admitted have violated anything that is counted.
    assert_eq!(rig.stats(), Stats::default());
}

#[test]
fn two_hellos_at_once_are_one_too_many() {
    let rig = Rig::new();
    rig.sends(Header::new(Kind::Hello), &hello().encode());
    rig.sends(Header::new(Kind::Hello), &hello().encode());
    assert_eq!(rig.fails(), Violation::Unexpected(Kind::Hello).into());
}

#[test]
fn whoever_was_not_admitted_may_send_nothing_else() {
    for header in [read(1, 0), keep_alive(1, 0), Header::new(Kind::Goodbye), Header::new(Kind::Welcome)] {
        let rig = Rig::new();
        rig.sends(header, &[]);
        assert_eq!(rig.fails(), Violation::Unexpected(header.kind).into());
    }
}

#[test]
fn the_first_frame_is_short() {
    for kind in [Kind::Hello, Kind::Secure] {
        let rig = Rig::new();
        let (len, max) = (HANDSHAKE_BYTES + 1, HANDSHAKE_BYTES);
        rig.sends(Header::new(kind), &vec![0; len as usize]);
        let why = rig.fails();
        assert_eq!(why, WireError::DataLen { kind: kind as u8, len, max }.into());
        assert_eq!(rig.over(&why), Ending::Unexpected);
        assert_eq!(rig.stats(), Stats { handshake_bytes_exceeded: 1, ..Stats::default() });
        let Shut::Finished(remains) = rig.shut() else { panic!("something is left of it") };
        assert_eq!(remains.stats.handshake_bytes_exceeded, 1);
        assert_eq!(rig.stats(), Stats::default(), "it is counted twice");
        assert!(remains.slots.is_none() && !remains.goodbye);
    }
}

#[test]
fn a_handshake_has_its_time_whatever_step_it_is_in() {
    let refusal = Refusal { reason: RefusalReason::Busy, text: "later".to_owned(), ownership: None };
    for step in 0..3 {
        let rig = Rig::new();
        if step > 0 {
            rig.sends(Header::new(Kind::Hello), &hello().encode());
            rig.receive().unwrap();
        }
        if step > 1 {
            rig.connection.borrow_mut().refuse(&refusal);
        }
        let (before, after) = edge(HANDSHAKE_MS);
        assert_eq!(rig.tick(false, before), Ok(()));
        let why = rig.tick(false, after).unwrap_err();
        assert_eq!(why, Broken::HandshakeTime(after));
        rig.over(&why);
        assert_eq!(rig.stats(), Stats { handshake_timeouts: 1, ..Stats::default() });
    }
}

#[test]
fn a_refused_connection_ends_as_expected_when_the_refusal_is_sent() {
    let rig = Rig::new();
    rig.sends(Header::new(Kind::Hello), &hello().encode());
    rig.receive().unwrap();
    rig.connection.borrow_mut().refuse(&Refusal {
        reason: RefusalReason::Busy,
        text: "later".to_owned(),
        ownership: None,
    });
    assert!(rig.connection.borrow().wants_to_send());
    assert_eq!(rig.connection.borrow_mut().flush(&rig.pools, rig.began_us), Err(Broken::Closed));
    assert_eq!(rig.client_receives(), [Kind::Refusal]);
    assert_eq!(rig.over(&Broken::Closed), Ending::Expected);
    assert!(matches!(rig.shut(), Shut::Finished(_)));
    assert!(matches!(rig.shut(), Shut::Before));
}

/// Brings a connection to where the client has sent its part of the key agreement. Returns what the
/// control thread answers.
fn begin_to_secure(rig: &Rig) -> (Vec<u8>, Secured) {
    let key = Psk::new(Zeroizing::new([7; 32]));
    let ciphers = vec![Cipher::Aes128Gcm as u8];
    let offer = Offer { versions: (1, 1), export: "v".into(), host: "h".into(), ciphers };
    let (_, message) = Initiator::begin(&key, &offer, &[1; ENTROPY_LEN]);
    rig.sends(Header::new(Kind::Secure), &message);
    let Some(HandshakeQuestion::Secure(asked)) = rig.receive().unwrap().question else {
        panic!("nobody is asked")
    };
    assert_eq!(asked, message);
    accept(&[key], &Secure::decode(&asked).unwrap(), &[2; ENTROPY_LEN]).unwrap()
}

#[test]
fn behind_the_answer_to_a_key_agreement_there_are_records() {
    let rig = Rig::new();
    let (answer, secured) = begin_to_secure(&rig);
    rig.connection.borrow_mut().secure(&answer, secured);
    assert_eq!(rig.flush(), [Kind::Secured]);
    rig.sends(Header::new(Kind::Hello), &hello().encode());
    assert!(matches!(rig.fails(), Broken::Record(_)), "a hello in clear was believed");
    assert_eq!(rig.tick(false, u64::from(HANDSHAKE_MS)), Err(Broken::HandshakeTime(HANDSHAKE_MS.into())));
}

#[test]
fn nothing_in_clear_may_follow_a_key_agreement() {
    let rig = Rig::new();
    let (answer, secured) = begin_to_secure(&rig);
    rig.connection.borrow_mut().secure(&answer, secured);
    // Half a header, which nobody can have looked at.
    rig.sends_bytes(&Header::new(Kind::Hello).encode()[..HEADER_LEN / 2]);
    rig.receive().unwrap();
    let flushed = rig.connection.borrow_mut().flush(&rig.pools, rig.began_us);
    assert_eq!(flushed, Err(Violation::Unexpected(Kind::Secure).into()));
}

#[test]
fn a_connection_is_secured_once() {
    let rig = Rig::new();
    if let ConnectionPhase::Open(OpenConnection { stage: Stage::Handshake { step, .. }, .. }) =
        &mut rig.connection.borrow_mut().phase
    {
        *step = HandshakeStep::SECURED;
    }
    rig.sends(Header::new(Kind::Secure), &[]);
    assert_eq!(rig.fails(), Violation::Unexpected(Kind::Secure).into());
}
