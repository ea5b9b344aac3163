//! Runs seeds, each once with TCP alone and once with interfaces on an Ethernet.
//!
//! Usage: `dst-tcp-sim [--seeds N] [--from SEED] [--seed SEED]`.

use std::process::ExitCode;

use dst_tcp_sim::lan::{LanPlan, run_lan};
use dst_tcp_sim::{Plan, run};

fn main() -> ExitCode {
    let (mut seeds, mut from) = (1_000, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
        match (argument.as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--from", Some(value)) => from = value,
            ("--seed", Some(value)) => {
                println!("{:#?}", Plan::new(value));
                println!("{:#?}", run(&Plan { history: true, ..Plan::new(value) }, None, None));
                let mut plan = LanPlan::new(value);
                println!("{plan:#?}");
                plan.users.history = true;
                println!("{:#?}", run_lan(&plan, None));
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("usage: dst-tcp-sim [--seeds N] [--from SEED] [--seed SEED]");
                return ExitCode::FAILURE;
            }
        }
    }
    let (mut packets, mut frames, mut lost, mut failed) = (0, 0, 0, 0);
    for seed in from..from + seeds {
        let outcome = run(&Plan::new(seed), None, None);
        packets += outcome.packets.0;
        lost += outcome.packets.1;
        if let Some(violation) = outcome.violation {
            failed += 1;
            println!("seed {seed}: {violation}");
        }
        let outcome = run_lan(&LanPlan::new(seed), None);
        frames += outcome.frames.0;
        lost += outcome.frames.1;
        if let Some(violation) = outcome.violation {
            failed += 1;
            println!("seed {seed}, on an Ethernet: {violation}");
        }
    }
    println!(
        "{seeds} seeds from {from}: {failed} with violations, {packets} packets, {frames} frames, {lost} lost"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
