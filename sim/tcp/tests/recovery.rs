//! How soon losses are repaired, and what must not be taken for a loss.

use dst_tcp::Config;
use dst_tcp_sim::lossy::{nth, random};
use dst_tcp_sim::network::Filter;
use dst_tcp_sim::plan::Gap;
use dst_tcp_sim::{Outcome, Plan, run};

const DELAY: u64 = 500;
const RTT: u64 = 2 * DELAY;
const SEGMENT: u64 = 1448;

fn good(plan: &Plan, filter: Option<Filter>) -> Outcome {
    let outcome = run(plan, None, filter);
    assert_eq!(outcome.violation, None);
    outcome
}

/// Ten segments are sent at once; the nth is lost.
#[test]
fn a_single_loss_is_repaired_within_two_round_trips() {
    let plan = Plan::fair(DELAY, 10 * SEGMENT);
    let whole = good(&plan, None).received_at;
    for lost in 1..=7 {
        let outcome = good(&plan, Some(nth(&[lost])));
        let took = outcome.received_at - whole;
        assert!(took <= 2 * RTT, "segment {lost}: {took} µs later");
        assert_eq!((outcome.counted.retransmitted, outcome.counted.timeouts), (1, 0), "segment {lost}");
    }
}

/// The last of ten segments is lost, or the only one.
#[test]
fn a_tail_loss_is_repaired_within_two_round_trips_and_the_probes_time() {
    // RFC 8985, 7.2: two round trips, plus the peer's ACK delay if this is the only segment.
    for config in [Plan::fair(DELAY, 0).configs[0].clone(), Config::default()] {
        let (margin, peer_delay) = (config.probe_margin, config.peer_ack_delay);
        for (segments, lost, more) in [(10, &[10][..], margin), (10, &[9, 10], margin), (1, &[1], peer_delay)]
        {
            let mut plan = Plan::fair(DELAY, segments * SEGMENT);
            plan.configs[0] = config.clone();
            let whole = good(&plan, None).received_at;
            let outcome = good(&plan, Some(nth(lost)));
            let took = outcome.received_at - whole;
            assert!(took <= 2 * RTT + 2 * RTT + more, "{lost:?} of {segments}, {more}: {took} µs later");
            assert_eq!(outcome.counted.timeouts, 0, "{lost:?} of {segments}, {more}");
        }
    }
}

/// A segment is lost in the middle of a long transfer with a window of some hundred segments.
#[test]
fn losses_in_a_stream_cost_no_timeout() {
    let plan = Plan::fair(DELAY, 3_000_000);
    for lost in [&[700][..], &[700, 701, 702], &[700, 720, 740, 760, 780, 800, 820, 840]] {
        let outcome = good(&plan, Some(nth(lost)));
        assert_eq!(outcome.counted.timeouts, 0, "{lost:?}");
        assert_eq!(outcome.counted.retransmitted, lost.len() as u64, "{lost:?}");
        assert_eq!(outcome.counted.recoveries, 1, "{lost:?}");
    }
}

/// The retransmission of the 700th segment is lost as well. RACK detects this without a timeout.
#[test]
fn a_lost_retransmission_costs_no_timeout() {
    let plan = Plan::fair(DELAY, 3_000_000);
    let mut losses = 0;
    let mut first = None;
    let filter: Filter = Box::new(move |from, _, packet| {
        let data = from == 0 && dst_tcp_sim::lossy::data(packet) > 0;
        losses += u64::from(data);
        if losses == 700 && first.is_none() {
            first = Some(packet.bytes[4..8].to_vec());
            return true;
        }
        let again = data && first.as_deref() == Some(&packet.bytes[4..8]);
        if again {
            first = Some(Vec::new());
        }
        again
    });
    let outcome = good(&plan, Some(filter));
    assert_eq!((outcome.counted.retransmitted, outcome.counted.timeouts), (2, 0));
}

/// Returns the throughput of Reno with SACK on a path that loses one segment in `1/p` (Mathis,
/// Semke, Mahdavi and Ott, 1997).
fn reno(rtt: u64, p: f64) -> f64 {
    SEGMENT as f64 / (rtt as f64 / 1e6) * (1.5 / p).sqrt()
}

#[test]
fn throughput_with_losses_is_at_least_that_of_reno_with_sack() {
    for (delay, per_million, bytes) in
        [(500, 1000, 30_000_000), (10_000, 1000, 30_000_000), (500, 100, 100_000_000)]
    {
        let outcome = good(&Plan::fair(delay, bytes), Some(random(7, per_million)));
        let found = bytes as f64 / (outcome.received_at as f64 / 1e6);
        let expected = reno(2 * delay, per_million as f64 / 1e6);
        println!(
            "RTT {} µs, {per_million} of a million lost: {:.0} MB/s, Reno {:.0}",
            2 * delay,
            found / 1e6,
            expected / 1e6
        );
        assert!(found >= expected, "{found} B/s instead of {expected}");
    }
}

/// Nothing is lost, so nothing may be sent twice: bulk data both ways, requests and answers, an
/// idle connection.
#[test]
fn nothing_is_resent_without_a_loss() {
    for (delay, bytes, back, piece) in
        [(20, 20_000_000, 20_000_000, 131_072), (5_000, 20_000_000, 0, 4_144), (500, 48, 4_144, 48)]
    {
        let mut plan = Plan::fair(delay, bytes);
        plan.connections[0][1].bytes = back;
        plan.connections[0][0].piece = piece;
        let outcome = good(&plan, None);
        assert_eq!(outcome.counted.retransmitted, 0, "{delay} {bytes}");
    }
}

#[test]
fn reordering_costs_few_retransmissions() {
    // On average, up to 3, 30 or 100 others overtake a segment.
    for late in [3, 30, 100].map(|segments| segments * 15) {
        let mut plan = Plan::fair(1_000, 20_000_000);
        plan.links[0].reorder = 20;
        plan.links[0].late = late;
        // 15 µs per segment.
        plan.links[0].rate = 100_000;
        plan.links[0].queue = u64::MAX;
        let outcome = good(&plan, None);
        let share = outcome.counted.retransmitted as f64 / (20_000_000 / SEGMENT) as f64;
        println!("{late} µs late: {:?}, {} µs", outcome.counted, outcome.received_at);
        assert!(share < 0.01, "{late}: {:?}", outcome.counted);
        assert!(
            outcome.received_at < 300_000,
            "{late}: {} µs, 200,000 is the link's speed",
            outcome.received_at
        );
        assert_eq!(outcome.counted.timeouts, 0, "{late}");
    }
}

/// A sender that did not poll for 100 ms processes the ACKs before its timers. A receiver that did
/// not poll causes a timeout, which is undone.
#[test]
fn a_pause_is_not_taken_for_a_loss() {
    let mut plan = Plan::fair(DELAY, 30_000_000);
    plan.stalls[0] = Gap { from: 15_000, to: 115_000 };
    assert_eq!(good(&plan, None).counted.retransmitted, 0);
    plan.stalls = [Gap::default(), Gap { from: 15_000, to: 115_000 }];
    let outcome = good(&plan, None);
    println!("{:?}", outcome.counted);
    assert!(outcome.counted.retransmitted < 20, "{:?}", outcome.counted);
    assert!(outcome.counted.timeouts == 0 || outcome.counted.undone > 0, "{:?}", outcome.counted);
}

#[test]
fn stripped_options_are_done_without() {
    for (sack, timestamps, window_scaling) in
        [(false, true, true), (true, false, true), (true, true, false), (false, false, false)]
    {
        let mut plan = Plan::fair(DELAY, 2_000_000);
        plan.configs[1] = Config { sack, timestamps, window_scaling, ..plan.configs[1].clone() };
        assert_eq!(good(&plan, None).counted.retransmitted, 0);
        let outcome = good(&plan, Some(nth(&[100])));
        assert_eq!((outcome.counted.retransmitted, outcome.counted.timeouts), (1, 0), "SACK {sack}");
    }
}

/// Segments above 1,400 bytes vanish. The sender detects that, and the transfer continues.
#[test]
fn a_black_hole_is_found() {
    let mut plan = Plan::fair(DELAY, 2_000_000);
    plan.configs.iter_mut().for_each(|config| config.mss = 8960);
    plan.links[0].longest = 1_400;
    let outcome = good(&plan, None);
    assert!(outcome.received_at < 2_000_000, "{} µs", outcome.received_at);
}

/// The window grows: a transfer over a round trip of 20 ms is not limited by the initial 256 KiB.
#[test]
fn the_receive_window_grows() {
    let outcome = good(&Plan::fair(10_000, 50_000_000), None);
    // At 256 KiB every 20 ms, the transfer would take 3.8 s.
    assert!(outcome.received_at < 1_000_000, "{} µs", outcome.received_at);
}

/// The port cuts long segments, and one part is lost, wherever in its segment: only that part is sent
/// again.
#[test]
fn a_lost_part_of_a_long_segment_is_repaired_alone() {
    let mut plan = Plan::fair(DELAY, 3_000_000);
    plan.configs[0].offload_bytes = 60_000;
    plan.cuts = true;
    for lost in 700..745 {
        let outcome = good(&plan, Some(nth(&[lost])));
        assert_eq!((outcome.counted.retransmitted, outcome.counted.timeouts), (1, 0), "part {lost}");
    }
}
