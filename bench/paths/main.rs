//! The hot paths of an I/O through the pure layers of both sides, without sockets and SPDK, for
//! counting instructions.
//!
//! `dst-paths BATCHES` moves that many batches of [`BATCH`] reads, and as many of writes, from a
//! client's slab to a target's record and back. It moves as many through the rules of a mirror, and
//! then answers [`SCRAPES`] scrapes. The steps are functions that are not inlined, so that a profiler
//! shows each of them. `bench/instructions.py` runs the program under callgrind and divides the counts.
//!
//! `dst-paths BATCHES SCRAPES`, with two batches or more, answers that many scrapes instead, and shows
//! how long they took.

mod client;
mod mirror;
mod scrape;
mod target;

use std::alloc::System;
use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use dst_session::transactions::Request;
use dst_wire::{Crc32c, Op};
use zeroizing_alloc::ZeroAlloc;

use client::Client;
use mirror::Mirrored;
use scrape::Scrape;
use target::Target;

/// The number of I/Os that one system call moves: half of a queue of 128 that is always full.
const BATCH: usize = 64;

/// The size of an I/O in bytes.
const BYTES: u32 = 4096;

const BLOCK: u32 = 512;

/// The number of scrapes that are counted.
const SCRAPES: usize = 10;

/// The allocator of `src/lib.rs`: it overwrites memory that is freed, which a scrape pays for.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn request(op: Op, number: u64) -> Request {
    let blocks = u64::from(BYTES / BLOCK);
    let (request_len, answer_len) = if op == Op::Write { (BYTES, 0) } else { (0, BYTES) };
    Request { op, start: number % 1000 * blocks, count: blocks, request_len, answer_len }
}

/// Computes the digest of one I/O's data, which is counted separately.
#[inline(never)]
fn digest(data: &[u8]) -> u32 {
    Crc32c::of(data)
}

/// Moves writes through a mirror's rules.
#[inline(never)]
fn one_mirror_write(mirrored: &mut Mirrored, count: u64) {
    mirrored.run(dst_mirror::Op::Write, count);
}

/// Moves reads through a mirror's rules.
#[inline(never)]
fn one_mirror_read(mirrored: &mut Mirrored, count: u64) {
    mirrored.run(dst_mirror::Op::Read, count);
}

/// Returns the length of the answer.
#[inline(never)]
fn one_scrape(scrape: &Scrape) -> usize {
    scrape.answer(&scrape.copy_connections()).len()
}

fn main() -> ExitCode {
    let argument = |place| env::args().nth(place).and_then(|word| word.parse::<usize>().ok());
    let Some(batches) = argument(1) else {
        eprintln!("usage: dst-paths BATCHES [SCRAPES]");
        return ExitCode::from(2);
    };
    let timed = argument(2);
    let mut client = Client::new();
    let mut target = Target::new();
    // The bytes on the wire in each direction.
    let (mut requests, mut answers) = (Vec::with_capacity(1 << 20), Vec::with_capacity(1 << 20));
    let data = [0x5a; BYTES as usize];
    let mut number = 0;
    for batch in 0..2 * batches {
        let op = if batch % 2 == 0 { Op::Read } else { Op::Write };
        for _ in 0..BATCH {
            client.submit(request(op, number), number);
            number += 1;
        }
        requests.clear();
        client.send(&mut requests);
        target.parse(&requests);
        answers.clear();
        target.answer(&mut answers);
        client.complete(&answers);
        black_box(digest(black_box(&data)));
    }
    assert_eq!(client.completed, number, "every I/O comes back once");
    let mut mirrored = Mirrored::new();
    one_mirror_write(&mut mirrored, (batches * BATCH) as u64);
    one_mirror_read(&mut mirrored, (batches * BATCH) as u64);
    let scrape = Scrape::new();
    let mut took_us: Vec<_> = (0..timed.unwrap_or(SCRAPES))
        .map(|_| {
            let begin = Instant::now();
            black_box(one_scrape(&scrape));
            begin.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    if timed.is_some() && !took_us.is_empty() {
        took_us.sort_unstable_by(f64::total_cmp);
        println!(
            "a scrape took {:.1} us (median), {:.1} us at least",
            took_us[took_us.len() / 2],
            took_us[0]
        );
    }
    ExitCode::SUCCESS
}
