//! The method for the workers, which both sides' connections use.

use dst_transport as transport;
use serde_json::{Value, json};
use spdk::rpc::Reply;

use crate::answers::{answer, call};
use crate::cpumask;
use crate::error::{Result, RpcError};
use crate::params::Params;

fn move_workers(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let cpus = params.cpus("cpumask")?;
    params.finish()?;
    transport::set_workers(&cpus).map_err(|error| RpcError::invalid("cpumask", error))?;
    Ok(true.into())
}

pub fn set_workers(params: Option<Value>, reply: Reply) {
    answer(reply, move_workers(params));
}

/// Returns what each worker has done.
pub fn show() -> Value {
    let workers = transport::workers();
    workers
        .iter()
        .map(|worker| {
            let busy_us = worker.busy.as_micros() as u64;
            json!({ "cpu": worker.cpu, "jobs": worker.jobs, "busy_us": busy_us })
        })
        .collect()
}

/// Returns the RPC that creates the present workers again, if there are any.
pub fn config() -> Option<Value> {
    let cpus: Vec<u32> = transport::workers().iter().map(|worker| worker.cpu).collect();
    (!cpus.is_empty()).then(|| call("dst_set_workers", json!({ "cpumask": cpumask::write(cpus) })))
}
