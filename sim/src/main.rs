//! The simulator's command-line tool. See `--help`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use dst_session::mutation::Mutation;
use dst_sim::{Outcome, Plan, run, shrink};

const HELP: &str = "\
dst-sim [--seeds N] [--from N] [--threads N] [--mutation NAME] [--keep-going]   run seeds
dst-sim --seed N [--history] [--shrink] [--mutation NAME]                       run one again
dst-sim --mutations [--seeds N]                                                 which mutations are found, and when
";

#[derive(Default)]
struct Args {
    seeds: Option<u64>,
    from: u64,
    threads: Option<usize>,
    seed: Option<u64>,
    history: bool,
    shrink: bool,
    mutation: Option<Mutation>,
    mutations: bool,
    keep_going: bool,
}

/// Parses the command line. Returns `None` if it asks for help.
fn parse() -> Result<Option<Args>, String> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or(format!("{word} wants a number"))?;
            value.replace('_', "").parse::<u64>().map_err(|error| format!("{word} {value}: {error}"))
        };
        match word.as_str() {
            "--seeds" => args.seeds = Some(number()?),
            "--from" => args.from = number()?,
            "--threads" => args.threads = Some(number()?.max(1) as usize),
            "--seed" => args.seed = Some(number()?),
            "--history" => args.history = true,
            "--shrink" => args.shrink = true,
            "--mutations" => args.mutations = true,
            "--keep-going" => args.keep_going = true,
            "--mutation" => {
                let name = words.next().unwrap_or_default();
                let found = Mutation::ALL.into_iter().find(|m| format!("{m:?}") == name);
                args.mutation =
                    Some(found.ok_or(format!("no mutation {name}, there are {:?}", Mutation::ALL))?);
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Some(args))
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprint!("dst-sim: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // A panic is a violation and is reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    let failed = if let Some(seed) = args.seed {
        one(seed, &args)
    } else if args.mutations {
        mutations(&args)
    } else {
        many(&args)
    };
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs one seed again. Returns true if it violates a promise.
fn one(seed: u64, args: &Args) -> bool {
    let mut plan = Plan::new(seed);
    if args.shrink && run(&plan, args.mutation, false).violation.is_some() {
        plan = shrink::shrink(&plan, args.mutation);
    }
    let outcome = run(&plan, args.mutation, true);
    if args.history || outcome.violation.is_some() {
        println!("{plan:#?}");
        for line in &outcome.history {
            println!("{line}");
        }
    }
    println!(
        "seed {seed}: {} steps, {} I/Os, {} of them failed, digest {:016x}",
        outcome.steps, outcome.ios, outcome.failed, outcome.digest
    );
    tell(seed, &outcome, args.mutation);
    outcome.violation.is_some()
}

fn tell(seed: u64, outcome: &Outcome, mutation: Option<Mutation>) {
    if let Some(violation) = &outcome.violation {
        println!("seed {seed} violates {}: {}", violation.property, violation.text);
        let mutation = mutation.map_or(String::new(), |m| format!(" --mutation {m:?}"));
        println!(
            "again: cargo run --release --manifest-path sim/Cargo.toml -- --seed {seed} --history{mutation}"
        );
    }
}

/// Runs many seeds on several OS threads. Returns true if any seed violates a promise.
fn many(args: &Args) -> bool {
    let seeds = args.seeds.unwrap_or(10_000);
    let next = AtomicU64::new(args.from);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((0u64, 0u64, 0u64, 0u64, 0u64));
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let began = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= args.from + seeds || stop.load(Relaxed) {
                return;
            }
            let plan = Plan::new(seed);
            let outcome = run(&plan, args.mutation, false);
            let mut sum = total.lock().expect("nothing panics with it");
            sum.0 += 1;
            sum.1 += outcome.steps;
            sum.2 += outcome.ios;
            sum.3 += outcome.failed;
            let Some(violation) = &outcome.violation else { continue };
            sum.4 += 1;
            stop.store(!args.keep_going, Relaxed);
            drop(sum);
            if args.keep_going {
                println!("seed {seed} violates {}: {}", violation.property, violation.text);
                continue;
            }
            let small = shrink::shrink(&plan, args.mutation);
            let again = run(&small, args.mutation, true);
            let _one_at_a_time = total.lock().expect("nothing panics with it");
            println!("smaller, but as bad: {small:#?}");
            again.history.iter().for_each(|line| println!("{line}"));
            tell(seed, &again, args.mutation);
            tell(seed, &outcome, args.mutation);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (seeds, steps, ios, failed, bad) = *total.lock().expect("nothing panics with it");
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds, {bad} bad; {steps} steps, {ios} I/Os of which {failed} failed; {seconds:.1} s on {threads} \
         threads, {:.0} steps/s",
        steps as f64 / seconds
    );
    bad > 0
}

/// Reports which mutations the simulator finds. Returns true if it misses one.
fn mutations(args: &Args) -> bool {
    let seeds = args.seeds.unwrap_or(1000);
    let mut missed = false;
    for mutation in Mutation::ALL {
        let found = (args.from..args.from + seeds).find_map(|seed| {
            let plan = Plan::new(seed);
            let violation = run(&plan, Some(mutation), false).violation?;
            // The mutation must be the cause, so the same seed must pass without it.
            run(&plan, None, false).violation.is_none().then_some((seed, violation))
        });
        match found {
            Some((seed, violation)) => {
                println!("{mutation:?}: seed {seed} violates {}: {}", violation.property, violation.text);
            }
            None => {
                missed = true;
                println!("{mutation:?}: NOT FOUND in {seeds} seeds");
            }
        }
    }
    missed
}
