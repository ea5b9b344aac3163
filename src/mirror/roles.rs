//! What each member takes part in. This follows from the configurations and the devices, which change
//! rarely, and each I/O asks for it.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crate::configuration::{Configuration, MEMBERS_MAX, MemberRecord, MemberState};
use crate::handles::{Device, Devices};
use crate::ports::{Places, Port};

/// A value on which others depend: notes when it may have changed.
pub(crate) struct Watched<T> {
    value: T,
    may_have_changed: Cell<bool>,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Watched<T> {
        Watched { value, may_have_changed: Cell::new(true) }
    }
}

impl<T> Deref for Watched<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Watched<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.may_have_changed.set(true);
        &mut self.value
    }
}

/// What a mirror's members take part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    /// The members in sync by the configuration as it is to be.
    pub(crate) in_sync: Places,
    /// Those of them that are there: they get all writes.
    pub(crate) current: Places,
    /// All other members.
    pub(crate) others: Places,
    /// The members that are there and recorded as in sync.
    pub(crate) sources: Places,
    /// The devices of `current`.
    pub(crate) current_devices: Devices,
    /// The device of each member that gets data. Of others it has no meaning.
    devices: [Device; MEMBERS_MAX],
}

impl Roles {
    fn of(config: &Configuration, recorded: &Configuration, ports: &[Port]) -> Roles {
        let mut devices = [Device(0); MEMBERS_MAX];
        let mut active: Places = 0;
        for (who, device) in devices.iter_mut().enumerate() {
            if let Port::Up(up) = &ports[who]
                && up.is_active
            {
                *device = up.device;
                active |= 1 << who;
            }
        }
        let all = ((1u32 << config.members.len()) - 1) as Places;
        let in_sync_now = in_sync(config);
        let current = in_sync_now & active;
        let sources = current & in_sync(recorded);
        let current_devices = each(current).fold(Devices::NONE, |set, who| set.with(devices[who]));
        Roles { in_sync: in_sync_now, current, others: all & !current, sources, current_devices, devices }
    }

    /// Returns the device of a member that gets data.
    #[inline]
    pub(crate) fn device(&self, who: usize) -> Device {
        self.devices[who]
    }
}

/// The roles as they were worked out last.
pub(crate) struct KnownRoles(Cell<Roles>);

impl KnownRoles {
    pub(crate) fn new() -> KnownRoles {
        let devices = [Device(0); MEMBERS_MAX];
        let current_devices = Devices::NONE;
        let none = Roles { in_sync: 0, current: 0, others: 0, sources: 0, current_devices, devices };
        KnownRoles(Cell::new(none))
    }

    /// Returns the roles, and works them out anew if that on which they depend may have changed.
    #[inline]
    pub(crate) fn get(
        &self,
        config: &Watched<Configuration>,
        recorded: &Watched<Configuration>,
        ports: &Watched<Vec<Port>>,
    ) -> Roles {
        if config.may_have_changed.get() | recorded.may_have_changed.get() | ports.may_have_changed.get() {
            self.work_out(config, recorded, ports);
        }
        let roles = self.0.get();
        debug_assert_eq!(roles, Roles::of(config, recorded, ports), "roles of before a change");
        roles
    }

    #[cold]
    fn work_out(
        &self,
        config: &Watched<Configuration>,
        recorded: &Watched<Configuration>,
        ports: &Watched<Vec<Port>>,
    ) {
        self.0.set(Roles::of(config, recorded, ports));
        config.may_have_changed.set(false);
        recorded.may_have_changed.set(false);
        ports.may_have_changed.set(false);
    }
}

/// Returns the places in a set, in ascending order.
#[inline]
pub(crate) fn each(mut places: Places) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let who = (places != 0).then(|| places.trailing_zeros() as usize)?;
        places &= places - 1;
        Some(who)
    })
}

/// Returns the members in sync of a configuration.
#[inline]
pub(crate) fn in_sync(config: &Configuration) -> Places {
    let is_in_sync =
        |(who, member): (usize, &MemberRecord)| u16::from(member.state == MemberState::InSync) << who;
    config.members.iter().enumerate().map(is_in_sync).fold(0, |set, bit| set | bit)
}
