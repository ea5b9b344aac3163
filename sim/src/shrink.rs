//! Searches for a smaller plan that still fails.

use dst_session::mutation::Mutation;

use crate::plan::Plan;
use crate::run::run;

/// Returns a plan with fewer faults and I/Os that fails with the same label.
pub fn shrink(plan: &Plan, mutation: Option<Mutation>) -> Plan {
    let property = |plan: &Plan| run(plan, mutation, false).violation.map(|violation| violation.property);
    let wanted = property(plan);
    let fails = |plan: &Plan| wanted.is_some() && property(plan) == wanted;
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
        |plan: &mut Plan| plan.clients = 1,
        |plan: &mut Plan| plan.client_threads = 1,
        |plan: &mut Plan| plan.client_cores = 1,
        |plan: &mut Plan| plan.target_cores = 1,
        |plan: &mut Plan| plan.net.partial = 0,
        |plan: &mut Plan| plan.resets = false,
        |plan: &mut Plan| plan.reset_backend = false,
        |plan: &mut Plan| plan.ios = plan.ios * 3 / 4,
    ] {
        let mut less = best.clone();
        change(&mut less);
        let fits = less
            .faults
            .iter()
            .all(|(_, fault)| !format!("{fault:?}").contains("client: 1") || less.clients > 1);
        if fits && less.ios > 0 && fails(&less) {
            best = less;
        }
    }
    best
}
