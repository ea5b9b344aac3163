use std::cell::RefCell;
use std::sync::Arc;

use super::*;
use crate::backend_resets::BackendResets;
use crate::completion::Completions;
use crate::holds::ClientHolds;
use crate::options::Options;
use crate::pools::OBJECTS;
use crate::queue::{Queue, Setup};
use crate::share::ClientShare;
use dst_broker::{ClientId, Stats};
use dst_session::Violation;
use dst_session::slots::Slots;
use dst_wire::{Cipher, Device, Digest, Flags, HEADER_LEN, Op, SessionRef};
use spdk::bdev::{Desc, IoTypes};
use spdk::clock::now_us;
use spdk::iov::Iov;
use world::net::{self, NetConfig};
use world::store::{self, StoreConfig};
use world::{life, process};

mod aborts;
mod handshake;
mod kept;
mod leaving;
mod resets;
mod times;

const BLOCK: u32 = 512;
const HANDSHAKE_MS: u32 = 100;
const HANDSHAKE_BYTES: u32 = 1024;
const KEEP_ALIVE_MS: u32 = 3000;
/// The socket between the two ends takes so many bytes.
const SOCKET: u64 = 100_000;

/// Returns the longest time for which a connection with this time-out lives, and the shortest after
/// which it is over, ms.
fn edge(timeout_ms: u32) -> (u64, u64) {
    (u64::from(timeout_ms) - 1, u64::from(timeout_ms))
}

/// Keeps completions for the test to hand over.
#[derive(Default)]
struct Recorder(RefCell<Vec<(Io, Status)>>);

impl Submitter for Recorder {
    fn completed(self: Rc<Self>, io: Io, status: Status, _: u64) {
        self.0.borrow_mut().push((io, status));
    }
}

/// A connection on a simulated thread with a backend. The test is its group and its client.
struct Rig {
    connection: Rc<RefCell<Connection>>,
    pools: Rc<Pools>,
    completions: Rc<Completions>,
    recorder: Rc<Recorder>,
    /// What the connection holds of the pools.
    share: Rc<ClientShare>,
    backend_resets: Arc<BackendResets>,
    client: Sock,
    process: u32,
    thread: u64,
    store: u32,
    began_us: u64,
}

/// Runs `f` on a simulated thread.
fn on<R: 'static>(thread: u64, f: impl FnOnce() -> R + 'static) -> R {
    let result = Rc::new(RefCell::new(None));
    let place = Rc::clone(&result);
    process::on(thread, move || *place.borrow_mut() = Some(f()));
    for _ in 0..1000 {
        if let Some(result) = result.borrow_mut().take() {
            return result;
        }
        world::step();
    }
    panic!("the thread had no turn")
}

fn device() -> Device {
    Device {
        uuid: [0; 16],
        num_blocks: 100,
        block_size: BLOCK,
        write_unit_size: 1,
        optimal_io_boundary: 0,
        compare_and_write_max: 1,
        write_cache: false,
        read_only: false,
        ops: Op::ALL.into_iter().collect(),
    }
}

fn welcome(queue: u16) -> Welcome {
    Welcome {
        version: 1,
        instance: [1; 16],
        session: SessionRef { id: [2; 16], queue, epoch: 1 },
        device: device(),
        previous_ended: false,
        ownership: None,
        cache_kept: false,
        credits: 16,
        max_transfer: 1 << 20,
        digest: Digest::None,
        cipher: Cipher::None,
        keep_alive_ms: KEEP_ALIVE_MS,
        aborts: false,
    }
}

fn hello() -> Hello {
    Hello {
        versions: (1, 1),
        export: "disk".to_owned(),
        host: "client".to_owned(),
        session: None,
        previous: None,
        claim: None,
        credits: 16,
        digests: vec![],
        ciphers: vec![],
        keep_alive_ms: KEEP_ALIVE_MS,
        aborts: false,
    }
}

fn read(sequence: u64, slot: u16) -> Header {
    let id = sequence << 16 | u64::from(slot);
    Header { code: Op::Read as u8, id, count: 1, ..Header::new(Kind::Request) }
}

fn keep_alive(id: u64, has: u64) -> Header {
    Header { id, start: has, ..Header::new(Kind::KeepAlive) }
}

/// The kinds of the frames in these bytes.
fn kinds(bytes: &[u8]) -> Vec<Kind> {
    let (mut rest, mut kinds) = (bytes, Vec::new());
    while let Some((header, behind)) = rest.split_first_chunk() {
        let header = Header::decode(header).unwrap();
        kinds.push(header.kind);
        rest = &behind[header.data_len as usize..];
    }
    kinds
}

impl Rig {
    fn new() -> Rig {
        world::begin(1, false);
        net::configure(NetConfig { delay_us: 0, buffer: (SOCKET, SOCKET + 1), partial: 0 });
        let (process, thread) = life::start("target", 1, 0, 0);
        let store = store::create(StoreConfig {
            uuid: [0; 16],
            block_size: BLOCK,
            num_blocks: 100,
            write_cache: false,
            in_process: false,
            latency_us: (1, 2),
            errors: 0,
            reset_works: true,
        });
        spdk::bdev::give(store, process, "disk", IoTypes::ALL, 0);
        let (client, sock) = Sock::pair();
        let completions = Rc::new(Completions::new(OBJECTS));
        let pools = Rc::new(Pools::new(&Options::default(), &completions).unwrap());
        let began_us = on(thread, now_us);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Connection::new(1, peer, sock, HANDSHAKE_MS, began_us);
        let connection = Rc::new(RefCell::new(connection));
        Rig {
            connection,
            pools,
            completions,
            recorder: Rc::default(),
            share: Rc::default(),
            backend_resets: Arc::default(),
            client,
            process,
            thread,
            store,
            began_us,
        }
    }

    /// A connection that was admitted `ago_us` ago, with a queue or as a session's first one.
    fn ready(has_queue: bool, ago_us: u64) -> Rig {
        let rig = Rig::new();
        rig.sends(Header::new(Kind::Hello), &hello().encode());
        assert!(matches!(rig.receive().unwrap().question, Some(HandshakeQuestion::Hello(_))));
        let requests = has_queue.then(|| rig.requests());
        let now_us = rig.began_us - ago_us;
        rig.connection.borrow_mut().welcome(&welcome(u16::from(has_queue)), requests, now_us);
        assert_eq!(rig.flush(), [Kind::Welcome]);
        rig
    }

    fn requests(&self) -> Box<Requests> {
        let (share, backend_resets) = (Rc::clone(&self.share), Arc::clone(&self.backend_resets));
        on(self.thread, || {
            let channel = Desc::open("disk", true, |_| {}).unwrap().handle().channel().unwrap();
            let queue = Queue::new(Setup {
                device: device(),
                max_transfer: 1 << 20,
                has_digests: false,
                slots: Slots::new(16),
                client_share: share,
                holds: Rc::new(ClientHolds::new(ClientId {
                    export: "disk".to_owned(),
                    host: "client".to_owned(),
                })),
                connection: 1,
                backend_resets,
                required_alignment: channel.required_alignment(),
            });
            Box::new(Requests { queue, channel })
        })
    }

    /// The client sends a frame.
    fn sends(&self, header: Header, data: &[u8]) {
        let header = Header { data_len: data.len() as u32, ..header };
        self.sends_bytes(&[&header.encode(), data].concat());
    }

    fn sends_bytes(&self, bytes: &[u8]) {
        let mut iov = Iov::new();
        iov.push(bytes);
        assert_eq!(self.client.writev(&iov).unwrap(), Some(bytes.len()));
    }

    /// The connection receives what was sent.
    fn receive(&self) -> Result<Received, Broken> {
        for _ in 0..20 {
            world::step();
        }
        let (connection, pools) = (Rc::clone(&self.connection), Rc::clone(&self.pools));
        let recorder = Rc::clone(&self.recorder);
        on(self.thread, move || connection.borrow_mut().receive(&pools, HANDSHAKE_BYTES, &recorder, now_us()))
    }

    fn fails(&self) -> Broken {
        self.receive().map(|_| ()).unwrap_err()
    }

    /// The connection sends what waits. Returns what the client received, as frames' kinds.
    fn flush(&self) -> Vec<Kind> {
        self.connection.borrow_mut().flush(&self.pools, self.began_us).unwrap();
        self.client_receives()
    }

    fn client_receives(&self) -> Vec<Kind> {
        kinds(&self.client_bytes())
    }

    fn client_bytes(&self) -> Vec<u8> {
        for _ in 0..20 {
            world::step();
        }
        let mut bytes = vec![0; SOCKET as usize];
        let len = self.client.recv(&mut bytes).unwrap().unwrap_or(0);
        bytes.truncate(len);
        bytes
    }

    fn tick(&self, is_stalled: bool, after_ms: u64) -> Result<(), Broken> {
        self.connection.borrow_mut().tick(is_stalled, self.began_us + after_ms * 1000)
    }

    fn over(&self, why: &Broken) -> Ending {
        self.connection.borrow_mut().over(why)
    }

    fn stats(&self) -> Stats {
        self.connection.borrow().activity().unwrap_or_default().stats
    }

    fn in_backend(&self) -> usize {
        self.connection.borrow().activity().unwrap_or_default().in_flight
    }

    fn shut(&self) -> Shut {
        self.connection.borrow_mut().shut(&self.pools)
    }

    /// The backend finishes what it has. Returns what is left of the connection, if it is finished.
    fn backend_finishes(&self) -> Option<Box<Remains>> {
        while store::is_busy(self.store) {
            world::step();
        }
        let (completions, recorder) = (Rc::clone(&self.completions), Rc::clone(&self.recorder));
        on(self.thread, move || completions.collect());
        let mut remains = None;
        for (io, status) in recorder.0.take() {
            let (connection, pools) = (Rc::clone(&self.connection), Rc::clone(&self.pools));
            let (recorder, now_us) = (Rc::clone(&self.recorder), self.began_us);
            let completed = move || connection.borrow_mut().completed(io, status, now_us, &pools, &recorder);
            match on(self.thread, completed) {
                Completed::GoesOn | Completed::Special => {}
                Completed::Over(why) => panic!("{why}"),
                Completed::ToExecuteAgain => panic!("nothing was reset"),
                Completed::Finished(left) => remains = Some(left),
            }
        }
        remains
    }
}

#[test]
fn a_session_s_first_connection_has_keep_alives_and_events_but_no_requests() {
    let rig = Rig::ready(false, 0);
    rig.sends(keep_alive(1, 0), &[]);
    rig.receive().unwrap();
    assert_eq!(rig.flush(), [Kind::KeepAliveAck]);
    rig.connection.borrow_mut().event(Event::Resized(200));
    rig.connection.borrow_mut().event(Event::Removed);
    assert_eq!(rig.flush(), [Kind::Event, Kind::Event]);
    rig.sends(read(1, 0), &[]);
    let why = rig.fails();
    assert_eq!(why, Violation::Unexpected(Kind::Request).into());
    rig.over(&why);
    assert_eq!(rig.stats(), Stats { violations: 1, ..Stats::default() });
}

#[test]
fn a_queue_s_connection_has_requests_and_no_events() {
    let rig = Rig::ready(true, 0);
    rig.connection.borrow_mut().event(Event::Removed);
    assert!(!rig.connection.borrow().wants_to_send());
    // Behind the device's old end.
    rig.sends(Header { start: 150, ..read(1, 0) }, &[]);
    rig.receive().unwrap();
    assert_eq!((rig.in_backend(), rig.flush()), (0, vec![Kind::Answer]));
    rig.connection.borrow_mut().event(Event::Resized(200));
    rig.sends(read(1, 1), &[]);
    rig.sends(keep_alive(1, 0), &[]);
    rig.receive().unwrap();
    assert_eq!(rig.in_backend(), 1);
    assert_eq!(rig.flush(), [Kind::KeepAliveAck]);
    assert!(rig.backend_finishes().is_none());
    assert_eq!((rig.in_backend(), rig.flush()), (0, vec![Kind::Answer]));
}

#[test]
fn a_resized_device_has_its_new_end() {
    let rig = Rig::ready(true, 0);
    rig.connection.borrow_mut().event(Event::Resized(10));
    rig.sends(Header { start: 10, ..read(1, 0) }, &[]);
    rig.sends(Header { start: 9, ..read(1, 1) }, &[]);
    rig.receive().unwrap();
    assert_eq!(rig.in_backend(), 1);
}

#[test]
fn nothing_follows_a_goodbye() {
    let rig = Rig::ready(true, 0);
    rig.sends(read(1, 0), &[]);
    rig.sends(Header::new(Kind::Goodbye), &[]);
    rig.receive().unwrap();
    rig.sends(read(1, 1), &[]);
    let why = rig.fails();
    assert_eq!(why, Violation::Unexpected(Kind::Request).into());
    assert_eq!(rig.over(&why), Ending::Expected);
    assert!(matches!(rig.shut(), Shut::Draining));
    assert!(rig.backend_finishes().is_some_and(|remains| remains.goodbye));
}

#[test]
fn a_control_frame_waits_for_the_end_of_the_answer_that_has_begun() {
    let rig = Rig::ready(true, 0);
    let per_answer = HEADER_LEN + 100 * BLOCK as usize;
    // Three answers of 100 blocks each are more than the socket takes.
    for slot in 0..3 {
        rig.sends(Header { count: 100, ..read(1, slot) }, &[]);
    }
    rig.receive().unwrap();
    rig.backend_finishes();
    rig.connection.borrow_mut().flush(&rig.pools, rig.began_us).unwrap();
    assert!(3 * per_answer > SOCKET as usize && rig.connection.borrow().wants_to_send());
    rig.sends(keep_alive(1, 0), &[]);
    rig.receive().unwrap();
    let mut bytes = rig.client_bytes();
    while rig.connection.borrow().wants_to_send() {
        rig.connection.borrow_mut().flush(&rig.pools, rig.began_us).unwrap();
        bytes.extend(rig.client_bytes());
    }
    assert_eq!(bytes.len(), 3 * per_answer + HEADER_LEN);
    let kinds = kinds(&bytes);
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Answer).count(), 3, "{kinds:?}");
}

#[test]
fn a_stalled_connection_goes_on_where_it_stopped() {
    let rig = Rig::ready(true, 0);
    for slot in 0..14 {
        rig.sends(read(1, slot), &[]);
    }
    // A connection may have half of the I/O objects, and these are 24.
    assert!(rig.receive().unwrap().is_stalled);
    assert_eq!(rig.in_backend(), OBJECTS / 2);
    assert!(rig.receive().unwrap().is_stalled);
    rig.backend_finishes();
    assert_eq!(rig.flush(), [Kind::Answer; OBJECTS / 2]);
    assert!(!rig.receive().unwrap().is_stalled);
    assert_eq!(rig.in_backend(), 14 - OBJECTS / 2);
}

#[test]
fn a_closed_connection_is_finished_when_the_backend_has_nothing_of_it() {
    let rig = Rig::ready(true, 0);
    rig.sends(read(1, 2), &[]);
    rig.receive().unwrap();
    assert!(rig.backend_finishes().is_none());
    rig.sends(read(1, 0), &[]);
    rig.sends(read(1, 1), &[]);
    rig.receive().unwrap();
    assert_eq!((rig.in_backend(), rig.share.get().objects), (2, 3));
    assert!(matches!(rig.shut(), Shut::Draining));
    assert!(matches!(rig.shut(), Shut::Before));
    assert_eq!((rig.in_backend(), rig.share.get().objects), (2, 2), "an unsent answer keeps its memory");
    assert!(!rig.connection.borrow().wants_to_send());
    assert_eq!(rig.tick(false, 1_000_000), Ok(()), "its lease is of no interest any more");
    let remains = rig.backend_finishes().expect("it is finished");
    assert_eq!((remains.stats.reads, remains.goodbye), (3, false));
    assert!(remains.slots.is_some());
    assert_eq!(rig.share.get(), Default::default(), "not all memory is back");
}

#[test]
fn what_fails_because_the_bdev_is_removed_is_not_answered() {
    for is_removed in [false, true] {
        let rig = Rig::ready(true, 0);
        store::set_errors(rig.store, 1000);
        rig.sends(read(1, 0), &[]);
        rig.receive().unwrap();
        if is_removed {
            spdk::bdev::remove(rig.process, "disk");
        }
        assert!(rig.backend_finishes().is_none());
        assert_eq!(rig.in_backend(), 0);
        assert_eq!(rig.flush(), vec![Kind::Answer; usize::from(!is_removed)]);
        assert!(matches!(rig.shut(), Shut::Finished(_)));
        assert_eq!(rig.share.get(), Default::default(), "not all memory is back");
    }
}

#[test]
fn what_the_peer_closes_is_over() {
    let rig = Rig::ready(true, 0);
    rig.sends(read(1, 0), &[]);
    rig.receive().unwrap();
    let Rig { client, connection, pools, recorder, thread, .. } = rig;
    drop(client);
    for _ in 0..20 {
        world::step();
    }
    let (of_thread, of_pools) = (Rc::clone(&connection), Rc::clone(&pools));
    let result = on(thread, move || {
        of_thread.borrow_mut().receive(&of_pools, HANDSHAKE_BYTES, &recorder, now_us()).map(|_| ())
    });
    assert_eq!(result, Err(Broken::Closed));
    let mut connection = connection.borrow_mut();
    assert_eq!(connection.over(&Broken::Closed), Ending::Unexpected);
    assert_eq!(connection.activity().unwrap().stats, Stats { reads: 1, read_bytes: 512, ..Stats::default() });
    assert!(matches!(connection.shut(&pools), Shut::Draining));
}
