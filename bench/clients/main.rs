//! Many lightweight DST clients in one thread, to load a target.
//!
//! `dst-clients --port P --export E --exports X --clients N --outstanding T --op read|write --bytes
//! B --ms TIME` attaches N clients, each with its own session, a control connection and a
//! connection for I/O. It prints `attached` and waits for a line on its standard input, during
//! which the clients are idle. Then it keeps T requests outstanding in total, at random places of
//! the export, prints the result as JSON, and ends.
//!
//! If X is 1, all clients attach export E; otherwise they are spread over E0 to E(X-1).
//!
//! With more requests than clients, each client always has its share of them outstanding. With
//! fewer, the requests go to the clients in turn, and most clients are idle at any moment.

mod client;
mod load;

use std::env;
use std::io::{self, BufRead};
use std::process::ExitCode;
use std::time::Duration;

use dst_wire::Op;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use client::Client;
use load::Load;

const USAGE: &str = "\
usage: dst-clients --port P --export E --exports X --clients N --outstanding T --op read|write --bytes B --ms TIME";

struct Args {
    port: u16,
    export: String,
    exports: usize,
    clients: usize,
    load: Load,
}

fn parse(args: &[String]) -> Option<Args> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)
    };
    let number = |name: &str| value(name)?.parse::<u32>().ok().filter(|&number| number > 0);
    let op = match value("--op")?.as_str() {
        "read" => Op::Read,
        "write" => Op::Write,
        _ => return None,
    };
    Some(Args {
        port: number("--port")?.try_into().ok()?,
        export: value("--export")?.clone(),
        exports: number("--exports")? as usize,
        clients: number("--clients")? as usize,
        load: Load {
            op,
            bytes: number("--bytes")?,
            outstanding: number("--outstanding")? as usize,
            time: Duration::from_millis(number("--ms")?.into()),
        },
    })
}

fn export(args: &Args, client: usize) -> String {
    if args.exports == 1 { args.export.clone() } else { format!("{}{}", args.export, client % args.exports) }
}

fn run(args: &Args) -> io::Result<()> {
    // Each client needs two files, so raise the limit to its maximum.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let mut clients = Vec::new();
    for number in 0..args.clients {
        clients.push(Client::attach(args.port, &export(args, number), &format!("client-{number}"))?);
    }
    println!("attached");
    io::stdin().lock().read_line(&mut String::new())?;
    println!("{}", args.load.run(&mut clients)?);
    clients.iter_mut().try_for_each(Client::leave)
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(args) = parse(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dst-clients: {error}");
            ExitCode::FAILURE
        }
    }
}
