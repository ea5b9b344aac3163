//! The configuration file of an application.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Save;
use crate::failure::Failure;
use crate::rpc::Calls;

/// Writes the application's configuration to the file that `--save` names, if it was given.
///
/// # Errors
/// Fails if the application cannot be asked or the file cannot be written. The file then still has
/// its previous content.
pub fn save(rpc: &mut impl Calls, save: &Save) -> Result<(), Failure> {
    let Some(path) = &save.save else { return Ok(()) };
    let configuration = configuration(rpc)?;
    replace(path, format!("{configuration:#}\n").as_bytes())
        .map_err(|error| Failure::File(path.clone(), format!("the configuration can't be saved: {error}")))
}

/// Returns the configuration of all subsystems, in the format of SPDK's `save_config`.
///
/// # Errors
/// Fails if the application cannot be asked or refuses.
pub fn configuration(rpc: &mut impl Calls) -> Result<Value, Failure> {
    #[derive(Deserialize)]
    struct Subsystem {
        subsystem: String,
    }
    let method = "framework_get_subsystems";
    let all: Vec<Subsystem> = serde_json::from_value(rpc.call(method, json!({}))?)
        .map_err(|error| Failure::Answer { method: method.to_owned(), why: error.to_string() })?;
    let mut subsystems = Vec::new();
    for Subsystem { subsystem } in all {
        let config = rpc.call("framework_get_config", json!({"name": subsystem}))?;
        subsystems.push(json!({"subsystem": subsystem, "config": config}));
    }
    Ok(json!({"subsystems": subsystems}))
}

/// Replaces a file's content atomically: after a crash, the file has the old or the new content.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // A symbolic link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = folder.join(name);
    write(&new, &path, content).inspect_err(|_| remove(&new))?;
    File::open(folder)?.sync_all()
}

fn write(new: &PathBuf, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(new)?;
    if let Ok(old) = fs::metadata(path) {
        // The service that reads it may not be root's. Only root can give files away.
        match fchown(&file, Some(old.uid()), Some(old.gid())) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            Ok(()) | Err(_) => file.set_permissions(old.permissions())?,
        }
    }
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// Removes an incomplete file. Its own error is ignored, since the one before is reported.
fn remove(new: &Path) {
    let _ = fs::remove_file(new);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::rpc::tests::{Script, refusal};

    #[test]
    fn all_subsystems_are_in_it_and_the_file_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let asked = Save { save: Some(path.clone()) };
        let subsystems = || Ok(json!([{"subsystem": "bdev", "depends_on": []}, {"subsystem": "dst"}]));
        save(&mut Script::new([subsystems(), refusal("no")]), &asked).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        save(&mut Script::new([subsystems(), Ok(json!([{"method": "m"}])), Ok(Value::Null)]), &asked)
            .unwrap();
        let saved: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(saved["subsystems"][0], json!({"subsystem": "bdev", "config": [{"method": "m"}]}));
        assert_eq!(saved["subsystems"][1]["config"], Value::Null);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a file is left over");
        drop(folder);
        let gone = save(&mut Script::new([Ok(json!([]))]), &asked).unwrap_err();
        assert!(gone.to_string().contains("can't be saved: No such file"), "{gone}");
        save(&mut Script::default(), &Save { save: None }).unwrap();
    }
}
