//! Visits all states of the given worlds. Reports how many there are and whether a promise is
//! broken.

use std::process::ExitCode;
use std::time::Duration;

use dst_model::{Found, Search, World, check};
use dst_session::mutation::Mutation;

const USAGE: &str = "usage: dst-model [WORLD ...] [--without RULE] [--seconds N] [--walks SEED]

Visits all states of all small worlds and walks through the large ones at random, or visits all states of
the WORLDs.
  --without RULE   take a protection away (a variant of session::mutation::Mutation)
  --seconds N      give each world up after so long
  --walks SEED     do not visit all states, but walk at random for 300,000 states
  --list           print the worlds";

/// The number of states of a large world that walks visit, which takes some seconds.
const WALK: usize = 300_000;

struct Options {
    /// The worlds to visit. If empty: all small ones, and then walks through the large ones.
    worlds: Vec<World>,
    without: Option<Mutation>,
    seconds: Option<u64>,
    walks: Option<u64>,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut worlds, mut without, mut seconds, mut walks) = (Vec::new(), None, None, None);
    let mut arguments = arguments.peekable();
    let number = |option: &str, value: Option<String>| {
        let value = value.unwrap_or_default();
        value.parse().map_err(|_| format!("{option} needs a number, not {value:?}"))
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--without" => {
                let name = arguments.next().unwrap_or_default();
                let found = Mutation::ALL.into_iter().find(|mutation| format!("{mutation:?}") == name);
                without = Some(found.ok_or_else(|| format!("there is no rule {name:?}"))?);
            }
            "--seconds" => seconds = Some(number("--seconds", arguments.next())?),
            "--walks" => walks = Some(number("--walks", arguments.next())?),
            name => {
                let all = dst_model::small().into_iter().chain(dst_model::large());
                let found = all.into_iter().find(|world| world.name == name);
                worlds.push(found.ok_or_else(|| format!("there is no world {name:?}"))?);
            }
        }
    }
    Ok(Options { worlds, without, seconds, walks })
}

fn show(world: &World, found: &Found) {
    let Found { states, depth, is_all, took, broken } = found;
    let all = if *is_all { "all" } else { "some" };
    println!(
        "dst-model: {:12} {states:>9} states ({all}), depth {depth:>3}, {:>5.1} s: {}",
        world.name,
        took.as_secs_f64(),
        world.about
    );
    for (violation, way) in broken {
        println!("dst-model: {violation}");
        for action in way {
            println!("    {action:?}");
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for world in dst_model::small().into_iter().chain(dst_model::large()) {
            println!("{:12} {}", world.name, world.about);
        }
        return ExitCode::SUCCESS;
    }
    let options = match options(arguments.into_iter()) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("dst-model: error: {why}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seconds = options.seconds.map(Duration::from_secs);
    let search = match (options.walks, options.without, seconds) {
        (Some(seed), _, _) => Search::Walks(seed, WALK),
        (None, Some(_), _) => Search::Shortest,
        (None, None, Some(time)) => Search::For(time),
        (None, None, None) => Search::All,
    };
    let mut is_good = true;
    let mut visit = |world: World, search: Search| {
        let found = check(world.clone(), options.without, search, threads);
        show(&world, &found);
        is_good &= found.broken.is_empty();
    };
    let is_named = !options.worlds.is_empty();
    let worlds = if is_named { options.worlds } else { dst_model::small() };
    worlds.into_iter().for_each(|world| visit(world, search));
    if !is_named && search == Search::All {
        dst_model::large().into_iter().for_each(|world| visit(world, Search::Walks(1, WALK)));
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
