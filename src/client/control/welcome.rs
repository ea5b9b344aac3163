//! What a Welcome changes: the session, the device, and what the host may do.

use dst_session::mutation::{self, Mutation};
use dst_session::negotiate::{check_not_smaller, check_same_device, check_still_usable};
use dst_session::succession::Session;
use dst_wire::{Device, Welcome};

use super::ControlConnection;
use crate::news::{self, News};

impl ControlConnection {
    /// Handles the Welcome of a reconnect, which must be to the device that the bdev was made for.
    pub(super) fn rejoin(&mut self, welcome: &Welcome, before: Device, now: u64) {
        let same = check_same_device(&before, &welcome.device)
            .and_then(|()| check_not_smaller(&before, &welcome.device));
        if let Err(error) = same
            && !mutation::is_on(Mutation::NoIdentity)
        {
            return self.shared.fail(&error.to_string());
        }
        if let Err(error) = check_still_usable(&before, self.shared.max_request_len(), welcome) {
            self.shared.attempt_failed(error.to_string(), now);
            if let Some((connection, _)) = self.link.up() {
                // Without a Goodbye, the target would keep the session, to which this client does
                // not come back.
                connection.goodbye();
            }
            let all_tried = self.was_not_admitted(self.link.address());
            self.link.unusable(now);
            if !all_tried {
                self.link.try_next_address(now);
            }
            return;
        }
        self.joined(welcome);
        let before = self.take_rights(before, &welcome.device);
        if let Some(tail) = self.log.pass(now) {
            spdk::notice!("DST bdev {}: control connection is back{tail}", self.shared.name());
        }
        let num_blocks = welcome.device.num_blocks;
        // A size that SPDK refused before is offered again: the bdev may not be open any more.
        let is_news = self.bdev.as_ref().is_some_and(|bdev| bdev.size.blocks() != num_blocks);
        if num_blocks != before.num_blocks || is_news {
            self.resized(Device { num_blocks, ..before }, now);
        }
        // Otherwise this is told when I/O no longer fails at once.
        if !self.shared.is_unreachable() {
            news::tell(self.shared.name(), News::Reachable);
        }
    }

    /// Takes over the host's present rights from a Welcome's device. Returns the device `before`
    /// with these rights.
    fn take_rights(&self, before: Device, welcome: &Device) -> Device {
        let Device { read_only, ops, compare_and_write_max, .. } = *welcome;
        let now = Device { read_only, ops, compare_and_write_max, ..before };
        if now != before {
            self.shared.set_device(now);
            if let Some(bdev) = &self.bdev {
                bdev.disk.kinds_changed();
            }
        }
        if read_only != before.read_only {
            let what = if read_only { "is read only" } else { "can be written" };
            spdk::notice!(
                "DST bdev {} {what} now: the target has changed this host's rights",
                self.shared.name()
            );
        }
        now
    }

    /// Handles a Welcome to the bdev's device.
    pub fn joined(&mut self, welcome: &Welcome) {
        if let Some(address) = self.link.address() {
            self.shared.places().with_addresses(|addresses| addresses.admitted(address));
        }
        self.join(welcome);
        self.welcome = Some(welcome.clone());
    }

    fn join(&mut self, welcome: &Welcome) {
        let id = welcome.session.id;
        if self.shared.session().is_some_and(|session| session.id == id) {
            return;
        }
        let instance = self.welcome.as_ref().map(|before| before.instance);
        if instance.is_some_and(|before| before != welcome.instance) && !welcome.cache_kept {
            self.restarted(&welcome.device);
        }
        let session = Session { id, start: self.shared.durability().start() };
        if self.succession.opened(session, welcome.previous_ended) {
            self.shared.set_session(Some(session));
        } else {
            spdk::notice!(
                "DST bdev {}: the target can't tell whether the previous target process has ended: \
                 I/O waits until the leases of that process are over",
                self.shared.name()
            );
        }
    }

    /// Notes that the target was restarted.
    fn restarted(&mut self, device: &Device) {
        if self.shared.channels().restarted(self.shared.durability()) {
            spdk::error!(
                "DST bdev {}: the target was started anew and its device, {} blocks with a volatile cache, may have \
                 lost completed writes that were not flushed; the next flush of every channel fails",
                self.shared.name(),
                device.num_blocks
            );
            // Before there is a session in which anything could be sent.
            news::tell(self.shared.name(), News::LostCache);
        }
    }
}
