//! The methods of exports, and of the hosts that they admit.

use std::cell::Cell;
use std::rc::Rc;

use dst_session::access::Host;
use dst_target::{
    Error, ExportInfo, KnownOwnership, OwnershipState, Rejection, ResetReach, Rules, Target, utc,
};
use dst_wire::{Ownership, uuid_text};
use serde_json::{Value, json};
use spdk::clock::now_us;
use spdk::poller::Poller;
use spdk::rpc::Reply;

use crate::answers::{answer, call};
use crate::entries::{of_hosts, saved, show_entry, take_entries, take_entry};
use crate::error::{Result, RpcError};
use crate::options;
use crate::params::Params;
use crate::target::target;

/// How long the creation of an export waits for a bdev that is in use, for example by its
/// examination, in µs. This is less than the 10 s within which SPDK wants an answer to each RPC of
/// a configuration file.
const IN_USE_WAIT_US: u64 = 5_000_000;
/// How often the creation tries again meanwhile, in µs. SPDK 23.05 and newer log each attempt while
/// the bdev is open for writing.
const IN_USE_POLL_US: u64 = 20_000;

type Make = Box<dyn Fn() -> std::result::Result<(), Error>>;

fn take_new_export(params: Option<Value>) -> Result<(String, Make)> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let bdev_name = params.text("bdev_name")?;
    let uuid = params.opt_uuid("uuid")?;
    let rules = Rules {
        read_only: params.flag("read_only", false)?,
        require_digest: params.flag("require_digest", false)?,
        require_cipher: params.flag("require_cipher", false)?,
        cache_outlives_target: params.flag("cache_outlives_target", false)?,
        reset: match params.opt_text("reset")?.as_deref() {
            None | Some("host") => ResetReach::Host,
            Some("backend") => ResetReach::Backend,
            Some(other) => {
                let why = format!("{other:?} is neither `host` (the default) nor `backend`");
                return Err(RpcError::invalid("reset", why));
            }
        },
    };
    let hosts = take_entries(&mut params)?;
    let state_file = params.opt_path("state_file")?;
    params.finish()?;
    let target = target()?;
    let export = name.clone();
    let make = move || {
        if let Some(path) = &state_file {
            target.check_state_file(path)?;
        }
        target.create_export(&export, &bdev_name, uuid, rules, &hosts)?;
        state_file.as_ref().map_or(Ok(()), |path| target.keep_ownership(&export, path))
    };
    Ok((name, Box::new(make)))
}

pub fn create_export(params: Option<Value>, reply: Reply) {
    let (name, make) = match take_new_export(params) {
        Ok(taken) => taken,
        Err(error) => return answer(reply, Err(error)),
    };
    match make() {
        Err(Error::InUse { .. }) => make_export_later(name, make, reply),
        made => answer(reply, made.map(|()| name.into()).map_err(of_hosts)),
    }
}

/// Creates an export once nobody else uses its bdev.
fn make_export_later(name: String, make: Make, reply: Reply) {
    let began = now_us();
    let timer: Rc<Cell<Option<Poller>>> = Rc::default();
    let mine = Rc::clone(&timer);
    let mut reply = Some(reply);
    let look = move || {
        let Some(waiting) = reply.take() else { return false };
        match make() {
            Err(Error::InUse { .. }) if now_us() - began < IN_USE_WAIT_US => reply = Some(waiting),
            made => {
                // A poller may be dropped inside its own call.
                drop(mine.take());
                answer(waiting, made.map(|()| name.clone().into()).map_err(of_hosts));
            }
        }
        true
    };
    // Without a poller the closure is dropped, and with it the reply, which then answers with an
    // error.
    if let Ok(poller) = Poller::register(IN_USE_POLL_US, look) {
        timer.set(Some(poller));
    }
}

/// Returns the error of a method that names the export by its parameter `name`.
fn of_name(error: Error) -> RpcError {
    match error {
        Error::Rejected(Rejection::NoExport(_)) => {
            RpcError { code: -error.errno().0, message: format!("name: {error}") }
        }
        other => other.into(),
    }
}

fn take_name(params: Option<Value>) -> Result<(Rc<Target>, String)> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    params.finish()?;
    Ok((target()?, name))
}

/// Begins an operation, whose end answers. If the operation cannot be begun, the error answers.
/// `to_rpc` translates the error with which the operation ends.
fn answer_at_end(
    reply: Reply,
    to_rpc: fn(Error) -> RpcError,
    begin: impl FnOnce(Box<dyn FnOnce(std::result::Result<(), Error>)>) -> Result<()>,
) {
    let reply = Rc::new(Cell::new(Some(reply)));
    let late = Rc::clone(&reply);
    let answer_once = |slot: &Cell<Option<Reply>>, result| {
        if let Some(reply) = slot.take() {
            answer(reply, result);
        }
    };
    let done = move |result: std::result::Result<(), Error>| {
        answer_once(&late, result.map(|()| true.into()).map_err(to_rpc));
    };
    if let Err(error) = begin(Box::new(done)) {
        answer_once(&reply, Err(error));
    }
}

pub fn delete_export(params: Option<Value>, reply: Reply) {
    answer_at_end(reply, of_name, |done| {
        let (target, name) = take_name(params)?;
        target.delete_export(&name, done).map_err(of_name)
    });
}

/// Returns an entry, and what is wrong with its key.
fn show_host(host: &Host) -> Value {
    let mut shown = show_entry(host);
    if host.keys.is_some() {
        shown["key_error"] = json!(Target::get().and_then(|target| target.key_error(host)));
    }
    shown
}

fn show_reset(reset: ResetReach) -> &'static str {
    match reset {
        ResetReach::Host => "host",
        ResetReach::Backend => "backend",
    }
}

/// Returns who owns an export and who waits to own it, or null if the export has no state file.
fn show_ownership(export: &ExportInfo) -> Value {
    let (state, known) = match &export.ownership {
        OwnershipState::NotKept => return Value::Null,
        OwnershipState::Settled(known @ KnownOwnership::Durable(Ownership::Free { .. })) => ("free", known),
        OwnershipState::Settled(known @ KnownOwnership::Durable(Ownership::Exclusive { .. })) => {
            ("owned", known)
        }
        OwnershipState::Settled(known @ KnownOwnership::Doubtful(_)) => ("doubtful", known),
        OwnershipState::Settled(known @ KnownOwnership::Unknown(_)) => ("unknown", known),
        OwnershipState::Changing { before, .. } => ("changing", before),
    };
    let now_us = now_us();
    let waiting = export.waiting.iter().map(
        |(host, since_us)| json!({ "host": host, "waiting_ms": now_us.saturating_sub(*since_us) / 1000 }),
    );
    let waiting: Vec<Value> = waiting.collect();
    let mut shown = json!({ "state": state, "waiting": waiting, "resetting": export.is_resetting });
    match known {
        KnownOwnership::Unknown(why) => shown["why"] = json!(why),
        KnownOwnership::Durable(known) | KnownOwnership::Doubtful(known) => {
            shown["number"] = json!(known.number())
        }
    }
    if let Some(Ownership::Exclusive { host, since_s, .. }) = known.ownership() {
        shown["owner"] = json!(host);
        shown["since"] = json!(utc(*since_s));
    }
    shown
}

fn show_export(export: &ExportInfo) -> Value {
    json!({
        "name": export.name,
        "bdev_name": export.bdev_name,
        "uuid": export.uuid.as_ref().map(uuid_text),
        "uuid_warning": export.uuid_warning,
        "read_only": export.rules.read_only,
        "require_digest": export.rules.require_digest,
        "require_cipher": export.rules.require_cipher,
        "cache_outlives_target": export.rules.cache_outlives_target,
        "reset": show_reset(export.rules.reset),
        "state": if export.offline.is_some() { "offline" } else { "online" },
        "offline_reason": export.offline,
        "block_size": export.size.map(|(block_size, _)| block_size),
        "num_blocks": export.size.map(|(_, num_blocks)| num_blocks),
        "hosts": export.hosts.iter().map(show_host).collect::<Vec<_>>(),
        "sessions": export.sessions,
        "deleting": export.deleting,
        "state_file": export.state_file,
        "ownership": show_ownership(export),
    })
}

fn show_exports(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let name = params.opt_text("name")?;
    params.finish()?;
    let exports = target()?.exports(name.as_deref()).map_err(of_name)?;
    Ok(exports.iter().map(show_export).collect())
}

pub fn get_exports(params: Option<Value>, reply: Reply) {
    answer(reply, show_exports(params));
}

fn try_add_host(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let export = params.text("export")?;
    let host = take_entry(&mut params)?;
    params.finish()?;
    target()?.add_host(&export, host)?;
    Ok(true.into())
}

pub fn add_host(params: Option<Value>, reply: Reply) {
    answer(reply, try_add_host(params));
}

fn take_one_export(params: Option<Value>) -> Result<(Rc<Target>, String)> {
    let mut params = Params::new(params)?;
    let export = params.text("export")?;
    params.finish()?;
    Ok((target()?, export))
}

pub fn release_export(params: Option<Value>, reply: Reply) {
    answer_at_end(reply, RpcError::from, |done| {
        let (target, export) = take_one_export(params)?;
        Ok(target.release_export(&export, done)?)
    });
}

pub fn reset_export(params: Option<Value>, reply: Reply) {
    let begun = take_one_export(params)
        .and_then(|(target, export)| Ok(target.reset_for_takeover(&export).map(|()| true.into())?));
    answer(reply, begun);
}

fn take_set_host(params: Option<Value>) -> Result<(Rc<Target>, String, Host)> {
    let mut params = Params::new(params)?;
    let export = params.text("export")?;
    let host = take_entry(&mut params)?;
    params.finish()?;
    Ok((target()?, export, host))
}

pub fn set_host(params: Option<Value>, reply: Reply) {
    match take_set_host(params) {
        Ok((target, export, host)) => target.set_host(&export, host, move |set| {
            answer(reply, set.map(|()| true.into()).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

fn try_remove_host(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let export = params.text("export")?;
    let host = params.text("host")?;
    params.finish()?;
    target()?.remove_host(&export, &host)?;
    Ok(true.into())
}

pub fn remove_host(params: Option<Value>, reply: Reply) {
    answer(reply, try_remove_host(params));
}

/// Returns the RPCs that set the target's options and create the exports again. They come before all
/// bdevs: each export takes its bdev when that appears, before another module examines data that may
/// look like its own.
pub fn config() -> Vec<Value> {
    let Some(target) = Target::get() else { return Vec::new() };
    let mut calls = vec![call("dst_set_options", options::target::show(&target.options()).into())];
    if let Some(path) = target.stop_note() {
        calls.push(call("dst_set_stop_note", json!({ "path": path })));
    }
    for export in target.exports(None).unwrap_or_default().into_iter().filter(|export| !export.deleting) {
        let mut params = json!({
            "name": export.name,
            "bdev_name": target.own_bdev_name(&export.name).unwrap_or(export.bdev_name),
            "read_only": export.rules.read_only,
            "require_digest": export.rules.require_digest,
            "require_cipher": export.rules.require_cipher,
            "cache_outlives_target": export.rules.cache_outlives_target,
            "reset": show_reset(export.rules.reset),
        });
        if let Some(uuid) = &export.uuid {
            params["uuid"] = json!(uuid_text(uuid));
        }
        if let Some(path) = &export.state_file {
            params["state_file"] = json!(path);
        }
        calls.extend(saved(&export.name, params, &export.hosts));
    }
    calls
}
