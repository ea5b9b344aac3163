//! A connection's part in resets: those that its client asks for, and those that end its requests.
//! The queue knows which requests are concerned; the connection has the lease and the backend.

use std::rc::Rc;

use dst_broker::ResetStep;
use dst_transport::Broken;

use super::open::OpenConnection;
use super::{Connection, ConnectionPhase};
use crate::completion::Submitter;
use crate::pools::Pools;
use crate::queue::is_over;
use crate::stage::Stage;
use crate::submission::submit_again;

/// The outcome of [`Connection::attend_resets`].
#[derive(Default)]
pub struct Attended {
    /// The round of resets that need not wait for the connection any longer, if there is one.
    pub quiesced: Option<u64>,
    /// Whether [`Connection::attend_resets`] is to be called again.
    pub is_attended: bool,
}

impl Connection {
    /// Takes this step of a reset that a client has asked for.
    pub fn reset_step(&mut self, step: ResetStep, now_us: u64) {
        let (ConnectionPhase::Open(open) | ConnectionPhase::Over(open, _)) = &mut self.phase else { return };
        let Some(requests) = open.stage.requests_mut() else { return };
        match step {
            ResetStep::Quiesce(round) => requests.queue.quiesce(round),
            ResetStep::Abandon(round) => requests.queue.abandon(round),
            ResetStep::Begins => requests.queue.own_reset(false, now_us),
            ResetStep::Ends => requests.queue.own_reset(true, now_us),
            ResetStep::Answer { slot, status } => requests.queue.answer_reset(slot, status, now_us),
        }
    }

    /// Returns the slot of the next Reset that the control thread was not told of yet.
    #[inline]
    pub fn next_reset(&mut self) -> Option<u16> {
        self.open()?.stage.requests_mut()?.queue.next_asked()
    }

    /// Submits requests again that resets of other hosts have ended, if the resets are over, and
    /// checks whether a round of resets still has to wait for this connection.
    ///
    /// # Errors
    /// Fails if the connection's lease has run out. The connection is then over even if its lease
    /// would be renewed a moment later: a request was dropped, and the client would wait for its
    /// Answer.
    pub fn attend_resets<S: Submitter + 'static>(
        &mut self,
        pools: &Pools,
        submitter: &Rc<S>,
    ) -> Result<Attended, Broken> {
        // A connection that is over begins nothing more.
        let Some(OpenConnection { stage: Stage::Ready(ready), .. }) = self.open() else {
            return Ok(Attended::default());
        };
        let Some(requests) = &mut ready.requests else { return Ok(Attended::default()) };
        // The lease is checked right before each submission to the backend, as in `Queue::end`.
        while let Some(io) = requests.queue.next_ended(spdk::clock::now_us()) {
            let now_us = spdk::clock::now_us();
            if is_over(&ready.lease, now_us) {
                let released = requests.queue.withdraw(io, now_us, pools);
                assert!(released.is_none(), "what a reset has ended is not held");
                return Err(ready.lease_over(now_us));
            }
            submit_again(&requests.channel, io, Rc::clone(submitter) as Rc<dyn Submitter>);
        }
        let quiesced = requests.queue.quiesced();
        Ok(Attended { quiesced, is_attended: requests.queue.is_attended() })
    }
}
