//! A target, as its operator sees it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use dst_session::access::{Access, Host, KeySource};
use dst_target::{
    KnownOwnership, ListenAddress, Options as TargetOptions, OwnershipState, ResetReach, Rules, Target,
};
use world::{life, process, store};

use super::{BDEV, EXPORT, KEY_FILE, STATE_FILE, Told, address, addresses, host};
use crate::plan::Plan;
use crate::promises::p10_removal_ends as p10;
use crate::stops::{check_note_is_gone, note_file};

/// The longest time for which a target is held up, in µs. Shorter than the pause from which a
/// client concludes that it was stopped itself, because no other process gets a turn meanwhile.
const HICCUP_US: u64 = 400_000;

/// The difference between the bytes of a device's UUID and those of the other device's.
const OTHER: u8 = 100;

/// One target and the successive processes that it runs as.
#[derive(Debug)]
pub struct TargetSide {
    /// Its current process.
    pub process: u32,
    /// The app thread of that process.
    pub app: u64,
    /// Its store.
    pub store: u32,
    /// The store that the target exports while it has another device.
    pub other: Option<u32>,
    /// The latest of these other stores.
    pub last_other: Option<u32>,
    /// Whether the operator wants the export to exist.
    pub exported: bool,
    /// The outcome of the deletion of the export that is in progress, and when the deletion began
    /// on the target's active clock, in µs.
    pub deleting: Option<(Told, u64)>,
    /// Clients whose hosts have no entry at the moment.
    pub shut_out: Vec<usize>,
    /// Clients that have only read access for a time, and whether the target has confirmed that by
    /// now.
    restricted: BTreeMap<usize, Rc<Cell<bool>>>,
    /// The outcome of the stop, if its current process was told to stop.
    ending: Option<Told>,
    number: usize,
}

impl TargetSide {
    /// Starts a target that exports a store.
    pub fn new(plan: &Plan, number: usize, store: u32) -> TargetSide {
        let mut target = TargetSide {
            process: 0,
            app: 0,
            store,
            other: None,
            last_other: None,
            exported: true,
            deleting: None,
            shut_out: Vec::new(),
            restricted: BTreeMap::new(),
            ending: None,
            number,
        };
        target.start(plan);
        target
    }

    /// Returns one of the addresses at which the target listens.
    pub fn address(&self, number: usize) -> SocketAddr {
        address(self.number, number)
    }

    /// Returns the addresses at which the target listens.
    pub fn addresses(&self, plan: &Plan) -> impl Iterator<Item = SocketAddr> + use<> {
        let addresses: Vec<SocketAddr> = addresses(plan, self.number).collect();
        addresses.into_iter()
    }

    /// Returns the store that the target exports now.
    pub fn exported_store(&self) -> u32 {
        self.other.unwrap_or(self.store)
    }

    /// Returns the store that a client's bdev with this UUID stands for.
    pub fn store_of(&self, uuid: [u8; 16]) -> u32 {
        // The client inverts the UUID so that one process can have both bdevs.
        let is_other = !uuid[0] > OTHER;
        if is_other { self.last_other.unwrap_or(self.store) } else { self.store }
    }

    /// Starts the target's process.
    pub fn start(&mut self, plan: &Plan) {
        self.last_other = self.other.or(self.last_other);
        let machine = if plan.one_machine { 0 } else { self.number as u32 + 1 };
        let (process, app) = life::start(
            &format!("target{}", self.number),
            plan.target_cores,
            machine,
            plan.skews[self.number],
        );
        (self.process, self.app) = (process, app);
        self.ending = None;
        process::set_hiccups(process, plan.hiccups, HICCUP_US.min(2 * plan.lease_us()));
        self.exported = true;
        self.deleting = None;
        self.shut_out.clear();
        // A device that was pulled is in its place again when its machine starts.
        for store in [self.store, self.exported_store()] {
            store::set_errors(store, plan.errors);
        }
        spdk::bdev::give(self.exported_store(), process, BDEV, plan.supports, plan.alignment_log2);
        let options = TargetOptions {
            session_timeout_ms: plan.session_timeout_ms,
            queue_depth: plan.target_depth,
            buffer_mib: 4,
            drain_timeout_ms: p10::DRAIN_MS,
            ..TargetOptions::default()
        };
        let (addresses, hosts) = (self.addresses(plan), self.hosts(plan));
        let (uuid, rules, is_owned) = (self.uuid(plan), rules(plan), plan.is_owned);
        let note = plan.notes.then(|| note_file(self.number));
        process::on(app, move || {
            Target::start();
            Target::with(|target| {
                target.set_options(options).expect("nothing is there yet");
                if let Some(file) = note {
                    target.set_stop_note(&file).expect("nothing is there yet");
                    check_note_is_gone(&file);
                }
                export(target, uuid, rules, &hosts);
                if is_owned {
                    target.keep_ownership(EXPORT, STATE_FILE).expect("the export is new");
                }
                for address in addresses {
                    let at = ListenAddress { addr: address.ip(), port: address.port(), sock_impl: None };
                    target
                        .create_listener(at, |made| made.expect("the address is free, and memory is there"));
                }
            });
        });
    }

    /// Returns the UUID of the export, which the operator sets.
    fn uuid(&self, plan: &Plan) -> [u8; 16] {
        let number = if plan.failover { 0 } else { self.number as u8 };
        [number + 1 + if self.other.is_some() { OTHER } else { 0 }; 16]
    }

    fn hosts(&self, plan: &Plan) -> Vec<Host> {
        (0..plan.clients)
            .filter(|client| !self.shut_out.contains(client))
            .map(|c| self.host(plan, c))
            .collect()
    }

    fn host(&self, plan: &Plan, client: usize) -> Host {
        let is_reader = plan.read_only && client == 1 || self.restricted.contains_key(&client);
        let access = match is_reader {
            true => Access::ReadOnly,
            false if plan.is_owned => Access::TakeOver,
            false => Access::ReadWrite,
        };
        let all = "0.0.0.0/0".parse().expect("a prefix");
        let keys = plan.cipher.map(|_| KeySource::File(KEY_FILE.to_owned()));
        Host { name: host(client), access, addresses: vec![all], keys }
    }

    /// Deletes the export.
    pub fn delete_export(&mut self) {
        self.exported = false;
        if self.is_ending() {
            // The stop deletes it, and nobody could be told of that.
            return;
        }
        let told = Told::default();
        self.deleting = Some((Rc::clone(&told), self.active_us()));
        let (store, process) = (self.exported_store(), self.process);
        process::on(self.app, move || {
            Target::with(|target| {
                let tell = Rc::clone(&told);
                let done = move |result: Result<(), _>| {
                    if result.is_ok() {
                        p10::export_is_gone(store, process);
                    }
                    *tell.borrow_mut() = Some(result.map_err(|error| format!("{error:?}")));
                };
                // The export may be gone already, or its deletion may be in progress.
                if target.delete_export(EXPORT, done).is_err() {
                    *told.borrow_mut() = Some(Ok(()));
                }
            });
        });
    }

    /// Returns how long the deletion of the export has been in progress, in µs on the target's
    /// active clock.
    pub fn deleting_for_us(&mut self) -> u64 {
        if self.deleting.as_ref().is_none_or(|(told, _)| told.borrow().is_some())
            || !process::is_alive(self.process)
        {
            self.deleting = None;
        }
        self.deleting.as_ref().map_or(0, |(_, began)| self.active_us().saturating_sub(*began))
    }

    /// Returns the target's clock, in µs, without the periods in which it was held up.
    fn active_us(&self) -> u64 {
        process::clock(self.process).saturating_sub(world::held_up_us())
    }

    /// Creates the export again unless it exists. The caller repeats this until it does.
    pub fn make_export(&mut self, plan: &Plan) {
        self.exported = true;
        let hosts = self.hosts(plan);
        let (uuid, rules) = (self.uuid(plan), rules(plan));
        process::on(self.app, move || Target::with(|target| export(target, uuid, rules, &hosts)));
    }

    /// Makes the target's bdev available and asks the bdev modules to examine it.
    pub fn plug(&self, plan: &Plan) {
        if process::is_alive(self.process) {
            spdk::bdev::give(self.exported_store(), self.process, BDEV, plan.supports, plan.alignment_log2);
            process::on(self.app, || Target::with(|target| target.bdev_appeared(BDEV)));
        }
    }

    /// Leaves a host only read access from now on.
    pub fn restrict(&mut self, plan: &Plan, client: usize) {
        let is_told = Rc::new(Cell::new(false));
        self.restricted.insert(client, Rc::clone(&is_told));
        self.set_host(plan, client, move |set| is_told.set(set));
    }

    /// Gives a host its former access back.
    pub fn lift(&mut self, plan: &Plan, client: usize) {
        if self.restricted.remove(&client).is_some() {
            self.set_host(plan, client, |_| {});
        }
    }

    /// Returns whether the target has confirmed by now that the host has only read access.
    pub fn has_restricted(&self, client: usize) -> bool {
        self.restricted.get(&client).is_some_and(|is_told| is_told.get())
    }

    fn set_host(&self, plan: &Plan, client: usize, done: impl FnOnce(bool) + 'static) {
        let entry = self.host(plan, client);
        process::on(self.app, move || {
            Target::with(|target| {
                target.set_host(EXPORT, entry, move |set| done(set.is_ok()));
            });
        });
    }

    /// Removes a host's entry.
    pub fn remove_host(&mut self, client: usize) {
        if !self.shut_out.contains(&client) {
            self.shut_out.push(client);
        }
        process::on(self.app, move || {
            Target::with(|target| {
                let _ = target.remove_host(EXPORT, &host(client));
            });
        });
    }

    /// Adds a host's entry again.
    pub fn add_host(&mut self, plan: &Plan, client: usize) {
        self.shut_out.retain(|other| *other != client);
        let entry = self.host(plan, client);
        process::on(self.app, move || {
            Target::with(|target| {
                let _ = target.add_host(EXPORT, entry);
            });
        });
    }

    /// Releases the ownership of the export, or the uncertainty about it.
    pub fn release_export(&self) -> Told {
        let told = Told::default();
        let tell = Rc::clone(&told);
        process::on(self.app, move || {
            Target::with(|target| {
                let done = move |result: Result<(), _>| {
                    *tell.borrow_mut() = Some(result.map_err(|error| format!("{error}")));
                };
                target.release_export(EXPORT, done).expect("the export has a state file");
            });
        });
        told
    }

    /// Releases the export if nobody knows who owns it.
    pub fn release_unknown(&self) {
        process::on(self.app, move || {
            Target::with(|target| {
                let Ok(exports) = target.exports(Some(EXPORT)) else { return };
                let is_unknown = |state: &OwnershipState| {
                    matches!(state, OwnershipState::Settled(KnownOwnership::Unknown(_)))
                };
                if exports.iter().any(|export| is_unknown(&export.ownership)) {
                    // If this fails, the operator does it again.
                    let _ = target.release_export(EXPORT, |_| {});
                }
            });
        });
    }

    /// Tells the process to stop in order. It ends only when it is killed.
    pub fn end(&mut self) {
        if process::is_alive(self.process) && !self.is_ending() {
            // Nobody waits for it: a stop that takes too long ends in a kill.
            self.ending = Some(self.stop());
        }
    }

    /// Returns whether its current process was told to stop.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Returns whether its current process was told to stop and has done so.
    pub fn has_ended(&self) -> bool {
        self.ending.as_ref().is_some_and(|told| told.borrow().is_some())
    }

    /// Takes everything down. The returned cell holds the outcome once this is complete.
    pub fn stop(&self) -> Told {
        let told = Told::default();
        let tell = Rc::clone(&told);
        process::on(self.app, move || {
            Target::with(|target| target.stop(move || *tell.borrow_mut() = Some(Ok(()))));
        });
        told
    }
}

fn rules(plan: &Plan) -> Rules {
    let reset = if plan.reset_backend { ResetReach::Backend } else { ResetReach::Host };
    Rules { reset, ..Rules::default() }
}

/// Exports the bdev to these hosts, unless the export exists.
fn export(target: &Rc<Target>, uuid: [u8; 16], rules: Rules, hosts: &[Host]) {
    if target.create_export(EXPORT, BDEV, Some(uuid), rules, &[]).is_ok() {
        for host in hosts {
            target.add_host(EXPORT, host.clone()).expect("the export is new");
        }
    }
}
