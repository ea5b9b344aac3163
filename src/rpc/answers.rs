//! Answers to RPCs, the values in them, and the RPCs of a saved configuration.

use dst_session::histogram::Histogram;
use serde_json::{Value, json};
use spdk::rpc::Reply;

use crate::error::{Result, RpcError};

/// Answers an RPC with its result.
pub fn answer(reply: Reply, result: Result<Value>) {
    match result {
        Ok(value) => reply.ok(value),
        Err(RpcError { code, message }) => reply.error(code, &message),
    }
}

/// Returns one RPC of a saved configuration.
pub fn call(method: &str, params: Value) -> Value {
    json!({ "method": method, "params": params })
}

/// Returns a histogram as a list of buckets. Each counts the operations that took less than
/// `below_us`, and not less than that of the bucket before.
pub fn show_histogram(histogram: &Histogram) -> Value {
    histogram.buckets().map(|(below_us, count)| json!({ "below_us": below_us, "count": count })).collect()
}
