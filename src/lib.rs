//! The library that applications link (`--whole-archive`). It registers DST with SPDK before
//! `main`.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::rc::Rc;

use dst_client::News;
use dst_target::Target;
use dst_transport::set_workers;
use spdk::bdev_module::{ModuleOps, register_module};
use spdk::subsystem::{self, FiniDone, InitDone};
use spdk::thread;
use zeroizing_alloc::ZeroAlloc;

/// Overwrites all memory that Rust code frees, so that no keys and no decrypted data remain in
/// unused memory. The I/O path frees nothing.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// The client's bdev module.
static MODULE: ModuleOps = ModuleOps {
    name: c"dst",
    init: || Ok(()),
    fini_start: || {},
    fini: dst_client::stop_attaching,
    examine,
    config: dst_rpc::bdev_config,
};

/// Whoever waits for a bdev takes it before another module reads from it.
fn examine(bdev_name: &str) {
    Target::with(|target| target.bdev_appeared(bdev_name));
    dst_mirror_bdev::bdev_appeared(bdev_name);
}

/// A mirror has to know what becomes of its members.
fn client_news(bdev_name: &str, news: News) {
    match news {
        News::LostCache => dst_mirror_bdev::bdev_lost_cache(bdev_name),
        News::TakenOver => dst_mirror_bdev::bdev_taken_over(bdev_name),
    }
}

/// SPDK begins to stop. Mirrors and clients end at the same time: a mirror's last writes have the
/// patience of its members.
fn stop_begins(done: FiniDone) {
    let clients = Rc::new(done);
    let mirrors = Rc::clone(&clients);
    // SPDK goes on when both are dropped.
    dst_mirror_bdev::stop_begins(move || drop(mirrors));
    dst_client::stop_begins(move || drop(clients));
}

fn start(done: InitDone) {
    // Only this thread's reactor knows the target and the clients.
    thread::stay();
    Target::start();
    done.done(Ok(()));
}

fn stop(done: FiniDone) {
    let finish = move || {
        // Clients may still have connections, which continue without workers.
        set_workers(&[]).expect("a pool without workers is always possible");
        done.done();
    };
    match Target::get() {
        Some(target) => target.stop(finish),
        None => finish(),
    }
}

/// Runs before `main`, when SPDK's own modules register.
fn register() {
    register_module(&MODULE);
    // Exports need bdevs and connections need sockets, so the target starts after both and stops
    // before them.
    subsystem::on_stop(stop_begins);
    subsystem::register(c"dst", &[c"bdev", c"sock"], start, stop, dst_rpc::target_config);
    // Interfaces come before everything that connects, and go after it.
    subsystem::register(
        c"dpdk_sock",
        &[],
        |done| done.done(Ok(())),
        |done| {
            dst_dpdk::delete_all();
            done.done();
        },
        dst_rpc::interfaces_config,
    );
    subsystem::add_dependency(c"bdev", c"dpdk_sock");
    spdk::trace::register();
    dst_client::set_listener(client_news);
    dst_dpdk::register();
    dst_rpc::register_all();
}

spdk::constructor!(register);
