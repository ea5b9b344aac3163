//! Completions and manual pages.

use std::fs;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dstctl")).args(arguments).output().unwrap()
}

#[test]
fn every_shell_has_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("unexport"), "{shell}: {script}");
    }
}

#[test]
fn every_command_has_its_page() {
    let folder = std::env::temp_dir().join(format!("dstctl-man-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let output = run(&["man", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let page = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(page("dstctl.1").contains("dstctl\\-attach(1)") || page("dstctl.1").contains("attach"));
    assert!(page("dstctl-export.1").contains("\\-\\-listen"));
    let pages = fs::read_dir(&folder).unwrap().count();
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // All that the help lists but `help`, and dstctl itself.
    assert_eq!(pages, listed.count());
    fs::remove_dir_all(&folder).unwrap();
    let output = run(&["man", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("can't be written"), "{text}");
}
