//! Removes each mechanism and shows that a check notices, which passes with the mechanism in place.

use dst_tcp::mutation::{Mutation, set};
use dst_tcp::{Config, Event, Reason};
use dst_tcp_sim::lab::Lab;
use dst_tcp_sim::lossy::nth;
use dst_tcp_sim::network::Filter;
use dst_tcp_sim::plan::Gap;
use dst_tcp_sim::script::{Offers, Script, Segment, ack};
use dst_tcp_sim::{Outcome, Plan, run};
use smoltcp::wire::TcpControl;

const DELAY: u64 = 500;
const RTT: u64 = 2 * DELAY;
const SEGMENT: u64 = 1448;

/// A violation, if the check finds one.
type Found = Option<String>;

/// A check that runs with a mechanism removed.
type Check = fn(Option<Mutation>) -> Found;

fn is_noticed(mutation: Mutation, check: Check) {
    std::panic::set_hook(Box::new(|_| {}));
    let (with, without) = (check(None), check(Some(mutation)));
    let _ = std::panic::take_hook();
    assert_eq!(with, None, "with the mechanism in place");
    println!("{mutation:?}: {}", without.unwrap_or_else(|| panic!("{mutation:?} is not noticed")));
}

/// Runs a plan and applies a test to its outcome.
fn judge(
    plan: &Plan,
    filter: Option<Filter>,
    without: Option<Mutation>,
    judge: impl Fn(&Outcome) -> bool,
) -> Found {
    let outcome = run(plan, without, filter);
    match outcome.violation {
        Some(violation) => Some(violation),
        None => (!judge(&outcome)).then(|| format!("{} µs, {:?}", outcome.received_at, outcome.counted)),
    }
}

/// Runs a script and returns what it finds.
fn script(without: Option<Mutation>, script: impl Fn() -> Found) -> Found {
    set(without);
    let found = script();
    set(None);
    found
}

fn config() -> Config {
    Config { mss: 1000, peer_ack_delay: 2_000, time_wait: 1_000_000, ..Config::default() }
}

fn expect(found: Vec<String>, expected: &[&str]) -> Found {
    (found != expected).then(|| format!("{found:?} instead of {expected:?}"))
}

/// Eight segments of one window are lost.
fn gaps(without: Option<Mutation>) -> Found {
    let lost = [700, 720, 740, 760, 780, 800, 820, 840];
    judge(&Plan::fair(DELAY, 3_000_000), Some(nth(&lost)), without, |outcome| {
        outcome.counted.timeouts == 0 && outcome.counted.retransmitted == 8
    })
}

/// The first of ten segments is lost; the other nine overtake it.
fn single_loss(without: Option<Mutation>) -> Found {
    judge(&Plan::fair(DELAY, 10 * SEGMENT), Some(nth(&[1])), without, |outcome| {
        outcome.counted.timeouts == 0 && outcome.received_at <= 5 * RTT
    })
}

/// The last segment but one is lost; only one overtakes it.
fn last_but_one(without: Option<Mutation>) -> Found {
    judge(&Plan::fair(DELAY, 10 * SEGMENT), Some(nth(&[9])), without, |outcome| outcome.counted.timeouts == 0)
}

fn tail_loss(without: Option<Mutation>) -> Found {
    judge(&Plan::fair(DELAY, 10 * SEGMENT), Some(nth(&[10])), without, |outcome| {
        outcome.counted.timeouts == 0
    })
}

/// Segments are repeatedly late by less than a quarter of a round trip.
fn slightly_late(without: Option<Mutation>) -> Found {
    let mut plan = Plan::fair(1_000, 5_000_000);
    (plan.links[0].reorder, plan.links[0].late, plan.links[0].rate) = (20, 450, 100_000);
    judge(&plan, None, without, |outcome| outcome.counted.retransmitted <= 3)
}

/// Segments are late by three quarters of a round trip.
fn very_late(without: Option<Mutation>) -> Found {
    let mut plan = Plan::fair(1_000, 5_000_000);
    (plan.links[0].reorder, plan.links[0].late, plan.links[0].rate) = (20, 1_500, 100_000);
    judge(&plan, None, without, |outcome| outcome.counted.retransmitted <= 15 && outcome.received_at < 65_000)
}

/// Half a window is lost. What is left in the network must not drain before the repair begins.
fn many_lost(without: Option<Mutation>) -> Found {
    let lost: Vec<u64> = (700..760).collect();
    judge(&Plan::fair(10_000, 3_000_000), Some(nth(&lost)), without, |outcome| {
        outcome.counted.timeouts == 0 && outcome.received_at < 280_000
    })
}

/// A bottleneck has a queue of half a round trip.
fn bottleneck(without: Option<Mutation>) -> Found {
    let mut plan = Plan::fair(10_000, 10_000_000);
    (plan.links[0].rate, plan.links[0].queue) = (10_000, 100_000);
    let outcome = run(&plan, without, None);
    let share = outcome.packets.1 as f64 / outcome.packets.0 as f64;
    outcome.violation.or((share > 0.05).then(|| format!("{share} of the packets are lost")))
}

/// A slow link has a queue of 64 ms. The growing delay ends slow start before the queue overflows
/// by much.
fn long_queue(without: Option<Mutation>) -> Found {
    let mut plan = Plan::fair(10_000, 5_000_000);
    plan.configs[1].initial_receive_window = 8 << 20;
    (plan.links[0].rate, plan.links[0].queue) = (6_250, 400_000);
    let outcome = run(&plan, without, None);
    let lost = outcome.packets.1;
    outcome.violation.or((lost > 200).then(|| format!("{lost} packets are lost")))
}

/// The peer does nothing for 100 ms.
fn pause(without: Option<Mutation>) -> Found {
    let mut plan = Plan::fair(DELAY, 30_000_000);
    plan.stalls[1] = Gap { from: 15_000, to: 115_000 };
    judge(&plan, None, without, |outcome| outcome.counted.undone > 0)
}

/// Returns a plan whose reader reads every 2 ms and has a small window.
fn slow_reader() -> Plan {
    let mut plan = Plan::fair(DELAY, 400_000);
    plan.configs[1].initial_receive_window = 20_000;
    plan.configs[1].max_receive_window = 20_000;
    plan.connections[0][1].read_pause = 2_000;
    plan
}

fn window_update(without: Option<Mutation>) -> Found {
    script(without, || {
        let small = Config { initial_receive_window: 2_000, max_receive_window: 2_000, ..config() };
        let mut script = Script::open(small);
        script.inject(Segment { data: 1000, ..ack(1, 1) });
        script.inject(Segment { data: 1000, ..ack(1001, 1) });
        script.sent();
        script.read();
        expect(script.sent(), &[". 1:1 ack 2001"])
    })
}

fn window_is_kept(without: Option<Mutation>) -> Found {
    judge(&slow_reader(), None, without, |_| true)
}

/// The peer has closed its window, and its window update is lost.
fn closed_window(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = Script::open(config());
        script.send(500);
        script.sent();
        script.now += 1_000;
        script.inject(Segment { window: 0, ..ack(1, 501) });
        script.send(500);
        let probes = script.wait(1_000_000);
        probes.is_empty().then(|| "nothing is sent any more".to_string())
    })
}

fn beyond_the_window(without: Option<Mutation>) -> Found {
    script(without, || {
        let small = Config { initial_receive_window: 2_000, max_receive_window: 2_000, ..config() };
        let mut script = Script::open(small);
        script.inject(Segment { data: 1000, ..ack(1, 1) });
        script.inject(Segment { data: 3000, ..ack(1001, 1) });
        expect(script.sent(), &[". 1:1 ack 2001"])
    })
}

fn old_timestamp(without: Option<Mutation>) -> Found {
    script(without, || {
        let offers = Offers { mss: Some(1000), shift: Some(7), sack: true, timestamp: Some(50_000) };
        let mut script = Script::open_with(config(), offers);
        let echo = script.clock();
        script.inject(Segment { timestamp: Some((49_000, echo)), data: 100, ..ack(1, 1) });
        let read = script.read();
        (read > 0).then(|| format!("{read} bytes of an old segment"))
    })
}

fn lone_segment(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = Script::open(config());
        script.inject(Segment { data: 100, ..ack(1, 1) });
        expect(script.wait(1_000).into_iter().map(|(_, text)| text).collect(), &[". 1:1 ack 101"])
    })
}

/// The first data is lost five times.
fn lost_again_and_again(without: Option<Mutation>) -> Found {
    judge(&Plan::fair(DELAY, 100), Some(nth(&[1, 2, 3, 4, 5])), without, |_| true)
}

fn inexact_reset(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = Script::open(config());
        script.inject(Segment { control: TcpControl::Rst, ack: None, ..ack(500, 0) });
        expect(script.sent(), &[". 1:1 ack 1"])
    })
}

fn stray_syn(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = Script::open(config());
        script.inject(Segment { control: TcpControl::Syn, ack: None, ..ack(700, 0) });
        expect(script.sent(), &[". 1:1 ack 1"])
    })
}

fn corrupted(without: Option<Mutation>) -> Found {
    let mut plan = Plan::fair(DELAY, 1_000_000);
    plan.links[0].corrupt = 50;
    judge(&plan, None, without, |_| true)
}

/// Few segments are corrupted, so most continue the one before. The receiver sends as well, and
/// slowly: a side that has sent everything closes, and what a closed side receives is not predicted.
fn rarely_corrupted(without: Option<Mutation>) -> Found {
    let mut plan = Plan::fair(DELAY, 3_000_000);
    plan.connections[0][1] = plan.connections[0][0].clone();
    plan.configs[1].max_send_bytes = 300_000;
    plan.links[0].corrupt = 3;
    judge(&plan, None, without, |_| true)
}

fn reneging(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = Script::open(config());
        script.send(4_000);
        script.sent();
        script.now += 1_000;
        script.inject(Segment { sack: [Some((1001, 4001)), None, None], ..ack(1, 1) });
        script.sent();
        script.now += 1_000;
        script.inject(ack(1, 1001));
        let again = script.wait(100_000);
        (!again.iter().any(|(_, text)| text == ". 1001:2001 ack 1")).then(|| format!("{again:?}"))
    })
}

fn dead_peer(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = Script::open(config());
        script.send(100);
        script.wait(31_000_000);
        let closed = |event: &Event<_>| matches!(event, Event::Closed(_, Reason::TimedOut));
        (!script.events.iter().any(closed)).then(|| "it is still open".to_string())
    })
}

fn repeated_fin(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = Script::open(config());
        let id = script.id.expect("it is open");
        script.stack.close(id, script.now);
        script.sent();
        let fin = Segment { control: TcpControl::Fin, ..ack(1, 2) };
        script.inject(fin);
        script.sent();
        script.inject(fin);
        expect(script.sent(), &[". 2:2 ack 2"])
    })
}

fn black_hole(without: Option<Mutation>) -> Found {
    let mut plan = Plan::fair(DELAY, 200_000);
    plan.links[0].longest = 1_400;
    plan.faults_end = 1;
    judge(&plan, None, without, |_| true)
}

/// A hundred SYNs arrive, and the first peer answers.
fn flood(without: Option<Mutation>) -> Found {
    script(without, || {
        let offers = Offers { mss: Some(1000), shift: None, sack: false, timestamp: None };
        let mut script = Script::new(Config { max_half_open: 8, ..config() }, offers);
        script.peer_port(2_000);
        script.inject_syn();
        script.sent();
        let initial = script.initial();
        for port in 1..100 {
            script.peer_port(2_000 + port);
            script.inject_syn();
            script.sent();
        }
        script.peer_port(2_000);
        script.set_initial(initial);
        script.inject(ack(1, 1));
        script.id.is_none().then(|| "the first connection is gone".to_string())
    })
}

/// An attacker acknowledges a SYN-ACK that was not sent to it.
fn forged_cookie(without: Option<Mutation>) -> Found {
    script(without, || {
        let offers = Offers { mss: Some(1000), shift: None, sack: false, timestamp: None };
        let mut script = Script::new(Config { max_half_open: 1, ..config() }, offers);
        for port in 0..3 {
            script.peer_port(2_000 + port);
            script.inject_syn();
            script.sent();
        }
        script.inject(ack(1, 5));
        script.id.is_some().then(|| "it is open".to_string())
    })
}

/// An ICMP error concerns another segment than the SYN.
fn inexact_refusal(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut lab = Lab::quiet();
        lab.connect("10.0.0.9");
        lab.sent();
        lab.arp_answer(9, "10.0.0.9");
        lab.sent();
        let (local, remote) = lab.ends.expect("it has sent a SYN");
        lab.interface.tcp().unreachable(local, remote, Some(lab.last.0.wrapping_add(77)), lab.now);
        lab.sent();
        (!lab.closed.is_empty()).then(|| format!("{:?}", lab.closed))
    })
}

/// Data comes while the ACK of earlier data, which was sent with an answer, still has its place in
/// the queue. The new ACK has a later time.
fn later_ack(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = Script::open(config());
        script.inject(Segment { data: 100, ..ack(1, 1) });
        script.send(100);
        script.sent();
        script.wait(500);
        script.inject(Segment { data: 100, ..ack(101, 101) });
        expect(timed(script.wait(1_000)), &["1000 . 101:101 ack 201"])
    })
}

/// Data comes on two connections. The first one has something to send, so its ACK is delayed only
/// after the other one's; but the peer's window is closed.
fn earlier_ack(without: Option<Mutation>) -> Found {
    script(without, || {
        // Nothing else may happen for a while.
        let mut script = Script::open(Config { min_rto: 100_000, ..config() });
        let (first, initial) = (script.id, script.initial());
        script.peer_port(1_000);
        script.inject_syn();
        script.sent();
        script.inject(ack(1, 1));
        let second = (script.id, script.initial());
        script.peer_port(999);
        (script.id, _) = (first, script.set_initial(initial));
        script.send(100);
        script.sent();
        script.inject(Segment { window: 0, ..ack(1, 101) });
        script.send(100);
        assert_eq!(script.sent(), [""; 0], "the window is closed");
        script.inject(Segment { window: 0, data: 100, ..ack(1, 101) });
        script.now += 100;
        script.peer_port(1_000);
        (script.id, _) = (second.0, script.set_initial(second.1));
        script.inject(Segment { data: 100, ..ack(1, 1) });
        script.set_initial(initial);
        // The second connection's numbers count from the first one's, so only the times are compared.
        let times: Vec<u64> = script.wait(2_000).iter().map(|(at, _)| *at).collect();
        (times != [900, 1_000]).then(|| format!("ACKs are sent after {times:?}"))
    })
}

fn timed(sent: Vec<(u64, String)>) -> Vec<String> {
    sent.into_iter().map(|(at, text)| format!("{at} {text}")).collect()
}

/// Returns a connection with timestamps.
fn with_timestamps() -> Script {
    let offers = Offers { mss: Some(1000), shift: Some(7), sack: true, timestamp: Some(50_000) };
    Script::open_with(config(), offers)
}

/// Returns a segment with 100 bytes of data.
fn hundred(script: &Script, timestamp: u32, seq: u32) -> Segment {
    Segment { timestamp: Some((timestamp, script.clock())), data: 100, ..ack(seq, 1) }
}

/// Two old segments arrive, one behind the other, and the second has the next sequence number.
fn two_old_segments(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = with_timestamps();
        script.inject(hundred(&script, 50_010, 1));
        script.inject(hundred(&script, 49_000, 1));
        script.inject(hundred(&script, 49_000, 101));
        let read = script.read();
        (read != 100).then(|| format!("{read} bytes were read"))
    })
}

/// The user closes between two segments.
fn closed_between(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = with_timestamps();
        script.inject(hundred(&script, 50_010, 1));
        script.read();
        let id = script.id.expect("it is open");
        script.stack.close(id, script.now);
        script.inject(hundred(&script, 50_010, 101));
        let sent = script.sent();
        (!sent.iter().any(|text| text.starts_with('R'))).then(|| format!("{sent:?} without a reset"))
    })
}

/// The second segment has a FIN.
fn fin_behind(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = with_timestamps();
        script.inject(hundred(&script, 50_010, 1));
        script.inject(Segment { control: TcpControl::Fin, ..hundred(&script, 50_010, 101) });
        let read = script.read();
        let is_at_end = script.stack.is_at_end(script.id.expect("it is open"));
        (read != 200 || !is_at_end).then(|| format!("{read} bytes were read, the end: {is_at_end}"))
    })
}

/// The second of two segments makes an ACK due.
fn two_full_segments(without: Option<Mutation>) -> Found {
    script(without, || {
        let mut script = with_timestamps();
        script.inject(Segment { data: 988, ..hundred(&script, 50_010, 1) });
        script.inject(Segment { data: 988, ..hundred(&script, 50_010, 989) });
        expect(script.sent(), &[". 1:1 ack 1977"])
    })
}

macro_rules! mutations {
    ($($check:ident $name:ident $mutation:ident,)*) => {
        $(#[test] fn $name() { is_noticed(Mutation::$mutation, $check) })*

        #[test]
        fn none_is_left_out() {
            let tested = [$(Mutation::$mutation),*];
            assert!(Mutation::ALL.iter().all(|mutation| tested.contains(mutation)));
        }
    };
}

mutations! {
    gaps no_sack_blocks NoSackBlocks,
    gaps no_sack_processing NoSackProcessing,
    single_loss no_rack NoRack,
    slightly_late no_reordering_tolerance NoReorderingTolerance,
    last_but_one no_reordering_timer NoReorderingTimer,
    tail_loss no_tail_probe NoTailProbe,
    many_lost no_prr NoPrr,
    bottleneck no_reduction NoReduction,
    pause no_undo NoUndo,
    window_update no_window_update NoWindowUpdate,
    closed_window no_window_probe NoWindowProbe,
    window_is_kept no_peer_window NoPeerWindow,
    beyond_the_window no_receive_window NoReceiveWindow,
    old_timestamp no_paws NoPaws,
    lone_segment no_delayed_ack NoDelayedAck,
    lost_again_and_again no_timeout NoTimeout,
    inexact_reset no_reset_check NoResetCheck,
    stray_syn no_syn_check NoSynCheck,
    corrupted no_checksum NoChecksum,
    reneging no_reneging NoReneging,
    dead_peer no_user_timeout NoUserTimeout,
    repeated_fin no_time_wait NoTimeWait,
    black_hole no_black_hole_detection NoBlackHoleDetection,
    very_late no_duplicate_report NoDuplicateReport,
    long_queue no_hystart NoHyStart,
    flood no_cookies NoCookies,
    forged_cookie no_cookie_check NoCookieCheck,
    inexact_refusal no_unreachable_check NoUnreachableCheck,
    later_ack no_belated_ack NoBelatedAck,
    earlier_ack no_refused_ack NoRefusedAck,
    two_old_segments no_predicted_timestamp NoPredictedTimestamp,
    closed_between no_predicted_state NoPredictedState,
    fin_behind no_predicted_header NoPredictedHeader,
    rarely_corrupted no_predicted_checksum NoPredictedChecksum,
    two_full_segments no_predicted_ack NoPredictedAck,
}
