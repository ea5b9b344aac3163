//! What methods give back: answers, the values in them, and the calls of a saved configuration.

use dst_session::histogram::Histogram;
use serde_json::{Value, json};
use spdk::rpc::Reply;

use crate::params::{Result, RpcError};

/// Answers a call with its result.
pub fn answer(reply: Reply, result: Result<Value>) {
    match result {
        Ok(value) => reply.ok(value),
        Err(RpcError { code, message }) => reply.error(code, &message),
    }
}

/// Returns one call of a saved configuration.
pub fn call(method: &str, params: Value) -> Value {
    json!({ "method": method, "params": params })
}

/// Returns a histogram as a list: below how many microseconds, how many operations.
pub fn show_histogram(histogram: &Histogram) -> Value {
    histogram.buckets().map(|(below_us, count)| json!({ "below_us": below_us, "count": count })).collect()
}
