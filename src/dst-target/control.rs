//! The target's control thread, which drives the broker and carries out its decisions.
//!
//! [`Target::tell`] passes an event to the broker and then carries out the broker's outputs in
//! their order. No state is borrowed meanwhile, since carrying out an output may lead to the next
//! input.

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
use crate::groups::GroupThreads;
use crate::holds::AllHolds;
use crate::keys::KeyReader;
use crate::listener::ConfiguredListener;
use crate::log_limit::LogLimit;
use crate::messages::{Join, ToControl, ToGroup};
use crate::note_file::NoteFile;
use crate::options::Options;
use crate::questions::Questions;
use crate::stopping::Stopping;
use crate::waiting::WaitingExports;

spdk::thread_local! {
    static TARGET: RefCell<Option<Rc<Target>>> = const { RefCell::new(None) };
}

/// The limits on log lines, one for each topic on which peers can cause lines.
#[derive(Default)]
struct Logs {
    sessions: LogLimit,
    flood: LogLimit,
    refusals: LogLimit,
}

/// The target. There is one in a process. It lives on the app thread.
pub struct Target {
    pub(crate) options: Cell<Options>,
    /// The instance of this process. Other processes see that it exists until the last of its I/O
    /// has ended.
    pub(crate) instance: Instance,
    pub(crate) broker: RefCell<Broker>,
    /// The bdevs of the broker's exports.
    pub(crate) exports: RefCell<BTreeMap<String, Export>>,
    /// The resets of these bdevs.
    pub(crate) backend_resets: Arc<BackendResets>,
    pub(crate) groups: RefCell<GroupThreads>,
    pub(crate) listeners: RefCell<Vec<ConfiguredListener>>,
    /// The timer of listeners that wait for their address, if there are any.
    pub(crate) retrier: RefCell<Option<Poller>>,
    /// The keys of the exports' entries.
    pub(crate) keys: KeyReader,
    /// The questions that not all groups have answered yet.
    pub(crate) questions: Questions,
    /// All requests that groups hold.
    pub(crate) holding: AllHolds,
    logs: Logs,
    pub(crate) thread: Thread,
    pub(crate) ticker: RefCell<Option<Poller>>,
    /// The offline exports that wait for a bdev.
    pub(crate) waiting: RefCell<WaitingExports>,
    /// The poller that looks for the bdevs of offline exports, if there are any.
    pub(crate) looker: RefCell<Option<Poller>>,
    /// How far the stop is.
    pub(crate) stopping: RefCell<Stopping>,
    /// The file for the note of an orderly stop, if there is to be one.
    pub(crate) note: RefCell<Option<NoteFile>>,
}

impl Target {
    /// Creates the process's target, without listeners and exports. To be called once, on the app
    /// thread.
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
            keys: KeyReader::default(),
            questions: Questions::default(),
            holding: AllHolds::default(),
            logs: Logs::default(),
            thread,
            ticker: RefCell::default(),
            waiting: RefCell::default(),
            looker: RefCell::default(),
            stopping: RefCell::default(),
            note: RefCell::default(),
        });
        TARGET.with(|slot| *slot.borrow_mut() = Some(target));
    }

    /// Calls `f` with the target. Does nothing after the stop or on another thread.
    pub fn with(f: impl FnOnce(&Rc<Target>)) {
        if let Some(target) = Target::get() {
            f(&target);
        }
    }

    /// Forgets the target, of which nothing is left.
    pub(crate) fn forget() {
        TARGET.with(|slot| slot.borrow_mut().take());
    }

    /// Returns the target, or `None` before the start, after the stop and on other threads.
    pub fn get() -> Option<Rc<Target>> {
        TARGET.with(|slot| slot.borrow().clone())
    }

    /// Returns the target-wide limits and defaults.
    pub fn options(&self) -> Options {
        self.options.get()
    }

    /// Sets the target-wide limits and defaults.
    ///
    /// # Errors
    /// Fails if there is a listener or an export already.
    pub fn set_options(&self, options: Options) -> Result<(), Error> {
        self.check_unused()?;
        self.options.set(options);
        self.broker.borrow_mut().set_limits(limits(&options, u32::MAX));
        Ok(())
    }

    /// Checks that nothing has used the target yet.
    ///
    /// # Errors
    /// Fails if there is a listener or an export already.
    pub(crate) fn check_unused(&self) -> Result<(), Error> {
        let is_unused =
            matches!(*self.groups.borrow(), GroupThreads::None) && self.exports.borrow().is_empty();
        if is_unused { Ok(()) } else { Err(Error::OptionsInUse) }
    }

    /// Passes an event to the broker and carries out the broker's decisions.
    pub(crate) fn tell(self: &Rc<Self>, input: Input) {
        self.broker.borrow_mut().handle(now_us(), input);
        self.carry_out();
    }

    /// Carries out the broker's decisions. To be called after each call of the broker that may lead
    /// to decisions.
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
                Output::ExportGone { export, was_late, has_failed } => {
                    self.export_gone(&export, was_late, has_failed);
                }
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
            Order::Leave => ToGroup::Leave { connection },
        };
        self.tell_group(group, message);
    }

    /// Handles a group's message.
    pub(crate) fn handle_message(self: &Rc<Self>, message: ToControl) {
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
            ToControl::Holds { by, notices } => self.take_hold_report(by, notices),
            ToControl::Counted { question, counts } => self.questions.answered(question, counts),
        }
    }

    /// Returns the facts that the broker needs for a Hello that may open a session. `previous` is
    /// the instance of the client's previous session.
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

    /// Gives a listener's new connection to a group, if there is room for it.
    pub(crate) fn accepted(self: &Rc<Self>, sock: Sock, peer: SocketAddr) {
        let adopted = self.broker.borrow_mut().accepted(now_us(), peer, sock.placement());
        // Another connection may be evicted to make room.
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

/// Returns the broker's limits with these options, if at most `files` connections can be open.
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
