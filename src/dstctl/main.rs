//! `dstctl`: sets up, shows, and watches DST in a running SPDK application, over its JSON-RPC
//! socket.
//!
//! | file | contents |
//! | --- | --- |
//! | `cli` | the command line; completions and manual pages follow from it |
//! | `rpc` | JSON-RPC over a Unix socket |
//! | `outcome` | what a command says when it has succeeded |
//! | `failure` | what may go wrong, with exit statuses |
//! | `steps` | several calls, which are taken back when one fails |
//! | `export`, `attach` | what changes the application's state |
//! | `save` | writes the application's configuration file |
//! | `snapshot` | what the application says of itself at one moment |
//! | `health` | what is wrong in a snapshot, and what to do about it |
//! | `status`, `watch` | snapshots for people |
//! | `rates` | what has happened between two snapshots |
//! | `top` | rates on a full screen |
//! | `bundle` | what a bug report needs |
//! | `keygen` | creates key files |
//! | `documents` | completions and manual pages |

#![forbid(unsafe_code)]

mod attach;
mod bundle;
mod cli;
mod documents;
mod export;
mod failure;
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
mod watch;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Command, KeygenCommand};
use crate::failure::Failure;
use crate::outcome::print;
use crate::rpc::Socket;

fn main() -> ExitCode {
    // The old name of `dstctl keygen`, which remains as a link.
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
    let mut socket = Socket::new(arguments.socket, arguments.timeout);
    let outcome = match arguments.command {
        Command::Export(args) => export::export(&mut socket, &args)?,
        Command::Unexport(args) => export::unexport(&mut socket, &args)?,
        Command::Allow(args) => export::allow(&mut socket, &args)?,
        Command::Release(args) => export::release(&mut socket, &args)?,
        Command::Deny(args) => export::deny(&mut socket, &args)?,
        Command::Attach(args) => attach::attach(&mut socket, &args)?,
        Command::Detach(args) => attach::detach(&mut socket, &args)?,
        Command::Status => status::status(&mut socket)?,
        Command::Top(args) => return top::top(socket, &args).map(|()| 0),
        Command::Watch(args) => return watch::watch(&mut socket, &args, arguments.json).map(|()| 0),
        Command::Bundle(args) => bundle::bundle(&mut socket, &args)?,
        Command::Keygen(args) => return Ok(keygen::run(&args).map(|()| 0)?),
        Command::Completions(args) => return documents::completions(&args).map(|()| 0),
        Command::Man(args) => return documents::manual(&args).map(|()| 0),
    };
    let text = if arguments.json { format!("{:#}\n", outcome.json) } else { outcome.text };
    print(&text)?;
    Ok(outcome.status)
}
