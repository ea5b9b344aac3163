use super::*;
use crate::recovery::{Prr, Undo};

const MSS: u64 = 1_000;
const FIRST: u32 = 100;

fn config() -> Config {
    Config { offload_bytes: 65_000, ..Config::default() }
}

fn at(offset: u64) -> Seq {
    Seq::initial(FIRST) + 1 + offset
}

fn ack(offset: u64) -> Heard {
    Heard {
        seq: Seq::initial(1),
        ack: at(offset),
        window: 60_000,
        syn: false,
        sack: [None; 3],
        echo: None,
        carries: false,
    }
}

/// Returns a sender whose SYN was acknowledged, with data to be sent.
fn connected(sack: bool, data: usize) -> Sender<Vec<u8>> {
    let mut sender = Sender::new(Seq::initial(FIRST), &config(), 0);
    send(&mut sender, 0);
    sender.negotiated(MSS, 0, sack, None);
    sender.on_ack(&ack(0), 100);
    sender.queue.push(vec![0; data]);
    sender
}

fn send(sender: &mut Sender<Vec<u8>>, now: u64) -> Option<Plan> {
    let plan = sender.plan(now, &config(), 64)?;
    sender.sent(plan, now);
    Some(plan)
}

fn new(start: u64, end: u64) -> Option<Plan> {
    Some(Plan::New { start: at(start), end: at(end) })
}

fn again(start: u64, end: u64) -> Option<Plan> {
    Some(Plan::Again { start: at(start), end: at(end) })
}

/// Of a long segment that was lost, no more is sent again than the congestion window has room for.
#[test]
fn what_is_sent_again_fits_into_the_window() {
    let mut sender = connected(true, 100_000);
    assert_eq!((send(&mut sender, 200), send(&mut sender, 200)), (new(0, 5_000), new(5_000, 10_000)));
    sender.board.lose_first(u64::MAX);
    let mut prr = Prr::new(10_000);
    prr.on_ack(1_000, 5_000, 5_000, MSS);
    sender.recovery = Recovery::Fast { end: sender.next, prr, undo: Undo::new(sender.cubic) };
    assert_eq!(sender.congestion_window(), 6_000);
    assert_eq!((send(&mut sender, 300), send(&mut sender, 300)), (again(0, 1_000), None));
}

/// The end of the peer's window makes no small segment of the end of a long one.
#[test]
fn the_peers_window_makes_no_small_segments() {
    let mut sender = connected(true, 100_000);
    sender.edge = at(2_500);
    assert_eq!((send(&mut sender, 200), send(&mut sender, 200)), (new(0, 2_000), None));
    let mut last = connected(true, 2_500);
    assert_eq!(send(&mut last, 200), new(0, 2_500), "the last data is sent as it is");
}

/// Repeated ACKs of a peer without SACK tell of one segment on the wire.
#[test]
fn without_sack_a_part_of_a_long_segment_is_lost() {
    let mut sender = connected(false, 100_000);
    assert_eq!((send(&mut sender, 200), send(&mut sender, 200)), (new(0, 5_000), new(5_000, 10_000)));
    for now in 300..303 {
        sender.on_ack(&ack(0), now);
    }
    assert_eq!(sender.board.lost(), MSS);
    assert_eq!(send(&mut sender, 303), again(0, 1_000));
}

/// A segment of the full size that was lost is not sent again at that size.
#[test]
fn a_trial_of_the_paths_mtu_is_repeated_in_parts() {
    let mut sender = connected(true, 100_000);
    sender.path = Path::Reduced { full: 3_000, pause: 1, try_at: 0 };
    assert_eq!(send(&mut sender, 200), new(0, 3_000));
    assert_eq!(sender.part_len(at(0), at(3_000)), 3_000);
    sender.board.lose_first(u64::MAX);
    assert_eq!(send(&mut sender, 300), again(0, 1_000));
    assert_eq!(sender.part_len(at(0), at(1_000)), MSS);
    assert_eq!(send(&mut sender, 300), again(1_000, 3_000));
    assert_eq!(sender.part_len(at(1_000), at(3_000)), MSS);
}
