//! What resets end, and the lease.

use super::*;
use crate::connection::resets::Attended;

impl Rig {
    /// The backend fails what it has, by a reset of another session that then ends. Returns what
    /// the completions have come to.
    fn others_reset_ends_all(&self) -> Vec<Completed> {
        while store::is_busy(self.store) {
            world::step();
        }
        let (completions, recorder) = (Rc::clone(&self.completions), Rc::clone(&self.recorder));
        on(self.thread, move || completions.collect());
        self.backend_resets.begin();
        let mut connection = self.connection.borrow_mut();
        let ended = self.recorder_take(&recorder);
        let completed = ended
            .into_iter()
            .map(|io| connection.completed(io, Status::Aborted, self.began_us, &self.pools, &recorder));
        let completed = completed.collect();
        let now_us = on(self.thread, now_us);
        self.backend_resets.end(now_us);
        completed
    }

    fn recorder_take(&self, recorder: &Recorder) -> Vec<Io> {
        recorder.0.take().into_iter().map(|(io, _)| io).collect()
    }

    fn attend(&self) -> Result<Attended, Broken> {
        let (connection, pools) = (Rc::clone(&self.connection), Rc::clone(&self.pools));
        let recorder = Rc::clone(&self.recorder);
        on(self.thread, move || connection.borrow_mut().attend_resets(&pools, &recorder))
    }
}

#[test]
fn what_a_reset_ended_goes_to_the_backend_once_more_and_is_answered() {
    let rig = Rig::ready(true, 0);
    rig.sends(read(1, 0), &[]);
    rig.receive().unwrap();
    let completed = rig.others_reset_ends_all();
    assert!(matches!(completed[..], [Completed::ToExecuteAgain]));
    assert!(rig.flush().is_empty(), "it is answered");
    assert!(!rig.attend().unwrap().is_attended);
    assert_eq!((rig.in_backend(), rig.stats().executed_again), (1, 1));
    rig.backend_finishes();
    assert_eq!(rig.flush(), [Kind::Answer]);
}

#[test]
fn what_a_reset_ended_is_not_executed_once_the_lease_is_over() {
    let rig = Rig::ready(true, 0);
    rig.sends(read(1, 0), &[]);
    rig.receive().unwrap();
    rig.others_reset_ends_all();
    // The process is stopped, or the control thread is slow to end the reset.
    world::timer(world::now() + u64::from(KEEP_ALIVE_MS) * 1100, 0);
    while world::next_timer().is_none() {
        world::step();
    }
    assert!(rig.attend().is_err(), "the client would wait for it if the lease were renewed now");
    assert_eq!(rig.in_backend(), 0);
    assert!(!store::is_busy(rig.store), "the backend is given it");
    assert!(matches!(rig.shut(), Shut::Finished(_)));
}

#[test]
fn a_closed_connection_leaves_what_a_reset_ended_to_the_next_one() {
    let rig = Rig::ready(true, 0);
    rig.sends(read(1, 0), &[]);
    rig.receive().unwrap();
    assert!(matches!(rig.shut(), Shut::Draining));
    let mut completed = rig.others_reset_ends_all();
    let Some(Completed::Finished(mut remains)) = completed.pop() else { panic!("something is left") };
    let mut slots = remains.slots.take().unwrap();
    let arrival = slots.arrive(read(1, 0).id, Op::Write);
    assert_eq!(arrival, Ok(dst_session::slots::Arrival::Execute));
}
