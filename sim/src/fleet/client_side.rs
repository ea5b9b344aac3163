//! A client, as its user sees it.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use dst_client::{
    BdevParams, BdevState, BdevUuid, Options as ClientOptions, Place, TargetParams, TargetPlaces, Wait,
};
use dst_session::access::KeySource;
use dst_session::paths::PathPolicy;
use dst_wire::{Cipher, Digest};
use world::{life, net, process};

use super::{BDEV, EXPORT, KEY_FILE, PORT, Told, addresses, host};
use crate::contact::{Answer, Answers, Clocks};
use crate::plan::Plan;

/// The longest time for which a client is held up, in µs: longer than promise 5 leaves to its clock,
/// shorter than the pause from which it concludes that it was stopped.
const PAUSE_US: u64 = 200_000;

/// One client and the successive processes that it runs as.
#[derive(Debug)]
pub struct ClientSide {
    /// Its current process.
    pub process: u32,
    /// The app thread of that process.
    pub app: u64,
    /// The threads that use the bdev.
    pub threads: Vec<u64>,
    /// The bdev, while it exists.
    pub disk: Option<u64>,
    /// The store that backs the bdev.
    pub store: u32,
    /// The outcome of the attempt to create the bdev.
    pub created: Option<Told>,
    /// The outcome of the deletion of the bdev.
    pub deleted: Option<Told>,
    /// When the deletion began, on the client's active clock, in µs.
    pub delete_began: u64,
    /// Whether the user wants the bdev to exist.
    pub wanted: bool,
    /// Whether the next bdev takes the export over.
    pub takes_over: bool,
    /// The target to which it belongs.
    pub target: usize,
    number: usize,
}

/// Returns an address at which nothing listens.
fn dead_address(number: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 9, number as u8 + 1]), PORT)
}

fn policy(plan: &Plan) -> PathPolicy {
    if plan.spread { PathPolicy::Spread } else { PathPolicy::Failover }
}

impl ClientSide {
    /// Starts a client, which begins to attach.
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
            takes_over: plan.is_owned && number > 0,
            target: number % plan.targets,
            number,
        };
        client.start(plan);
        client
    }

    /// Starts the client's process.
    pub fn start(&mut self, plan: &Plan) {
        let machine = if plan.one_machine { 0 } else { self.number as u32 + 11 };
        let (process, app) = life::start(
            &format!("client{}", self.number),
            plan.client_cores,
            machine,
            plan.skews[(2 + self.number) % plan.skews.len()],
        );
        (self.process, self.app) = (process, app);
        process::set_pauses(process, plan.pauses, PAUSE_US);
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

    /// Creates the bdev.
    pub fn create(&mut self, plan: &Plan) {
        self.wanted = true;
        let told = Told::default();
        self.created = Some(Rc::clone(&told));
        // Each client tries its own target's address first.
        let mut targets: Vec<usize> = (0..plan.targets).collect();
        if plan.failover {
            targets.rotate_left(self.number % plan.targets);
        } else {
            targets = vec![self.target];
        }
        let addrs = targets.into_iter().flat_map(|target| addresses(plan, target)).map(|at| at.ip());
        let dead = (0..plan.dead_addresses).map(|number| dead_address(number).ip());
        let places = dead.chain(addrs).map(Place::from).collect();
        let params = BdevParams {
            name: BDEV.to_owned(),
            target: TargetParams {
                at: TargetPlaces { places, port: PORT, family: None, policy: policy(plan) },
                export: EXPORT.to_owned(),
                host: host(self.number),
                digests: if plan.digests { vec![Digest::Crc32c] } else { vec![Digest::None] },
                key: plan.cipher.map(|_| KeySource::File(KEY_FILE.to_owned())),
                ciphers: vec![plan.cipher.unwrap_or(Cipher::None)],
                sock_impl: None,
                exclusive: plan.is_owned,
            },
            uuid: BdevUuid::Derived,
            options: ClientOptions {
                transaction_timeout_ms: plan.transaction_timeout_ms,
                max_retries: plan.max_retries,
                reconnect_delay_ms: plan.reconnect_delay_ms,
                fast_io_fail_timeout_ms: plan.fast_io_fail_ms,
                loss_timeout_ms: plan.loss_ms,
                keep_alive_timeout_ms: plan.keep_alive_ms,
                attach_timeout_ms: plan.attach_timeout_ms,
                queue_depth: plan.client_depth,
            },
            wait: Wait::UntilAttached,
            takeover: plan.is_owned && std::mem::take(&mut self.takes_over),
        };
        process::on(self.app, move || {
            dst_client::create(params, move |result| {
                *told.borrow_mut() = Some(result.map(|_| ()).map_err(|error| error.to_string()));
            });
        });
    }

    /// Tells the process to stop, as SPDK does. The process ends only when it is killed.
    pub fn stop(&self) {
        process::on(self.app, || dst_client::stop_begins(|| {}));
    }

    /// Gives the bdev the next target's addresses, if there are two targets.
    pub fn repoint(&mut self, plan: &Plan) {
        if !process::is_alive(self.process) {
            return;
        }
        if plan.failover {
            self.target = (self.target + 1) % plan.targets;
        }
        let places = addresses(plan, self.target).map(|at| Place::from(at.ip())).collect();
        let policy = policy(plan);
        process::on(self.app, move || {
            if let Ok(client) = dst_client::find(BDEV) {
                client.repoint(TargetPlaces { places, port: PORT, family: None, policy });
            }
        });
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

    /// Asks the client what connections it has; `asked` is the time of the question on the client's
    /// clocks.
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
