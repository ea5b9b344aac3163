//! What applications link (`--whole-archive`): registers DST with SPDK before `main`.

#![forbid(unsafe_code)]

use std::alloc::System;

use dst_target::Target;
use dst_transport::set_workers;
use spdk::bdev_module::{ModuleOps, register_module};
use spdk::subsystem::{self, FiniDone, InitDone};
use spdk::thread;
use zeroizing_alloc::ZeroAlloc;

/// What Rust code frees is overwritten first: keys, and what was decrypted, are in no memory that is not in use. On the I/O
/// path nothing is freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// The client, as SPDK's bdev layer knows it.
static MODULE: ModuleOps = ModuleOps {
    name: c"dst",
    init: || Ok(()),
    fini_start: || {},
    fini: dst_client::stop_all,
    examine: |name| Target::with(|target| target.bdev_appeared(name)),
    config: dst_rpc::bdev_config,
};

fn start(done: InitDone) {
    // Target and clients are known to this thread's reactor only.
    thread::stay();
    Target::start();
    done.done(Ok(()));
}

fn stop(done: FiniDone) {
    let finish = move || {
        // Clients may have connections yet. They do without.
        set_workers(&[]).expect("none can always be had");
        done.done();
    };
    match Target::get() {
        Some(target) => target.stop(finish),
        None => finish(),
    }
}

/// Runs before `main`, when SPDK's own modules register, too.
fn register() {
    register_module(&MODULE);
    // Exports need bdevs and connections need sockets: the target starts after both and stops before them.
    subsystem::register(c"dst", &[c"bdev", c"sock"], start, stop, dst_rpc::target_config);
    dst_rpc::register_all();
}

spdk::constructor!(register);
