//! ICMP and ICMPv6, and which packets the interface accepts.

use dst_net::DropReason;
use dst_tcp::Reason;
use dst_tcp_sim::lab::{Bytes, Lab, frame, ip, mac, packet};
use smoltcp::wire::{EthernetProtocol, IpProtocol, TcpControl};

fn longest(sent: &[String]) -> usize {
    let length =
        |text: &String| text.split_whitespace().skip_while(|word| *word != "len").nth(1)?.parse().ok();
    sent.iter().filter_map(length).max().expect("segments were sent")
}

/// Opens a connection, sends, and has a router report that the MTU is `mtu`. `quote` changes the
/// quoted packet. Returns the length of segments afterwards.
fn too_big(remote: &str, mtu: u16, quote: impl Fn(&mut Vec<u8>)) -> usize {
    let mut lab = Lab::quiet();
    let id = lab.open(9, remote);
    let (seq, is_ipv4) = (lab.last.0, ip(remote).is_ipv4());
    let local = if is_ipv4 { "10.0.0.1" } else { "fd00::1" };
    let _ = lab.interface.tcp().send(id, Bytes(vec![1; 3000]));
    lab.sent();
    let mut quoted = lab.quote(local, remote, seq);
    quote(&mut quoted);
    let [high, low] = mtu.to_be_bytes();
    let head = if is_ipv4 { [3, 4, 0, 0, high, low] } else { [2, 0, 0, 0, high, low] };
    // A router that is not the peer.
    let router = if is_ipv4 { "10.0.0.254" } else { "fe80::fe" };
    lab.icmp(254, (router, local), head, &quoted);
    lab.sent();
    lab.segment(9, TcpControl::None, &[]);
    let _ = lab.interface.tcp().send(id, Bytes(vec![1; 3000]));
    longest(&lab.sent())
}

pub fn rfc_1191_segments_become_as_short_as_the_path_wants() {
    assert_eq!(too_big("10.0.0.9", 1500, |_| {}), 1460);
    assert_eq!(too_big("10.0.0.9", 1400, |_| {}), 1360);
    assert_eq!(too_big("fd00::9", 1400, |_| {}), 1340);
}

pub fn rfc_5927_nobody_can_make_segments_tiny() {
    assert_eq!(too_big("10.0.0.9", 68, |_| {}), 472);
    assert_eq!(too_big("10.0.0.9", 0, |_| {}), 1460, "an old router does not say how much fits");
    assert_eq!(too_big("fd00::9", 68, |_| {}), 1220, "RFC 8201: no path takes less");
}

/// The quoted packet is not from this host, or was never sent.
pub fn rfc_5927_errors_must_be_about_what_was_sent() {
    assert_eq!(too_big("10.0.0.9", 1000, |quoted| quoted[9] = 17), 1460, "UDP");
    assert_eq!(too_big("10.0.0.9", 1000, |quoted| quoted[7] = 1), 1460, "a fragment");
    assert_eq!(too_big("10.0.0.9", 1000, |quoted| quoted[20] ^= 1), 1460, "another port");
    assert_eq!(too_big("10.0.0.9", 1000, |quoted| quoted[24] ^= 0x40), 1460, "another sequence number");
    for length in 0..28 {
        assert_eq!(too_big("10.0.0.9", 1000, |quoted| quoted.truncate(length)), 1460, "{length} bytes");
    }
    for length in 0..48 {
        assert_eq!(too_big("fd00::9", 1300, |quoted| quoted.truncate(length)), 1440, "{length} bytes");
    }
}

/// The error is sent to 10.0.0.1, but is about a packet from another address.
pub fn rfc_5927_errors_must_be_for_who_has_sent() {
    let mut lab = Lab::quiet();
    lab.connect("10.0.0.9");
    lab.sent();
    lab.arp_answer(9, "10.0.0.9");
    lab.sent();
    let quoted = lab.quote("10.0.0.5", "10.0.0.9", lab.last.0.wrapping_sub(1));
    lab.icmp(254, ("10.0.0.254", "10.0.0.1"), [3, 3, 0, 0, 0, 0], &quoted);
    assert_eq!(lab.interface.counters().dropped(DropReason::Unrelated), 1);
    assert_eq!(lab.interface.counters().icmp_errors, 0);
}

/// Opens a connection, or tries to, and has an ICMP error report that the peer refuses it. Returns
/// how the connection ended.
fn refused(is_open: bool, head: [u8; 2], off: u32) -> Option<Reason> {
    let mut lab = Lab::quiet();
    if is_open {
        lab.open(9, "10.0.0.9");
    } else {
        lab.connect("10.0.0.9");
        lab.sent();
        lab.arp_answer(9, "10.0.0.9");
        lab.sent();
    }
    let quoted = lab.quote("10.0.0.1", "10.0.0.9", lab.last.0.wrapping_sub(1).wrapping_add(off));
    lab.icmp(9, ("10.0.0.9", "10.0.0.1"), [head[0], head[1], 0, 0, 0, 0], &quoted);
    lab.closed.first().map(|(_, reason)| *reason)
}

pub fn rfc_1122_a_refusal_ends_a_connection_attempt() {
    assert_eq!(refused(false, [3, 3], 0), Some(Reason::Unreachable));
    assert_eq!(refused(false, [3, 13], 0), Some(Reason::Unreachable));
    assert_eq!(refused(false, [3, 1], 0), None, "the host may come back");
    assert_eq!(refused(false, [11, 0], 0), None, "a loop of routers may dissolve");
}

pub fn rfc_5927_a_refusal_does_not_end_a_connection() {
    assert_eq!(refused(true, [3, 3], 0), None);
    assert_eq!(refused(true, [3, 2], 0), None);
}

pub fn rfc_5927_a_refusal_must_be_about_the_syn() {
    assert_eq!(refused(false, [3, 3], 1), None);
    assert_eq!(refused(false, [3, 3], 1_000_000), None);
}

pub fn rfc_792_an_echo_request_is_answered() {
    let mut lab = Lab::quiet();
    lab.icmp(9, ("10.0.0.9", "10.0.0.1"), [8, 0, 1, 2, 3, 4], &[7; 1472]);
    assert_eq!(lab.sent(), ["echo reply 10.0.0.1 > 10.0.0.9 len 1472 to 9"]);
    lab.icmp(9, ("fd00::9", "fd00::1"), [128, 0, 1, 2, 3, 4], &[7; 100]);
    assert_eq!(lab.sent(), ["echo reply fd00::1 > fd00::9 len 100 to 9"]);
    lab.icmp(9, ("10.0.0.9", "10.0.0.1"), [8, 0, 1, 2, 3, 4], &[7; 1473]);
    lab.icmp(9, ("10.0.0.9", "10.0.0.255"), [8, 0, 1, 2, 3, 4], &[7; 100]);
    lab.icmp(9, ("10.0.0.255", "10.0.0.1"), [8, 0, 1, 2, 3, 4], &[7; 100]);
    assert_eq!(lab.sent(), [""; 0], "too long; to all (RFC 1122, 3.2.2.6); from all");
}

pub fn echo_requests_are_answered_a_hundred_times_a_second() {
    let mut lab = Lab::quiet();
    let mut answers = 0;
    for _ in 0..300 {
        lab.icmp(9, ("10.0.0.9", "10.0.0.1"), [8, 0, 1, 2, 3, 4], &[7; 8]);
        answers += lab.sent().len();
    }
    assert_eq!((answers, lab.interface.counters().dropped(DropReason::EchoRate)), (100, 200));
}

/// Answers that are not taken out are bounded as well.
pub fn answers_are_bounded() {
    let mut lab = Lab::quiet();
    for _ in 0..300 {
        lab.arp(true, (9, "10.0.0.9"), "10.0.0.1", true);
    }
    assert_eq!(lab.sent().len(), 64);
    assert_eq!(lab.interface.counters().dropped(DropReason::AnswersFull), 236);
}

/// Changes a frame that contains a SYN for the interface. Returns the reason if the frame was
/// dropped.
fn dropped(change: impl Fn(&mut Vec<u8>)) -> Option<DropReason> {
    let mut lab = Lab::quiet();
    let tcp = [0, 77, 17, 108, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    let bytes = packet(ip("10.0.0.9"), ip("10.0.0.1"), IpProtocol::Tcp, 64, &tcp);
    let mut frame = frame(mac(9), mac(1), EthernetProtocol::Ipv4, &bytes);
    change(&mut frame);
    lab.receive(frame);
    let counters = lab.interface.counters();
    let reached = lab.interface.tcp().counters().received;
    let reason = DropReason::ALL.into_iter().find(|reason| counters.dropped(*reason) > 0);
    assert_eq!(reached, u64::from(reason.is_none()));
    reason
}

/// Sets the checksum of the IPv4 header.
fn fill(frame: &mut [u8]) {
    smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
}

pub fn packets_that_are_not_for_this_host_are_dropped() {
    assert_eq!(dropped(|_| {}), None);
    assert_eq!(dropped(|frame| frame[5] = 7), Some(DropReason::NotForUs));
    assert_eq!(dropped(|frame| frame[..6].fill(0xff)), Some(DropReason::NotForUs), "RFC 1122, 3.3.6");
    assert_eq!(dropped(|frame| frame[6] = 3), Some(DropReason::Malformed), "a group sends nothing");
    for (last, reason) in [(2, DropReason::NotForUs), (255, DropReason::NotForUs)] {
        assert_eq!(
            dropped(|frame| {
                frame[33] = last;
                fill(frame)
            }),
            Some(reason)
        );
    }
    for source in [[10, 0, 0, 1], [10, 0, 0, 255], [127, 0, 0, 1], [0; 4], [224, 0, 0, 1], [255; 4]] {
        let change = |frame: &mut Vec<u8>| {
            frame[26..30].copy_from_slice(&source);
            fill(frame)
        };
        assert_eq!(dropped(change), Some(DropReason::Source), "{source:?}");
    }
    assert_eq!(
        dropped(|frame| {
            frame[23] = 17;
            fill(frame)
        }),
        Some(DropReason::Protocol),
        "UDP"
    );
    assert_eq!(dropped(|frame| frame[12..14].copy_from_slice(&[0x81, 0])), Some(DropReason::Vlan));
}

pub fn rfc_791_a_wrong_checksum_is_noticed() {
    for bit in 0..160 {
        // Only the checksum protects the type of service, the identification and the hop limit.
        if [1, 4, 5, 8].contains(&(bit / 8)) {
            assert_eq!(dropped(|frame| frame[14 + bit / 8] ^= 1 << (bit % 8)), Some(DropReason::Checksum));
        }
    }
}

pub fn fragments_are_refused() {
    for (at, value) in [(20, 0x20), (21, 1), (20, 0x1f)] {
        let change = |frame: &mut Vec<u8>| {
            frame[at] = value;
            fill(frame)
        };
        assert_eq!(dropped(change), Some(DropReason::Fragment));
    }
}
