//! The target's methods, except for those of exports: listeners, sessions, counters and options.

use std::rc::Rc;

use dst_target::{ConnectionInfo, ConnectionState, ListenAddress, ListenerInfo, SessionInfo, Stats, Target};
use dst_wire::uuid_text;
use serde_json::{Value, json};
use spdk::Errno;
use spdk::rpc::Reply;

use crate::answers::{answer, call, show_histogram};
use crate::error::{Result, RpcError};
use crate::params::Params;
use crate::{options, workers};

/// Returns the target.
///
/// # Errors
/// Fails before DST has started and after it has stopped.
pub fn target() -> Result<Rc<Target>> {
    let error = || RpcError { code: -Errno::ENODEV.0, message: "the DST target is not running".to_owned() };
    Target::get().ok_or_else(error)
}

fn take_listener(params: Option<Value>) -> Result<ListenAddress> {
    let mut params = Params::new(params)?;
    let addr = params.address()?;
    let port = params.port()?;
    let sock_impl = params.sock_impl()?;
    params.finish()?;
    Ok(ListenAddress { addr, port, sock_impl })
}

pub fn create_listener(params: Option<Value>, reply: Reply) {
    match take_listener(params).and_then(|address| Ok((target()?, address))) {
        Ok((target, address)) => target.create_listener(address, move |made| {
            answer(reply, made.map(|()| true.into()).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

pub fn delete_listener(params: Option<Value>, reply: Reply) {
    let gone = take_listener(params).and_then(|address| Ok(target()?.delete_listener(&address)?));
    answer(reply, gone.map(|()| true.into()));
}

fn show_listener(address: &ListenAddress) -> Value {
    let mut shown = json!({
        "traddr": address.addr.to_string(),
        "trsvcid": address.port.to_string(),
        "adrfam": if address.addr.is_ipv4() { "ipv4" } else { "ipv6" },
    });
    if let Some(sock_impl) = &address.sock_impl {
        shown["sock_impl"] = json!(sock_impl);
    }
    shown
}

fn show_listener_state(listener: &ListenerInfo) -> Value {
    let mut shown = show_listener(&listener.address);
    shown["state"] = json!(if listener.waits.is_some() { "waiting" } else { "listening" });
    shown["last_error"] = json!(listener.waits);
    shown
}

pub fn get_listeners(params: Option<Value>, reply: Reply) {
    let list = Params::new(params)
        .and_then(Params::finish)
        .and_then(|()| Ok(target()?.listeners().iter().map(show_listener_state).collect()));
    answer(reply, list);
}

/// Returns the counters that a session and the whole target have in common.
fn show_stats(stats: &Stats) -> Value {
    // A new counter is shown here or, like those bound to `_`, by `get_stats` alone. There is no
    // `..`, so that a forgotten one does not compile.
    let Stats {
        reads,
        read_bytes,
        writes,
        written_bytes,
        others,
        errors,
        failed_flushes: _,
        repeated,
        executed_again,
        dropped,
        lease_expiries,
        handshake_timeouts: _,
        handshake_bytes_exceeded: _,
        violations,
        stalls,
        reconnects,
        fences,
        corrupt,
        read_latency: _,
        write_latency: _,
        other_latency: _,
    } = stats;
    json!({
        "reads": reads,
        "read_bytes": read_bytes,
        "writes": writes,
        "written_bytes": written_bytes,
        "other_operations": others,
        "errors": errors,
        "answered_from_record": repeated,
        "executed_again": executed_again,
        "corrupt": corrupt,
        "dropped": dropped,
        "lease_expiries": lease_expiries,
        "reconnects": reconnects,
        "fences": fences,
        "stalls": stalls,
        "violations": violations,
    })
}

fn show_connection(connection: &ConnectionInfo) -> Value {
    json!({
        "queue": connection.queue,
        "epoch": connection.epoch,
        "peer": connection.peer.to_string(),
        "age_ms": connection.age_ms,
        "in_flight": connection.in_flight,
        "state": match connection.state {
            ConnectionState::Waiting => "waiting",
            ConnectionState::Ready => "ready",
            ConnectionState::Closing => "closing",
        },
    })
}

fn show_session(session: &SessionInfo) -> Value {
    json!({
        "id": uuid_text(&session.id),
        "export": session.export,
        "host": session.host,
        "peer": session.peer.to_string(),
        "age_ms": session.age_ms,
        "connections": session.connections.len(),
        "queues": session.connections.iter().map(show_connection).collect::<Vec<_>>(),
        "digest": session.digest.name(),
        "cipher": session.cipher.name(),
        "counters": show_stats(&session.stats),
    })
}

fn take_export(params: Option<Value>) -> Result<Option<String>> {
    let mut params = Params::new(params)?;
    let export = params.opt_text("export")?;
    params.finish()?;
    Ok(export)
}

pub fn get_sessions(params: Option<Value>, reply: Reply) {
    let asked = take_export(params).and_then(|export| Ok((target()?, export)));
    match asked {
        Err(error) => answer(reply, Err(error)),
        Ok((target, export)) => {
            if let Some(name) = &export
                && let Err(error) = target.exports(Some(name))
            {
                return answer(reply, Err(error.into()));
            }
            target.sessions(export, |list| reply.ok(list.iter().map(show_session).collect()));
        }
    }
}

pub fn get_stats(params: Option<Value>, reply: Reply) {
    match Params::new(params).and_then(Params::finish).and_then(|()| target()) {
        Err(error) => answer(reply, Err(error)),
        Ok(target) => target.totals(|totals| {
            let stats = &totals.stats;
            let mut shown = show_stats(stats);
            shown["connections"] = totals.connections.into();
            shown["handshakes"] = totals.handshakes.into();
            shown["waiting"] = totals.waiting.into();
            shown["closing"] = totals.closing.into();
            shown["sessions"] = totals.sessions.into();
            shown["in_flight"] = totals.in_flight.into();
            shown["max_connections"] = totals.max_connections.into();
            shown["workers"] = workers::show();
            shown["refused_hellos"] = totals.refused_hellos.into();
            shown["refused_busy"] = totals.refused_busy.into();
            shown["connections_refused"] = totals.connections_refused.into();
            shown["handshakes_evicted"] = totals.handshakes_evicted.into();
            shown["handshake_timeouts"] = stats.handshake_timeouts.into();
            shown["handshake_bytes_exceeded"] = stats.handshake_bytes_exceeded.into();
            shown["sessions_timed_out"] = totals.sessions_timed_out.into();
            shown["backend_latency"] = json!({
                "reads": show_histogram(&stats.read_latency),
                "writes": show_histogram(&stats.write_latency),
                "other_operations": show_histogram(&stats.other_latency),
            });
            reply.ok(shown);
        }),
    }
}

fn apply_options(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let target = target()?;
    let o = options::target::take(&mut params, target.options())?;
    if !o.max_transfer.is_power_of_two() {
        return Err(RpcError::invalid("max_transfer", format!("{} is not a power of two", o.max_transfer)));
    }
    params.finish()?;
    target.set_options(o)?;
    Ok(true.into())
}

pub fn set_options(params: Option<Value>, reply: Reply) {
    answer(reply, apply_options(params));
}

pub fn get_options(params: Option<Value>, reply: Reply) {
    let shown = Params::new(params)
        .and_then(Params::finish)
        .and_then(|()| Ok(options::target::show(&target()?.options()).into()));
    answer(reply, shown);
}

fn apply_stop_note(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let path = params.opt_path("path")?.ok_or_else(|| RpcError::invalid("path", "missing"))?;
    params.finish()?;
    target()?.set_stop_note(&path)?;
    Ok(true.into())
}

pub fn set_stop_note(params: Option<Value>, reply: Reply) {
    answer(reply, apply_stop_note(params));
}

/// Returns the RPCs that create the rest again. They come after all bdevs, so that no client is
/// refused because an export is still offline.
pub fn config() -> Vec<Value> {
    let Some(target) = Target::get() else { return Vec::new() };
    let mut calls: Vec<Value> = workers::config().into_iter().collect();
    let listeners = target.listeners();
    calls.extend(listeners.iter().map(|info| call("dst_create_listener", show_listener(&info.address))));
    calls
}
