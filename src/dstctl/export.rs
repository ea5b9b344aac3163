//! The target's side: exports, and their access lists.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::{AllowArguments, DenyArguments, ExportArguments, ReleaseArguments, UnexportArguments};
use crate::failure::Failure;
use crate::keygen::KeyError;
use crate::outcome::Outcome;
use crate::rpc::Calls;
use crate::save::save;
use crate::snapshot::{self, Export};
use crate::steps::Steps;
use crate::values::{Endpoint, HostAccess, Size};

/// Creates an export with its bdev, entries and listeners.
///
/// # Errors
/// Fails if a call fails or a file cannot be used. Everything done before is undone.
pub fn export(rpc: &mut impl Calls, args: &ExportArguments) -> Result<Outcome, Failure> {
    let bdev = args.bdev.as_ref().unwrap_or(&args.name);
    let key = args.key.as_deref().map(key_file).transpose()?;
    let file = args.file.as_deref().map(|path| BackingFile::open(path, args.size)).transpose()?;
    let result = set_up(rpc, args, bdev, key.as_ref(), file.as_ref());
    match (result, file) {
        (Ok(()), _) => {}
        (Err(failure), Some(file)) => return Err(file.discard(failure)),
        (Err(failure), None) => return Err(failure),
    }
    save(rpc, &args.save)?;
    let shown = snapshot::exports(rpc, Some(&args.name))?;
    Ok(Outcome::new(json!({"export": args.name}), summary(&args.name, &shown)))
}

fn set_up(
    rpc: &mut impl Calls,
    args: &ExportArguments,
    bdev: &str,
    key: Option<&Value>,
    file: Option<&BackingFile>,
) -> Result<(), Failure> {
    let mut steps = Steps::new(rpc);
    let name = &args.name;
    // The export comes first, so that it takes the bdev before another module of the target
    // examines what clients have written there.
    let mut params = json!({"name": name, "bdev_name": bdev, "read_only": args.read_only});
    if let Some(path) = &args.state_file {
        let full =
            std::path::absolute(path).map_err(|error| Failure::File(path.clone(), error.to_string()))?;
        params["state_file"] = json!(full);
    }
    if file.is_some() {
        // SPDK gives an aio bdev another UUID at each start, but clients recognise a device by its
        // UUID.
        params["uuid"] = json!(new_uuid()?);
    }
    steps.step("dst_create_export", params, ("dst_delete_export", json!({"name": name})))?;
    for host in &args.allow {
        steps.look("dst_export_add_host", entry(name, host, &[], key))?;
    }
    if let Some(file) = file {
        let params = json!({"name": bdev, "filename": file.path, "block_size": args.block_size});
        steps.step("bdev_aio_create", params, ("bdev_aio_delete", json!({"name": bdev})))?;
    }
    if args.listen.is_empty() {
        return Ok(());
    }
    let listeners = steps.look("dst_get_listeners", json!({}))?;
    for listener in &args.listen {
        if !is_there(&listeners, listener) {
            let params = json!({"traddr": listener.address, "trsvcid": listener.port.to_string()});
            steps.step("dst_create_listener", params.clone(), ("dst_delete_listener", params))?;
        }
    }
    Ok(())
}

/// Returns a random UUID (RFC 9562, version 4).
fn new_uuid() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let digits = format!("{number:032x}");
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

fn is_there(listeners: &Value, wanted: &Endpoint) -> bool {
    let port = wanted.port.to_string();
    listeners.as_array().is_some_and(|all| {
        all.iter().any(|listener| listener["traddr"] == wanted.address[..] && listener["trsvcid"] == port[..])
    })
}

fn summary(name: &str, exports: &[Export]) -> String {
    let Some(export) = exports.first() else { return String::new() };
    let mut text = match &export.offline_reason {
        None => format!("{name} is exported\n"),
        Some(reason) => format!("{name} is exported as soon as its bdev is there: {reason}\n"),
    };
    if export.hosts.is_empty() {
        text.push_str(&format!("nobody may attach it yet: dstctl allow {name} HOST=rw\n"));
    }
    if export.ownership.as_ref().is_some_and(|ownership| ownership.state == "unknown") {
        text.push_str(&format!(
            "nobody is admitted, since nobody knows who owns it; if it has no owner: dstctl release {name}\n"
        ));
    }
    text
}

/// Ends an export.
///
/// # Errors
/// Fails if the call fails.
pub fn unexport(rpc: &mut impl Calls, args: &UnexportArguments) -> Result<Outcome, Failure> {
    rpc.call("dst_delete_export", json!({"name": args.name}))?;
    save(rpc, &args.save)?;
    Ok(Outcome::new(json!({"export": args.name}), format!("{} is no longer exported\n", args.name)))
}

/// Adds an entry to an export's access list, or changes the host's entry. The entry's key and
/// addresses stay unless others are given, so that no host is admitted without them by oversight.
///
/// # Errors
/// Fails if a call fails.
pub fn allow(rpc: &mut impl Calls, args: &AllowArguments) -> Result<Outcome, Failure> {
    let key = args.key.as_deref().map(key_file).transpose()?;
    let known = snapshot::exports(rpc, Some(&args.export))?;
    let known = known.iter().flat_map(|export| &export.hosts).find(|entry| entry.host == args.host.host);
    let method = if known.is_some() { "dst_export_set_host" } else { "dst_export_add_host" };
    let mut params = entry(&args.export, &args.host, &args.from, key.as_ref());
    if let Some(known) = known {
        if args.from.is_empty() && !known.addresses.is_empty() {
            params["addresses"] = json!(known.addresses);
        }
        for (name, value) in [("psk_file", &known.psk_file), ("psk", &known.psk)] {
            if let (None, Some(value)) = (&key, value) {
                params[name] = json!(value);
            }
        }
    }
    if args.takeover {
        params["takeover"] = json!(true);
    }
    rpc.call(method, params)?;
    save(rpc, &args.save)?;
    let HostAccess { host, access } = &args.host;
    let text = format!("{host} may attach {} ({})\n", args.export, access.name());
    Ok(Outcome::new(json!({"export": args.export, "host": host, "access": access.name()}), text))
}

/// Ends the ownership of an export.
///
/// # Errors
/// Fails if the call fails.
pub fn release(rpc: &mut impl Calls, args: &ReleaseArguments) -> Result<Outcome, Failure> {
    rpc.call("dst_export_release", json!({"export": args.export}))?;
    Ok(Outcome::new(json!({"export": args.export}), format!("nobody owns {}\n", args.export)))
}

/// Removes an entry from an export's access list.
///
/// # Errors
/// Fails if the call fails.
pub fn deny(rpc: &mut impl Calls, args: &DenyArguments) -> Result<Outcome, Failure> {
    let DenyArguments { export, host, .. } = args;
    rpc.call("dst_export_remove_host", json!({"export": export, "host": host}))?;
    save(rpc, &args.save)?;
    Ok(Outcome::new(
        json!({"export": export, "host": host}),
        format!("{host} may no longer attach {export}\n"),
    ))
}

/// Returns the parameters for an access list entry.
fn entry(export: &str, host: &HostAccess, from: &[String], key: Option<&Value>) -> Value {
    let mut entry = json!({"export": export, "host": host.host, "access": host.access.name()});
    if !from.is_empty() {
        entry["addresses"] = json!(from);
    }
    if let Some(key) = key {
        entry["psk_file"] = key.clone();
    }
    entry
}

/// Returns the absolute path of a file, since the application has another working directory.
/// Symbolic links are not resolved: after a restart, a device's name in /dev may be another
/// device's, and only its link in /dev/disk remains.
///
/// # Errors
/// Fails if there is no such file.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    fs::metadata(path)?;
    std::path::absolute(path)
}

/// Returns the absolute path of a key file.
///
/// # Errors
/// Fails if there is no such file.
pub fn key_file(path: &Path) -> Result<Value, Failure> {
    let full = absolute(path).map_err(|error| {
        let hint = format!("the key can't be read: {error}; `dstctl keygen {}` creates one", path.display());
        Failure::File(path.to_owned(), hint)
    })?;
    Ok(json!(full))
}

/// The file behind an aio bdev.
struct BackingFile {
    path: PathBuf,
    /// Whether this command has created the file.
    is_new: bool,
}

impl BackingFile {
    /// Finds the file, or creates it if `size` is given and the file does not exist.
    fn open(path: &Path, size: Option<Size>) -> Result<BackingFile, Failure> {
        let failure = |why: String| Failure::File(path.to_owned(), why);
        let is_new = match size {
            Some(Size(size)) if !path.exists() => {
                let created = OpenOptions::new().write(true).create_new(true).open(path);
                created
                    .and_then(|file| file.set_len(size).and_then(|()| give_away(&file, path)))
                    .map_err(|error| failure(format!("the file can't be created: {error}")))?;
                true
            }
            _ => false,
        };
        let path = absolute(path).map_err(|error| {
            failure(format!("the file can't be used: {error}; --size creates it if it does not exist"))
        })?;
        if let (false, Some(Size(size))) = (is_new, size) {
            let found = fs::metadata(&path).map(|file| file.len()).unwrap_or(0);
            if found != size {
                return Err(failure(format!(
                    "the file has {found} bytes, not the {size} of --size; leave --size out to export it as it is"
                )));
            }
        }
        Ok(BackingFile { path, is_new })
    }

    /// Removes the file if this command has created it. Returns the failure to report.
    fn discard(self, failure: Failure) -> Failure {
        if self.is_new
            && let Err(error) = fs::remove_file(&self.path)
        {
            let left = self.path.display().to_string();
            let second = Failure::File(self.path, error.to_string());
            return Failure::LeftBehind { first: Box::new(failure), left, second: Box::new(second) };
        }
        failure
    }
}

/// Gives root's new file to the owner of its folder: an application that does not run as root has
/// to open the file, and owns the folder that it keeps such files in. Other users' files stay
/// theirs.
fn give_away(file: &File, path: &Path) -> io::Result<()> {
    const ROOT: u32 = 0;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::metadata(folder)?;
    if file.metadata()?.uid() == ROOT && folder.uid() != ROOT {
        fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};
    use crate::rpc::Answer;
    use crate::rpc::tests::{Script, refusal};

    fn ok() -> Answer {
        Ok(json!(true))
    }

    fn run(words: &[&str], script: &mut Script) -> Result<Outcome, Failure> {
        match Arguments::try_parse_from(["dstctl"].iter().chain(words)).unwrap().command {
            Command::Export(args) => export(script, &args),
            Command::Unexport(args) => unexport(script, &args),
            Command::Allow(args) => allow(script, &args),
            Command::Deny(args) => deny(script, &args),
            Command::Release(args) => release(script, &args),
            other => panic!("{other:?}"),
        }
    }

    fn shown(offline: Option<&str>) -> Answer {
        Ok(json!([{"name": "v", "bdev_name": "b", "offline_reason": offline, "hosts": []}]))
    }

    #[test]
    fn the_export_is_there_before_its_bdev() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("data"), folder.path().join("key"));
        fs::write(&key, "key").unwrap();
        let (path, key) = (file.to_str().unwrap(), key.to_str().unwrap());
        let words = [
            "export",
            "v",
            "--file",
            path,
            "--size",
            "1M",
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "[::1]:2",
            "--allow",
            "a=rw",
            "--key",
            key,
        ];
        let listeners = || Ok(json!([{"traddr": "127.0.0.1", "trsvcid": "1"}]));
        let mut script = Script::new([ok(), ok(), ok(), listeners(), ok(), shown(None)]);
        let outcome = run(&words, &mut script).unwrap();
        assert_eq!(
            script.methods(),
            [
                "dst_create_export",
                "dst_export_add_host",
                "bdev_aio_create",
                "dst_get_listeners",
                "dst_create_listener",
                "dst_get_exports"
            ]
        );
        assert_eq!(script.calls[1].1, json!({"export": "v", "host": "a", "access": "rw", "psk_file": key}));
        assert_eq!(script.calls[2].1, json!({"name": "v", "filename": path, "block_size": 4096}));
        assert_eq!(script.calls[4].1, json!({"traddr": "::1", "trsvcid": "2"}));
        assert!(outcome.text.starts_with("v is exported\n"), "{}", outcome.text);
        assert_eq!(fs::metadata(&file).unwrap().len(), 1 << 20);

        // An existing file stays.
        let mut script = Script::new([ok(), ok(), refusal("in use"), ok()]);
        assert_eq!(run(&words, &mut script).err().unwrap().to_string(), "bdev_aio_create: in use");
        assert_eq!(script.methods()[3], "dst_delete_export");
        assert!(file.exists(), "a file that was there is removed");
        fs::remove_file(&file).unwrap();
        let mut script = Script::new([ok(), ok(), refusal("in use"), ok()]);
        run(&words, &mut script).err().unwrap();
        assert!(!file.exists(), "a file that was created for nothing is left");

        // Unusable files are noticed before anything is called.
        for (words, expected) in [
            (&["export", "v", "--file", path][..], "--size creates it"),
            (&["export", "v", "--file", key, "--size", "5"], "has 3 bytes, not the 5"),
            (
                &["export", "v", "--bdev", "b", "--allow", "a", "--key", "/nowhere/key"],
                "dstctl keygen /nowhere/key",
            ),
            (&["allow", "v", "a", "--key", "/nowhere/key"], "dstctl keygen /nowhere/key"),
        ] {
            let failure = run(words, &mut Script::default()).err().unwrap();
            assert!(failure.to_string().contains(expected), "{failure}");
            assert_eq!(failure.exit_status(), 1);
        }
    }

    #[test]
    fn links_to_files_stay_links() {
        let folder = std::env::temp_dir().join(format!("dstctl-link-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("sda"), "disk").unwrap();
        let link = folder.join("by-id");
        std::os::unix::fs::symlink("sda", &link).unwrap();
        let link = link.to_str().unwrap();
        let mut script = Script::new([ok(), ok(), ok(), shown(None)]);
        run(&["export", "v", "--file", link, "--allow", "a", "--key", link], &mut script).unwrap();
        assert_eq!(script.calls[1].1["psk_file"], json!(link));
        assert_eq!(script.calls[2].1["filename"], json!(link));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn uuids_are_random_ones() {
        let (one, other) = (new_uuid().unwrap(), new_uuid().unwrap());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[14..15]), (36, "4"), "{one}");
        assert!("89ab".contains(&one[19..20]), "{one}");
    }

    #[test]
    fn an_export_that_waits_says_what_for() {
        let mut script = Script::new([ok(), shown(Some("there is no bdev b"))]);
        let outcome = run(&["export", "v", "--bdev", "b"], &mut script).unwrap();
        assert!(
            outcome.text.contains("as soon as its bdev is there: there is no bdev b"),
            "{}",
            outcome.text
        );
        assert!(outcome.text.contains("dstctl allow v HOST=rw"), "{}", outcome.text);
    }

    #[test]
    fn entries_come_and_go() {
        let mut script = Script::new([shown(None), ok()]);
        run(&["allow", "v", "a=rw", "--from", "10.0.0.0/8"], &mut script).unwrap();
        let expected = json!({"export": "v", "host": "a", "access": "rw", "addresses": ["10.0.0.0/8"]});
        assert_eq!(script.calls[1], ("dst_export_add_host".to_owned(), expected));
        let entries = json!([{"name": "v", "bdev_name": "b", "hosts": [{"host": "a", "access": "rw"}]}]);
        let mut script = Script::new([Ok(entries), ok()]);
        run(&["allow", "v", "a"], &mut script).unwrap();
        let expected = json!({"export": "v", "host": "a", "access": "ro"});
        assert_eq!(script.calls[1], ("dst_export_set_host".to_owned(), expected));
        // A change of one thing leaves the rest of the entry.
        let keyed = |name: &str| {
            let entry = json!({"host": "a", "access": "ro", "addresses": ["10.0.0.0/8"], name: "/old"});
            Ok(json!([{"name": "v", "bdev_name": "b", "hosts": [entry]}]))
        };
        for name in ["psk_file", "psk"] {
            let mut script = Script::new([keyed(name), ok()]);
            run(&["allow", "v", "a=rw"], &mut script).unwrap();
            let expected = json!({"export": "v", "host": "a", "access": "rw", "addresses": ["10.0.0.0/8"], name: "/old"});
            assert_eq!(script.calls[1], ("dst_export_set_host".to_owned(), expected));
            let mut script = Script::new([keyed(name), ok()]);
            run(&["allow", "v", "a=rw", "--from", "::1/128", "--key", "/dev/null"], &mut script).unwrap();
            let expected = json!({"export": "v", "host": "a", "access": "rw", "addresses": ["::1/128"], "psk_file": "/dev/null"});
            assert_eq!(script.calls[1].1, expected);
        }
        let mut script = Script::new([ok()]);
        run(&["deny", "v", "a"], &mut script).unwrap();
        assert_eq!(
            script.calls,
            [("dst_export_remove_host".to_owned(), json!({"export": "v", "host": "a"}))]
        );
        let mut script = Script::new([ok()]);
        run(&["release", "v"], &mut script).unwrap();
        assert_eq!(script.calls, [("dst_export_release".to_owned(), json!({"export": "v"}))]);
        let mut script = Script::new([shown(None), ok()]);
        run(&["allow", "v", "a=rw", "--takeover"], &mut script).unwrap();
        assert_eq!(script.calls[1].1["takeover"], json!(true));
        // A new state file does not say that there is no owner.
        let unknown =
            json!([{"name": "v", "bdev_name": "b", "hosts": [], "ownership": {"state": "unknown"}}]);
        let mut script = Script::new([ok(), Ok(unknown)]);
        let outcome = run(&["export", "v", "--bdev", "b", "--state-file", "/x/state"], &mut script).unwrap();
        assert_eq!(script.calls[0].1["state_file"], json!("/x/state"));
        assert!(outcome.text.contains("dstctl release v"), "{}", outcome.text);
        let failure = run(&["unexport", "v"], &mut Script::new([refusal("no such export")])).err().unwrap();
        assert_eq!(failure.to_string(), "dst_delete_export: no such export");
    }
}
