//! The client's methods.

use dst_client::{
    BdevParams, BdevState, BdevUuid, Family, Info, Options, PathInfo, PathState, Place, TargetParams,
    TargetPlaces, Wait,
};
use dst_session::outage::LimitsError;
use dst_session::paths::PathPolicy;
use dst_wire::{Cipher, Digest, Op, uuid_text};
use serde_json::{Value, json};
use spdk::rpc::Reply;

use crate::answers::{answer, call, show_histogram};
use crate::default_host::default_host;
use crate::error::{Result, RpcError};
use crate::options;
use crate::params::Params;

/// Returns the cipher of the connections: the one that the user named, or the default. There is a
/// cipher if and only if there is a key.
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
            let problem = format!("{cipher} needs a key: give a psk_file or a psk too");
            Err(RpcError::invalid("cipher", problem))
        }
    }
}

/// Takes the options, and checks that they are consistent with each other and with the defaults of
/// those that are not given.
fn take_options(params: &mut Params) -> Result<Options> {
    let options = options::client::take(params, dst_client::options())?;
    options.outage_limits().check(options.reconnect_delay_ms).map_err(|error| {
        let parameter = match error {
            LimitsError::FastBeforeRetry { .. } => "fast_io_fail_timeout_ms",
            LimitsError::LossBeforeRetry { .. } | LimitsError::LossBeforeFast { .. } => "loss_timeout_ms",
        };
        RpcError::invalid(parameter, error)
    })?;
    Ok(options)
}

/// The words for a bdev's UUID.
const UUIDS: [(&str, BdevUuid); 2] = [("derive", BdevUuid::Derived), ("inherit", BdevUuid::Inherited)];

/// Takes the parameters that say when the RPC is answered.
fn take_wait(params: &mut Params) -> Result<Wait> {
    match (params.flag("wait", true)?, params.flag("first_attempt", true)?) {
        (true, true) => Ok(Wait::UntilAttached),
        (true, false) => Err(RpcError::invalid("first_attempt", "false given, which needs wait false too")),
        (false, true) => Ok(Wait::FirstAttempt),
        (false, false) => Ok(Wait::No),
    }
}

/// Takes out how channels use the target's addresses, if the call says it.
fn take_policy(params: &mut Params) -> Result<Option<PathPolicy>> {
    params.one_of("path_policy", &PathPolicy::ALL.map(|policy| (policy.name(), policy)))
}

fn take_create(params: Option<Value>) -> Result<BdevParams> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let (places, family) = params.places()?;
    let port = params.port()?;
    let policy = take_policy(&mut params)?.unwrap_or_default();
    let export = params.text("export")?;
    let host = params.opt_text("host")?.unwrap_or_else(default_host);
    let sock_impl = params.sock_impl()?;
    let digest =
        params.one_of("digest", &[Digest::Crc32c, Digest::None].map(|digest| (digest.name(), digest)))?;
    let digests = match digest.unwrap_or(Digest::Crc32c) {
        Digest::Crc32c => vec![Digest::Crc32c, Digest::None],
        Digest::None => vec![Digest::None],
    };
    let wait = take_wait(&mut params)?;
    // An RPC that waits for the target fails at once if the key is missing. Another one may be part
    // of a start, which a missing key must not end.
    let key = if wait == Wait::UntilAttached { params.usable_key()? } else { params.key_that_may_come()? };
    let cipher = params.one_of("cipher", &Cipher::ALL.map(|cipher| (cipher.name(), cipher)))?;
    let ciphers = vec![cipher_for(key.is_some(), cipher)?];
    let uuid = params.one_of("uuid", &UUIDS)?.unwrap_or(BdevUuid::Derived);
    let options = take_options(&mut params)?;
    let exclusive = params.flag("exclusive", false)?;
    let takeover = params.flag("takeover", false)?;
    if takeover && !exclusive {
        return Err(RpcError::invalid(
            "takeover",
            "given without exclusive: an export that is shared has no owner",
        ));
    }
    params.finish()?;
    let target = TargetParams {
        at: TargetPlaces { places, port, family, policy },
        export,
        host,
        digests,
        key,
        ciphers,
        sock_impl,
        exclusive,
    };
    Ok(BdevParams { name, target, uuid, options, wait, takeover })
}

pub fn create(params: Option<Value>, reply: Reply) {
    match take_create(params) {
        Ok(params) => {
            dst_client::create(params, |result| answer(reply, result.map(Value::from).map_err(Into::into)));
        }
        Err(error) => answer(reply, Err(error)),
    }
}

pub fn wait_first_attempts(params: Option<Value>, reply: Reply) {
    match Params::new(params).and_then(Params::finish) {
        Ok(()) => dst_client::first_attempts(|| answer(reply, Ok(true.into()))),
        Err(error) => answer(reply, Err(error)),
    }
}

fn repoint(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let (places, family) = params.places()?;
    let port = params.opt_port()?;
    let policy = take_policy(&mut params)?;
    params.finish()?;
    let client = dst_client::find(&name)?;
    let before = client.params().target.at;
    let (port, policy) = (port.unwrap_or(before.port), policy.unwrap_or(before.policy));
    client.repoint(TargetPlaces { places, port, family, policy });
    Ok(true.into())
}

pub fn set_addresses(params: Option<Value>, reply: Reply) {
    answer(reply, repoint(params));
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

pub fn accept_device(params: Option<Value>, reply: Reply) {
    match take_name(params) {
        Ok(name) => dst_client::accept_device(&name, |result| {
            answer(reply, result.map(Value::from).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

fn show_path(path: &PathInfo) -> Value {
    let PathInfo { address, state, connections, losses, last_error } = path;
    let state = match state {
        PathState::Untried => "untried",
        PathState::Up => "up",
        PathState::Down => "down",
        PathState::Suspect => "suspect",
        PathState::OtherInstance => "other_instance",
    };
    json!({
        "address": address,
        "state": state,
        "connections": connections,
        "connections_lost": losses,
        "last_error": last_error,
    })
}

/// Returns the name of a bdev's state.
pub fn state_name(state: BdevState) -> &'static str {
    match state {
        BdevState::Attaching => "attaching",
        BdevState::Connected => "connected",
        BdevState::Reconnecting => "reconnecting",
        BdevState::Unreachable => "unreachable",
        BdevState::Failed => "failed",
    }
}

fn show_info(info: &Info) -> Value {
    // There is no `..`, so that a forgotten field does not compile.
    let Info {
        params,
        address,
        paths,
        state,
        state_age_ms,
        device,
        max_transfer,
        credits,
        keep_alive_ms,
        connections,
        channels,
        transactions,
        errors,
        expired,
        lost,
        reconnects,
        resent,
        corrupt,
        digest,
        cipher,
        ownership,
        lost_caches,
        outstanding,
        waiting,
        read_latency,
        write_latency,
        other_latency,
        last_error,
    } = info;
    let mut shown = show_target(params);
    let more = json!({
        "state": state_name(*state),
        "state_age_ms": state_age_ms,
        "address": address,
        "paths": paths.iter().map(show_path).collect::<Vec<_>>(),
        "connections": connections,
        "channels": channels,
        "options": options::client::show(&params.options),
        "counters": {
            "transactions": transactions,
            "errors": errors,
            "expired": expired,
            "connections_lost": lost,
            "reconnects": reconnects,
            "resent": resent,
            "corrupt": corrupt,
            "lost_caches": lost_caches,
        },
        "outstanding": outstanding,
        "waiting": waiting,
        "latency_us": {
            "read": show_histogram(read_latency),
            "write": show_histogram(write_latency),
            "other": show_histogram(other_latency),
        },
    });
    let negotiated = device.map(|device| {
        json!({
            "export_uuid": uuid_text(&device.uuid),
            "num_blocks": device.num_blocks,
            "block_size": device.block_size,
            "read_only": device.read_only,
            "write_cache": device.write_cache,
            "max_transfer": max_transfer,
            "queue_depth": credits,
            "keep_alive_timeout_ms": keep_alive_ms,
            "digest": digest.name(),
            "cipher": cipher.name(),
            "operations": device.ops.iter().map(Op::name).collect::<Vec<_>>(),
        })
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
        shown.insert("negotiated".to_owned(), negotiated.into());
        shown.insert("ownership".to_owned(), json!(ownership));
        shown.insert("last_error".to_owned(), last_error.clone().into());
    }
    shown
}

/// Returns the family of all places if each is an address and they have the same one.
fn common_family(places: &[Place]) -> Option<Family> {
    [Family::V4, Family::V6].into_iter().find(|family| {
        places.iter().all(|place| place.address().is_some_and(|address| family.has(address.ip)))
    })
}

fn show_target(params: &BdevParams) -> Value {
    let target = &params.target;
    let addrs: Vec<String> = target.at.places.iter().map(ToString::to_string).collect();
    let mut shown = json!({
        "name": params.name,
        "traddr": if let [addr] = &addrs[..] { json!(addr) } else { json!(addrs) },
        "trsvcid": target.at.port.to_string(),
        "path_policy": target.at.policy.name(),
        "export": target.export,
        "host": target.host,
        "exclusive": target.exclusive,
        "digest": target.digests.first().map_or(Digest::None.name(), |digest| digest.name()),
        "cipher": target.ciphers.first().map_or(Cipher::None.name(), |cipher| cipher.name()),
    });
    if let Some((word, _)) = UUIDS.iter().find(|(_, uuid)| *uuid == params.uuid) {
        shown["uuid"] = json!(word);
    }
    if let Some(family) = target.at.family.or_else(|| common_family(&target.at.places)) {
        shown["adrfam"] = json!(family.name());
    }
    if let Some(key) = &target.key {
        let (name, value) = key.parameter();
        shown[name] = json!(value);
    }
    if let Some(sock_impl) = &target.sock_impl {
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
    let options = take_options(&mut params)?;
    params.finish()?;
    dst_client::set_options(options);
    Ok(true.into())
}

pub fn set_options(params: Option<Value>, reply: Reply) {
    answer(reply, apply_options(params));
}

pub fn get_options(params: Option<Value>, reply: Reply) {
    let no_params = Params::new(params).and_then(Params::finish);
    answer(reply, no_params.map(|()| options::client::show(&dst_client::options()).into()));
}

/// Returns the RPCs that restore the present state. All clients look for their targets at the same
/// time, and the last RPC waits for the end of their first attempts.
pub fn config() -> Vec<Value> {
    let mut calls = vec![call("bdev_dst_set_options", options::client::show(&dst_client::options()).into())];
    for client in dst_client::list() {
        let params = client.params();
        let mut saved = show_target(&params);
        if let Value::Object(saved) = &mut saved {
            saved.extend(options::client::show(&params.options));
            saved.insert("wait".to_owned(), false.into());
            saved.insert("first_attempt".to_owned(), false.into());
        }
        calls.push(call("bdev_dst_create", saved));
    }
    if calls.len() > 1 {
        calls.push(call("bdev_dst_wait_first_attempts", json!({})));
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_outages_fit_to_each_other() {
        let taken = |given: Value| take_options(&mut Params::new(Some(given)).unwrap());
        let options = taken(json!({ "fast_io_fail_timeout_ms": 500, "loss_timeout_ms": 500 })).unwrap();
        assert_eq!((options.fast_io_fail_timeout_ms, options.loss_timeout_ms), (500, 500));
        let wrong = |given: Value| taken(given).unwrap_err().message;
        assert_eq!(
            wrong(json!({ "fast_io_fail_timeout_ms": 499 })),
            "fast_io_fail_timeout_ms: 499 is less than reconnect_delay_ms, 500: give at least that, or 0 for never"
        );
        let text = wrong(json!({ "fast_io_fail_timeout_ms": 900, "loss_timeout_ms": 800 }));
        assert!(text.starts_with("loss_timeout_ms: 800 is less than fast_io_fail_timeout_ms"), "{text}");
    }

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
}
