//! A seed always has the same history.

use dst_sim::{Plan, run};

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..40 {
        let plan = Plan::new(seed);
        // Keeping the history must not change what happens.
        let (first, second) = (run(&plan, None, false), run(&plan, None, true));
        assert_eq!((first.steps, first.digest), (second.steps, second.digest), "seed {seed}");
        assert_eq!(first.violation, second.violation, "seed {seed}");
    }
}

#[test]
fn another_thread_replays_it_too() {
    let of = |seed| run(&Plan::new(seed), None, false).digest;
    let here = of(7);
    // The same seed after other seeds, whose remains must not matter.
    let there = std::thread::spawn(move || (3..8).map(of).next_back());
    assert_eq!(there.join().ok().flatten(), Some(here));
}
