//! Targets and clients: how they are started, set up, and asked.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use dst_client::{Address, BdevState, Options as ClientOptions, Params, Peer, Wait};
use dst_session::access::{Access, Host, KeySource};
use dst_target::{ListenAddress, Options as TargetOptions, ResetReach, Rules, Target};
use dst_wire::{Cipher, Digest};
use world::store::{self, StoreConfig};
use world::{life, net, process};

use crate::contact::{Answer, Answers, Clocks};
use crate::plan::Plan;
use crate::promises::p10_removal_ends as p10;

/// The name of every export.
pub const EXPORT: &str = "vol";

/// The file with the key of all hosts.
pub const KEY_FILE: &str = "/key";

/// The longest time for which a target is held up, µs. Less than what a client takes for its own
/// being stopped, as nobody else has a turn meanwhile.
const HICCUP_US: u64 = 400_000;

/// What the identity of another device differs by.
const OTHER: u8 = 100;

/// The name of every bdev, on both sides.
pub const BDEV: &str = "disk";

/// The port of every target.
const PORT: u16 = 4420;

/// One target, through all its lives.
#[derive(Debug)]
pub struct TargetSide {
    /// Its process now.
    pub process: u32,
    /// Its app thread.
    pub app: u64,
    /// Its store.
    pub store: u32,
    /// The store that is there while it has another device.
    pub other: Option<u32>,
    /// The newest other one.
    pub last_other: Option<u32>,
    /// Whether its export is there, as far as the operator is concerned.
    pub exported: bool,
    /// The deletion of the export that is going on, and since when.
    pub deleting: Option<(Told, u64)>,
    /// Clients without a right.
    pub shut_out: Vec<usize>,
    number: usize,
}

/// What an operator was told.
pub type Told = Rc<RefCell<Option<Result<(), String>>>>;

/// One client, through all its lives.
#[derive(Debug)]
pub struct ClientSide {
    /// Its process now.
    pub process: u32,
    /// Its app thread.
    pub app: u64,
    /// The threads that use the bdev.
    pub threads: Vec<u64>,
    /// The bdev, while it is there.
    pub disk: Option<u64>,
    /// The store that it was made for.
    pub store: u32,
    /// What became of the attempt to make the bdev.
    pub created: Option<Told>,
    /// What became of the deletion.
    pub deleted: Option<Told>,
    /// When the deletion began, on the process's own running time.
    pub delete_began: u64,
    /// Whether the user wants the bdev now.
    pub wanted: bool,
    /// Its target.
    pub target: usize,
    number: usize,
}

fn address(target: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 0, target as u8 + 1]), PORT)
}

/// An address at which nothing is.
fn dead_address(number: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 9, number as u8 + 1]), PORT)
}

fn host(client: usize) -> String {
    format!("host{client}")
}

/// A store with what the plan says.
pub fn new_store(plan: &Plan, number: u8) -> u32 {
    store::create(StoreConfig {
        uuid: [number + 1; 16],
        block_size: plan.block_size,
        num_blocks: plan.num_blocks,
        write_cache: plan.write_cache,
        in_process: plan.in_process,
        latency_us: plan.latency_us,
        errors: plan.errors,
        reset_works: plan.reset_works,
    })
}

impl TargetSide {
    /// A target that exports a store.
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
            number,
        };
        target.start(plan);
        target
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        address(self.number)
    }

    /// The store that it exports now.
    pub fn exported_store(&self) -> u32 {
        self.other.unwrap_or(self.store)
    }

    /// The store of which a client's bdev has the identity.
    pub fn store_of(&self, uuid: [u8; 16]) -> u32 {
        // The client inverts it, so that a process can have both bdevs.
        let is_other = !uuid[0] > OTHER;
        if is_other { self.last_other.unwrap_or(self.store) } else { self.store }
    }

    /// Starts its process.
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
        process::set_hiccups(process, plan.hiccups, HICCUP_US.min(2 * plan.lease_us()));
        self.exported = true;
        self.deleting = None;
        self.shut_out.clear();
        spdk::bdev::give(self.exported_store(), process, BDEV, plan.supports);
        let options = TargetOptions {
            session_timeout_ms: plan.session_timeout_ms,
            queue_depth: plan.target_depth,
            buffer_mib: 4,
            drain_timeout_ms: p10::DRAIN_MS,
            ..TargetOptions::default()
        };
        let (address, hosts) = (self.address(), self.hosts(plan));
        let (uuid, rules) = (self.uuid(plan), rules(plan));
        process::on(app, move || {
            Target::start();
            Target::with(|target| {
                target.set_options(options).expect("nothing is there yet");
                export(target, uuid, rules, &hosts);
                let at = ListenAddress { addr: address.ip(), port: address.port(), sock_impl: None };
                target.create_listener(at, |made| made.expect("the address is free, and memory is there"));
            });
        });
    }

    /// The export's identity, which the operator gives it.
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
        let access = if plan.read_only && client == 1 { Access::ReadOnly } else { Access::ReadWrite };
        let all = "0.0.0.0/0".parse().expect("a prefix");
        let keys = plan.cipher.map(|_| KeySource::File(KEY_FILE.to_owned()));
        Host { name: host(client), access, addresses: vec![all], keys }
    }

    /// Deletes the export.
    pub fn delete_export(&mut self) {
        self.exported = false;
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
                // It may be gone, or on its way out already.
                if target.delete_export(EXPORT, done).is_err() {
                    *told.borrow_mut() = Some(Ok(()));
                }
            });
        });
    }

    /// For how long an export has been on its way out, on the target's clock, µs.
    pub fn deleting_for_us(&mut self) -> u64 {
        if self.deleting.as_ref().is_none_or(|(told, _)| told.borrow().is_some())
            || !process::is_alive(self.process)
        {
            self.deleting = None;
        }
        self.deleting.as_ref().map_or(0, |(_, began)| self.active_us().saturating_sub(*began))
    }

    /// Its clock, without the time in which it was held up.
    fn active_us(&self) -> u64 {
        process::clock(self.process).saturating_sub(world::held_up_us())
    }

    /// Makes the export again, if it is gone; to be repeated until it is there.
    pub fn make_export(&mut self, plan: &Plan) {
        self.exported = true;
        let hosts = self.hosts(plan);
        let (uuid, rules) = (self.uuid(plan), rules(plan));
        process::on(self.app, move || Target::with(|target| export(target, uuid, rules, &hosts)));
    }

    /// Takes a host's right away.
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

    /// Gives a host its right again.
    pub fn add_host(&mut self, plan: &Plan, client: usize) {
        self.shut_out.retain(|other| *other != client);
        let entry = self.host(plan, client);
        process::on(self.app, move || {
            Target::with(|target| {
                let _ = target.add_host(EXPORT, entry);
            });
        });
    }

    /// Takes it all down; `told` when it is.
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

/// Exports the bdev to these hosts, unless the export is there.
fn export(target: &Rc<Target>, uuid: [u8; 16], rules: Rules, hosts: &[Host]) {
    if target.create_export(EXPORT, BDEV, Some(uuid), rules, &[]).is_ok() {
        for host in hosts {
            target.add_host(EXPORT, host.clone()).expect("the export is new");
        }
    }
}

impl ClientSide {
    /// A client that begins to attach.
    pub fn new(plan: &Plan, number: usize) -> ClientSide {
        let mut client = ClientSide {
            process: 0,
            app: 0,
            threads: Vec::new(),
            disk: None,
            store: 0,
            created: None,
            deleted: None,
            delete_began: 0,
            wanted: true,
            target: number % plan.targets,
            number,
        };
        client.start(plan);
        client
    }

    /// Starts its process.
    pub fn start(&mut self, plan: &Plan) {
        let machine = if plan.one_machine { 0 } else { self.number as u32 + 11 };
        let (process, app) = life::start(
            &format!("client{}", self.number),
            plan.client_cores,
            machine,
            plan.skews[2 + self.number],
        );
        (self.process, self.app) = (process, app);
        self.threads = (0..plan.client_threads)
            .map(|i| match i {
                0 => app,
                _ => process::add_thread(process, i as u32 % plan.client_cores, &format!("user{i}")),
            })
            .collect();
        for number in 0..plan.dead_addresses {
            net::block(process, dead_address(number), u64::MAX);
        }
        self.disk = None;
        self.created = None;
        self.deleted = None;
        if self.wanted {
            self.create(plan);
        }
    }

    /// Makes the bdev.
    pub fn create(&mut self, plan: &Plan) {
        self.wanted = true;
        let told = Told::default();
        self.created = Some(Rc::clone(&told));
        // Each begins with its own.
        let mut addrs: Vec<IpAddr> = (0..plan.targets).map(|target| address(target).ip()).collect();
        if plan.failover {
            addrs.rotate_left(self.number % plan.targets);
        } else {
            addrs = vec![addrs[self.target]];
        }
        let dead = (0..plan.dead_addresses).map(|number| dead_address(number).ip());
        let addrs = dead.chain(addrs).map(Address::from).collect();
        let params = Params {
            name: BDEV.to_owned(),
            peer: Peer {
                addrs,
                port: PORT,
                export: EXPORT.to_owned(),
                host: host(self.number),
                digests: if plan.digests { vec![Digest::Crc32c] } else { vec![Digest::None] },
                key: plan.cipher.map(|_| KeySource::File(KEY_FILE.to_owned())),
                ciphers: vec![plan.cipher.unwrap_or(Cipher::None)],
                sock_impl: None,
            },
            options: ClientOptions {
                transaction_timeout_ms: plan.transaction_timeout_ms,
                max_retries: plan.max_retries,
                reconnect_delay_ms: plan.reconnect_delay_ms,
                fast_io_fail_timeout_ms: plan.fast_io_fail_ms,
                loss_timeout_ms: plan.loss_ms,
                keep_alive_timeout_ms: plan.keep_alive_ms,
                attach_timeout_ms: 60_000,
                queue_depth: plan.client_depth,
            },
            wait: Wait::UntilAttached,
        };
        process::on(self.app, move || {
            dst_client::create(params, move |result| {
                *told.borrow_mut() = Some(result.map(|_| ()).map_err(|error| error.to_string()));
            });
        });
    }

    /// Tells the process to stop, as SPDK does. It ends when it is killed.
    pub fn stop(&self) {
        process::on(self.app, || dst_client::stop_begins(|| {}));
    }

    /// Deletes the bdev.
    pub fn delete(&mut self) {
        self.wanted = false;
        let told = Told::default();
        self.deleted = Some(Rc::clone(&told));
        process::on(self.app, move || {
            dst_client::delete(BDEV, move |result| {
                *told.borrow_mut() = Some(result.map_err(|error| error.to_string()));
            });
        });
    }

    /// Asks what connections it has, at a time of its clocks.
    pub fn ask_contact(&self, answers: &Answers, asked: Clocks) {
        let answers = Rc::clone(answers);
        process::on(self.app, move || {
            if let Ok(client) = dst_client::find(BDEV) {
                let info = client.info();
                let has_failed = info.state == BdevState::Failed;
                let (connections, lost) = (info.connections, info.lost);
                answers.set(Some(Answer { asked, connections, lost, has_failed }));
            }
        });
    }

    /// Asks for the bdev's state.
    pub fn ask_state(&self, answer: &Rc<RefCell<String>>) {
        let answer = Rc::clone(answer);
        process::on(self.app, move || {
            let state = dst_client::find(BDEV)
                .map_or_else(|_| "none".to_owned(), |c| format!("{:?}", c.info().state).to_lowercase());
            *answer.borrow_mut() = state;
        });
    }
}
