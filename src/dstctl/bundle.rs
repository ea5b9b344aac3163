//! What a bug report needs, in one file without secrets.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cli::BundleArguments;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::rpc::Calls;
use crate::save::configuration;

/// What the application is asked for. Methods that it does not have are noted as such.
const METHODS: [&str; 15] = [
    "spdk_get_version",
    "framework_get_reactors",
    "thread_get_stats",
    "bdev_get_bdevs",
    "bdev_get_iostat",
    "bdev_dst_get_info",
    "bdev_dst_get_options",
    "dst_get_options",
    "dst_get_exports",
    "dst_get_listeners",
    "dst_get_sessions",
    "dst_get_stats",
    "sock_get_default_impl",
    "bdev_lvol_get_lvstores",
    "nvmf_get_subsystems",
];

/// What is read of the machine.
const FILES: [&str; 6] = [
    "/proc/version",
    "/proc/cmdline",
    "/proc/meminfo",
    "/proc/loadavg",
    "/etc/os-release",
    "/proc/sys/net/ipv4/tcp_congestion_control",
];

/// Most bytes of a file of the machine.
const FILE_MAX: u64 = 64 << 10;

/// Most bytes of the end of a log.
const LOG_MAX: u64 = 1 << 20;

/// What stands in the place of a secret.
const LEFT_OUT: &str = "(left out)";

/// Writes the bundle.
///
/// # Errors
/// The application cannot be asked at all, or the file cannot be written.
pub fn bundle(rpc: &mut impl Calls, args: &BundleArguments) -> Result<Outcome, Failure> {
    let text = format!("{:#}\n", collect(rpc, args)?);
    let failure = |error| Failure::File(args.file.clone(), format!("the bundle can't be written: {error}"));
    // Names of hosts and volumes are nobody else's business either.
    let file = File::options().write(true).create_new(true).mode(0o600).open(&args.file);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failure)?;
    let hint = "read it before you send it: it names hosts, addresses and volumes, but has no keys";
    Ok(Outcome::new(json!({"file": args.file}), format!("{} is written; {hint}\n", args.file.display())))
}

fn collect(rpc: &mut impl Calls, args: &BundleArguments) -> Result<Value, Failure> {
    let mut calls = Map::new();
    for method in METHODS {
        let answer = match rpc.ask(method, json!({})) {
            Ok(Ok(result)) => result,
            Ok(Err(refusal)) => json!({"refused": refusal.message}),
            Err(Failure::NoMethod(..)) => json!("the application has no such method"),
            Err(failure @ Failure::Unreachable(..)) => return Err(failure),
            Err(failure) => json!({"failed": failure.to_string()}),
        };
        calls.insert(method.to_owned(), answer);
    }
    let configuration = configuration(rpc).unwrap_or_else(|failure| json!({"failed": failure.to_string()}));
    let machine: Map<String, Value> =
        FILES.iter().map(|path| ((*path).to_owned(), json!(end_of(Path::new(path), FILE_MAX)))).collect();
    let mut bundle = json!({
        "dstctl": env!("CARGO_PKG_VERSION"),
        "time": Timestamp::now().to_string(),
        "calls": calls,
        "configuration": configuration,
        "machine": machine,
        "processor": processor(),
    });
    if let Some(log) = &args.log {
        bundle["log"] = json!(end_of(log, LOG_MAX));
    }
    redact(&mut bundle);
    Ok(bundle)
}

/// Returns the lines that describe the first processor.
fn processor() -> String {
    let text = end_of(Path::new("/proc/cpuinfo"), FILE_MAX);
    text.split("\n\n").next().unwrap_or_default().to_owned()
}

/// Returns the last `max` bytes of a file as text, or why there are none.
fn end_of(path: &Path, max: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        // Files of /proc have no length.
        let len = fs::metadata(path)?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(max)))?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("can't be read: {error}"))
}

/// Returns whether a field of this name holds a secret. Names of key files and of keys in a keyring
/// are none.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_file = name.ends_with("_file") || name.ends_with("_path");
    let words = ["secret", "password", "passphrase", "passwd", "psk", "credential", "token"];
    !is_file
        && (words.iter().any(|word| name.contains(word))
            || matches!(&name[..], "key" | "key2" | "tweak_key" | "hexkey"))
}

/// Replaces every secret.
fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_secret(name) && !value.is_null() {
                    *value = json!(LEFT_OUT);
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        Value::String(text) if has_key(text) => *text = without_keys(text),
        _ => {}
    }
}

/// The number of hexadecimal digits or characters of base64 from which on a word may be a key: a
/// key of 128 bits has 32 digits. UUIDs have dashes.
const KEY_CHARACTERS: usize = 32;

fn is_key(word: &str) -> bool {
    let is_hex = |run: &str| run.len() >= KEY_CHARACTERS && run.chars().all(|c| c.is_ascii_hexdigit());
    // Base64 may have slashes; paths do not end with `=`.
    (word.len() >= KEY_CHARACTERS && word.ends_with('=')) || word.split(['+', '/', '=']).any(is_hex)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(|c| !is_of_word(c))
}

fn has_key(text: &str) -> bool {
    words(text).any(|word| is_key(bare(word)))
}

/// Returns a word without the character that ends it.
fn bare(word: &str) -> &str {
    word.trim_end_matches(|c| !is_of_word(c))
}

fn without_keys(text: &str) -> String {
    words(text)
        .map(|word| {
            let bare = bare(word);
            if is_key(bare) { format!("{LEFT_OUT}{}", &word[bare.len()..]) } else { word.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;
    use crate::rpc::tests::{Script, any_json, refusal};

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "AAEC/wQFBgcICQoL+A0ODxAREhMUFRYX/BkaGxwdHh8=";

    #[test]
    fn secrets_are_left_out_and_names_of_files_are_not() {
        let mut value = json!({
            "psk_file": "/etc/dst/key", "psk": HEX, "secret": "x", "msecret": "y", "key": HEX, "key2": null,
            "params": [{"password": 5}, {"name": format!("a {HEX}, b"), "uuid": "f7b8898d-869d-8d0b-b17c-4d12a56ccef1"}],
            "log": format!("line\nkey={BASE64}\n"), "num_blocks": 5, "keep": "me",
        });
        redact(&mut value);
        assert_eq!(
            value,
            json!({
                "psk_file": "/etc/dst/key", "psk": LEFT_OUT, "secret": LEFT_OUT, "msecret": LEFT_OUT,
                "key": LEFT_OUT, "key2": null,
                "params": [{"password": LEFT_OUT}, {"name": "a (left out), b", "uuid": "f7b8898d-869d-8d0b-b17c-4d12a56ccef1"}],
                "log": "line\n(left out)\n", "num_blocks": 5, "keep": "me",
            })
        );
    }

    #[test]
    fn what_the_application_lacks_is_noted() {
        let path = std::env::temp_dir().join(format!("dstctl-bundle-{}", std::process::id()));
        let args = BundleArguments { file: path.clone(), log: Some("/nowhere/log".into()) };
        let mut answers = vec![Ok(json!({"secret": "s"})); METHODS.len() - 1];
        answers.insert(3, refusal("not now"));
        let subsystems = [Ok(json!([{"subsystem": "bdev"}])), Ok(json!([{"params": {"key": HEX}}]))];
        let mut script = Script::new(answers.into_iter().chain(subsystems));
        bundle(&mut script, &args).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(written["calls"]["bdev_get_bdevs"], json!({"refused": "not now"}));
        assert!(written["log"].as_str().unwrap().starts_with("can't be read: "), "{}", written["log"]);
        assert!(written["machine"]["/proc/version"].as_str().unwrap().contains("Linux"));
        assert!(!text.contains(HEX) && !text.contains("\"s\""), "a secret is in the bundle");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Script::new(std::iter::repeat_n(Ok(json!([])), METHODS.len() + 1));
        let failure = bundle(&mut { again }, &args).err().unwrap();
        assert!(failure.to_string().contains("can't be written: File exists"), "{failure}");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn only_the_end_of_a_log_is_taken() {
        let path = std::env::temp_dir().join(format!("dstctl-log-{}", std::process::id()));
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(end_of(&path, 4), "6789");
        assert_eq!(end_of(&path, 40), "0123456789");
        fs::remove_file(path).unwrap();
    }

    proptest! {
        #[test]
        fn no_key_survives_in_any_place(mut value in any_json(), before in "\\PC{0,4}", name in "[a-z]{1,8}") {
            prop_assume!(!before.ends_with(is_of_word));
            for key in [HEX, BASE64] {
                let text = format!("{before}{key} after");
                let mut all = json!([value, {(name.clone()): text}]);
                redact(&mut all);
                prop_assert!(!all.to_string().contains(key));
            }
            redact(&mut value);
        }
    }
}
