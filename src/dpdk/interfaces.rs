//! The interfaces of the process: created, deleted, listed, found by address.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use dst_net::{Config, ConfigError, MacAddress, Offloads, Prefix, Route, SHARDS_MAX, Shard};
use dst_sockets::{Exchange, Sockets};
use dst_tcp::Secret;
use spdk::clock::now_us;
use spdk::poller::Poller;
use spdk::port::{OpenError, PortQueue, QUEUES_MAX};
use spdk::thread::cores;
use spdk::{Errno, random, sock_impl};
use thiserror::Error;

use crate::interface::{Interface, Settings};
use crate::memif;
use crate::port::DpdkPort;
use crate::shared::DpdkSockets;

/// The maximum number of interfaces. Each connection attempt that names no implementation walks
/// over them.
const INTERFACES_MAX: usize = 16;

const _: () = assert!(SHARDS_MAX == QUEUES_MAX && dst_net::RSS_KEY == spdk::port::RSS_KEY);

/// The reason why no interface was created.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CreateError {
    /// The sock implementation cannot be registered with this version of SPDK.
    #[error("sockets over DPDK are implemented for SPDK 20.07, and for 26.01 and newer")]
    Version,
    /// The application does not poll.
    #[error("sockets over DPDK have to be polled: start the application without interrupt mode")]
    InterruptMode,
    /// The application was linked without ports.
    #[error(
        "this application was linked without DPDK's network ports: build DST with an SPDK whose DPDK has \
         librte_ethdev and network drivers"
    )]
    NoPorts,
    /// An interface of this name exists.
    #[error("an interface named {0} already exists")]
    Exists(String),
    /// There are as many interfaces as there may be.
    #[error("there are {INTERFACES_MAX} interfaces already, the limit: delete one")]
    TooMany,
    /// An interface has one of the addresses.
    #[error("the interface {1} already has the address {0}")]
    AddressInUse(IpAddr, String),
    /// DPDK does not open the port.
    #[error("{1}")]
    Port(Errno, String),
    /// The port has another number of queue pairs.
    #[error("this port cannot have {0} queue pairs: leave the number out, and it has {1}")]
    Queues(u16, u16),
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// SPDK has no room for a poller.
    #[error("no memory for a poller")]
    Poller(Errno),
}

impl CreateError {
    /// Returns the error number.
    pub fn errno(&self) -> Errno {
        match self {
            CreateError::Version | CreateError::InterruptMode | CreateError::NoPorts => Errno::ENOTSUP,
            CreateError::Exists(_) => Errno::EEXIST,
            CreateError::TooMany => Errno::ENOSPC,
            CreateError::AddressInUse(..) => Errno::EADDRINUSE,
            CreateError::Config(_) | CreateError::Queues(..) => Errno::EINVAL,
            CreateError::Port(errno, _) | CreateError::Poller(errno) => *errno,
        }
    }
}

/// All interfaces, in the order in which they were created.
static INTERFACES: RwLock<Vec<Arc<Interface>>> = RwLock::new(Vec::new());

thread_local! {
    /// The pollers of the interfaces, by name. Only the app thread, which stays on its core, keeps
    /// such objects there.
    static POLLERS: RefCell<Vec<(String, Poller)>> = const { RefCell::new(Vec::new()) };
}

fn interfaces() -> RwLockReadGuard<'static, Vec<Arc<Interface>>> {
    INTERFACES.read().unwrap_or_else(PoisonError::into_inner)
}

/// Returns all interfaces.
pub fn list() -> Vec<Arc<Interface>> {
    interfaces().clone()
}

/// Returns an interface by its name.
pub fn find(name: &str) -> Option<Arc<Interface>> {
    find_by(|interface| interface.settings.name == name)
}

/// Returns the first interface for which `is_wanted` is true.
pub(crate) fn find_by(is_wanted: impl Fn(&Interface) -> bool) -> Option<Arc<Interface>> {
    interfaces().iter().find(|interface| is_wanted(interface)).cloned()
}

/// Creates an interface. Its addresses are usable a second later, unless another host has them
/// ([`Interface::is_decided`]). Call it on the app thread, as the other functions.
pub fn create(settings: Settings) -> Result<Arc<Interface>, CreateError> {
    if !sock_impl::is_supported() {
        return Err(CreateError::Version);
    }
    if spdk::interrupt::is_enabled() {
        return Err(CreateError::InterruptMode);
    }
    check_is_new(&settings)?;
    // The settings are checked before the port is opened, with an address that any port could have.
    let mut config = config(&settings);
    config.check()?;
    let device = memif::with_whole_frames(&settings.port, settings.mtu)
        .map_err(|text| CreateError::Port(Errno::EINVAL, text))?;
    let reactors = u16::try_from(cores().len()).unwrap_or(QUEUES_MAX);
    let wanted = settings.queues.unwrap_or(reactors).min(QUEUES_MAX);
    let queues = PortQueue::open(&device, settings.mtu, wanted).map_err(|error| match error {
        OpenError::NoPorts => CreateError::NoPorts,
        OpenError::Device(errno, text) => CreateError::Port(errno, text),
    })?;
    let count = queues.len() as u16;
    if let Some(wanted) = settings.queues.filter(|&wanted| wanted != count) {
        return Err(CreateError::Queues(wanted, count));
    }
    let name = settings.name.clone();
    let interface = Arc::new(Interface::new(settings, shards(queues, &mut config)?));
    let poller = interface.poller().map_err(CreateError::Poller)?;
    POLLERS.with_borrow_mut(|pollers| pollers.push((name, poller)));
    INTERFACES.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&interface));
    Ok(interface)
}

/// Returns a shard for each queue pair of a port.
fn shards(queues: Vec<PortQueue>, config: &mut Config) -> Result<Vec<DpdkSockets>, ConfigError> {
    let exchange = Arc::new(Exchange::new(queues.len()));
    let shard = |queue: PortQueue| {
        let info = queue.info();
        config.mac = MacAddress(info.mac);
        let checksums = info.sends_checksums;
        config.offloads = Offloads { ipv4_checksum: checksums, tcp_checksum: checksums, segmentation: false };
        let mut secret = [0; 16];
        random::fill(&mut secret);
        let (port, config, secret) = (DpdkPort(queue), config.clone(), Secret(secret));
        if info.queues == 1 {
            return Sockets::new(port, config, secret, now_us());
        }
        let config = Config { shard: Shard::new(port.index(), info.queues, info.entries), ..config };
        Sockets::shard(port, config, &exchange, secret, now_us())
    };
    queues.into_iter().map(shard).collect()
}

fn check_is_new(settings: &Settings) -> Result<(), CreateError> {
    let interfaces = interfaces();
    if interfaces.iter().any(|interface| interface.settings.name == settings.name) {
        return Err(CreateError::Exists(settings.name.clone()));
    }
    if interfaces.len() >= INTERFACES_MAX {
        return Err(CreateError::TooMany);
    }
    for Prefix { address, .. } in &settings.addresses {
        if let Some(other) = interfaces.iter().find(|interface| interface.has(*address)) {
            return Err(CreateError::AddressInUse(*address, other.settings.name.clone()));
        }
    }
    Ok(())
}

/// Returns the settings of the stack, for a port that is not known yet.
fn config(settings: &Settings) -> Config {
    let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, 1]), settings.addresses.clone());
    config.mtu = settings.mtu;
    config.vlan = settings.vlan;
    config.routes = settings
        .gateways
        .iter()
        .map(|&gateway| {
            let any = if gateway.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            Route { destination: Prefix::new(any, 0), gateway }
        })
        .collect();
    config
}

/// Deletes an interface. Its connections end at once. Returns false if there is none of this name.
pub fn delete(name: &str) -> bool {
    let found = {
        let mut interfaces = INTERFACES.write().unwrap_or_else(PoisonError::into_inner);
        let place = interfaces.iter().position(|interface| interface.settings.name == name);
        place.map(|place| interfaces.remove(place))
    };
    let Some(interface) = found else { return false };
    POLLERS.with_borrow_mut(|pollers| pollers.retain(|(of, _)| of != name));
    interface.delete();
    true
}

/// Deletes all interfaces, when the application stops.
pub fn delete_all() {
    for interface in list() {
        // What the users have just closed is still sent.
        interface.turn();
        delete(&interface.settings.name);
    }
}
