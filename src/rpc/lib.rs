//! DST's JSON-RPC methods and its saved configuration.

#![forbid(unsafe_code)]

mod answers;
mod client;
mod cpumask;
mod default_host;
mod entries;
mod error;
mod exports;
mod interfaces;
mod metrics;
mod mirror;
mod mirror_info;
mod mirror_search;
mod options;
mod params;
mod target;
mod workers;

use spdk::rpc::{Phase, register};

pub use interfaces::config as interfaces_config;
pub use target::config as target_config;

/// Returns the RPCs that SPDK saves before those of all other bdevs: the exports and the mirrors, and
/// then the DST bdevs.
pub fn bdev_config() -> Vec<serde_json::Value> {
    let mut calls = exports::config();
    calls.extend(mirror::config());
    calls.extend(client::config());
    calls
}

/// Registers all methods with SPDK. Call it once, from a constructor.
pub fn register_all() {
    metrics::note_start();
    register(c"bdev_dst_create", client::create, Phase::Runtime);
    register(c"bdev_dst_wait_first_attempts", client::wait_first_attempts, Phase::Runtime);
    register(c"bdev_dst_delete", client::delete, Phase::Runtime);
    register(c"bdev_dst_set_addresses", client::set_addresses, Phase::Runtime);
    register(c"bdev_dst_accept_device", client::accept_device, Phase::Runtime);
    register(c"bdev_dst_get_info", client::get_info, Phase::Runtime);
    register(c"bdev_dst_set_options", client::set_options, Phase::Both);
    register(c"bdev_dst_get_options", client::get_options, Phase::Both);
    register(c"bdev_dst_mirror_create", mirror::create, Phase::Runtime);
    register(c"bdev_dst_mirror_assemble", mirror::assemble, Phase::Runtime);
    register(c"bdev_dst_mirror_wait", mirror::wait, Phase::Runtime);
    register(c"bdev_dst_mirror_add_member", mirror::add_member, Phase::Runtime);
    register(c"bdev_dst_mirror_remove_member", mirror::remove_member, Phase::Runtime);
    register(c"bdev_dst_mirror_add_witness", mirror::add_witness, Phase::Runtime);
    register(c"bdev_dst_mirror_remove_witness", mirror::remove_witness, Phase::Runtime);
    register(c"bdev_dst_mirror_delete", mirror::delete, Phase::Runtime);
    register(c"bdev_dst_mirror_verify", mirror::verify, Phase::Runtime);
    register(c"bdev_dst_mirror_get_info", mirror_info::get_info, Phase::Runtime);
    register(c"bdev_dst_mirror_find", mirror_search::find, Phase::Runtime);
    register(c"bdev_dst_mirror_set_options", mirror::set_options, Phase::Runtime);
    register(c"bdev_dst_mirror_set_limits", mirror::set_limits, Phase::Runtime);
    register(c"bdev_dst_mirror_get_limits", mirror::get_limits, Phase::Runtime);
    register(c"dst_create_listener", target::create_listener, Phase::Runtime);
    register(c"dst_delete_listener", target::delete_listener, Phase::Runtime);
    register(c"dst_get_listeners", target::get_listeners, Phase::Runtime);
    register(c"dst_create_export", exports::create_export, Phase::Runtime);
    register(c"dst_delete_export", exports::delete_export, Phase::Runtime);
    register(c"dst_get_exports", exports::get_exports, Phase::Runtime);
    register(c"dst_export_add_host", exports::add_host, Phase::Runtime);
    register(c"dst_export_set_host", exports::set_host, Phase::Runtime);
    register(c"dst_export_remove_host", exports::remove_host, Phase::Runtime);
    register(c"dst_export_release", exports::release_export, Phase::Runtime);
    register(c"dst_export_reset", exports::reset_export, Phase::Runtime);
    register(c"dst_get_sessions", target::get_sessions, Phase::Runtime);
    register(c"dst_get_stats", target::get_stats, Phase::Runtime);
    register(c"dst_get_metrics", metrics::get_metrics, Phase::Runtime);
    register(c"dst_set_workers", workers::set_workers, Phase::Runtime);
    register(c"dst_set_options", target::set_options, Phase::Runtime);
    register(c"dst_get_options", target::get_options, Phase::Runtime);
    register(c"dst_set_stop_note", target::set_stop_note, Phase::Runtime);
    register(c"dpdk_sock_create_interface", interfaces::create, Phase::Runtime);
    register(c"dpdk_sock_delete_interface", interfaces::delete, Phase::Runtime);
    register(c"dpdk_sock_get_interfaces", interfaces::get_interfaces, Phase::Runtime);
    register(c"dpdk_sock_get_connections", interfaces::get_connections, Phase::Runtime);
}
