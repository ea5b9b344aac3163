//! Verifications, as the operator asks for them.

use std::rc::Rc;

use dst_mirror::Input;

use crate::error::Error;
use crate::life::Life;
use crate::mirror::Mirror;

impl Mirror {
    /// Begins to compare the members. What differs is written over if `repairs`.
    ///
    /// # Errors
    /// The mirror does not run, or has nothing to compare, or is comparing.
    pub fn verify(self: &Rc<Self>, repairs: bool) -> Result<(), Error> {
        let error = |why: &'static str| Error::Verification { name: self.name().to_owned(), why };
        if !matches!(*self.life.borrow(), Life::Running(_)) {
            return Err(error("it does not run"));
        }
        self.rules.borrow().may_verify().map_err(error)?;
        self.tell(Input::Verify { repairs });
        Ok(())
    }

    /// Stops the verification that is under way, if there is one.
    pub fn stop_verification(self: &Rc<Self>) {
        self.tell(Input::StopVerification);
    }
}
