//! Neighbour discovery (RFC 4861, RFC 4862), where it differs from ARP.

use dst_net::{Config, DropReason, NetEvent};
use dst_tcp_sim::lab::{Lab, advert, config, ip, mac, solicit};

/// The solicited-node multicast group of fd00::1.
const GROUP: &str = "ff02::1:ff00:1";
const LINK_LOCAL: &str = "fe80::ff:fe00:1";

pub fn rfc_4861_a_question_is_answered_and_its_sender_learned() {
    let mut lab = Lab::quiet();
    lab.ndisc(9, ("fd00::9", GROUP), 255, solicit("fd00::1", Some(9)));
    assert_eq!(lab.sent(), ["fd00::1 is-at 1 to 9"]);
    lab.connect("fd00::9");
    assert_eq!(lab.sent(), ["S fd00::1 > fd00::9 len 0 to 9"]);
    lab.ndisc(9, ("fd00::9", "fd00::1"), 255, solicit("fd00::1", None));
    assert_eq!(lab.sent(), ["fd00::1 is-at 1 to 9"], "the frame says where it is from");
    lab.ndisc(9, ("fe80::9", LINK_LOCAL), 255, solicit(LINK_LOCAL, Some(9)));
    assert_eq!(lab.sent(), ["fe80::ff:fe00:1 is-at 1 to 9"]);
    lab.ndisc(9, ("fd00::9", GROUP), 255, solicit("fd00::2", Some(9)));
    assert_eq!(lab.sent(), [""; 0]);
}

pub fn rfc_4861_a_question_goes_to_the_group_and_then_to_the_neighbour() {
    let mut lab = Lab::quiet();
    lab.open(9, "fd00::9");
    lab.wait(31_000_000);
    lab.connect("fd00::9");
    let asked: Vec<_> =
        lab.wait(5_000_000).into_iter().filter(|(_, text)| text.contains("who-has")).collect();
    assert_eq!(asked, [(5000, "who-has fd00::9 tell fd00::1 to 9".to_string())]);
    // The answer need not repeat the address that the question was sent to.
    let bare = smoltcp::wire::NdiscRepr::NeighborAdvert {
        flags: smoltcp::wire::NdiscNeighborFlags::SOLICITED,
        target_addr: "fd00::9".parse().expect("valid"),
        lladdr: None,
    };
    lab.ndisc(9, ("fd00::9", "fd00::1"), 255, bare);
    assert!(lab.wait(20_000_000).iter().all(|(_, text)| !text.contains("who-has")));
}

/// Only a router could have lowered the hop limit, so the sender is not a neighbour.
pub fn rfc_4861_messages_that_were_forwarded_are_not_believed() {
    let mut lab = Lab::quiet();
    lab.open(9, "fd00::9");
    lab.now += 1_000_000;
    lab.ndisc(66, ("fd00::9", "fd00::1"), 254, advert("fd00::9", 66, false, true));
    lab.ndisc(66, ("fd00::9", GROUP), 254, solicit("fd00::1", Some(66)));
    lab.connect("fd00::9");
    assert_eq!(lab.sent(), ["S fd00::1 > fd00::9 len 0 to 9"]);
    assert_eq!(lab.interface.counters().dropped(DropReason::Untrusted), 2);
}

pub fn rfc_4861_what_contradicts_itself_is_not_believed() {
    let mut lab = Lab::quiet();
    lab.open(9, "fd00::9");
    // An answer to all hosts; a probe that carries its sender's link-layer address; a probe that is
    // not sent to a group.
    lab.ndisc(66, ("fd00::9", "ff02::1"), 255, advert("fd00::9", 66, true, true));
    lab.ndisc(66, ("::", GROUP), 255, solicit("fd00::1", Some(66)));
    lab.ndisc(66, ("::", "fd00::1"), 255, solicit("fd00::1", None));
    assert_eq!(lab.interface.counters().dropped(DropReason::Malformed), 3);
    // The message is about a host that is not a neighbour, or about this host's own link-layer
    // address.
    lab.ndisc(66, ("fd01::9", GROUP), 255, solicit("fd00::1", Some(66)));
    lab.ndisc(66, ("fd00::9", "fd00::1"), 255, advert("fd00::9", 1, true, true));
    assert_eq!(lab.interface.counters().dropped(DropReason::Untrusted), 2);
    lab.connect("fd00::9");
    assert_eq!(lab.sent(), ["S fd00::1 > fd00::9 len 0 to 9"]);
}

/// Without the override flag, an advertisement does not replace a link-layer address; but the
/// neighbour is asked.
pub fn rfc_4861_an_advertisement_replaces_an_address_if_it_says_so() {
    let mut lab = Lab::quiet();
    lab.open(9, "fd00::9");
    lab.ndisc(66, ("fd00::9", "ff02::1"), 255, advert("fd00::9", 66, false, false));
    lab.connect("fd00::9");
    let sent = lab.wait(5_000_000);
    assert_eq!(sent[0].1, "S fd00::1 > fd00::9 len 0 to 9");
    assert!(sent.contains(&(5000, "who-has fd00::9 tell fd00::1 to 9".to_string())), "{sent:?}");
    lab.ndisc(8, ("fd00::9", "ff02::1"), 255, advert("fd00::9", 8, false, true));
    lab.connect("fd00::9");
    assert_eq!(lab.sent().last().map(String::as_str), Some("S fd00::1 > fd00::9 len 0 to 8"));
}

pub fn rfc_4862_an_address_is_probed_used_and_announced() {
    let base = config();
    let addresses = vec![base.addresses[1]];
    let mut lab = Lab::new(Config { detect_duplicates: true, addresses, routes: Vec::new(), ..base });
    let sent: Vec<_> =
        lab.wait(10_000_000).into_iter().filter(|(_, text)| text.contains("fd00::1")).collect();
    let announce = "fd00::1 is-at 1, all to *".to_string();
    assert_eq!(
        sent,
        [(0, "who-has fd00::1 tell :: to *".to_string()), (1000, announce.clone()), (3000, announce)]
    );
    assert_eq!(lab.told, [NetEvent::Usable(ip("fd00::1")), NetEvent::Usable(ip(LINK_LOCAL))]);
}

/// The other host has the address already, or wants it at the same time.
pub fn rfc_4862_an_address_that_another_host_has_is_not_used() {
    for probes in [false, true] {
        let mut lab = Lab::new(Config { detect_duplicates: true, ..config() });
        lab.sent();
        lab.now += 500_000;
        if probes {
            lab.ndisc(66, ("::", GROUP), 255, solicit("fd00::1", None));
        } else {
            lab.ndisc(66, ("fd00::1", "ff02::1"), 255, advert("fd00::1", 66, false, true));
        }
        assert_eq!(lab.told, [NetEvent::Duplicate(ip("fd00::1"), mac(66))]);
        lab.wait(1_000_000);
        assert!(lab.interface.owns(ip("10.0.0.1")) && !lab.interface.owns(ip("fd00::1")));
    }
}

pub fn rfc_4862_an_address_in_use_is_defended() {
    let mut lab = Lab::quiet();
    lab.ndisc(66, ("::", GROUP), 255, solicit("fd00::1", None));
    assert_eq!(lab.sent(), ["fd00::1 is-at 1, all to *"], "who asks before use is told");
    lab.ndisc(66, ("fd00::1", "ff02::1"), 255, advert("fd00::1", 66, false, true));
    lab.ndisc(66, ("fd00::1", "ff02::1"), 255, advert("fd00::1", 66, false, true));
    assert_eq!(lab.sent(), ["fd00::1 is-at 1, all to *"]);
    assert!(lab.interface.owns(ip("fd00::1")));
}
