//! Generates the bindings to the SPDK tree that `SPDK_DIR` names, and decides for all crates which
//! features its version has.
//!
//! Dependants read the features from `DEP_SPDK_CFGS`; no other Rust code depends on SPDK's version.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The `cfg`s of features that not every version has: the name, the first version with the feature,
/// and the first version without it again.
const FEATURES: &[(&str, Version, Version)] = &[
    // `spdk_sock_group_poll_count`.
    ("spdk_sock_group_poll_count", OLDEST, (26, 9)),
    // Socket functions return a negative errno; before, they returned -1 and set `errno`.
    ("spdk_sock_returns_errno", (26, 1), NEWEST),
    // `spdk_sock_connect_async`: a socket that connects while it is polled.
    ("spdk_sock_connect_async", (25, 9), NEWEST),
    // A socket group can wake a thread in interrupt mode: registered as a whole, or by its file
    // descriptor.
    ("spdk_sock_interrupts", (24, 9), NEWEST),
    ("spdk_sock_interruptfd", (26, 1), NEWEST),
    // A keyring, which gives names to keys.
    ("spdk_keyring", (24, 5), NEWEST),
    // `spdk_thread_bind`: a thread can be bound to its core.
    ("spdk_thread_bind", (23, 5), NEWEST),
    // A socket group records removals in an array of fixed size until the next poll.
    ("spdk_sock_removal_list", OLDEST, (21, 4)),
    // Stopping SPDK frees the connections of unanswered RPCs.
    ("spdk_rpc_frees_connections", OLDEST, (23, 9)),
    // Locking a range for a compare-and-write may use a channel that was given back.
    ("spdk_range_lock_loses_channel", OLDEST, (25, 9)),
    // The table of a sock implementation as `spdk/safe/src/sock_impl.rs` fills it in.
    ("spdk_net_impl_20_07", OLDEST, (20, 10)),
    ("spdk_net_impl_26_01", (26, 1), NEWEST),
    // A bdev keeps which kinds of I/O its module supports, as the module said at the registration.
    ("spdk_bdev_keeps_io_types", (26, 1), NEWEST),
    // Several types of claims, in a union.
    ("spdk_bdev_claim_types", (23, 1), NEWEST),
    // Claims that several descriptors may share, such as lvol's, in a list.
    ("spdk_bdev_shared_claims", (23, 5), NEWEST),
];

/// The major and the minor number of a version.
type Version = (u32, u32);

/// The end of a feature that no version has dropped.
const NEWEST: Version = (u32::MAX, 0);

/// The oldest version known to work.
const OLDEST: Version = (20, 7);

fn main() {
    println!("cargo::rerun-if-env-changed=SPDK_DIR");
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-changed=port.h");
    println!("cargo::rerun-if-changed=shim.h");
    println!("cargo::rerun-if-changed=shim.c");
    for (name, _, _) in FEATURES {
        println!("cargo::rustc-check-cfg=cfg({name})");
    }

    if let Err(message) = run() {
        println!("cargo::error={message}");
    }
}

fn run() -> Result<(), String> {
    let spdk_dir = env::var_os("SPDK_DIR").map(PathBuf::from).ok_or(
        "SPDK_DIR is not set: run `make`, which finds or builds SPDK and sets SPDK_DIR, \
         or set SPDK_DIR to a built SPDK tree",
    )?;
    let include = spdk_dir.join("include");
    let version = version(&include)?;
    if version < OLDEST {
        return Err(format!(
            "SPDK {}.{:02} in {} is too old: DST needs {}.{:02} or newer",
            version.0,
            version.1,
            spdk_dir.display(),
            OLDEST.0,
            OLDEST.1
        ));
    }

    let cfgs: Vec<&str> = FEATURES
        .iter()
        .filter(|(_, since, until)| (*since..*until).contains(&version))
        .map(|(name, _, _)| *name)
        .collect();
    for name in &cfgs {
        println!("cargo::rustc-cfg={name}");
    }
    let all: Vec<&str> = FEATURES.iter().map(|(name, _, _)| *name).collect();
    println!("cargo::metadata=CFGS={}", cfgs.join(","));
    println!("cargo::metadata=ALL_CFGS={}", all.join(","));
    println!("cargo::metadata=VERSION={}.{:02}", version.0, version.1);

    bind(&include)?;
    let mut shim = cc::Build::new();
    for name in &cfgs {
        shim.define(&format!("DST_{name}"), None);
    }
    shim.file("shim.c")
        .include(&include)
        .include(".")
        .flag_if_supported("-Wno-unused-parameter")
        .compile("dst_spdk_shim");
    Ok(())
}

/// Returns the version from spdk/version.h, which is read as text: it has plain numbers in every
/// version.
fn version(include: &Path) -> Result<Version, String> {
    let path = include.join("spdk/version.h");
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(&path).map_err(|e| {
        format!(
            "cannot read {}: {e}. SPDK_DIR must name a built SPDK tree; without it, run `make`",
            path.display()
        )
    })?;
    let number = |name: &str| {
        text.lines()
            .filter_map(|line| line.strip_prefix("#define "))
            .find_map(|rest| rest.trim_start().strip_prefix(name))
            .and_then(|value| value.trim().parse::<u32>().ok())
            .ok_or_else(|| format!("no {name} in {}", path.display()))
    };
    Ok((number("SPDK_VERSION_MAJOR")?, number("SPDK_VERSION_MINOR")?))
}

fn bind(include: &Path) -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    bindgen::Builder::default()
        .header("wrapper.h")
        // A tree may change without its version, so every header read is watched. The shim includes
        // no others.
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .clang_arg(format!("-I{}", include.display()))
        .allowlist_function("spdk_(bdev|json|jsonrpc|rpc|sock|thread|poller|interrupt|io_device)_.*")
        .allowlist_function("spdk_(get|set|put)_(thread|io_channel)")
        .allowlist_function("spdk_io_channel_.*")
        .allowlist_function("spdk_cpuset_.*")
        .allowlist_function("spdk_dma_.*")
        .allowlist_function("spdk_env_get_.*")
        .allowlist_function("spdk_get_ticks.*")
        .allowlist_function("spdk_log_(get|set)_.*")
        .allowlist_function("spdk_keyring_(get|put)_key|spdk_key_get_key")
        .allowlist_function("spdk_add_subsystem.*")
        .allowlist_function("spdk_subsystem_(init|fini)_next")
        .allowlist_function("spdk_unaffinitize_thread")
        .allowlist_function("dst_spdk_.*|dst_port_ops|spdk_net_impl_register")
        .allowlist_type("spdk_net_impl|spdk_subsystem.*|spdk_thread_poller_rc|spdk_interrupt_event_types")
        .allowlist_var("DST_PORT_.*")
        .allowlist_var("SPDK_(JSON|JSONRPC|RPC|BDEV|LOG|POLLER|VERSION)_.*")
        // Some of these are both packed and aligned, which Rust cannot express. DST does not access
        // their fields.
        .opaque_type("spdk_nvme_.*|spdk_bdev_nvme_.*|spdk_bdev_ext_io_opts")
        .blocklist_item("SPDK_VERSION_(STRING|SUFFIX|.*_STRING)")
        // libc's type is used, so that vectors can be passed between crates.
        .blocklist_type("iovec")
        .raw_line("use libc::iovec;")
        .use_core()
        .prepend_enum_name(false)
        .derive_debug(false)
        .generate_comments(false)
        .layout_tests(true)
        .generate()
        .map_err(|e| format!("bindgen cannot read SPDK's headers: {e}"))?
        .write_to_file(out.join("bindings.rs"))
        .map_err(|e| format!("cannot write the bindings: {e}"))
}
