//! The mirrors of this process, on the control thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use dst_mirror::{Device, Input};
use spdk::clock::now_us;
use spdk::poller::Poller;

use crate::error::Error;
use crate::life::{Answer, Done};
use crate::mirror::Mirror;
use crate::options::{Limits, Plan, Start, Waits};
use crate::{search, sharing};

/// The time between two looks at the mirrors' deadlines, µs.
const TICK_US: u64 = 1000;

/// How often the bdevs of devices that are not there are looked for, µs. A bdev that appears is
/// taken at once; this finds those that were there under another name, or that something else had.
const LOOK_US: u64 = 100_000;

/// Devices looked at each time, over all mirrors: each costs a walk over all bdevs on SPDK 20.07.
const LOOKS: usize = 32;

spdk::thread_local! {
    static MIRRORS: RefCell<Vec<Rc<Mirror>>> = const { RefCell::new(Vec::new()) };
    static TICKER: RefCell<Option<Poller>> = const { RefCell::new(None) };
    static NEXT_LOOK_US: Cell<u64> = const { Cell::new(0) };
    /// The device that was looked at last, counted over all mirrors.
    static LAST_LOOK: Cell<usize> = const { Cell::new(0) };
    /// Called when no mirror is being deleted, once the application stops.
    static STOPPING: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// The stop of the application.
struct Stop {
    until_us: u64,
    /// Taken when it is called.
    done: Option<Done>,
}

/// Creates or assembles a mirror. `done` is called when the mirror can be used, or cannot be had;
/// for an assembly that is not waited for, `done` is called at once.
pub fn create(plan: Plan, done: impl FnOnce(Result<String, Error>) + 'static) {
    match try_create(&plan) {
        Ok(mirror) => begin(&mirror, Box::new(done)),
        Err(error) => done(Err(error)),
    }
}

fn try_create(plan: &Plan) -> Result<Rc<Mirror>, Error> {
    let name = plan.name.clone();
    if STOPPING.with_borrow(Option::is_some) {
        return Err(Error::Stopping(name));
    }
    if find(&name).is_ok() || spdk::bdev::info(&name).is_some() {
        return Err(Error::Exists(name));
    }
    start_ticker()?;
    let mirror = Mirror::new(plan.clone(), forget, destroy)?;
    if mirror.is_created() {
        for device in mirror.named_devices() {
            match mirror.open(device) {
                // An examination ends by itself; see `Mirror::open_later`.
                Ok(()) | Err(Error::InUse { .. }) => {}
                // The devices that are open already are closed as the mirror is dropped.
                Err(error) => return Err(error),
            }
        }
    }
    Ok(mirror)
}

fn begin(mirror: &Rc<Mirror>, done: Answer) {
    MIRRORS.with_borrow_mut(|mirrors| mirrors.push(Rc::clone(mirror)));
    let now = match mirror.plan().start {
        Start::Create { .. } | Start::Assemble { waits: Waits::UntilUsable | Waits::UntilTakenOver, .. } => {
            mirror.set_waiting(done);
            None
        }
        Start::Assemble { waits: Waits::No, .. } => Some(done),
    };
    for device in mirror.named_devices() {
        if mirror.is_created() {
            mirror.tell_opened(device);
        } else {
            mirror.try_open(device);
        }
    }
    if let Some(done) = now {
        done(Ok(mirror.name().to_owned()));
    }
}

fn start_ticker() -> Result<(), Error> {
    if TICKER.with_borrow(Option::is_some) {
        return Ok(());
    }
    let ticker = Poller::register(TICK_US, tick);
    let ticker = ticker.map_err(|errno| Error::Resources { what: "a poller for mirrors", errno })?;
    TICKER.set(Some(ticker));
    Ok(())
}

/// A millisecond has passed. Returns true if something was looked for.
fn tick() -> bool {
    let now = now_us();
    let mirrors = list();
    for mirror in &mirrors {
        mirror.tick(now);
    }
    give_turns(&mirrors, now);
    let is_due = NEXT_LOOK_US.get() <= now;
    if is_due {
        NEXT_LOOK_US.set(now + LOOK_US);
        look(&mirrors, now);
    }
    look_at_stop(now);
    let has_waiter = STOPPING.with_borrow(|stop| stop.as_ref().is_some_and(|stop| stop.done.is_some()));
    if MIRRORS.with_borrow(Vec::is_empty) && !has_waiter {
        // This runs inside the poller's own call, which permits the drop.
        drop(TICKER.take());
    }
    is_due
}

/// Gives the turns to copy that the common rate allows, which bounds their number.
fn give_turns(mirrors: &[Rc<Mirror>], now: u64) {
    while let Some(serial) = sharing::next(now) {
        if let Some(mirror) = mirrors.iter().find(|mirror| mirror.serial == serial) {
            mirror.tell(Input::Turn);
        }
    }
}

/// Looks for devices that are not there, each in its turn.
fn look(mirrors: &[Rc<Mirror>], now: u64) {
    let of = |mirror: &Rc<Mirror>| {
        let mirror = Rc::clone(mirror);
        let devices = mirror.waiting_devices();
        devices.into_iter().map(move |device| (Rc::clone(&mirror), device))
    };
    let waiting: Vec<_> = mirrors.iter().flat_map(of).collect();
    let first = LAST_LOOK.get();
    for step in 0..waiting.len().min(LOOKS) {
        let (mirror, device) = &waiting[(first + step) % waiting.len()];
        if mirror.is_being_opened(*device) {
            mirror.open_new_member(now);
        } else if mirror.is_being_created() {
            mirror.open_later(*device, now);
        } else {
            mirror.try_open(*device);
        }
    }
    LAST_LOOK.set(first.wrapping_add(LOOKS));
    for mirror in mirrors {
        mirror.take_devices(now);
        mirror.hurry_leaving(now);
        mirror.hurry_resets(now);
    }
}

/// SPDK has a new bdev, which no module has read from yet.
pub fn bdev_appeared(bdev_name: &str) {
    for mirror in list() {
        mirror.bdev_appeared(bdev_name);
    }
}

/// A bdev may have lost completed writes that were not flushed; nothing was sent to it since.
pub fn bdev_lost_cache(bdev_name: &str) {
    tell_of_device(bdev_name, |device| Input::CacheLost { device });
}

/// A bdev belongs to another host now.
pub fn bdev_taken_over(bdev_name: &str) {
    tell_of_device(bdev_name, |device| Input::Refused { device });
}

/// A bdev whose I/O has failed or waited can be used again.
pub fn bdev_reachable(bdev_name: &str) {
    tell_of_device(bdev_name, |device| Input::Reachable { device });
}

fn tell_of_device(bdev_name: &str, input: impl Fn(Device) -> Input) {
    for mirror in list() {
        if let Some(device) = mirror.device_of(bdev_name) {
            mirror.tell(input(device));
        }
    }
}

/// Deletes a mirror. Its metadata stay, unless they are wiped. `done` is called when nothing of it
/// is left in this process. Once the application stops, `done` is called with an error, for the
/// reason given at `dst_client::delete`.
pub fn delete(name: &str, wipe: bool, done: impl FnOnce(Result<String, Error>) + 'static) {
    if STOPPING.with_borrow(Option::is_some) {
        return done(Err(Error::Stopping(name.to_owned())));
    }
    match find(name) {
        Ok(mirror) => mirror.delete(wipe, Box::new(done)),
        Err(error) => done(Err(error)),
    }
}

/// Adds a member to a mirror that runs. `done` is called when the change counts, or has failed.
pub fn add_member(name: &str, member: &str, force: bool, done: impl FnOnce(Result<(), Error>) + 'static) {
    match find(name) {
        Ok(mirror) => mirror.add_member(member, force, Box::new(done)),
        Err(error) => done(Err(error)),
    }
}

/// Removes a member of a mirror that runs. `done` is called when the change counts, or has failed.
pub fn remove_member(name: &str, member: &str, done: impl FnOnce(Result<(), Error>) + 'static) {
    match find(name) {
        Ok(mirror) => mirror.remove_member(member, Box::new(done)),
        Err(error) => done(Err(error)),
    }
}

/// Adds a witness to a mirror that runs. `done` is called when the change counts, or has failed.
pub fn add_witness(name: &str, witness: &str, force: bool, done: impl FnOnce(Result<(), Error>) + 'static) {
    match find(name) {
        Ok(mirror) => mirror.add_witness(witness, force, Box::new(done)),
        Err(error) => done(Err(error)),
    }
}

/// Removes the witness of a mirror that runs. `done` is called when the change counts, or has failed.
pub fn remove_witness(name: &str, done: impl FnOnce(Result<(), Error>) + 'static) {
    match find(name) {
        Ok(mirror) => mirror.remove_witness(Box::new(done)),
        Err(error) => done(Err(error)),
    }
}

/// Calls `done` when a mirror has been assembled, or has ended, or `start_timeout_ms` has passed;
/// with an error if there is no such mirror.
pub fn wait(name: &str, done: impl FnOnce(Result<(), Error>) + 'static) {
    match find(name) {
        Ok(mirror) => mirror.wait_for_start(Box::new(|| done(Ok(())))),
        Err(error) => done(Err(error)),
    }
}

/// Returns the limits of all mirrors together.
pub fn limits() -> Limits {
    let mib = u32::try_from(sharing::rate() >> 20).expect("the rate was set in MiB");
    Limits { total_resync_rate_mib: mib }
}

/// Changes the limits of all mirrors together. They hold at once.
pub fn set_limits(limits: Limits) {
    sharing::set_rate(u64::from(limits.total_resync_rate_mib) << 20);
    for mirror in list() {
        // The rules hear whether the mirrors have a rate in common.
        mirror.set_options(mirror.options());
    }
}

/// Returns the mirror with this name.
///
/// # Errors
/// There is none.
pub fn find(name: &str) -> Result<Rc<Mirror>, Error> {
    let found = list().into_iter().find(|mirror| mirror.name() == name);
    found.ok_or_else(|| Error::NotFound(name.to_owned()))
}

/// Returns all mirrors, in the order of creation.
pub fn list() -> Vec<Rc<Mirror>> {
    MIRRORS.with_borrow(Clone::clone)
}

fn forget(mirror: &Rc<Mirror>) {
    sharing::leave(mirror.serial);
    MIRRORS.with_borrow_mut(|mirrors| mirrors.retain(|other| !Rc::ptr_eq(other, mirror)));
}

/// A mirror's bdev is not used any more.
fn destroy(number: usize, done: Done) {
    match list().into_iter().find(|mirror| mirror.number() == Some(number)) {
        Some(mirror) => mirror.bdev_is_unused(done),
        None => done(),
    }
}

/// The application begins to stop: mirrors without a bdev are ended, and no more are made. `done`
/// is called when no mirror is being deleted, or when deletions take longer than they may. SPDK
/// ends the mirrors that have a bdev, before their devices.
pub fn stop_begins(done: impl FnOnce() + 'static) {
    search::stop();
    let mirrors = list();
    for mirror in mirrors.iter().filter(|mirror| !mirror.has_bdev()) {
        // One that is being deleted already goes on with that.
        mirror.delete(false, Box::new(|_| {}));
    }
    let longest_ms = mirrors.iter().map(|mirror| mirror.options().stop_timeout_ms).max().unwrap_or(0);
    // Devices are closed after that.
    let until_us = now_us() + 2 * u64::from(longest_ms) * 1000;
    STOPPING.set(Some(Stop { until_us, done: Some(Box::new(done)) }));
    look_at_stop(now_us());
}

/// Lets the application go on stopping, if no mirror is being deleted.
fn look_at_stop(now: u64) {
    let is_over = list().iter().all(|mirror| !mirror.is_deleting());
    let done = STOPPING.with_borrow_mut(|stopping| {
        let stop = stopping.as_mut().filter(|stop| is_over || stop.until_us <= now)?;
        stop.done.take()
    });
    if let Some(done) = done {
        done();
    }
}
