//! The upper bound with which DST is compared: what plain sockets achieve on this machine.
//!
//! `dst-limit serve` and `dst-limit drive` are two processes that exchange the same request and
//! reply bytes over a plain socket, in poll mode and in batches, without storage and without
//! looking at the bytes. `serve` prints the port on which it listens, serves one client, and ends
//! with it. `drive` keeps N requests outstanding and prints `{"iops": …}`. With `--connections`,
//! they use many connections, and the depth is the total over all of them. Both have one thread;
//! the caller chooses their cores.
//!
//! `dst-limit cores A B` prints the time of a cache line's round trip between CPUs A and B in
//! nanoseconds.

mod cores;
mod many;
mod sockets;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use sockets::Job;

const USAGE: &str = "\
usage: dst-limit serve [--connections C]
       dst-limit drive --port P --request BYTES --reply BYTES --depth N --ms TIME [--connections C]
       dst-limit cores CPU CPU";

/// The job, and the number of connections.
fn parse(args: &[String]) -> Option<(Job, usize)> {
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u32>().ok().filter(|&value| value > 0)
    };
    let job = Job {
        port: number("--port")?.try_into().ok()?,
        request: number("--request")? as usize,
        reply: number("--reply")? as usize,
        depth: number("--depth")? as usize,
        time: Duration::from_millis(number("--ms")?.into()),
    };
    let given = args.iter().any(|arg| arg == "--connections");
    Some((job, if given { number("--connections")? as usize } else { 1 }))
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve"] => sockets::serve(),
        ["serve", "--connections", count] => match count.parse() {
            Ok(count) => many::serve(count),
            Err(_) => return usage(),
        },
        ["drive", ..] => match parse(&args[1..]) {
            Some((job, 1)) => sockets::drive(&job).map(show),
            Some((job, connections)) => many::drive(&job, connections).map(show),
            None => return usage(),
        },
        ["cores", here, there] => match (here.parse(), there.parse()) {
            (Ok(here), Ok(there)) => cores::round_trip(here, there).map(|ns| println!("{ns:.0}")),
            _ => return usage(),
        },
        _ => return usage(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dst-limit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(iops: f64) {
    println!("{{\"iops\": {iops:.0}}}");
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
