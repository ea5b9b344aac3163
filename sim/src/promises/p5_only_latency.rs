//! Promise 5, a failure shorter than the user's patience is only latency: an I/O completes once and
//! in time, and with an error only if there is a reason. After the last failure, everything
//! continues.

use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;

use crate::model::{ClientFacts, Io, Model};
use crate::plan::Plan;

/// An I/O fails for no reason.
pub const SHORT: &str = "5 (a failure shorter than the user's patience is only latency)";

/// An I/O does not complete exactly once, or not on its thread.
pub const ONE_COMPLETION: &str =
    "5 (a failure shorter than the user's patience is only latency: one completion)";

/// A reset completes before the I/O that it ends.
pub const RESET: &str = "5 (a failure shorter than the user's patience is only latency: a reset ends all)";

/// An I/O outlives its deadline.
pub const DEADLINE: &str = "5 (a failure shorter than the user's patience is only latency: deadline)";

/// I/O does not continue after the last failure.
pub const RECOVERY: &str = "5 (a failure shorter than the user's patience is only latency: recovery)";

/// How long it may take until all is well once no more faults occur, in µs.
pub const RECOVERY_US: u64 = 20_000_000;

/// How long I/O may be outstanding after its deadline, in addition to twice the lease, in µs.
const GRACE_US: u64 = 400_000;

/// How far a client's clock may be behind, in µs: one turn of a thread.
const CLOCK_US: u64 = 25_000;

/// With a shorter deadline than this, in µs, a slow network alone makes an I/O fail.
const SHORT_DEADLINE_US: u64 = 1_000_000;

/// Checks that an I/O completes on its thread.
pub fn on_its_thread(number: u64, on_its_thread: bool) {
    if !on_its_thread {
        world::violation(ONE_COMPLETION, format!("I/O {number} is completed on another thread"));
    }
}

/// Checks that an I/O completes once, and records how. Returns the I/O if its user is alive.
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

/// Checks a reset that has completed: SPDK requires that no I/O of the bdev is outstanding any
/// more. SPDK itself ends what is submitted meanwhile.
pub fn reset(model: &Model, number: u64, io: &Io) {
    let left = model.outstanding.iter().find(|&&other| {
        let other = &model.ios[other as usize - 1];
        other.disk == io.disk && other.client == io.client && !other.orphan
    });
    if let Some(left) = left {
        world::violation(RESET, format!("reset {number} has ended, I/O {left} has not"));
    }
}

/// How late an I/O is that has not ended.
struct Late {
    /// Whether its client may fail it.
    is_late: bool,
    /// How long it has waited, in µs.
    waited_us: u64,
    /// How long its client may have been without a connection, in µs.
    out_us: u64,
}

impl Late {
    fn of(io: &Io, client: &ClientFacts) -> Late {
        let began_us = io.submitted.map_or(0, |submitted| submitted.running_us);
        let waited_us = client.running_us.saturating_sub(began_us) + CLOCK_US;
        // All I/O of a process that stops shares one patience.
        let has_stopped = client
            .stop
            .is_some_and(|stop| client.running_us + CLOCK_US >= stop.running_us + client.deadline_us);
        let out_us = client.contact.out_at_most_us(client.running_us) + CLOCK_US;
        let is_out_of_reach = client.fast_io_fail_us > 0 && out_us >= client.fast_io_fail_us;
        Late { is_late: waited_us >= client.deadline_us || has_stopped || is_out_of_reach, waited_us, out_us }
    }
}

/// Notes which clients have I/O that is late.
pub fn note_late(model: &mut Model) {
    for index in 0..model.clients.len() {
        let client = &model.clients[index];
        let mut ios = model.outstanding.iter().map(|&number| &model.ios[number as usize - 1]);
        if ios.any(|io| io.client == index && Late::of(io, client).is_late) {
            model.clients[index].was_late = world::stamp();
        }
    }
}

/// Checks that an I/O that failed had a reason to fail.
pub fn failed(model: &Model, seq: u64, number: u64, io: &Io, status: IoStatus) {
    let client = &model.clients[io.client];
    let late = Late::of(io, client);
    let taken_away = client.may_fail;
    let reset = model.ios.iter().any(|other| {
        other.kind == IoKind::Reset
            && other.store == io.store
            && other.submitted.is_some_and(|submitted| submitted.at < seq)
            // Another host's reset goes unnoticed, unless it ends an I/O that must not be executed
            // twice.
            && (other.client == io.client
                || model.excuses.resets_reach_backend && io.kind == IoKind::CompareAndWrite)
            // A reset of another client, or of a process that died, may still reach the backend
            // after it ended without its connection. The client begins nothing before its own
            // resets have done so.
            && (other.orphan
                || other.client != io.client
                // Another thread's channel may still notice a reset that timed out.
                || other.completed.is_none_or(|(at, s)| at > io.submitted_at() || s != IoStatus::Success))
    });
    // A compare-and-write fails if it was submitted before its session ended. The client gives up a
    // session when an I/O is late. With two targets, the session may end long after the fault, when
    // the client has to change to the other target.
    let lost_since = if model.excuses.fails_over { 0 } else { io.submitted_at() };
    let unknown = io.kind == IoKind::CompareAndWrite
        && (model.excuses.session_lost > lost_since || client.was_late > io.submitted_at());
    let lost = io.kind == IoKind::Flush && model.excuses.restarted > 0;
    // Connections are lost even without a fault: a slow network outlasts a short lease.
    let retried = model.excuses.retries;
    let denied = io.read_only && io.modifies();
    let failed = late.is_late || taken_away || model.excuses.errors || unknown || lost || denied || retried;
    let excused = match status {
        IoStatus::Failed => failed || reset,
        IoStatus::Aborted => reset || taken_away,
        _ => false,
    };
    if !excused {
        let text = format!(
            "{:?} {number} ends with {status:?} after {} us of {}, without a connection for {} us of {} at most, for no \
             reason",
            io.kind, late.waited_us, client.deadline_us, late.out_us, client.fast_io_fail_us
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

/// Checks that a bdev that goes although nobody removed it has been out of reach for long enough.
pub fn bdev_goes(client: &ClientFacts) {
    let out_us = client.contact.out_at_most_us(client.running_us) + CLOCK_US;
    if !client.may_fail && (client.loss_us == 0 || out_us < client.loss_us) {
        let text =
            format!("a bdev goes after at most {out_us} us without a connection, of {}", client.loss_us);
        world::violation(SHORT, text);
    }
}

/// Reports that not all was well within [`RECOVERY_US`].
pub fn not_recovered(model: &Model, states: &[String]) {
    let text = format!(
        "{} s after the last fault {} I/Os are outstanding, clients are {states:?}",
        RECOVERY_US / 1_000_000,
        model.outstanding.len()
    );
    world::violation(RECOVERY, text);
}

/// Checks the reads of all blocks after recovery. Returns whether all of them have ended.
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
