//! The methods for interfaces of sockets over DPDK's ports.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use dst_dpdk::{CreateError, Settings};
use dst_net::{ConfigError, DropReason};
use dst_sockets::SocketsCounters;
use serde_json::{Map, Value, json};
use spdk::Errno;
use spdk::clock::now_us;
use spdk::poller::Poller;
use spdk::port::PortCounters;
use spdk::rpc::Reply;

use crate::answers::{answer, call};
use crate::error::{Result, RpcError};
use crate::params::Params;

/// The maximum number of an interface's addresses (`dst-net` has the same limit).
const ADDRESSES_MAX: usize = 16;

/// The range of the MTU and its default. IPv6 needs 1,280; the longest frame of a port is checked
/// when it is opened.
const MTU: std::ops::RangeInclusive<u16> = 576..=9_600;
const MTU_DEFAULT: u16 = 1_500;

/// The range of the number of queue pairs (`dst-net` has the same limit). 0, the default, stands for as
/// many as there are reactors.
const QUEUES: std::ops::RangeInclusive<u16> = 0..=16;

/// How long a call waits until its addresses are known to be no other host's. Asking takes about a
/// second.
const DECIDED_WAIT_US: u64 = 5_000_000;
const DECIDED_POLL_US: u64 = 10_000;

fn of_create(error: CreateError) -> RpcError {
    let parameter = match &error {
        CreateError::Exists(_) | CreateError::TooMany => "name: ",
        CreateError::Port(..) => "port: ",
        CreateError::Queues(..) => "queues: ",
        CreateError::AddressInUse(..) => "addresses: ",
        CreateError::Config(error) => match error {
            ConfigError::Mtu(..) => "mtu: ",
            ConfigError::Vlan(_) => "vlan: ",
            ConfigError::Route(..) | ConfigError::Routes(_) => "gateway: ",
            ConfigError::Mac(_) => "port: ",
            _ => "addresses: ",
        },
        CreateError::Version | CreateError::InterruptMode | CreateError::NoPorts | CreateError::Poller(_) => {
            ""
        }
    };
    RpcError { code: -error.errno().0, message: format!("{parameter}{error}") }
}

fn take_settings(params: Option<Value>) -> Result<Settings> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let port = params.text("port")?;
    let addresses = params.one_or_more("addresses", ADDRESSES_MAX)?;
    if addresses.is_empty() {
        return Err(RpcError::invalid("addresses", "missing"));
    }
    let gateways: Vec<IpAddr> = params.one_or_more("gateway", 2)?;
    if let [first, second] = gateways[..]
        && first.is_ipv4() == second.is_ipv4()
    {
        let problem = format!("{first} and {second} are of one family, at most one is allowed of each");
        return Err(RpcError::invalid("gateway", problem));
    }
    let mtu = params.number("mtu", MTU_DEFAULT, MTU)?;
    let vlan = Some(params.number("vlan", 0, 0..=4094)?).filter(|&vlan| vlan != 0);
    let queues = Some(params.number("queues", 0, QUEUES)?).filter(|&queues| queues != 0);
    params.finish()?;
    Ok(Settings { name, port, addresses, gateways, mtu, vlan, queues })
}

pub fn create(params: Option<Value>, reply: Reply) {
    let interface =
        match take_settings(params).and_then(|settings| dst_dpdk::create(settings).map_err(of_create)) {
            Ok(interface) => interface,
            Err(error) => return answer(reply, Err(error)),
        };
    // Whoever calls next may need the addresses.
    let give_up_at = now_us() + DECIDED_WAIT_US;
    let reply = Cell::new(Some(reply));
    let timer = Rc::new(Cell::new(None));
    let look = {
        let timer = Rc::clone(&timer);
        move || {
            if !interface.is_decided() && now_us() < give_up_at {
                return false;
            }
            if let Some(reply) = reply.take() {
                answer(reply, Ok(true.into()));
            }
            drop(timer.take());
            true
        }
    };
    // Without a poller, the reply's own end is the answer.
    if let Ok(poller) = Poller::register(DECIDED_POLL_US, look) {
        timer.set(Some(poller));
    }
}

fn take_name(params: Option<Value>) -> Result<Option<String>> {
    let mut params = Params::new(params)?;
    let name = params.opt_text("name")?;
    params.finish()?;
    Ok(name)
}

fn none_of(name: &str) -> RpcError {
    RpcError { code: -Errno::ENODEV.0, message: format!("name: there is no interface named {name}") }
}

pub fn delete(params: Option<Value>, reply: Reply) {
    let outcome = take_name(params).and_then(|name| {
        let name = name.ok_or_else(|| RpcError::invalid("name", "missing"))?;
        if dst_dpdk::delete(&name) { Ok(true.into()) } else { Err(none_of(&name)) }
    });
    answer(reply, outcome);
}

fn show_settings(settings: &Settings) -> Map<String, Value> {
    let Settings { name, port, addresses, gateways, mtu, vlan, queues } = settings;
    let mut shown = Map::new();
    shown.insert("name".into(), json!(name));
    shown.insert("port".into(), json!(port));
    shown.insert("addresses".into(), addresses.iter().map(ToString::to_string).collect());
    if !gateways.is_empty() {
        shown.insert("gateway".into(), gateways.iter().map(ToString::to_string).collect());
    }
    shown.insert("mtu".into(), json!(mtu));
    if let Some(vlan) = vlan {
        shown.insert("vlan".into(), json!(vlan));
    }
    if let Some(queues) = queues {
        shown.insert("queues".into(), json!(queues));
    }
    shown
}

/// Shows the counters of all queue pairs together.
fn show_counters(of_queues: &[(SocketsCounters, PortCounters)]) -> Value {
    let sum =
        |of: &dyn Fn(&SocketsCounters) -> u64| of_queues.iter().map(|(sockets, _)| of(sockets)).sum::<u64>();
    let port = |of: &dyn Fn(&PortCounters) -> u64| of_queues.iter().map(|(_, port)| of(port)).sum::<u64>();
    let drops: Map<String, Value> = DropReason::ALL
        .into_iter()
        .map(|reason| (reason.name(), sum(&|of| of.link.dropped(reason))))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect();
    json!({
        "frames_received": sum(&|of| of.link.received), "bytes_received": sum(&|of| of.link.received_bytes),
        "frames_sent": sum(&|of| of.link.sent), "bytes_sent": sum(&|of| of.link.sent_bytes),
        "frames_missed": port(&|of| of.missed), "frame_errors": port(&|of| of.errors),
        "frames_dropped": drops,
        "frames_passed_on": sum(&|of| of.steered.passed), "frames_not_passed_on": sum(&|of| of.steered.lost),
        "received_buffers": port(&|of| of.received_buffers.into()),
        "sent_buffers": port(&|of| of.sent_buffers.into()),
        "address_conflicts": sum(&|of| of.link.conflicts), "neighbours_lost": sum(&|of| of.link.failed),
        "segments_received": sum(&|of| of.tcp.received), "segments_sent": sum(&|of| of.tcp.sent),
        "segment_checksum_errors": sum(&|of| of.tcp.checksum_errors), "resets_sent": sum(&|of| of.tcp.resets),
    })
}

fn show_interface(interface: &dst_dpdk::Interface) -> Value {
    let mut shown = show_settings(&interface.settings);
    let counters = interface.counters();
    if let [(_, port), ..] = &counters[..] {
        shown.insert("link_up".into(), json!(port.is_up));
        shown.insert("queues".into(), json!(counters.len()));
        shown.insert("counters".into(), show_counters(&counters));
    }
    Value::Object(shown)
}

/// Returns the interfaces that a call is about: the one that it names, or all.
fn chosen(params: Option<Value>) -> Result<Vec<std::sync::Arc<dst_dpdk::Interface>>> {
    match take_name(params)? {
        None => Ok(dst_dpdk::list()),
        Some(name) => dst_dpdk::find(&name).map(|found| vec![found]).ok_or_else(|| none_of(&name)),
    }
}

pub fn get_interfaces(params: Option<Value>, reply: Reply) {
    let show =
        |found: Vec<_>| found.iter().map(|interface: &std::sync::Arc<_>| show_interface(interface)).collect();
    answer(reply, chosen(params).map(show));
}

fn show_connections(interface: &dst_dpdk::Interface) -> Vec<Value> {
    let name = &interface.settings.name;
    let show = |(queue, found): (usize, dst_tcp::Information)| {
        json!({
            "interface": name, "queue": queue,
            "local": found.local.to_string(), "remote": found.remote.to_string(),
            "state": format!("{:?}", found.state).split([' ', '{']).next().unwrap_or_default(),
            "rtt_us": found.rtt, "congestion_window": found.congestion_window, "peer_window": found.peer_window,
            "queued_bytes": found.queued, "retransmitted": found.sending.retransmitted,
            "timeouts": found.sending.timeouts,
        })
    };
    interface.connections().into_iter().map(show).collect()
}

pub fn get_connections(params: Option<Value>, reply: Reply) {
    let show = |found: Vec<std::sync::Arc<dst_dpdk::Interface>>| {
        found.iter().flat_map(|interface| show_connections(interface)).collect()
    };
    answer(reply, chosen(params).map(show));
}

/// Returns the calls that create the interfaces again. They are saved before everything that
/// connects.
pub fn config() -> Vec<Value> {
    let interfaces = dst_dpdk::list();
    let create = |settings| call("dpdk_sock_create_interface", Value::Object(show_settings(settings)));
    interfaces.iter().map(|interface| create(&interface.settings)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(params: Value) -> Result<Settings> {
        take_settings(Some(params))
    }

    #[test]
    fn what_is_saved_is_what_was_given() {
        for given in [
            json!({ "name": "net0", "port": "net_memif0,id=0,role=slave", "addresses": ["192.0.2.1/24"], "mtu": 1500 }),
            json!({
                "name": "net0", "port": "0000:03:00.0", "addresses": ["192.0.2.1/24", "fd00::1/64"],
                "gateway": ["192.0.2.254", "fd00::fe"], "mtu": 9000, "vlan": 7, "queues": 4,
            }),
        ] {
            let settings = take(given.clone()).unwrap();
            assert_eq!(Value::Object(show_settings(&settings)), given);
        }
        // One address and one gateway need no list.
        let one = json!({ "name": "n", "port": "p", "addresses": "192.0.2.1/24", "gateway": "192.0.2.2" });
        let settings = take(one).unwrap();
        assert_eq!((settings.addresses.len(), settings.gateways.len(), settings.mtu), (1, 1, 1500));
    }

    #[test]
    fn an_error_names_the_parameter() {
        let with = |name: &str, value: Value| {
            let mut params = json!({ "name": "n", "port": "p", "addresses": ["192.0.2.1/24"] });
            params[name] = value;
            take(params).unwrap_err().message
        };
        let no_prefix = "is not an address with the length of its network's prefix, such as 192.0.2.1/24";
        assert_eq!(with("addresses", json!([])), "addresses: missing");
        assert_eq!(with("addresses", json!("192.0.2.1")), format!("addresses: \"192.0.2.1\" {no_prefix}"));
        assert_eq!(with("addresses", json!(["::1/+9"])), format!("addresses: \"::1/+9\" {no_prefix}"));
        assert_eq!(with("mtu", json!(500)), "mtu: 500 is not a whole number from 576 to 9600");
        assert!(with("gateway", json!(["192.0.2.2", "192.0.2.3"])).contains("of one family"));
        assert_eq!(with("x", json!(1)), "x: there is no such parameter");
    }
}
