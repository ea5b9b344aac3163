//! The command line. Help, completions and manual pages are generated from these declarations.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::values::{Endpoint, HostAccess, Size, Source};

/// Sets up, shows, and watches DST in a running SPDK application.
///
/// Exit status: 0: the command succeeded, and `status` found nothing wrong. 1: the application
/// refused, a file could not be used, or `status` has a warning. 2: the command line is wrong, or
/// `status` found something critical. 3: the application cannot be asked.
#[derive(Debug, Parser)]
#[command(name = "dstctl", version, propagate_version = true)]
pub struct Arguments {
    /// The Unix socket of the application's JSON-RPC server; `exporter` takes several
    #[arg(
        short,
        long,
        global = true,
        env = "DST_SOCK",
        default_value = "/var/tmp/spdk.sock",
        value_name = "PATH"
    )]
    pub socket: Vec<PathBuf>,
    /// How long the application may take to answer a call
    #[arg(short, long, global = true, default_value = "60", value_name = "SECONDS")]
    pub timeout: NonZeroU32,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Export(ExportArguments),
    Unexport(UnexportArguments),
    Allow(AllowArguments),
    Deny(DenyArguments),
    Release(ReleaseArguments),
    Attach(AttachArguments),
    Detach(DetachArguments),
    /// Shows exports, sessions, and attached bdevs, problems first
    ///
    /// The exit status is 0 if all is well, 1 for a warning, 2 for something critical, and 3 if the
    /// application cannot be asked, as with monitoring plug-ins.
    Status,
    Wait(WaitArguments),
    Top(TopArguments),
    Watch(WatchArguments),
    Exporter(ExporterArguments),
    Bundle(BundleArguments),
    Keygen(KeygenArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
}

/// Exports a bdev, or a file, to clients
///
/// Either everything is set up, or nothing is.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The name of the export, by which clients attach it
    pub name: String,
    /// The bdev to export; with --file, the name of the bdev to create (default: the export's name)
    #[arg(long, required_unless_present = "file")]
    pub bdev: Option<String>,
    /// A file or block device for which an aio bdev is created
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Create the file with this size if it does not exist: bytes, or with K, M, G, or T for powers
    /// of 1024
    #[arg(long, requires = "file", value_name = "SIZE")]
    pub size: Option<Size>,
    /// The block size of the aio bdev
    #[arg(long, requires = "file", default_value = "4096", value_name = "BYTES")]
    pub block_size: NonZeroU32,
    /// An address at which the target accepts connections; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<Endpoint>,
    /// A host that may attach the export, read-only unless `=rw` follows; `*` is any host; may be
    /// given several times
    #[arg(long, value_name = "HOST[=rw]")]
    pub allow: Vec<HostAccess>,
    /// The key file for all hosts of --allow
    #[arg(long, requires = "allow", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The file that keeps the ownership of the export, so that one host at a time can own it
    #[arg(long, value_name = "PATH")]
    pub state_file: Option<PathBuf>,
    /// Let clients only read
    #[arg(long)]
    pub read_only: bool,
    #[command(flatten)]
    pub save: Save,
}

/// Ends an export; its clients are told that it is gone
#[derive(Debug, Args)]
pub struct UnexportArguments {
    /// The name of the export
    pub name: String,
    #[command(flatten)]
    pub save: Save,
}

/// Lets a host attach an export, or changes its entry while its sessions live
///
/// An entry keeps its key and its addresses unless others are given. To do without them, deny the
/// host first.
#[derive(Debug, Args)]
pub struct AllowArguments {
    /// The name of the export
    pub export: String,
    /// The host, read-only unless `=rw` follows; `*` is any host
    #[arg(value_name = "HOST[=rw]")]
    pub host: HostAccess,
    /// A prefix of addresses from which the host may connect, such as 10.0.0.0/8; may be given
    /// several times (default: any address, or those of the host's entry)
    #[arg(long, value_name = "PREFIX")]
    pub from: Vec<String>,
    /// The host's key file
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Let the host take the export over from its owner, or from those who share it
    #[arg(long)]
    pub takeover: bool,
    #[command(flatten)]
    pub save: Save,
}

/// Removes a host's entry from an export, which ends the host's sessions
#[derive(Debug, Args)]
pub struct DenyArguments {
    /// The name of the export
    pub export: String,
    /// The host, as given to `dstctl allow`
    pub host: String,
    #[command(flatten)]
    pub save: Save,
}

/// Ends the ownership of an export and the owner's sessions, or the doubt about its owner
///
/// Make sure first that no former owner still uses the export's bdev.
#[derive(Debug, Args)]
pub struct ReleaseArguments {
    /// The name of the export
    pub export: String,
}

/// Attaches an export as a bdev
#[derive(Debug, Args)]
pub struct AttachArguments {
    /// The export: ADDRESS[,ADDRESS…]:PORT/EXPORT, with IPv6 addresses in brackets
    #[arg(value_name = "TARGET:PORT/EXPORT")]
    pub source: Source,
    /// The name of the bdev (default: the export's name)
    #[arg(long)]
    pub name: Option<String>,
    /// This client's name for itself, which the target's access list refers to
    #[arg(long)]
    pub host: Option<String>,
    /// The key file, which turns encryption on
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The cipher for the traffic
    #[arg(long, requires = "key", value_name = "NAME")]
    pub cipher: Option<String>,
    /// The checksum over data: crc32c or none
    #[arg(long, value_name = "NAME")]
    pub digest: Option<String>,
    /// Which addresses threads use: failover (all use the one that answered) or spread
    #[arg(long, value_name = "NAME")]
    pub path_policy: Option<String>,
    /// Own the export, so that no other client is admitted
    #[arg(long)]
    pub exclusive: bool,
    /// Take the export over from its owner, or from those who share it
    #[arg(long, requires = "exclusive")]
    pub takeover: bool,
    /// Return after the first attempt; DST keeps trying
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub save: Save,
}

/// Removes an attached bdev
#[derive(Debug, Args)]
pub struct DetachArguments {
    /// The name of the bdev
    pub name: String,
    #[command(flatten)]
    pub save: Save,
}

/// Waits until the application has loaded its configuration, for as long as --timeout says
///
/// An application that was started with --json FILE has its listeners, exports and bdevs then.
#[derive(Debug, Args)]
pub struct WaitArguments {
    /// Stop waiting when this process, the application's, is gone
    #[arg(long, value_name = "PID")]
    pub process: Option<NonZeroU32>,
}

/// Shows I/O on a full screen: rates, latencies, queue depths, states
///
/// Keys: n, i, r, w, l, d sort by name, IOPS, bytes read, bytes written, latency, and depth; /
/// filters by name; p pauses; q quits.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// The time between two samples
    #[arg(long, default_value = "1000", value_name = "MILLISECONDS")]
    pub interval: NonZeroU32,
}

/// Prints each change of state as it happens, one line each
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// The time between two samples
    #[arg(long, default_value = "1000", value_name = "MILLISECONDS")]
    pub interval: NonZeroU32,
}

/// Serves metrics for Prometheus at http://ADDRESS:PORT/metrics
///
/// Each -s names an application, which may be started and restarted at any time. Whoever can connect
/// may read the metrics, which name bdevs and exports.
#[derive(Debug, Args)]
pub struct ExporterArguments {
    /// The address at which Prometheus connects
    #[arg(long, default_value = "127.0.0.1:9477", value_name = "ADDRESS:PORT")]
    pub listen: Endpoint,
    /// How long an application may take to answer; less than Prometheus's scrape_timeout, which is
    /// 10 s unless set
    #[arg(long, default_value = "5", value_name = "SECONDS")]
    pub scrape_timeout: NonZeroU32,
}

/// Writes the information for a bug report into one file: versions, configuration, statistics,
/// machine
///
/// Keys and other secrets are left out. Names of hosts, addresses and volumes are not.
#[derive(Debug, Args)]
pub struct BundleArguments {
    /// The file to create; an existing file is never overwritten
    pub file: PathBuf,
    /// The application's log, whose end is included
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

/// Creates a key for a DST host and its target: 32 random bytes, in a file that only its owner may
/// read
///
/// Copy the file to both machines over a trusted path. Pass it as --key to `dstctl allow` at the
/// target, and to `dstctl attach` at the client.
#[derive(Debug, Args)]
pub struct KeygenArguments {
    /// The file to create; an existing file is never overwritten
    #[arg(required_unless_present = "print", conflicts_with = "print")]
    pub file: Option<PathBuf>,
    /// Write the text of the key file to standard output instead
    #[arg(long)]
    pub print: bool,
}

/// The command line of `dst-keygen`.
#[derive(Debug, Parser)]
#[command(name = "dst-keygen", version, override_usage = "dst-keygen FILE\n       dst-keygen --print")]
pub struct KeygenCommand {
    #[command(flatten)]
    pub arguments: KeygenArguments,
}

/// Prints a script that completes dstctl's arguments
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Writes the manual pages
#[derive(Debug, Args)]
pub struct ManArguments {
    /// The existing folder to write the pages to
    pub folder: PathBuf,
}

/// The option that makes a change last.
#[derive(Debug, Args)]
pub struct Save {
    /// Write the application's configuration to this file afterwards; the application can be
    /// started from it (--json FILE)
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn kind(words: &[&str]) -> Option<ErrorKind> {
        Arguments::try_parse_from(["dstctl"].iter().chain(words)).err().map(|error| error.kind())
    }

    #[test]
    fn the_declarations_are_consistent() {
        Arguments::command().debug_assert();
        KeygenCommand::command().debug_assert();
    }

    #[test]
    fn one_command_on_each_side() {
        for words in [
            &["export", "vol0", "--bdev", "File0"][..],
            &[
                "export",
                "vol0",
                "--file",
                "/x",
                "--size",
                "10G",
                "--listen",
                "[::]:4420",
                "--allow",
                "a=rw",
                "--allow",
                "b",
            ],
            &["attach", "10.0.0.1:4420/vol0", "--key", "/k", "--save", "/c"],
            &["--json", "status"],
            &["status", "-s", "/x", "--json", "-t", "5"],
            &["keygen", "key"],
        ] {
            assert_eq!(kind(words), None, "{words:?}");
        }
        use ErrorKind::*;
        for (words, expected) in [
            (&["export", "vol0"][..], MissingRequiredArgument),
            (&["export", "vol0", "--bdev", "b", "--size", "1G"], MissingRequiredArgument),
            (&["export", "vol0", "--bdev", "b", "--key", "/k"], MissingRequiredArgument),
            (&["attach", "10.0.0.1/vol0"], ValueValidation),
            (&["attach", "10.0.0.1:4420"], ValueValidation),
            (&["keygen"], MissingRequiredArgument),
            (&["keygen", "key", "--print"], ArgumentConflict),
            (&["-t", "0", "status"], ValueValidation),
            (&["nonsense"], InvalidSubcommand),
        ] {
            assert_eq!(kind(words), Some(expected), "{words:?}");
        }
    }
}
