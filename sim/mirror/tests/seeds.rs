//! Some seeds are good, and each replays. `dst-mirror-sim --seeds 10000` runs more of them.

use dst_mirror_sim::{Plan, run};

#[test]
fn a_seed_decides_everything() {
    for seed in 0..30 {
        let (one, other) = (run(&Plan::new(seed), None, false), run(&Plan::new(seed), None, false));
        assert_eq!((one.digest, one.totals), (other.digest, other.totals), "seed {seed}");
    }
    assert_ne!(run(&Plan::new(1), None, false).digest, run(&Plan::new(2), None, false).digest);
}
