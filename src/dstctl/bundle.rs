//! The information for a bug report, in one file without secrets.

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

/// The methods that the application is asked. One that it does not have is noted as such.
const METHODS: [&str; 17] = [
    "spdk_get_version",
    "framework_get_reactors",
    "thread_get_stats",
    "bdev_get_bdevs",
    "bdev_get_iostat",
    "bdev_dst_get_info",
    "bdev_dst_get_options",
    "bdev_dst_mirror_get_info",
    "bdev_dst_mirror_get_limits",
    "dst_get_options",
    "dst_get_exports",
    "dst_get_listeners",
    "dst_get_sessions",
    "dst_get_stats",
    "sock_get_default_impl",
    "bdev_lvol_get_lvstores",
    "nvmf_get_subsystems",
];

/// The files that describe the machine.
const FILES: [&str; 6] = [
    "/proc/version",
    "/proc/cmdline",
    "/proc/meminfo",
    "/proc/loadavg",
    "/etc/os-release",
    "/proc/sys/net/ipv4/tcp_congestion_control",
];

/// The maximum number of bytes of such a file.
const FILE_MAX: u64 = 64 << 10;

/// The maximum number of bytes of the log, taken from its end.
const LOG_MAX: u64 = 1 << 20;

/// The text that takes the place of a secret.
const LEFT_OUT: &str = "(left out)";

/// Writes the bundle.
///
/// # Errors
/// Fails if the application cannot be asked at all, or the file cannot be written.
pub fn bundle(rpc: &mut impl Calls, args: &BundleArguments) -> Result<Outcome, Failure> {
    let text = format!("{:#}\n", collect(rpc, args)?);
    let failure = |error| Failure::File(args.file.clone(), format!("the bundle can't be written: {error}"));
    // The file is private, because names of hosts and volumes concern nobody else.
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

/// Returns the last `max` bytes of a file as text, or the reason why there are none.
fn end_of(path: &Path, max: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        // Files in /proc report a length of 0.
        let len = fs::metadata(path)?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(max)))?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("can't be read: {error}"))
}

/// Returns true if a field of this name holds a secret. Names of key files, and of keys in a
/// keyring, are not secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_file = name.ends_with("_file") || name.ends_with("_path");
    let words = ["secret", "password", "passphrase", "passwd", "psk", "credential", "token"];
    !is_file
        && (words.iter().any(|word| name.contains(word))
            || matches!(&name[..], "key" | "key2" | "tweak_key" | "hexkey"))
}

/// Replaces every secret in a value.
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

/// The number of hexadecimal digits from which on a word may be a key: a key of 128 bits has so
/// many. UUIDs are not found, since they contain dashes.
const HEX_DIGITS: usize = 32;

/// The number of base64 characters from which on a word may be a key: a key of 128 bits has so many
/// without `=`, which is left out by some and is not needed where the length is a multiple of
/// three, as in the keys of NVMe/TCP.
const BASE64_CHARACTERS: usize = 22;

fn is_key(word: &str) -> bool {
    let is_hex = |run: &str| run.len() >= HEX_DIGITS && run.chars().all(|c| c.is_ascii_hexdigit());
    is_base64(word) || word.split(['+', '/', '=']).any(is_hex)
}

/// Returns true if a word looks like random base64 rather than like a name or a path: it changes
/// between capitals, small letters, digits and `+` three times in ten characters at least. Of random
/// pairs of neighbours two thirds differ in that; slashes, which paths have, do not count. A long
/// name with many capitals is left out too, which does no harm.
fn is_base64(word: &str) -> bool {
    let class = |c: u8| match c {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let bare = word.trim_end_matches('=');
    let classes: Vec<u8> = bare.bytes().filter(|&c| c != b'/').map(class).collect();
    let changes = classes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    bare.len() >= BASE64_CHARACTERS && (changes * 10 >= bare.len() * 3 || word.ends_with('='))
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
    fn base64_is_found_without_an_equals_sign_and_other_words_are_not() {
        for key in [
            BASE64,
            BASE64.trim_end_matches('='),
            "AAECAwQFBgcICQoLDA0ODw",
            "AAECAwQFBgcICQoLDA0ODw==",
            "VRLbtnN9AQb2WXW3c9+lEf/DRLz0QuLdbYvEhwtdWwNf9LrZ",
        ] {
            let redacted = without_keys(&format!("NVMeTLSkey-1:01:{key}: and so on"));
            assert_eq!(redacted, format!("NVMeTLSkey-1:01:{LEFT_OUT}: and so on"));
        }
        for word in [
            "f7b8898d-869d-8d0b-b17c-4d12a56ccef1",
            "/usr/share/dst/disk0/volumes/2",
            "/root/Images/Debian12/amd64/Disk0/1",
            "framework/start/init/bdev/subsystem",
            "nqn.2016-06.io.spdk:cnode1",
            "12345678901234567890123456",
        ] {
            assert_eq!(without_keys(word), word);
        }
    }

    #[test]
    fn hardly_any_random_key_is_missed() {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        // The generator of Numerical Recipes, of which only the high bits are used.
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(ALPHABET[(state >> 26) as usize])
        };
        for (len, most) in [(22, 50), (43, 2)] {
            let keys = (0..10_000).map(|_| (0..len).map(|_| next()).collect::<String>());
            let missed = keys.filter(|key| !is_key(key)).count();
            assert!(missed <= most, "{missed} of 10,000 with {len} characters");
        }
    }

    #[test]
    fn what_the_application_lacks_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
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
    }

    #[test]
    fn only_the_end_of_a_log_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(end_of(&path, 4), "6789");
        assert_eq!(end_of(&path, 40), "0123456789");
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
