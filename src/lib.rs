//! The library that applications link (`--whole-archive`). It registers DST with SPDK before
//! `main`.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::rc::Rc;

use dst_client::{Holding, Newest, News};
use dst_mirror_bdev::{Exports, Standing};
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
        News::Reachable => dst_mirror_bdev::bdev_reachable(bdev_name),
    }
}

/// Returns how the export of a DST bdev stands to this host, for a mirror that is taken over.
fn export_standing(bdev_name: &str) -> Option<Standing> {
    let client = dst_client::find(bdev_name).ok()?;
    Some(match client.holding() {
        Holding::Unknown => Standing::Silent,
        Holding::Refused(Newest { number, read_us, .. }) => Standing::Foreign { number, read_us },
        Holding::Claimed => Standing::Claimed,
        Holding::Held { confirmed_us } => Standing::Own { confirmed_us },
        Holding::Shared | Holding::Over => Standing::Lost,
    })
}

/// Takes the export of a DST bdev over.
fn take_export_over(bdev_name: &str, after: u64) {
    if let Ok(client) = dst_client::find(bdev_name) {
        client.take_over(after);
    }
}

/// Deletes a DST bdev.
fn give_export_back(bdev_name: &str, done: Box<dyn FnOnce()>) {
    let name = bdev_name.to_owned();
    dst_client::delete(bdev_name, move |result| {
        if let Err(error) = result {
            spdk::warn!("DST bdev {name} stays: {error}");
        }
        done();
    });
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
    dst_mirror_bdev::set_exports(Exports {
        standing: export_standing,
        take_over: take_export_over,
        give_back: give_export_back,
    });
    dst_dpdk::register();
    dst_rpc::register_all();
}

spdk::constructor!(register);
