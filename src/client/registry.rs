//! The clients of this process. All functions are to be called on the control thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use dst_session::stop::Stop;
use spdk::clock::now_us;
use spdk::poller::Poller;

use crate::attach::{FirstAttempts, Wait};
use crate::client::Client;
use crate::error::Error;
use crate::options::{BdevParams, Options};
use crate::shared::Shared;

/// The period in which a stop that waits for deletions checks them, µs.
const STOP_WAIT_PERIOD_US: u64 = 10_000;

spdk::thread_local! {
    static CLIENTS: RefCell<Vec<Rc<Client>>> = const { RefCell::new(Vec::new()) };
    static OPTIONS: Cell<Option<Options>> = const { Cell::new(None) };
    static STOP: Arc<Stop> = Arc::default();
    /// The poller that checks the deletions for which the stop waits.
    static STOP_WAIT: RefCell<Option<Poller>> = const { RefCell::new(None) };
}

/// Returns the module-wide defaults.
pub fn options() -> Options {
    OPTIONS.with(|options| options.get().unwrap_or_default())
}

/// Sets the defaults for bdevs created from now on.
pub fn set_options(options: Options) {
    OPTIONS.with(|slot| slot.set(Some(options)));
}

/// Creates a bdev. `params.wait` says when `done` is called.
pub fn create(params: BdevParams, done: impl FnOnce(Result<String, Error>) + 'static) {
    // Each of the bdev's connections is an open file.
    spdk::open_files::raise();
    let name = params.name.clone();
    if find(&name).is_ok() || spdk::bdev::info(&name).is_some() {
        return done(Err(Error::Exists(name)));
    }
    let stop = STOP.with(Arc::clone);
    if stop.has_begun() {
        return done(Err(Error::Stopping(name)));
    }
    match Client::start(params, &stop, forget, Box::new(done)) {
        Ok(client) => {
            CLIENTS.with(|clients| clients.borrow_mut().push(Rc::clone(&client)));
            if client.params().wait == Wait::No {
                client.go_on_alone();
            }
        }
        Err((error, done)) => done(Err(error)),
    }
}

/// Deletes a bdev whose state is `failed` and creates it again for the device that the target has
/// now. `done` is called when the first attempt has ended. The attempts continue.
///
/// # Errors
/// `done` is called with an error if there is no such bdev or its state is not `failed`.
pub fn accept_device(name: &str, done: impl FnOnce(Result<String, Error>) + 'static) {
    let client = match find(name) {
        Ok(client) if client.shared().has_failed() => client,
        Ok(_) => return done(Err(Error::NotFailed(name.to_owned()))),
        Err(error) => return done(Err(error)),
    };
    // A takeover acts once, and the device may be out of reach because another host owns it now.
    let params = BdevParams { wait: Wait::FirstAttempt, takeover: false, ..client.params() };
    client.delete(Box::new(|deleted| match deleted {
        Ok(()) => create(params, done),
        Err(error) => done(Err(error)),
    }));
}

/// Calls `done` when the first attempts of all clients that were created with [`Wait::No`] have
/// ended, at once if none is under way.
pub fn first_attempts(done: impl FnOnce() + 'static) {
    let all = FirstAttempts::new(done);
    list().iter().for_each(|client| client.join(&all));
}

/// Deletes a bdev. `done` is called when nothing of the bdev is left.
///
/// Once the application begins to stop, `done` is called with an error: SPDK removes all bdevs then,
/// and would not wait for this one. Since 23.09, it still takes RPCs meanwhile.
pub fn delete(name: &str, done: impl FnOnce(Result<(), Error>) + 'static) {
    if STOP.with(|stop| stop.has_begun()) {
        return done(Err(Error::Stopping(name.to_owned())));
    }
    match find(name) {
        Ok(client) => client.delete(Box::new(done)),
        Err(error) => done(Err(error)),
    }
}

/// Returns the client with this name.
///
/// # Errors
/// Fails with [`Error::NotFound`] if no client has this name.
pub fn find(name: &str) -> Result<Rc<Client>, Error> {
    let found = CLIENTS.with(|all| all.borrow().iter().find(|client| client.name() == name).cloned());
    found.ok_or_else(|| Error::NotFound(name.to_owned()))
}

/// Returns all clients, in the order of creation.
pub fn list() -> Vec<Rc<Client>> {
    CLIENTS.with(|clients| clients.borrow().clone())
}

/// Removes the client of this bdev, and ends its control connection.
fn forget(shared: &Arc<Shared>) {
    let gone = CLIENTS.with(|clients| {
        let mut clients = clients.borrow_mut();
        let index = clients.iter().position(|client| client.is_of(shared))?;
        Some(clients.remove(index))
    });
    if let Some(client) = gone {
        client.stop();
    }
}

/// Notes that the application begins to stop: from now on all bdevs share one patience, and
/// attaches that are under way end. `done` is called when no bdev is being deleted, or when
/// deletions take longer than they may.
///
/// SPDK would not wait for a bdev that is already being unregistered: it removes the bdev from its
/// list and ends the modules while the bdev still has I/O.
pub fn stop_begins(done: impl FnOnce() + 'static) {
    let began_us = now_us();
    STOP.with(|stop| stop.begin(began_us));
    stop_attaching();
    let is_waiting = move || {
        let waited_us = now_us().saturating_sub(began_us);
        list().iter().any(|client| client.deletion_us().is_some_and(|longest_us| waited_us < longest_us))
    };
    if !is_waiting() {
        return done();
    }
    let mut done = Some(done);
    let look = move || {
        if is_waiting() {
            return false;
        }
        drop(STOP_WAIT.with(|wait| wait.borrow_mut().take()));
        if let Some(done) = done.take() {
            done();
        }
        true
    };
    match Poller::register(STOP_WAIT_PERIOD_US, look) {
        Ok(poller) => STOP_WAIT.with(|wait| *wait.borrow_mut() = Some(poller)),
        // `done` was dropped, which lets the stop go on.
        Err(errno) => spdk::error!("DST can't wait for the deletion of its bdevs: {errno}"),
    }
}

/// Removes the clients that have no bdev when the application ends. SPDK unregisters the bdevs of
/// the others.
pub fn stop_attaching() {
    for client in list().iter().filter(|client| client.is_attaching()) {
        forget(client.shared());
    }
}
