//! A client whose target has several addresses: of those that connect, one is told something.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use dst_client::{BdevParams, BdevUuid, Options, Place, TargetParams, TargetPlaces, Wait};
use dst_session::paths::PathPolicy;
use dst_wire::{Cipher, Digest};
use spdk::poller::Poller;
use spdk::sock::{Listener, Sock};
use world::net::NetConfig;
use world::{life, net, process};

const SEEDS: u64 = 50;

const ADDRESSES: u8 = 4;

const PORT: u16 = 4420;

/// The last byte of an address, and what became of a connection to it.
type Heard = Rc<RefCell<BTreeMap<u8, Vec<Connection>>>>;

/// One connection, as the end that accepted it sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Connection {
    bytes: usize,
    is_closed: bool,
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number + 1).into()
}

/// Starts a process that accepts connections at all addresses, counts what it is told, and says
/// nothing.
fn listen(heard: &Heard) {
    let (_, app) = life::start("silent", 1, 1, 0);
    let heard = Rc::clone(heard);
    process::on(app, move || {
        let listeners: Vec<Listener> = (0..ADDRESSES)
            .map(|number| Listener::listen(&address(number).to_string(), PORT, None).expect("it is free"))
            .collect();
        let mut socks: Vec<(u8, usize, Sock)> = Vec::new();
        let look = move || {
            let mut heard = heard.borrow_mut();
            for (number, listener) in (0..).zip(&listeners) {
                while let Some(sock) = listener.accept() {
                    let connections = heard.entry(number).or_default();
                    socks.push((number, connections.len(), sock));
                    connections.push(Connection::default());
                }
            }
            for (number, at, sock) in &socks {
                let connection = &mut heard.get_mut(number).expect("accepted")[*at];
                match sock.recv(&mut [0; 4096]) {
                    Ok(None) => {}
                    Ok(Some(0)) | Err(_) => connection.is_closed = true,
                    Ok(Some(bytes)) => connection.bytes += bytes,
                }
            }
            false
        };
        // It is polled for as long as the process runs.
        std::mem::forget(Poller::register(0, look).expect("there is memory"));
    });
}

/// Starts a client of all addresses.
fn start_client() -> u32 {
    let (client, app) = life::start("client", 1, 2, 0);
    let target = TargetParams {
        at: TargetPlaces {
            places: (0..ADDRESSES).map(address).map(Place::from).collect(),
            port: PORT,
            family: None,
            policy: PathPolicy::Failover,
        },
        export: "vol".to_owned(),
        host: "host".to_owned(),
        digests: vec![Digest::None],
        key: None,
        ciphers: vec![Cipher::None],
        sock_impl: None,
        exclusive: false,
    };
    let params = BdevParams {
        name: "disk".to_owned(),
        target,
        uuid: BdevUuid::Derived,
        options: Options::default(),
        wait: Wait::UntilAttached,
        takeover: false,
    };
    process::on(app, move || dst_client::create(params, |_| {}));
    client
}

/// Lets so much time pass on a process's clock, at least.
fn pass(process: u32, us: u64) {
    let until = process::clock(process) + us;
    while process::clock(process) < until {
        world::step();
        while world::next_timer().is_some() {}
    }
}

/// Has a client stopped before its attempts connect, so that it finds several sockets when it goes
/// on. Returns what the addresses have heard before the handshake is given up; `None` if one
/// connects before the client is stopped.
fn race(seed: u64) -> Option<Vec<Connection>> {
    world::begin(seed, false);
    // An attempt takes up to 1.4 s, and the last one begins after 300 ms.
    net::configure(NetConfig { delay_us: 700_000, ..NetConfig::default() });
    let heard = Heard::default();
    listen(&heard);
    let client = start_client();
    pass(client, 310_000);
    if !heard.borrow().is_empty() {
        world::end();
        return None;
    }
    life::set_stopped(client, true);
    pass(client, 1_500_000);
    life::set_stopped(client, false);
    pass(client, 1_900_000);
    let all = heard.borrow().values().flatten().copied().collect();
    world::end();
    Some(all)
}

/// Each Hello would take its queue over, and cost the target a key agreement and a place among its
/// handshakes.
#[test]
fn the_first_that_connects_is_told_something_and_the_others_are_closed_without_a_byte() {
    let (mut races, mut losers) = (0, 0);
    for (seed, all) in (0..SEEDS).filter_map(|seed| Some((seed, race(seed)?))) {
        let (told, others): (Vec<Connection>, Vec<Connection>) =
            all.iter().partition(|connection| connection.bytes > 0);
        assert_eq!(told.len(), 1, "seed {seed}: {all:?}");
        assert!(others.iter().all(|other| other.is_closed), "seed {seed}: {all:?}");
        (races, losers) = (races + 1, losers + others.len());
    }
    assert!(races > 10 && losers > races, "{losers} in {races} races were too late");
}
