//! The options of both sides. Each is declared once, with its range and its help, from which
//! decoding, showing and saving follow. The defaults are those of the sides' own `Options`. Tests
//! compare what rpc/dst_rpc.py, docs/limits.md and docs/failures.md say.

/// An option as users see it. All options are whole numbers.
#[cfg(test)]
pub struct Described {
    pub name: &'static str,
    pub default: u64,
    pub range: std::ops::RangeInclusive<u64>,
    pub help: &'static str,
}

/// Declares the options of one side as a module with `take` and `show`. An option that is in the
/// struct and not in this list does not compile.
macro_rules! options {
    ($side:ident, $options:path { $($name:ident: $range:expr, $help:expr;)+ }) => {
        pub mod $side {
            use $options as Options;
            use serde_json::{Map, Value, json};

            use crate::error::Result;
            use crate::params::Params;

            /// Takes the options. Those that are not given are as in `defaults`.
            pub fn take(params: &mut Params, defaults: Options) -> Result<Options> {
                let mut options = defaults;
                $(options.$name = params.number(stringify!($name), options.$name, $range)?;)+
                Ok(options)
            }

            /// Returns the options as the parameters of an RPC.
            pub fn show(options: &Options) -> Map<String, Value> {
                let Options { $($name),+ } = options;
                [$((stringify!($name).to_owned(), json!($name))),+].into_iter().collect()
            }

            /// Returns all options, in the order in which help shows them.
            #[cfg(test)]
            pub fn table() -> Vec<$crate::options::Described> {
                let Options { $($name),+ } = Options::default();
                vec![$($crate::options::Described {
                    name: stringify!($name),
                    default: u64::from($name),
                    range: $range,
                    help: $help,
                }),+]
            }
        }
    };
}

options!(
    client,
    dst_client::Options {
        transaction_timeout_ms: 1000..=86_400_000,
            "how long after its submission unanswered I/O fails";
        max_retries: 0..=1_000_000,
            "how often an I/O is sent again before it fails; 0: as often as its time allows";
        reconnect_delay_ms: 10..=60_000,
            "longest time between two attempts to reach a lost target";
        fast_io_fail_timeout_ms: 0..=86_400_000,
            "how long without a connection until I/O fails at once, at least reconnect_delay_ms; 0: never";
        loss_timeout_ms: 0..=86_400_000,
            "how long without a connection until the bdev is removed, at least fast_io_fail_timeout_ms; 0: never";
        keep_alive_timeout_ms: 100..=3_600_000,
            "how long a target may be silent before it counts as lost, and the length of its leases";
        attach_timeout_ms: 10..=3_600_000,
            "how long bdev_dst_create waits for the target; rpc.py itself waits for 60 s, or what its -t says";
        queue_depth: 1..=4096,
            "transactions that a thread may have outstanding";
    }
);

options!(
    target,
    dst_target::Options {
        max_connections: 1..=65_536,
            "most connections at once";
        max_connections_per_host: 1..=65_536,
            "most connections at once of one host at one export";
        max_handshakes: 1..=65_536,
            "most connections at once that are not yet admitted; beyond it the oldest is closed for the newest";
        max_handshakes_per_address: 1..=65_536,
            "most connections at once from one address that are not yet admitted, likewise";
        max_handshake_bytes: 512..=4096,
            "most bytes of data of a connection's first frame";
        handshake_timeout_ms: 100..=60_000,
            "how long a connection may take to be admitted";
        max_sessions: 1..=65_536,
            "most sessions at once";
        session_timeout_ms: 1000..=3_600_000,
            "how long a session without connections is kept";
        max_keep_alive_ms: 100..=3_600_000,
            "longest keep-alive time that a client gets";
        drain_timeout_ms: 100..=600_000,
            "how long dst_delete_export waits for a bdev before it resets it, and again before it gives up";
        queue_depth: 1..=4096,
            "transactions that a connection may have outstanding";
        max_transfer: 65_536..=1 << 20,
            "most bytes of one request, a power of two";
        buffer_mib: 4..=65_536,
            "memory for data, in MiB a core";
    }
);

options!(
    mirror,
    dst_mirror_bdev::Options {
        resync_rate_mib: 0..=1_000_000,
            "most MiB that are copied to members in a second; 0: no limit";
        verify_rate_mib: 0..=1_000_000,
            "most MiB of the mirror that a verification compares in a second; 0: no limit";
        member_timeout_ms: 0..=3_600_000,
            "how long a member may take for a request before it is reset and given up; 0: for ever";
        flush_interval_ms: 100..=3_600_000,
            "time between two flushes that the mirror makes by itself";
        degraded_wait_ms: 0..=3_600_000,
            "how long the assembly waits for missing members if it may go on without them";
        stop_timeout_ms: 100..=600_000,
            "how long the mirror's end may take";
        start_timeout_ms: 10..=3_600_000,
            "how long the RPC waits until the mirror can be used; rpc.py itself waits for 60 s, or what its -t says";
    }
);

options!(
    mirrors,
    dst_mirror_bdev::Limits {
        total_resync_rate_mib: 0..=1_000_000,
            "most MiB that all mirrors of the process together copy to members in a second; 0: no limit";
    }
);

#[cfg(test)]
mod tests {
    use super::{Described, client, mirror, mirrors, target};

    const COMMANDS: &str = include_str!("../../rpc/dst_rpc.py");
    const LIMITS: &str = include_str!("../../docs/limits.md");
    const MIRROR: &str = include_str!("../../docs/mirror.md");
    const FAILURES: &str = include_str!("../../docs/failures.md");

    fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
        let (_, rest) = text.split_once(begin).expect(begin);
        rest.split_once(end).expect(end).0
    }

    /// Checks that a part of rpc/dst_rpc.py declares these options and no other, in this order.
    fn check_commands(part: &str, table: &[Described]) {
        let squeezed = |text: &str| text.split_whitespace().collect::<String>();
        let entries: Vec<String> = part.split("number(").skip(1).map(squeezed).collect();
        assert_eq!(entries.len(), table.len(), "{part}");
        for (entry, Described { name, default, range, help }) in entries.iter().zip(table) {
            let wanted = format!("{name:?}, {help:?}, {}, {}, {default}", range.start(), range.end());
            let digits =
                entry.trim_end_matches(',').trim_end_matches(')').trim_end_matches(',').replace('_', "");
            assert_eq!(
                digits,
                squeezed(&wanted).replace('_', ""),
                "rpc/dst_rpc.py should have number({wanted})"
            );
        }
    }

    #[test]
    fn the_commands_have_these_options() {
        check_commands(between(COMMANDS, "\nCLIENT_OPTIONS = (", "\n)\n"), &client::table());
        check_commands(between(COMMANDS, "\nTARGET_OPTIONS = (", "\n)\n"), &target::table());
        check_commands(between(COMMANDS, "\nMIRROR_OPTIONS = (", "\n)\n"), &mirror::table());
        check_commands(between(COMMANDS, "\nMIRRORS_LIMITS = (", "\n)\n"), &mirrors::table());
    }

    /// Returns a number as the documents write it.
    fn written(name: &str, number: u64) -> String {
        match number {
            _ if name == "max_transfer" && number < 1 << 20 => format!("{} KiB", number >> 10),
            _ if name == "max_transfer" => format!("{} MiB", number >> 20),
            1_000_000.. => {
                format!("{},{:03},{:03}", number / 1_000_000, number / 1000 % 1000, number % 1000)
            }
            1000.. => format!("{},{:03}", number / 1000, number % 1000),
            _ => number.to_string(),
        }
    }

    #[test]
    fn the_documentation_has_these_limits() {
        let rows = between(LIMITS, "| --- | ---: |", "\n\n").lines().skip(1).count();
        assert_eq!(rows, target::table().len());
        for Described { name, default, range, .. } in target::table() {
            let [default, low, high] =
                [default, *range.start(), *range.end()].map(|number| written(name, number));
            let row = format!("\n| `{name}` | {default} | {low}–{high} |");
            assert!(LIMITS.contains(&row), "docs/limits.md has no row{row}");
        }
    }

    /// Checks that each row of a table of docs/failures.md names one of these options and its default.
    fn check_times(part: &str, table: &[Described]) {
        let rows: Vec<&str> = part.lines().filter(|line| line.starts_with("| `")).collect();
        assert!(!rows.is_empty());
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let name = cells[1].trim_matches('`');
            let option = table.iter().find(|option| option.name == name).expect(name);
            assert_eq!(cells[2], written(name, option.default), "{row}");
        }
    }

    #[test]
    fn the_documentation_has_these_defaults() {
        let times = between(FAILURES, "\n## The times", "What these mean in practice");
        let (of_client, of_target) =
            times.split_once("At the target, `dst_set_options`").expect("two tables");
        check_times(of_client, &client::table());
        check_times(of_target, &target::table());
        let of_mirror = between(MIRROR, "\n## Options", "\n## ");
        check_times(of_mirror, &mirror::table());
        assert_eq!(of_mirror.matches("\n| `").count(), mirror::table().len());
    }
}
