//! Tests of `neighbours.rs`.

use proptest::prelude::*;

use super::*;

const ONE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const SECOND: u64 = 1_000_000;

const QUESTION: Evidence = Evidence { creates: true, answers: false, replaces: true };
const ANSWER: Evidence = Evidence { creates: false, answers: true, replaces: true };
const ANNOUNCEMENT: Evidence = Evidence { creates: false, answers: false, replaces: true };

fn address(last: u16) -> IpAddr {
    IpAddr::from([10, 0, (last >> 8) as u8, last as u8])
}

fn neighbours(max_neighbours: usize, max_resolving: usize) -> Neighbours {
    let config = Config { max_neighbours, max_resolving, ..Config::new(ONE, Vec::new()) };
    Neighbours::new(&config, Secret([1; 16]))
}

fn due(neighbours: &mut Neighbours, now: u64) -> Vec<Due> {
    let mut due = Vec::new();
    neighbours.on_time(now, &mut |what| due.push(what));
    due
}

fn known(neighbours: &mut Neighbours, last: u16, now: u64) -> Option<MacAddress> {
    match neighbours.hop(address(last), Behalf::Own, now) {
        Hop::Known { mac, .. } => Some(mac),
        _ => None,
    }
}

#[test]
fn a_neighbour_is_asked_for_three_times_and_given_up() {
    let (mut neighbours, ask) = (neighbours(8, 8), [Due::Ask(address(1), None)]);
    assert_eq!(neighbours.hop(address(1), Behalf::Own, 0), Hop::Asked);
    for second in 0..3 {
        assert_eq!(due(&mut neighbours, second * SECOND), ask);
        assert_eq!(due(&mut neighbours, second * SECOND + 999_999), []);
    }
    assert_eq!(due(&mut neighbours, 3 * SECOND), [Due::Failed(address(1))]);
    assert_eq!(neighbours.deadline(), None);
    assert_eq!(neighbours.hop(address(1), Behalf::Own, 4 * SECOND - 1), Hop::Failed);
    assert_eq!(neighbours.hop(address(1), Behalf::Own, 4 * SECOND), Hop::Asked);
    assert_eq!(due(&mut neighbours, 4 * SECOND), ask);
}

/// Its answer is good for 30 s, and for 5 s more; then it is asked, and at last forgotten.
#[test]
fn a_neighbour_is_asked_again_whether_it_is_there() {
    let mut neighbours = neighbours(8, 8);
    neighbours.hop(address(1), Behalf::Own, 0);
    due(&mut neighbours, 0);
    assert!(neighbours.learn(address(1), ONE, ANSWER, SECOND));
    let first = Hop::Known { mac: ONE, until: 31 * SECOND };
    assert_eq!(neighbours.hop(address(1), Behalf::Own, 31 * SECOND - 1), first);
    let delayed = Hop::Known { mac: ONE, until: 36 * SECOND };
    assert_eq!(neighbours.hop(address(1), Behalf::Own, 31 * SECOND), delayed);
    for second in 36..39 {
        assert_eq!(due(&mut neighbours, second * SECOND), [Due::Ask(address(1), Some(ONE))]);
        assert_eq!(known(&mut neighbours, 1, second * SECOND), Some(ONE));
    }
    assert_eq!(due(&mut neighbours, 39 * SECOND), []);
    assert_eq!(neighbours.hop(address(1), Behalf::Own, 39 * SECOND), Hop::Asked);
}

#[test]
fn answers_count_only_if_somebody_has_asked() {
    let mut neighbours = neighbours(8, 8);
    assert!(!neighbours.learn(address(1), ONE, ANSWER, 0), "it is nobody's neighbour");
    assert_eq!(neighbours.mac(address(1)), None);
    neighbours.learn(address(1), ONE, QUESTION, 0);
    neighbours.learn(address(1), ONE, ANSWER, 0);
    assert!(!neighbours.is_fresh(address(1), 0), "nobody has asked");
    assert_eq!(
        neighbours.hop(address(1), Behalf::Own, 0),
        Hop::Known { mac: ONE, until: 5 * SECOND },
        "so it will be asked"
    );
    due(&mut neighbours, 5 * SECOND);
    neighbours.learn(address(1), ONE, ANSWER, 5 * SECOND);
    assert!(neighbours.is_fresh(address(1), 5 * SECOND));
}

/// RFC 4861, 7.2.5.
#[test]
fn another_link_layer_address_replaces_the_first_only_if_it_says_so() {
    let mut neighbours = neighbours(8, 8);
    neighbours.hop(address(1), Behalf::Own, 0);
    due(&mut neighbours, 0);
    neighbours.learn(address(1), ONE, ANSWER, 0);
    neighbours.learn(address(1), OTHER, Evidence { replaces: false, ..ANNOUNCEMENT }, 0);
    assert_eq!(
        neighbours.hop(address(1), Behalf::Own, 0),
        Hop::Known { mac: ONE, until: 5 * SECOND },
        "but the first will be asked"
    );
    neighbours.learn(address(1), OTHER, ANNOUNCEMENT, 0);
    assert_eq!(known(&mut neighbours, 1, 0), Some(OTHER));
    assert_eq!(due(&mut neighbours, 5 * SECOND), [Due::Ask(address(1), Some(OTHER))]);
}

#[test]
fn an_announcement_wakes_up_who_was_given_up() {
    let mut neighbours = neighbours(8, 8);
    neighbours.hop(address(1), Behalf::Own, 0);
    (0..4).for_each(|second| drop(due(&mut neighbours, second * SECOND)));
    assert!(neighbours.learn(address(1), ONE, ANNOUNCEMENT, 3 * SECOND + 1));
    assert_eq!(known(&mut neighbours, 1, 3 * SECOND + 1), Some(ONE));
}

#[test]
fn strangers_get_half_of_the_questions() {
    let mut neighbours = neighbours(100, 8);
    let asked = |neighbours: &mut Neighbours, from, behalf| {
        (from..from + 20).filter(|last| neighbours.hop(address(*last), behalf, 0) == Hop::Asked).count()
    };
    assert_eq!(asked(&mut neighbours, 0, Behalf::Stranger), 4);
    assert_eq!(asked(&mut neighbours, 100, Behalf::Own), 4);
    assert_eq!(neighbours.hop(address(200), Behalf::Own, 0), Hop::Full);
}

#[test]
fn strangers_who_ask_do_not_displace_those_in_use() {
    let mut neighbours = neighbours(8, 4);
    for last in 0..4 {
        neighbours.hop(address(last), Behalf::Own, 1);
        due(&mut neighbours, 1);
        neighbours.learn(address(last), ONE, ANSWER, 1);
    }
    for last in 100..200 {
        neighbours.learn(address(last), OTHER, QUESTION, 2);
    }
    (0..4).for_each(|last| assert_eq!(known(&mut neighbours, last, 3), Some(ONE)));
    assert_eq!(known(&mut neighbours, 199, 3), Some(OTHER), "the newest is known too");
}

proptest! {
    /// Whatever happens: limits hold, a known address is one that was said, and time goes on.
    #[test]
    fn anything_may_happen(
        steps in prop::collection::vec((0u16..12, 0u8..8, 0u64..3 * SECOND), 1..400),
    ) {
        let mut neighbours = neighbours(6, 4);
        let mut now = 0;
        for (last, what, pause) in steps {
            let mac = MacAddress([2, 0, 0, 0, 1, what]);
            match what {
                0 => { neighbours.hop(address(last), Behalf::Own, now); }
                1 => { neighbours.hop(address(last), Behalf::Stranger, now); }
                2 | 3 => { neighbours.learn(address(last), mac, QUESTION, now); }
                4 => { neighbours.learn(address(last), mac, ANSWER, now); }
                5 => { neighbours.learn(address(last), mac, ANNOUNCEMENT, now); }
                _ => {
                    now += pause;
                    due(&mut neighbours, now);
                    prop_assert!(neighbours.deadline().is_none_or(|at| at > now));
                }
            }
            let here: Vec<_> = neighbours.slots.iter().flatten().collect();
            let resolving = here.iter().filter(|n| matches!(n.state, State::Incomplete { .. })).count();
            prop_assert_eq!(neighbours.resolving, resolving);
            prop_assert!(resolving <= 4);
            prop_assert_eq!(neighbours.index.len(), here.len());
            prop_assert_eq!(neighbours.free.len() + here.len(), 6);
            let next = here.iter().filter_map(|n| n.state.deadline()).min().unwrap_or(u64::MAX);
            prop_assert!(neighbours.earliest <= next);
        }
    }
}
