//! The path of an I/O through the sockets over DPDK, both ends, with frames that stay in memory,
//! for counting instructions.
//!
//! `dst-net-paths CONNECTIONS DEPTH REQUEST ANSWER MTU OFFLOADS ANSWERS` moves that many answers,
//! and as many before that to warm up. `OFFLOADS` is 1 if the ports compute the checksums.
//! `bench/net_instructions.py` runs the program under callgrind and divides the counts.

#[path = "../../src/sockets/tests/ring/mod.rs"]
mod ring;

use std::env;
use std::process::ExitCode;

use ring::{Pair, Work};

/// Moves the answers that are counted.
#[inline(never)]
fn counted(pair: &mut Pair, answers: usize) {
    pair.run(answers);
}

fn main() -> ExitCode {
    let numbers: Vec<usize> = env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [connections, depth, request, answer, mtu, offloads, answers] = numbers[..] else {
        eprintln!("usage: dst-net-paths CONNECTIONS DEPTH REQUEST ANSWER MTU OFFLOADS ANSWERS");
        return ExitCode::from(2);
    };
    let (mtu, offloads) = (mtu as u16, offloads == 1);
    let mut pair = Pair::new(Work { connections, depth, request, answer, mtu, offloads });
    pair.run(answers);
    let before = pair.answers;
    counted(&mut pair, answers);
    println!("{}", pair.answers - before);
    ExitCode::SUCCESS
}
