//! State files, in which a target keeps the ownership of exports.

use std::path::Path;
use std::rc::Rc;

use dst_broker::kept::{KEPT_MAX, decode, encode};
use dst_broker::{Input, ReadOwnership};
use dst_wire::Ownership;
use spdk::clock::{now_us, unix_s};
use spdk::durable_file::{self, NotReplaced};

use crate::control::Target;
use crate::error::Error;
use crate::export::StateFile;

impl Target {
    /// Checks that no export has this state file.
    ///
    /// # Errors
    /// Fails with [`Error::StateFileInUse`] if an export has it.
    pub fn check_state_file(&self, path: &str) -> Result<(), Error> {
        let exports = self.exports.borrow();
        let has = exports
            .iter()
            .find(|(_, export)| export.state_file.as_ref().is_some_and(|file| file.path == path));
        match has {
            None => Ok(()),
            Some((export, _)) => Err(Error::StateFileInUse { path: path.to_owned(), export: export.clone() }),
        }
    }

    /// Keeps the ownership of an export, which was just created, in this file.
    ///
    /// # Errors
    /// Fails if there is no such export, or if another export has this file.
    pub fn keep_ownership(self: &Rc<Self>, name: &str, path: &str) -> Result<(), Error> {
        self.check_state_file(path)?;
        self.broker.borrow_mut().keep_ownership(now_us(), name, read(name, path))?;
        if let Some(export) = self.exports.borrow_mut().get_mut(name) {
            export.state_file = Some(StateFile { path: path.to_owned(), releasing: None });
        }
        self.carry_out();
        Ok(())
    }

    /// Ends the ownership of an export, or the doubt about it. `done` is called when the change is
    /// durable or has failed.
    ///
    /// # Errors
    /// Fails as [`dst_broker::Broker::release_export`]. `done` is then not called.
    pub fn release_export(
        self: &Rc<Self>,
        name: &str,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) -> Result<(), Error> {
        self.broker.borrow_mut().release_export(now_us(), name, unix_s())?;
        if let Some(file) =
            self.exports.borrow_mut().get_mut(name).and_then(|export| export.state_file.as_mut())
        {
            file.releasing = Some(Box::new(done));
        }
        self.carry_out();
        Ok(())
    }

    /// Makes the ownership of an export durable.
    pub(crate) fn store_ownership(
        self: &Rc<Self>,
        export: String,
        number: u64,
        host: Option<String>,
        since_s: Option<u64>,
    ) {
        let since_s = since_s.unwrap_or_else(unix_s);
        let ownership = match host {
            Some(host) => Ownership::Exclusive { number, host, since_s },
            None => Ownership::Free { last: number },
        };
        let exports = self.exports.borrow();
        let Some(path) = exports.get(&export).and_then(|known| Some(known.state_file.as_ref()?.path.clone()))
        else {
            drop(exports);
            let error = std::io::Error::other("the export has none");
            return self.ownership_stored(export, since_s, Err(NotReplaced::Unchanged(error)));
        };
        drop(exports);
        let content = encode(&export, &ownership).into_bytes();
        let of = export.clone();
        let done = move |result: Result<(), NotReplaced>| {
            Target::with(|target| target.ownership_stored(of, since_s, result));
        };
        if let Err(errno) = durable_file::replace(&path, content, done) {
            let error = std::io::Error::other(errno.to_string());
            self.ownership_stored(export, since_s, Err(NotReplaced::Unchanged(error)));
        }
    }

    fn ownership_stored(self: &Rc<Self>, export: String, since_s: u64, result: Result<(), NotReplaced>) {
        let mut exports = self.exports.borrow_mut();
        let file = exports.get_mut(&export).and_then(|known| known.state_file.as_mut());
        let (path, releasing) =
            file.map_or((String::new(), None), |file| (file.path.clone(), file.releasing.take()));
        drop(exports);
        let answer = match &result {
            Ok(()) => Ok(()),
            Err(error) => {
                let why = error.to_string();
                spdk::error!("DST export {export}: state file {path} can't be written: {why}");
                Err(Error::StateFile { path, why })
            }
        };
        self.tell(match result {
            Ok(()) => Input::OwnershipStored { export, since_s },
            Err(error) => {
                let is_in_doubt = matches!(error, NotReplaced::InDoubt(_));
                Input::OwnershipNotStored { export, why: error.to_string(), is_in_doubt }
            }
        });
        if let Some(releasing) = releasing {
            releasing(answer);
        }
    }
}

/// Returns the ownership of an export from its state file, or the reason why the ownership is not
/// known.
fn read(export: &str, path: &str) -> ReadOwnership {
    match durable_file::read(Path::new(path), KEPT_MAX) {
        Ok(Some(content)) => decode(export, &content).map_err(|error| format!("state file {path} {error}")),
        Ok(None) => Err(format!("state file {path} does not exist")),
        Err(error) => Err(format!("state file {path} can't be read: {error}")),
    }
}
