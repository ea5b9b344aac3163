//! Promise 5, a failure shorter than the user's patience is only latency: an I/O completes once,
//! with an error only if there is a reason, and in time; after the last failure all goes on.

use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;

use crate::model::{ClientFacts, Io, Model};
use crate::plan::Plan;

/// An I/O fails for no reason.
pub const SHORT: &str = "5 (a failure shorter than the user's patience is only latency)";

/// An I/O does not complete once, or not on its thread.
pub const ONE_COMPLETION: &str =
    "5 (a failure shorter than the user's patience is only latency: one completion)";

/// A reset completes before what it ends.
pub const RESET: &str = "5 (a failure shorter than the user's patience is only latency: a reset ends all)";

/// An I/O outlives its deadline.
pub const DEADLINE: &str = "5 (a failure shorter than the user's patience is only latency: deadline)";

/// I/O does not go on after the last failure.
pub const RECOVERY: &str = "5 (a failure shorter than the user's patience is only latency: recovery)";

/// How long it may take, once nothing goes wrong any more, until all is well, µs.
pub const RECOVERY_US: u64 = 20_000_000;

/// How long after its deadline I/O may be outstanding, beside twice the lease, µs.
const GRACE_US: u64 = 400_000;

/// By how much a client's clock may be behind: by one turn of a thread, µs.
const CLOCK_US: u64 = 25_000;

/// With less time than this for an I/O, µs, a slow network alone makes it fail.
const SHORT_DEADLINE_US: u64 = 1_000_000;

/// Checks where an I/O completes.
pub fn on_its_thread(number: u64, on_its_thread: bool) {
    if !on_its_thread {
        world::violation(ONE_COMPLETION, format!("I/O {number} is completed on another thread"));
    }
}

/// Checks that an I/O completes once, and keeps how. Returns the I/O if its user lives.
pub fn completed_once(model: &mut Model, seq: u64, number: u64, status: IoStatus) -> Option<Io> {
    let Some(io) = model.io_mut(number) else {
        world::violation(ONE_COMPLETION, format!("I/O {number} was never submitted"));
        return None;
    };
    if io.orphan {
        return None;
    }
    if io.completed.replace((seq, status)).is_some() {
        world::violation(ONE_COMPLETION, format!("I/O {number} is completed twice"));
        return None;
    }
    if io.submitted.is_none() {
        world::violation(ONE_COMPLETION, format!("I/O {number} was never submitted"));
        return None;
    }
    Some(io.clone())
}

/// Checks a reset that has completed: SPDK demands that nothing of the bdev is outstanding any
/// more. What is submitted meanwhile SPDK ends itself.
pub fn reset(model: &Model, number: u64, io: &Io) {
    let left = model.outstanding.iter().find(|&&other| {
        let other = &model.ios[other as usize - 1];
        other.disk == io.disk && other.client == io.client && !other.orphan
    });
    if let Some(left) = left {
        world::violation(RESET, format!("reset {number} has ended, I/O {left} has not"));
    }
}

/// Checks that an I/O that failed had a reason to.
pub fn failed(model: &Model, seq: u64, number: u64, io: &Io, status: IoStatus) {
    let client = &model.clients[io.client];
    let began_us = io.submitted.map_or(0, |submitted| submitted.running_us);
    let waited_us = client.running_us.saturating_sub(began_us) + CLOCK_US;
    let deadline = waited_us >= client.deadline_us;
    // All I/O of a process that stops has one patience together.
    let stopped =
        client.stop.is_some_and(|stop| client.running_us + CLOCK_US >= stop.running_us + client.deadline_us);
    let fast_us = client.fast_io_fail_us;
    let out_us = client.contact.out_at_most_us(client.running_us) + CLOCK_US;
    let out_of_reach = fast_us > 0 && out_us >= fast_us;
    let taken_away = client.may_fail;
    let reset = model.ios.iter().any(|other| {
        other.kind == IoKind::Reset
            && other.store == io.store
            && other.submitted.is_some_and(|submitted| submitted.at < seq)
            // Another host's is not noticed, unless it ends what must not be done twice.
            && (other.client == io.client
                || model.excuses.resets_reach_backend && io.kind == IoKind::CompareAndWrite)
            // One that ended without its connection may still come in the backend; of the client's
            // own nothing is begun before that.
            && (other.orphan
                || other.client != io.client
                // One whose own time was up may still be noticed by another thread's channel.
                || other.completed.is_none_or(|(at, s)| at > io.submitted_at() || s != IoStatus::Success))
    });
    // A session is given up when an I/O fails whose time is up.
    let gave_up = model.ios.iter().any(|other| {
        other.client == io.client
            && other.completed.is_some_and(|(at, status)| at < seq && status != IoStatus::Success)
    });
    let unknown = io.kind == IoKind::CompareAndWrite && (model.excuses.session_lost > 0 || gave_up);
    let lost = io.kind == IoKind::Flush && model.excuses.restarted > 0;
    // Lost connections need no fault: a slow network outlasts a short lease.
    let retried = model.excuses.retries;
    let denied = io.read_only && io.modifies();
    let failed = deadline
        || stopped
        || out_of_reach
        || taken_away
        || model.excuses.errors
        || unknown
        || lost
        || denied
        || retried;
    let excused = match status {
        IoStatus::Failed => failed || reset,
        IoStatus::Aborted => reset || taken_away,
        _ => false,
    };
    if !excused {
        let text = format!(
            "{:?} {number} ends with {status:?} after {waited_us} us of {}, without a connection for {out_us} us of {fast_us} at \
             most, for no reason",
            io.kind, client.deadline_us
        );
        world::violation(SHORT, text);
    }
}

/// Finds I/O that should have ended long ago.
pub fn check_deadlines(model: &Model, plan: &Plan) {
    let grace_us = 2 * plan.lease_us() + GRACE_US;
    for &number in &model.outstanding {
        let io = &model.ios[number as usize - 1];
        let client = &model.clients[io.client];
        let began_us = io.submitted.map_or(0, |submitted| submitted.active_us);
        let waited_us = client.active_us.saturating_sub(began_us);
        if waited_us > client.deadline_us + grace_us {
            let text = format!(
                "{:?} {number} is outstanding for {waited_us} us, its deadline was {}",
                io.kind, client.deadline_us
            );
            return world::violation(DEADLINE, text);
        }
        if let Some(out_since_us) = client.contact.out_since_us().filter(|_| client.fast_io_fail_us > 0) {
            let due_us = began_us.max(out_since_us + client.fast_io_fail_us);
            if client.active_us > due_us + grace_us {
                let text = format!(
                    "{:?} {number} is outstanding for {waited_us} us, without a connection for {} us of {}",
                    io.kind,
                    client.active_us - out_since_us,
                    client.fast_io_fail_us
                );
                return world::violation(DEADLINE, text);
            }
        }
    }
}

/// Checks that a bdev that goes without anybody's doing has been out of reach for long enough.
pub fn bdev_goes(client: &ClientFacts) {
    let out_us = client.contact.out_at_most_us(client.running_us) + CLOCK_US;
    if !client.may_fail && (client.loss_us == 0 || out_us < client.loss_us) {
        let text =
            format!("a bdev goes after at most {out_us} us without a connection, of {}", client.loss_us);
        world::violation(SHORT, text);
    }
}

/// Reports that not all has got well in [`RECOVERY_US`].
pub fn not_recovered(model: &Model, states: &[String]) {
    let text = format!(
        "{} s after the last fault {} I/Os are outstanding, clients are {states:?}",
        RECOVERY_US / 1_000_000,
        model.outstanding.len()
    );
    world::violation(RECOVERY, text);
}

/// Checks the reads of all blocks after recovery. Returns whether all have ended.
pub fn check_read_back(model: &Model, plan: &Plan, reads: &[u64], is_late: bool) -> bool {
    let mut missing = 0;
    for &number in reads {
        match model.ios[number as usize - 1].completed {
            None => missing += 1,
            Some((_, IoStatus::Success)) => {}
            Some(_) if plan.deadline_us() < SHORT_DEADLINE_US => {}
            Some((_, status)) => {
                world::violation(RECOVERY, format!("the last read {number} ends with {status:?}"));
            }
        }
    }
    let have_ended = missing == 0 && model.outstanding.is_empty();
    if !have_ended && is_late {
        world::violation(RECOVERY, format!("{missing} of the last reads never end"));
    }
    have_ended
}
