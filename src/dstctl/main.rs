//! `dstctl`: sets up, shows, and watches DST in a running SPDK application, over its JSON-RPC
//! socket.
//!
//! | file | contents |
//! | --- | --- |
//! | `cli` | the command line; completions and manual pages follow from it |
//! | `values` | the values of options that have a form of their own: hosts, sizes, endpoints |
//! | `rpc` | JSON-RPC over a Unix socket |
//! | `outcome` | the output of a command that has succeeded |
//! | `failure` | the errors, with their exit statuses |
//! | `steps` | sequences of calls that are undone when one fails |
//! | `export`, `attach` | the commands that change the application's state |
//! | `save` | writes the application's configuration file |
//! | `snapshot` | the application's state at one moment |
//! | `finding` | a problem |
//! | `health` | the problems in a snapshot, with advice |
//! | `status`, `watch` | snapshots as text |
//! | `wait` | waits for an application that is being started |
//! | `rates` | the activity between two snapshots |
//! | `top` | rates on a full screen |
//! | `exporter` | metrics for Prometheus |
//! | `bundle` | the file for a bug report |
//! | `keygen` | creates key files |
//! | `documents` | completions and manual pages |

#![forbid(unsafe_code)]

mod attach;
mod bundle;
mod cli;
mod documents;
mod export;
mod exporter;
mod failure;
mod finding;
mod health;
mod keygen;
mod outcome;
mod rates;
mod rpc;
mod save;
mod snapshot;
mod status;
mod steps;
mod table;
mod top;
mod values;
mod wait;
mod watch;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::cli::{Arguments, Command, KeygenCommand};
use crate::failure::Failure;
use crate::outcome::print;
use crate::rpc::Socket;

fn main() -> ExitCode {
    // `dst-keygen` is the old name of `dstctl keygen`, and remains as a link.
    let is_keygen = std::env::args_os()
        .next()
        .is_some_and(|program| Path::new(&program).file_name() == Some(OsStr::new("dst-keygen")));
    let (program, result) = if is_keygen {
        ("dst-keygen", keygen::run(&KeygenCommand::parse().arguments).map(|()| 0).map_err(Failure::Key))
    } else {
        ("dstctl", run(Arguments::parse()))
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.exit_status())
        }
    }
}

fn run(arguments: Arguments) -> Result<u8, Failure> {
    let patience = Duration::from_secs(arguments.timeout.get().into());
    let sockets = arguments.socket;
    if sockets.len() > 1 && !matches!(arguments.command, Command::Exporter(_)) {
        let problem = "only `dstctl exporter` takes several sockets";
        Arguments::command().error(ErrorKind::TooManyValues, problem).exit()
    }
    let mut socket = Socket::new(sockets.first().cloned().unwrap_or_default(), arguments.timeout);
    let outcome = match arguments.command {
        Command::Export(args) => export::export(&mut socket, &args)?,
        Command::Unexport(args) => export::unexport(&mut socket, &args)?,
        Command::Allow(args) => export::allow(&mut socket, &args)?,
        Command::Release(args) => export::release(&mut socket, &args)?,
        Command::Deny(args) => export::deny(&mut socket, &args)?,
        Command::Attach(args) => attach::attach(&mut socket, &args)?,
        Command::Detach(args) => attach::detach(&mut socket, &args)?,
        Command::Status => status::status(&mut socket)?,
        Command::Wait(args) => wait::wait(&mut socket, &args, patience)?,
        Command::Top(args) => return top::top(socket, &args).map(|()| 0),
        Command::Watch(args) => return watch::watch(&mut socket, &args, arguments.json).map(|()| 0),
        Command::Exporter(args) => return exporter::exporter(sockets, &args).map(|()| 0),
        Command::Bundle(args) => bundle::bundle(&mut socket, &args)?,
        Command::Keygen(args) => return Ok(keygen::run(&args).map(|()| 0)?),
        Command::Completions(args) => return documents::completions(&args).map(|()| 0),
        Command::Man(args) => return documents::manual(&args).map(|()| 0),
    };
    let text = if arguments.json { format!("{:#}\n", outcome.json) } else { outcome.text };
    print(&text)?;
    Ok(outcome.status)
}
