//! Tests of `dstctl keygen` as users run it, by its old name, too.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use dst_security::psk;

/// A folder for one test, which is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("dstctl-keygen-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dstctl"));
    command.arg("keygen").args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_file_that_only_its_owner_may_read() {
    let folder = Folder::new("file");
    let path = folder.0.join("key");
    // The user's umask must not matter.
    let shell = format!("umask 0; exec {} keygen {}", env!("CARGO_BIN_EXE_dstctl"), path.display());
    let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
    assert!(output.status.success());
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "the command must print nothing about the key"
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(psk::parse(&fs::read(&path).unwrap()).map(|keys| keys.len()), Ok(1));
}

#[test]
fn what_is_there_stays() {
    let folder = Folder::new("there");
    let path = folder.0.join("key");
    fs::write(&path, "mine").unwrap();
    let text = complaint(&run(&[path.to_str().unwrap()]));
    assert!(text.contains("already exists") && text.contains(path.to_str().unwrap()), "{text}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    // A dangling link must not choose where the key goes.
    let link = folder.0.join("link");
    symlink(folder.0.join("elsewhere"), &link).unwrap();
    assert!(complaint(&run(&[link.to_str().unwrap()])).contains("already exists"));
    assert!(!folder.0.join("elsewhere").exists());
}

#[test]
fn errors_say_what_to_do() {
    let text = complaint(&run(&["/nowhere/key"]));
    assert!(text.starts_with("dstctl: /nowhere/key can't be created: No such file"), "{text}");
    assert!(text.contains("choose an existing folder"), "{text}");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = command(&["--print"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let text = complaint(&child.wait_with_output().unwrap());
    assert!(text.contains("standard output can't be written"), "{text}");
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn standard_output_instead() {
    let output = run(&["--print"]);
    assert!(output.status.success() && output.stderr.is_empty());
    assert_eq!(psk::parse(&output.stdout).map(|keys| keys.len()), Ok(1));
}

#[test]
fn the_old_name_is_a_link() {
    let folder = Folder::new("link");
    let link = folder.0.join("dst-keygen");
    symlink(env!("CARGO_BIN_EXE_dstctl"), &link).unwrap();
    let output = Command::new(&link).arg("--print").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    assert_eq!(psk::parse(&output.stdout).map(|keys| keys.len()), Ok(1));
    let output = Command::new(&link).arg("/nowhere/key").output().unwrap();
    assert!(complaint(&output).starts_with("dst-keygen: /nowhere/key can't be created"));
}
