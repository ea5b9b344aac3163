//! What the machine gives at most, for DST to be measured against.
//!
//! `dst-limit serve` and `dst-limit drive` are two processes that move the same request and reply bytes over a plain
//! socket, in poll mode, batched, with no storage behind and nobody who looks at the bytes. `serve` prints the port it
//! listens on, answers one client, and ends with it. `drive` keeps N requests outstanding and prints `{"iops": …}`.
//! Both are one thread; who starts them chooses their cores.
//!
//! `dst-limit cores A B` prints how many nanoseconds a cache line takes from CPU A to CPU B and back.

mod cores;
mod sockets;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use sockets::Job;

const USAGE: &str = "\
usage: dst-limit serve
       dst-limit drive --port P --request BYTES --reply BYTES --depth N --ms TIME
       dst-limit cores CPU CPU";

fn parse(args: &[String]) -> Option<Job> {
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u32>().ok().filter(|&value| value > 0)
    };
    Some(Job {
        port: number("--port")?.try_into().ok()?,
        request: number("--request")? as usize,
        reply: number("--reply")? as usize,
        depth: number("--depth")? as usize,
        time: Duration::from_millis(number("--ms")?.into()),
    })
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve"] => sockets::serve(),
        ["drive", ..] => match parse(&args[1..]) {
            Some(job) => sockets::drive(&job).map(|iops| println!("{{\"iops\": {iops:.0}}}")),
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

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
