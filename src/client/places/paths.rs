//! The state of each address as the connections find it, and the choice of the address that a
//! channel uses. The rules are in [`dst_session::paths`].

use std::sync::atomic::Ordering::Relaxed;

use dst_session::large_frames::Life;
use dst_session::paths::{Health, Loss, Path, PathNote, PathPolicy, Paths};
use dst_transport::Broken;

use super::{Destination, Places};
use crate::address::Address;
use crate::channels::lock;

/// The state of a path, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// The address was not tried yet.
    Untried,
    /// The address is in use or can be used.
    Up,
    /// The last attempt has failed, or the last connection was lost.
    Down,
    /// Small frames pass, large ones do not.
    Suspect,
    /// The target there does not know the session.
    OtherInstance,
}

impl From<&Path<Address>> for PathState {
    fn from(path: &Path<Address>) -> PathState {
        match path.health {
            Health::OtherInstance => PathState::OtherInstance,
            _ if path.note.is_some() => PathState::Suspect,
            Health::Usable => PathState::Up,
            Health::Down { .. } | Health::Probing { .. } if path.last_error.is_some() => PathState::Down,
            Health::Down { .. } | Health::Probing { .. } => PathState::Untried,
        }
    }
}

impl Places {
    /// Returns the state of each address.
    pub fn paths(&self) -> Vec<Path<Address>> {
        lock(&self.state).paths.all().to_vec()
    }

    /// Returns a number that is higher after each change of a path's state.
    pub fn path_changes(&self) -> u64 {
        self.path_changes.load(Relaxed)
    }

    fn with_paths<R>(&self, f: impl FnOnce(&mut Paths<Address>) -> R) -> R {
        let state = &mut *lock(&self.state);
        self.path_changes.fetch_add(1, Relaxed);
        f(&mut state.paths)
    }

    /// Returns the destination of the channel with this queue.
    pub fn of_queue(&self, queue: u16) -> Destination {
        let state = lock(&self.state);
        let chosen = match state.target.policy {
            PathPolicy::Failover => None,
            PathPolicy::Spread => state.paths.choose(queue),
        };
        self.at(&state, chosen.or_else(|| state.addresses.current()))
    }

    /// Returns true if the channel with this queue is connected to `at` and should move to another
    /// address, which is its own.
    pub fn is_better(&self, queue: u16, at: &Address) -> bool {
        let state = lock(&self.state);
        state.target.policy == PathPolicy::Spread && state.paths.is_better(queue, at)
    }

    /// Returns true if a channel whose attempt at `at` has failed can try another address at once.
    pub fn has_other(&self, queue: u16, at: Option<&Address>) -> bool {
        let state = lock(&self.state);
        state.target.policy == PathPolicy::Spread
            && state.paths.has_usable()
            && state.paths.choose(queue) != at
    }

    /// Returns true if `at` is the address at which the control connection was admitted last.
    pub fn is_current(&self, at: Option<&Address>) -> bool {
        at.is_some() && lock(&self.state).addresses.current() == at
    }

    /// Returns true if the session has to be given up because the target at `at` does not know it.
    /// `is_used` says that channels have connections in the session. Control connection only.
    pub fn ends_session(&self, at: Option<&Address>, is_used: bool) -> bool {
        let policy = lock(&self.state).target.policy;
        policy == PathPolicy::Failover || !is_used || self.is_current(at)
    }

    /// Notes that a connection was admitted at an address.
    pub fn admitted(&self, at: &Address) {
        self.with_paths(|paths| paths.admitted(at));
    }

    /// Notes that an attempt failed at an address.
    pub fn failed(&self, at: &Address, why: String, now_us: u64) {
        self.with_paths(|paths| paths.failed(at, why, now_us));
    }

    /// Notes that a connection to an address was lost.
    pub fn lost(&self, at: &Address, life: Life, why: &Broken, now_us: u64) {
        let is_silent = matches!(why, Broken::Silent(_));
        match why {
            // The client closed these connections itself, so the loss says nothing about the path.
            Broken::Repointed | Broken::Homing | Broken::SessionOver | Broken::Stopping => {}
            _ => self.with_paths(|paths| {
                paths.lost(at, Loss { is_silent, has_flowed: life.has_flowed() }, why.to_string(), now_us);
            }),
        }
    }

    /// Notes that the target at an address does not know this session, unless the session was
    /// replaced meanwhile. Ignored for the address at which the control connection was admitted:
    /// the control connection decides what that means.
    pub fn no_session(&self, at: &Address, id: &[u8; 16], why: String) {
        let state = &mut *lock(&self.state);
        if state.session.as_ref() == Some(id) && state.addresses.current() != Some(at) {
            self.path_changes.fetch_add(1, Relaxed);
            state.paths.other_instance(at, why);
        }
    }

    /// Sets the session that channels join. Control connection only.
    pub fn set_session(&self, id: Option<[u8; 16]>) {
        let state = &mut *lock(&self.state);
        if state.session != id {
            self.path_changes.fetch_add(1, Relaxed);
            state.session = id;
            state.paths.session_changed();
        }
    }

    /// Notes what is wrong with a path, or that nothing is wrong any more. Returns true if that is
    /// new.
    pub fn note_path(&self, at: &Address, note: PathNote, now_us: u64) -> bool {
        self.with_paths(|paths| paths.note(at, note, now_us))
    }

    /// Returns what is wrong with one of the paths in use, or `None` if nothing is.
    pub fn note(&self) -> Option<String> {
        let state = lock(&self.state);
        let is_used = |path: &&Path<Address>| match state.target.policy {
            PathPolicy::Failover => state.addresses.current() == Some(&path.address),
            PathPolicy::Spread => true,
        };
        state.paths.all().iter().filter(is_used).find_map(|path| path.note.clone())
    }

    /// Returns the addresses that are to be probed now, and the port. Control connection only.
    pub fn probes_due(&self, now_us: u64) -> (Vec<Address>, u16) {
        let state = &mut *lock(&self.state);
        let due = match state.target.policy {
            PathPolicy::Failover => Vec::new(),
            PathPolicy::Spread => state.paths.probes_due(now_us),
        };
        (due, state.target.port)
    }

    /// Notes the outcome of a probe. Control connection only.
    pub fn probed(&self, at: &Address, outcome: Result<(), String>) {
        self.with_paths(|paths| paths.probed(at, outcome));
    }
}
