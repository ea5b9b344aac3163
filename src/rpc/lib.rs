//! DST's JSON-RPC methods and configuration: decode, validate, call down, answer.

#![forbid(unsafe_code)]

mod client;
mod cpumask;
mod options;
mod params;
mod target;
mod workers;

use dst_session::histogram::Histogram;
use serde_json::{Value, json};
use spdk::rpc::{Phase, Reply, register};

use crate::params::{Result, RpcError};

pub use target::config as target_config;

/// Returns the calls that SPDK saves before all bdevs: the exports, and then the DST bdevs.
pub fn bdev_config() -> Vec<Value> {
    let mut calls = target::exports_config();
    calls.extend(client::config());
    calls
}

/// Adds all methods to SPDK's. Once, from a constructor.
pub fn register_all() {
    register(c"bdev_dst_create", client::create, Phase::Runtime);
    register(c"bdev_dst_delete", client::delete, Phase::Runtime);
    register(c"bdev_dst_get_info", client::get_info, Phase::Runtime);
    register(c"bdev_dst_set_options", client::set_options, Phase::Both);
    register(c"bdev_dst_get_options", client::get_options, Phase::Both);
    register(c"dst_create_listener", target::create_listener, Phase::Runtime);
    register(c"dst_delete_listener", target::delete_listener, Phase::Runtime);
    register(c"dst_get_listeners", target::get_listeners, Phase::Runtime);
    register(c"dst_create_export", target::create_export, Phase::Runtime);
    register(c"dst_delete_export", target::delete_export, Phase::Runtime);
    register(c"dst_get_exports", target::get_exports, Phase::Runtime);
    register(c"dst_export_add_host", target::add_host, Phase::Runtime);
    register(c"dst_export_remove_host", target::remove_host, Phase::Runtime);
    register(c"dst_get_sessions", target::get_sessions, Phase::Runtime);
    register(c"dst_get_stats", target::get_stats, Phase::Runtime);
    register(c"dst_set_workers", workers::set_workers, Phase::Runtime);
    register(c"dst_set_options", target::set_options, Phase::Runtime);
    register(c"dst_get_options", target::get_options, Phase::Runtime);
}

/// Answers with what came out.
fn answer(reply: Reply, result: Result<Value>) {
    match result {
        Ok(value) => reply.ok(value),
        Err(RpcError { code, message }) => reply.error(code, &message),
    }
}

/// One call of a saved configuration.
fn call(method: &str, params: Value) -> Value {
    json!({ "method": method, "params": params })
}

/// A UUID as people write it.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Returns a histogram as a list: below how many microseconds, how many operations.
fn show_histogram(histogram: &Histogram) -> Value {
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
