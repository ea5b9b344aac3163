//! The command-line tool of the simulator of mirrors. See `--help`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::foreground::compare;
use dst_mirror_sim::{Plan, Totals, Violation, run, shrink};

const HELP: &str = "\
dst-mirror-sim [--seeds N] [--from N] [--mutation NAME] [--keep-going]      run seeds
dst-mirror-sim --seed N [--history] [--shrink] [--mutation NAME]            run one again
dst-mirror-sim --mutations [--seeds N] [--mutation NAME]                    which mutations are found, and when
Each with --changes: an operator also adds and removes members.
Or with --witness-changes: the witness, too.
Or with --verifying: media decay, and an operator has the members compared.
Or with --taking: hosts take the mirror over at once.
Or with --loaded: how long users wait while members are brought up to date or compared, on devices that
take time for each request and byte.
";

#[derive(Default)]
struct Args {
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    history: bool,
    shrink: bool,
    mutation: Option<Mutation>,
    mutations: bool,
    keep_going: bool,
    changes: bool,
    witness_changes: bool,
    verifying: bool,
    taking: bool,
    loaded: bool,
}

impl Args {
    /// Returns the plan of a seed.
    fn plan(&self, seed: u64) -> Plan {
        match self.kind() {
            " --changes" => Plan::changing(seed),
            " --witness-changes" => Plan::changing_witness(seed),
            " --verifying" => Plan::verifying(seed),
            " --taking" => Plan::taking(seed),
            " --loaded" => Plan::loaded(seed),
            _ => Plan::new(seed),
        }
    }

    /// Returns the option that names the kind of plan, after a space.
    fn kind(&self) -> &'static str {
        match (self.witness_changes, self.changes, self.verifying, self.taking, self.loaded) {
            (true, ..) => " --witness-changes",
            (_, true, ..) => " --changes",
            (_, _, true, ..) => " --verifying",
            (_, _, _, true, _) => " --taking",
            (_, _, _, _, true) => " --loaded",
            _ => "",
        }
    }

    /// Runs a seed. Of one with a load, what users notice counts, too.
    fn run(&self, seed: u64, mutation: Option<Mutation>) -> (Totals, Option<Violation>) {
        let plan = self.plan(seed);
        if self.loaded {
            return (Totals::default(), compare(&plan, mutation).err());
        }
        let outcome = run(&plan, mutation, false);
        (outcome.totals, outcome.violation)
    }
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
            "--seed" => args.seed = Some(number()?),
            "--history" => args.history = true,
            "--shrink" => args.shrink = true,
            "--mutations" => args.mutations = true,
            "--changes" => args.changes = true,
            "--witness-changes" => args.witness_changes = true,
            "--verifying" => args.verifying = true,
            "--taking" => args.taking = true,
            "--loaded" => args.loaded = true,
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
            eprint!("dst-mirror-sim: {error}\n\n{HELP}");
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

/// Runs one seed again. Returns true if it violates a rule.
fn one(seed: u64, args: &Args) -> bool {
    let mut plan = args.plan(seed);
    if args.shrink {
        plan = shrink::shrink(&plan, args.mutation);
    }
    let outcome = run(&plan, args.mutation, true);
    if args.history || outcome.violation.is_some() {
        println!("{plan:#?}");
        outcome.history.iter().for_each(|line| println!("{line}"));
    }
    if args.loaded {
        println!("{:?}", compare(&plan, args.mutation));
    }
    println!("seed {seed}: {:?}, digest {:016x}", outcome.totals, outcome.digest);
    if let Some(violation) = &outcome.violation {
        println!("seed {seed} violates {violation}");
    }
    outcome.violation.is_some()
}

/// Runs many seeds on several OS threads. Returns true if any seed violates a rule.
fn many(args: &Args) -> bool {
    let seeds = args.seeds.unwrap_or(1_000);
    let (next, stop) = (AtomicU64::new(args.from), AtomicBool::new(false));
    let result = Mutex::new((Totals::default(), 0u64));
    let began = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= args.from + seeds || stop.load(Relaxed) {
                return;
            }
            let (totals, violation) = args.run(seed, args.mutation);
            let mut result = result.lock().expect("nothing panics with it");
            result.0.add(&totals);
            if let Some(violation) = violation {
                result.1 += 1;
                println!("seed {seed} violates {violation}");
                println!("again: dst-mirror-sim --seed {seed} --history{}", args.kind());
                stop.store(!args.keep_going, Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    let (totals, bad) = &*result.lock().expect("nothing panics with it");
    println!("mirror: {seeds} seeds, {bad} bad; {totals:?}; {:.1} s", began.elapsed().as_secs_f64());
    *bad > 0
}

/// Reports which mutations the simulator finds. Returns true if it misses one.
fn mutations(args: &Args) -> bool {
    let seeds = args.seeds.unwrap_or(1000);
    let (next, missed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        while let Some(&mutation) = Mutation::ALL.get(next.fetch_add(1, Relaxed) as usize) {
            if args.mutation.is_some_and(|only| only != mutation) {
                continue;
            }
            let found = (args.from..args.from + seeds).find_map(|seed| {
                let violation = args.run(seed, Some(mutation)).1?;
                // The mutation must be the cause, so the same seed must pass without it.
                args.run(seed, None).1.is_none().then_some((seed, violation))
            });
            match found {
                Some((seed, violation)) => println!("{mutation:?}: seed {seed} violates {violation}"),
                None => {
                    missed.store(true, Relaxed);
                    println!("{mutation:?}: NOT FOUND in {seeds} seeds");
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    missed.load(Relaxed)
}
