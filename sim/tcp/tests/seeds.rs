//! Runs some seeds. `dst-tcp-sim --seeds 10000` runs more of them.

use dst_tcp_sim::lan::{LanPlan, run_lan};
use dst_tcp_sim::{Plan, run};

#[test]
fn seeds_are_good() {
    for seed in 0..300 {
        let violation = run(&Plan::new(seed), None, None).violation;
        assert_eq!(violation, None, "seed {seed}");
    }
}

#[test]
fn seeds_on_an_ethernet_are_good() {
    let mut conflicts = 0;
    for seed in 0..300 {
        let outcome = run_lan(&LanPlan::new(seed), None);
        assert_eq!(outcome.violation, None, "seed {seed}");
        conflicts += outcome.conflicts;
    }
    assert!(conflicts > 0, "nobody has claimed another one's address");
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..20 {
        let (one, other) = (run(&Plan::new(seed), None, None), run(&Plan::new(seed), None, None));
        assert_eq!((one.trace, one.finished), (other.trace, other.finished), "seed {seed}");
        let (one, other) = (run_lan(&LanPlan::new(seed), None), run_lan(&LanPlan::new(seed), None));
        assert_eq!((one.trace, one.finished), (other.trace, other.finished), "seed {seed}");
    }
    assert_ne!(run(&Plan::new(1), None, None).trace, run(&Plan::new(2), None, None).trace);
}
