//! Searches for a smaller plan that still fails.

use dst_mirror::mutation::Mutation;

use crate::plan::Plan;
use crate::run::run;

/// Returns a plan with fewer faults and I/Os that fails by the same rule, or the plan itself if it
/// does not fail.
pub fn shrink(plan: &Plan, mutation: Option<Mutation>) -> Plan {
    let rule = |plan: &Plan| run(plan, mutation, false).violation.map(|violation| violation.rule);
    let wanted = rule(plan);
    let fails = |plan: &Plan| wanted.is_some() && rule(plan) == wanted;
    let mut best = plan.clone();
    let mut index = best.faults.len();
    while index > 0 {
        index -= 1;
        let mut less = best.clone();
        less.faults.remove(index);
        if fails(&less) {
            best = less;
        }
    }
    for change in [
        |plan: &mut Plan| plan.ios /= 4,
        |plan: &mut Plan| plan.ios /= 2,
        |plan: &mut Plan| plan.ios = plan.ios * 3 / 4,
        |plan: &mut Plan| plan.depth = 1,
        |plan: &mut Plan| plan.hot.truncate(4),
    ] {
        let mut less = best.clone();
        change(&mut less);
        let fits = less.faults.iter().all(|(_, fault)| fault.fits(&less));
        if fits && less.ios > 0 && fails(&less) {
            best = less;
        }
    }
    best
}
