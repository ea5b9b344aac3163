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

/// Returns a UUID as people write it.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Returns a histogram as a list: below how many microseconds, how many operations.
pub fn show_histogram(histogram: &Histogram) -> Value {
    histogram.buckets().map(|(below_us, count)| json!({ "below_us": below_us, "count": count })).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_has_its_dashes() {
        let uuid = std::array::from_fn(|i| i as u8);
        assert_eq!(super::uuid_text(&uuid), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
