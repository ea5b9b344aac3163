//! What an interface does below TCP: rules of RFCs and of this project, in the manner of
//! packetdrill. Each protection of `mutation.rs` is removed in turn, and a rule must notice.

mod arp;
mod icmp;
mod ndisc;

use dst_net::mutation::{Mutation, set};
use dst_tcp::mutation;

macro_rules! rules {
    ($($module:ident [$($rule:ident,)*])*) => { $($(
        #[test]
        fn $rule() {
            $module::$rule();
        }
    )*)* };
}

rules! {
    arp [
        rfc_826_a_question_is_answered_and_its_sender_learned,
        rfc_1122_the_first_packet_waits_for_the_answer,
        a_question_is_repeated_and_then_the_connection_fails,
        rfc_4861_a_neighbour_is_asked_whether_it_is_still_there,
        answers_count_only_if_somebody_has_asked,
        two_answers_do_not_alternate,
        announcements_do_not_create_entries,
        rfc_5227_an_announcement_moves_a_known_neighbour,
        hosts_that_cannot_be_neighbours_are_not_believed,
        rfc_5227_an_address_is_probed_used_and_announced,
        rfc_5227_an_address_that_another_host_has_is_not_used,
        rfc_5227_an_address_in_use_is_defended_once_in_ten_seconds,
        rfc_6583_strangers_do_not_get_all_questions,
        rfc_1812_the_longest_prefix_decides,
    ]
    ndisc [
        rfc_4861_a_question_goes_to_the_group_and_then_to_the_neighbour,
        rfc_4861_messages_that_were_forwarded_are_not_believed,
        rfc_4861_what_contradicts_itself_is_not_believed,
        rfc_4861_an_advertisement_replaces_an_address_if_it_says_so,
        rfc_4861_a_question_is_answered_and_its_sender_learned,
        rfc_4862_an_address_is_probed_used_and_announced,
        rfc_4862_an_address_that_another_host_has_is_not_used,
        rfc_4862_an_address_in_use_is_defended,
    ]
    icmp [
        rfc_1191_segments_become_as_short_as_the_path_wants,
        rfc_5927_nobody_can_make_segments_tiny,
        rfc_5927_errors_must_be_about_what_was_sent,
        rfc_5927_errors_must_be_for_who_has_sent,
        rfc_1122_a_refusal_ends_a_connection_attempt,
        rfc_5927_a_refusal_does_not_end_a_connection,
        rfc_5927_a_refusal_must_be_about_the_syn,
        rfc_792_an_echo_request_is_answered,
        echo_requests_are_answered_a_hundred_times_a_second,
        answers_are_bounded,
        packets_that_are_not_for_this_host_are_dropped,
        rfc_791_a_wrong_checksum_is_noticed,
        fragments_are_refused,
    ]
}

/// Runs a rule, which must fail without the protection.
fn is_noticed(without: impl FnOnce(), with: impl FnOnce(), rule: fn()) {
    rule();
    std::panic::set_hook(Box::new(|_| {}));
    without();
    let failed = std::panic::catch_unwind(rule).is_err();
    with();
    let _ = std::panic::take_hook();
    assert!(failed, "it is not noticed");
}

macro_rules! mutations {
    ($($mutation:ident $name:ident $module:ident::$rule:ident,)*) => {
        $(
            #[test]
            fn $name() {
                is_noticed(|| set(Some(Mutation::$mutation)), || set(None), $module::$rule);
            }
        )*

        #[test]
        fn none_is_left_out() {
            let tested = [$(Mutation::$mutation),*];
            assert!(Mutation::ALL.iter().all(|mutation| tested.contains(mutation)));
        }
    };
}

mutations! {
    NoRetry no_retry arp::a_question_is_repeated_and_then_the_connection_fails,
    NoWaiting no_waiting arp::rfc_1122_the_first_packet_waits_for_the_answer,
    NoRefresh no_refresh arp::rfc_4861_a_neighbour_is_asked_whether_it_is_still_there,
    NoFailure no_failure arp::a_question_is_repeated_and_then_the_connection_fails,
    NoWord no_word arp::a_question_is_repeated_and_then_the_connection_fails,
    NoDuplicateDetection no_duplicate_detection arp::rfc_5227_an_address_that_another_host_has_is_not_used,
    NoDefence no_defence arp::rfc_5227_an_address_in_use_is_defended_once_in_ten_seconds,
    NoQuestionCheck no_question_check arp::answers_count_only_if_somebody_has_asked,
    NoStrangerCheck no_stranger_check arp::announcements_do_not_create_entries,
    NoResolvingLimit no_resolving_limit arp::rfc_6583_strangers_do_not_get_all_questions,
    NoHopLimitCheck no_hop_limit_check ndisc::rfc_4861_messages_that_were_forwarded_are_not_believed,
    NoFragmentCheck no_fragment_check icmp::fragments_are_refused,
    NoIpv4Checksum no_ipv4_checksum icmp::rfc_791_a_wrong_checksum_is_noticed,
    NoTooBig no_too_big icmp::rfc_1191_segments_become_as_short_as_the_path_wants,
    NoQuoteCheck no_quote_check icmp::rfc_5927_errors_must_be_for_who_has_sent,
    NoEchoLimit no_echo_limit icmp::echo_requests_are_answered_a_hundred_times_a_second,
    NoLongestPrefix no_longest_prefix arp::rfc_1812_the_longest_prefix_decides,
}

/// A protection of TCP's whose test needs an ICMP error.
#[test]
fn no_unreachable_check() {
    let without = || mutation::set(Some(mutation::Mutation::NoUnreachableCheck));
    is_noticed(without, || mutation::set(None), icmp::rfc_5927_a_refusal_must_be_about_the_syn);
}
