//! The control thread's side: drives the broker, and carries out what it decides.
//!
//! What happens is told to the broker with [`Target::tell`], which then carries out the outputs, in
//! their order. No state is borrowed while an output is carried out, as that may lead to the next input.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use dst_broker::{Broker, ConnectionId, Input, Limits, Opening, Order, Output, PreviousProcess, Topic};
use spdk::clock::now_us;
use spdk::instance::Instance;
use spdk::poller::Poller;
use spdk::sock::Sock;
use spdk::thread::Thread;

use crate::backend_resets::BackendResets;
use crate::error::Error;
use crate::export::Export;
use crate::groups::Groups;
use crate::holds::Holding;
use crate::keys::Keys;
use crate::listener::Configured;
use crate::messages::{Join, ToControl, ToGroup};
use crate::options::Options;
use crate::questions::Questions;
use crate::rate::RateLimit;
use crate::waiting::Waiting;

spdk::thread_local! {
    static TARGET: RefCell<Option<Rc<Target>>> = const { RefCell::new(None) };
}

/// Limits on log lines, one for each topic that peers can cause lines about.
#[derive(Default)]
struct Logs {
    sessions: RateLimit,
    flood: RateLimit,
    refusals: RateLimit,
}

/// The target. One a process, on the app thread.
pub struct Target {
    pub(crate) options: Cell<Options>,
    /// This start of the process. Known to others until the last of its I/O has ended.
    pub(crate) instance: Instance,
    pub(crate) broker: RefCell<Broker>,
    /// The bdevs of the broker's exports.
    pub(crate) exports: RefCell<BTreeMap<String, Export>>,
    /// The resets of these bdevs.
    pub(crate) backend_resets: Arc<BackendResets>,
    pub(crate) groups: RefCell<Groups>,
    pub(crate) listeners: RefCell<Vec<Configured>>,
    /// Tries again for listeners that wait, while there are any.
    pub(crate) retrier: RefCell<Option<Poller>>,
    /// Of the exports' entries.
    pub(crate) keys: Keys,
    /// What the groups were asked and have not answered yet.
    pub(crate) questions: Questions,
    /// The requests that groups hold.
    pub(crate) holding: Holding,
    logs: Logs,
    pub(crate) thread: Thread,
    pub(crate) ticker: RefCell<Option<Poller>>,
    /// The exports that are offline and want a bdev.
    pub(crate) waiting: RefCell<Waiting>,
    /// Looks for the bdevs of exports that are offline, while there are any.
    pub(crate) looker: RefCell<Option<Poller>>,
    /// Called when nothing is left, once the target is to stop.
    stopping: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Target {
    /// Makes the process's target, without listeners and exports. On the app thread, once.
    pub fn start() {
        let thread = Thread::current().expect("the target is started on an SPDK thread");
        let (options, instance) = (Options::default(), Instance::new());
        let broker = Broker::new(limits(&options, u32::MAX));
        let target = Rc::new(Target {
            options: Cell::new(options),
            instance,
            broker: RefCell::new(broker),
            exports: RefCell::default(),
            backend_resets: Arc::default(),
            groups: RefCell::default(),
            listeners: RefCell::default(),
            retrier: RefCell::default(),
            keys: Keys::default(),
            questions: Questions::default(),
            holding: Holding::default(),
            logs: Logs::default(),
            thread,
            ticker: RefCell::default(),
            waiting: RefCell::default(),
            looker: RefCell::default(),
            stopping: RefCell::default(),
        });
        TARGET.with(|slot| *slot.borrow_mut() = Some(target));
    }

    /// Runs `f` with the target; not at all when it was stopped, or on another thread.
    pub fn with(f: impl FnOnce(&Rc<Target>)) {
        if let Some(target) = Target::get() {
            f(&target);
        }
    }

    /// Returns the target; `None` before the start, after the stop, or on another thread.
    pub fn get() -> Option<Rc<Target>> {
        TARGET.with(|slot| slot.borrow().clone())
    }

    /// Ends it all; `done` is called when nothing is left.
    pub fn stop(self: &Rc<Self>, done: impl FnOnce() + 'static) {
        *self.stopping.borrow_mut() = Some(Box::new(done));
        self.listeners.borrow_mut().clear();
        self.retrier.take();
        // Before the exports are deleted, or their clients would be told that they are gone for good.
        // For them this is as a death of the process: another one may come.
        self.tell(Input::Stop);
        let names: Vec<String> = self.exports.borrow().keys().cloned().collect();
        for name in names {
            // One that is being deleted already goes on with that.
            let _ = self.delete_export(&name, |_| {});
        }
    }

    /// The last step of [`Target::stop`], when the last connection and export are gone.
    fn stopped(&self) {
        let Some(done) = self.stopping.take() else { return };
        self.stop_groups();
        self.ticker.take();
        self.looker.take();
        TARGET.with(|slot| slot.borrow_mut().take());
        done();
    }

    /// Returns target-wide limits and defaults.
    pub fn options(&self) -> Options {
        self.options.get()
    }

    /// Sets target-wide limits and defaults.
    ///
    /// # Errors
    /// Something was made with the old ones already.
    pub fn set_options(&self, options: Options) -> Result<(), Error> {
        if !matches!(*self.groups.borrow(), Groups::None) || !self.exports.borrow().is_empty() {
            return Err(Error::OptionsInUse);
        }
        self.options.set(options);
        self.broker.borrow_mut().set_limits(limits(&options, u32::MAX));
        Ok(())
    }

    /// Tells the broker what happened, and carries out what it decides.
    pub(crate) fn tell(self: &Rc<Self>, input: Input) {
        self.broker.borrow_mut().handle(now_us(), input);
        self.carry_out();
    }

    /// Carries out what the broker has decided. After each call of the broker that may decide something.
    pub(crate) fn carry_out(self: &Rc<Self>) {
        loop {
            let output = self.broker.borrow_mut().poll_output();
            let Some(output) = output else { return };
            match output {
                Output::ToGroup { group, connection, order } => self.order(group, connection, order),
                Output::AskAgain { connection, instance } => {
                    let opening = self.opening(instance);
                    self.tell(Input::AskedAgain { connection, opening });
                }
                Output::ConfirmSize { export, num_blocks } => {
                    self.ask_groups(move |target, _| {
                        target.tell(Input::SizeConfirmed { export, num_blocks })
                    });
                }
                Output::CountInFlight { export, lateness } => self.count_in_flight(export, lateness),
                Output::ResetBackend { export, in_flight, waited_ms } => {
                    self.reset_backend(&export, in_flight, waited_ms);
                }
                Output::ResetForHosts { export } => self.reset_for_hosts(export),
                Output::BackendHangs { export, in_flight, waited_ms } => {
                    self.backend_hangs(export, in_flight, waited_ms);
                }
                Output::BackingGone { export, was_late } => self.backing_gone(&export, was_late),
                Output::StoreOwnership { export, number, host, since_s } => {
                    self.store_ownership(export, number, host, since_s);
                }
                Output::ExportGone { export, was_late } => self.export_gone(&export, was_late),
                Output::Log { is_warning, topic, text } => self.log(is_warning, topic, &text),
                Output::Stopped => self.stopped(),
            }
        }
    }

    fn order(&self, group: usize, connection: ConnectionId, order: Order) {
        let message = match order {
            Order::Welcome(welcome, joining) => {
                let join = joining.map(|joining| {
                    let exports = self.exports.borrow();
                    let export = exports.get(&joining.client.export);
                    let export = export.expect("an export outlives its connections");
                    let desc = export.open_desc().expect("nobody is admitted while the export is offline");
                    let backend_resets = Arc::clone(&self.backend_resets);
                    Box::new(Join { bdev: desc.handle(), joining: *joining, backend_resets })
                });
                ToGroup::Welcome { connection, welcome, join }
            }
            Order::Refuse(refusal) => ToGroup::Refuse { connection, refusal },
            Order::Event(event) => ToGroup::Event { connection, event },
            Order::Reset(step) => ToGroup::Reset { connection, step },
            Order::Close => ToGroup::Close { connection },
        };
        self.tell_group(group, message);
    }

    /// Takes a group's message.
    pub(crate) fn hear(self: &Rc<Self>, message: ToControl) {
        match message {
            ToControl::Hello { connection, hello } => {
                let opening = self.opening(hello.previous.as_ref().map(|previous| previous.instance));
                self.tell(Input::Hello { connection, hello, opening });
            }
            ToControl::Secure { connection, message } => self.secure(connection, &message),
            ToControl::Reset { connection, slot } => self.tell(Input::Reset { connection, slot }),
            ToControl::Quiesced { connection, round } => self.tell(Input::Quiesced { connection, round }),
            ToControl::Draining { connection } => self.tell(Input::Draining { connection }),
            ToControl::Finished { connection, remains } => self.tell(Input::Finished { connection, remains }),
            ToControl::Returned { connection, session, queue, slots } => {
                self.tell(Input::Returned { connection, session, queue, slots });
            }
            ToControl::Started { core, result } => self.group_started(core, result),
            ToControl::Holds { by, notices } => self.holding(by, notices),
            ToControl::Counted { question, counts } => self.questions.answered(question, counts),
        }
    }

    /// Returns what the broker can't know by itself about a hello that may open a session. `previous` is
    /// the target process that had the client's session before.
    fn opening(&self, previous: Option<[u8; 16]>) -> Opening {
        let mut session = [0; 16];
        spdk::random::fill(&mut session);
        let previous = match previous {
            Some(instance) if self.instance.has_given(instance) => PreviousProcess::This,
            Some(instance) if self.instance.has_ended(instance) => PreviousProcess::Ended,
            _ => PreviousProcess::Unknown,
        };
        Opening { session, previous }
    }

    /// A listener has a new connection: a group gets it, if there is room.
    pub(crate) fn accepted(self: &Rc<Self>, sock: Sock, peer: SocketAddr) {
        let adopted = self.broker.borrow_mut().accepted(now_us(), peer);
        // Another one may have to go for it.
        self.carry_out();
        let Some(adopted) = adopted else { return };
        let connection = adopted.connection;
        if let Err(errno) = self.send(adopted.group, ToGroup::Adopt { connection, sock, peer }) {
            let text = format!("DST connection from {peer} closed: {errno}");
            self.log(true, Topic::Sessions, &text);
            self.tell(Input::NotAdopted { connection });
        }
    }

    fn log(&self, is_warning: bool, topic: Topic, text: &str) {
        let limit = match topic {
            Topic::Sessions => &self.logs.sessions,
            Topic::Flood => &self.logs.flood,
            Topic::Refusals => &self.logs.refusals,
            Topic::Operators => return spdk::notice!("{text}"),
        };
        if is_warning {
            limit.warn(format_args!("{text}"));
        } else {
            limit.notice(format_args!("{text}"));
        }
    }
}

/// Returns what the broker grants at most, with these options and open files for so many connections.
pub(crate) fn limits(options: &Options, files: u32) -> Limits {
    Limits {
        max_connections: options.max_connections.min(files),
        max_queues: options.max_connections,
        max_handshakes: options.max_handshakes,
        max_handshakes_per_address: options.max_handshakes_per_address,
        max_connections_per_host: options.max_connections_per_host,
        max_sessions: options.max_sessions,
        session_timeout_ms: options.session_timeout_ms,
        max_keep_alive_ms: options.max_keep_alive_ms,
        drain_timeout_ms: options.drain_timeout_ms,
        queue_depth: options.queue_depth,
        max_transfer: options.max_transfer,
    }
}
