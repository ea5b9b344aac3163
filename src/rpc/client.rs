//! The client's methods.

use std::net::IpAddr;

use dst_client::{Info, Options, Params as BdevParams, Peer, State};
use dst_wire::{Cipher, Digest};
use serde_json::{Value, json};
use spdk::rpc::Reply;

use crate::params::{Params, Result, RpcError};
use crate::target::show_histogram;
use crate::{answer, call, uuid_text};

/// The ciphers and their names.
const CIPHERS: [(&str, Cipher); 4] = [
    ("none", Cipher::None),
    ("aes-128-gcm", Cipher::Aes128Gcm),
    ("aes-256-gcm", Cipher::Aes256Gcm),
    ("chacha20-poly1305", Cipher::ChaCha20Poly1305),
];

/// Takes the options out of a call, what is missing from `defaults`.
fn take_options(params: &mut Params, defaults: Options) -> Result<Options> {
    let mut o = defaults;
    o.transaction_timeout_ms =
        params.number("transaction_timeout_ms", o.transaction_timeout_ms, 1000..=86_400_000)?;
    o.max_retries = params.number("max_retries", o.max_retries, 0..=1_000_000)?;
    o.reconnect_delay_ms = params.number("reconnect_delay_ms", o.reconnect_delay_ms, 10..=60_000)?;
    o.keep_alive_timeout_ms =
        params.number("keep_alive_timeout_ms", o.keep_alive_timeout_ms, 100..=3_600_000)?;
    o.attach_timeout_ms = params.number("attach_timeout_ms", o.attach_timeout_ms, 10..=3_600_000)?;
    o.queue_depth = params.number("queue_depth", o.queue_depth, 1..=4096)?;
    Ok(o)
}

fn show_options(o: &Options) -> Value {
    json!({
        "transaction_timeout_ms": o.transaction_timeout_ms,
        "max_retries": o.max_retries,
        "reconnect_delay_ms": o.reconnect_delay_ms,
        "keep_alive_timeout_ms": o.keep_alive_timeout_ms,
        "attach_timeout_ms": o.attach_timeout_ms,
        "queue_depth": o.queue_depth,
    })
}

/// This machine's name, for clients that are not given an identity.
fn default_host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// The cipher of a connection, of what the user named: one with a key, none without.
fn cipher_for(has_key: bool, named: Option<Cipher>) -> Result<Cipher> {
    match (has_key, named) {
        (false, None | Some(Cipher::None)) => Ok(Cipher::None),
        (true, None) => Ok(Cipher::Aes256Gcm),
        (true, Some(Cipher::None)) => {
            let problem = "none given, but with a key all is encrypted: name a cipher or leave it out";
            Err(RpcError::invalid("cipher", problem))
        }
        (true, Some(cipher)) => Ok(cipher),
        (false, Some(cipher)) => {
            let problem = format!("{} needs a key: give a psk_file or a psk too", cipher_name(cipher as u8));
            Err(RpcError::invalid("cipher", problem))
        }
    }
}

fn take_create(params: Option<Value>) -> Result<BdevParams> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let addrs = params.addresses()?;
    let port = params.port()?;
    let export = params.text("export")?;
    let host = params.opt_text("host")?.unwrap_or_else(default_host);
    let sock_impl = params.sock_impl()?;
    let digests = match params.one_of("digest", &["crc32c", "none"])? {
        None | Some(0) => vec![Digest::Crc32c, Digest::None],
        Some(_) => vec![Digest::None],
    };
    let key = params.key_source()?;
    let cipher = params.one_of("cipher", &CIPHERS.map(|(name, _)| name))?.map(|index| CIPHERS[index].1);
    let ciphers = vec![cipher_for(key.is_some(), cipher)?];
    let options = take_options(&mut params, dst_client::options())?;
    let wait = params.flag("wait", true)?;
    params.finish()?;
    let peer = Peer { addrs, port, export, host, digests, key, ciphers, sock_impl };
    Ok(BdevParams { name, peer, options, wait })
}

pub fn create(params: Option<Value>, reply: Reply) {
    match take_create(params) {
        Ok(params) => {
            dst_client::create(params, |result| answer(reply, result.map(Value::from).map_err(Into::into)));
        }
        Err(error) => answer(reply, Err(error)),
    }
}

fn take_name(params: Option<Value>) -> Result<String> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    params.finish()?;
    Ok(name)
}

pub fn delete(params: Option<Value>, reply: Reply) {
    match take_name(params) {
        Ok(name) => {
            dst_client::delete(&name, |result| {
                answer(reply, result.map(|()| true.into()).map_err(Into::into));
            });
        }
        Err(error) => answer(reply, Err(error)),
    }
}

fn show_info(info: &Info) -> Value {
    let mut shown = show_peer(&info.params);
    let state = match info.state {
        State::Attaching => "attaching",
        State::Connected => "connected",
        State::Reconnecting => "reconnecting",
        State::Failed => "failed",
    };
    let more = json!({
        "state": state,
        "state_age_ms": info.state_age_ms,
        "address": info.address.to_string(),
        "connections": info.connections,
        "channels": info.channels,
        "options": show_options(&info.params.options),
        "counters": {
            "transactions": info.transactions,
            "errors": info.errors,
            "expired": info.expired,
            "connections_lost": info.lost,
            "reconnects": info.reconnects,
            "resent": info.resent,
            "corrupt": info.corrupt,
            "lost_caches": info.lost_caches,
        },
        "outstanding": info.outstanding,
        "waiting": info.waiting,
        "latency_us": {
            "read": show_histogram(&info.read_latency),
            "write": show_histogram(&info.write_latency),
            "other": show_histogram(&info.other_latency),
        },
    });
    let negotiated = info.device.map(|device| {
        json!({
            "export_uuid": uuid_text(&device.uuid),
            "num_blocks": device.num_blocks,
            "block_size": device.block_size,
            "read_only": device.read_only,
            "write_cache": device.write_cache,
            "max_transfer": info.max_transfer,
            "queue_depth": info.credits,
            "keep_alive_timeout_ms": info.keep_alive_ms,
            "digest": digest_name(info.digest),
            "cipher": cipher_name(info.cipher),
            "operations": device.ops.iter().map(|op| format!("{op:?}")).collect::<Vec<_>>(),
        })
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
        shown.insert("negotiated".to_owned(), negotiated.into());
        shown.insert("last_error".to_owned(), info.last_error.clone().into());
    }
    shown
}

/// A digest's name, of its wire code.
pub fn digest_name(code: u8) -> &'static str {
    if code == Digest::Crc32c as u8 { "crc32c" } else { "none" }
}

/// A cipher's name, of its wire code.
pub fn cipher_name(code: u8) -> &'static str {
    CIPHERS.iter().find(|(_, cipher)| *cipher as u8 == code).map_or("unknown", |(name, _)| name)
}

fn show_peer(params: &BdevParams) -> Value {
    let peer = &params.peer;
    let addrs: Vec<String> = peer.addrs.iter().map(ToString::to_string).collect();
    let mut shown = json!({
        "name": params.name,
        "traddr": if let [addr] = &addrs[..] { json!(addr) } else { json!(addrs) },
        "trsvcid": peer.port.to_string(),
        "export": peer.export,
        "host": peer.host,
        "digest": digest_name(peer.digests.first().map_or(0, |&digest| digest as u8)),
        "cipher": cipher_name(peer.ciphers.first().map_or(0, |&cipher| cipher as u8)),
    });
    // Addresses of both families have none in common.
    for (family, all) in
        [("ipv4", peer.addrs.iter().all(IpAddr::is_ipv4)), ("ipv6", peer.addrs.iter().all(IpAddr::is_ipv6))]
    {
        if all {
            shown["adrfam"] = json!(family);
        }
    }
    if let Some(key) = &peer.key {
        let (name, value) = key.parameter();
        shown[name] = json!(value);
    }
    if let Some(sock_impl) = &peer.sock_impl {
        shown["sock_impl"] = json!(sock_impl);
    }
    shown
}

fn info_of(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let name = params.opt_text("name")?;
    params.finish()?;
    let clients = match name {
        Some(name) => vec![dst_client::find(&name)?],
        None => dst_client::list(),
    };
    Ok(clients.iter().map(|client| show_info(&client.info())).collect())
}

pub fn get_info(params: Option<Value>, reply: Reply) {
    answer(reply, info_of(params));
}

fn apply_options(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let options = take_options(&mut params, dst_client::options())?;
    params.finish()?;
    dst_client::set_options(options);
    Ok(true.into())
}

pub fn set_options(params: Option<Value>, reply: Reply) {
    answer(reply, apply_options(params));
}

pub fn get_options(params: Option<Value>, reply: Reply) {
    let no_params = Params::new(params).and_then(Params::finish);
    answer(reply, no_params.map(|()| show_options(&dst_client::options())));
}

/// The calls that make the present state again, without waiting for targets.
pub fn config() -> Vec<Value> {
    // This is the part of the configuration that comes before all bdevs.
    let mut calls = crate::target::reservations();
    calls.push(call("bdev_dst_set_options", show_options(&dst_client::options())));
    for client in dst_client::list() {
        let params = client.params();
        let mut saved = show_peer(params);
        if let (Value::Object(saved), Value::Object(options)) = (&mut saved, show_options(&params.options)) {
            saved.extend(options);
            saved.insert("wait".to_owned(), false.into());
        }
        calls.push(call("bdev_dst_create", saved));
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_with_a_cipher_and_a_cipher_with_a_key() {
        assert_eq!(cipher_for(false, None), Ok(Cipher::None));
        assert_eq!(cipher_for(false, Some(Cipher::None)), Ok(Cipher::None));
        assert_eq!(cipher_for(true, None), Ok(Cipher::Aes256Gcm));
        assert_eq!(cipher_for(true, Some(Cipher::ChaCha20Poly1305)), Ok(Cipher::ChaCha20Poly1305));
        let text = cipher_for(false, Some(Cipher::Aes128Gcm)).unwrap_err().message;
        assert_eq!(text, "cipher: aes-128-gcm needs a key: give a psk_file or a psk too");
        let text = cipher_for(true, Some(Cipher::None)).unwrap_err().message;
        assert!(text.starts_with("cipher: none given"), "{text}");
    }

    #[test]
    fn ciphers_have_the_names_of_their_codes() {
        let names = [0, 1, 2, 3, 4].map(cipher_name);
        assert_eq!(names, ["none", "aes-128-gcm", "aes-256-gcm", "chacha20-poly1305", "unknown"]);
    }
}
