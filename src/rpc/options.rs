//! The options of both sides: names and ranges are declared once, and decoding, showing and saving follow.

use serde_json::{Map, Value, json};

use crate::params::{Params, Result};

/// Declares the options of one side as a module with `take` and `show`. An option that is in the struct and not in
/// this list does not compile.
macro_rules! options {
    ($side:ident, $options:path { $($name:ident: $range:expr,)+ }) => {
        pub mod $side {
            use super::*;
            use $options as Options;

            /// Takes the options out of a call; those that the call does not name are as in `defaults`.
            pub fn take(params: &mut Params, defaults: Options) -> Result<Options> {
                let mut options = defaults;
                $(options.$name = params.number(stringify!($name), options.$name, $range)?;)+
                Ok(options)
            }

            /// Returns the options as a call's parameters.
            pub fn show(options: &Options) -> Map<String, Value> {
                let Options { $($name),+ } = options;
                [$((stringify!($name).to_owned(), json!($name))),+].into_iter().collect()
            }

            /// Returns the name, default, lowest and highest value of each option.
            #[cfg(test)]
            pub fn table() -> Vec<(&'static str, u64, u64, u64)> {
                let Options { $($name),+ } = Options::default();
                let of = |name, default, range: std::ops::RangeInclusive<u64>| {
                    (name, default, *range.start(), *range.end())
                };
                vec![$(of(stringify!($name), u64::from($name), $range)),+]
            }
        }
    };
}

options!(
    client,
    dst_client::Options {
        transaction_timeout_ms: 1000..=86_400_000,
        max_retries: 0..=1_000_000,
        reconnect_delay_ms: 10..=60_000,
        keep_alive_timeout_ms: 100..=3_600_000,
        attach_timeout_ms: 10..=3_600_000,
        queue_depth: 1..=4096,
    }
);

options!(
    target,
    dst_target::Options {
        max_connections: 1..=65_536,
        max_connections_per_host: 1..=65_536,
        max_handshakes: 1..=65_536,
        max_handshakes_per_address: 1..=65_536,
        max_handshake_bytes: 512..=4096,
        handshake_timeout_ms: 100..=60_000,
        max_sessions: 1..=65_536,
        session_timeout_ms: 1000..=3_600_000,
        max_keep_alive_ms: 100..=3_600_000,
        drain_timeout_ms: 100..=600_000,
        queue_depth: 1..=4096,
        max_transfer: 65_536..=1 << 20,
        buffer_mib: 4..=65_536,
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: &str = include_str!("../../rpc/dst_rpc.py");
    const LIMITS: &str = include_str!("../../docs/limits.md");

    fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
        let (_, rest) = text.split_once(begin).expect(begin);
        rest.split_once(end).expect(end).0
    }

    /// Checks that a part of rpc/dst_rpc.py has these options, all of them and no other, with their ranges.
    fn check_commands(part: &str, table: &[(&str, u64, u64, u64)]) {
        let entries: Vec<&str> = part.split("number(").skip(1).collect();
        assert_eq!(entries.len(), table.len(), "{part}");
        for (name, _, low, high) in table {
            let is_named = |entry: &&&str| entry.trim_start().starts_with(&format!("{name:?}"));
            let entry = entries.iter().find(is_named).expect(name);
            assert!(entry.contains(&format!("{low} to {high}")), "{name} is {low} to {high}: {entry}");
        }
    }

    #[test]
    fn the_commands_have_these_options() {
        check_commands(between(COMMANDS, "\nCLIENT_OPTIONS = (", "\n)\n"), &client::table());
        check_commands(
            between(COMMANDS, "\n        \"dst_set_options\",", "\n        ),\n"),
            &target::table(),
        );
    }

    /// Returns a number as docs/limits.md writes it.
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
        for (name, default, low, high) in target::table() {
            let [default, low, high] = [default, low, high].map(|number| written(name, number));
            let row = format!("\n| `{name}` | {default} | {low}–{high} |");
            assert!(LIMITS.contains(&row), "docs/limits.md has no row{row}");
        }
    }
}
