//! Passes on what `spdk-sys` found out about the SPDK version; see its build script.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in list("DEP_SPDK_ALL_CFGS") {
        println!("cargo::rustc-check-cfg=cfg({name})");
    }
    for name in list("DEP_SPDK_CFGS") {
        println!("cargo::rustc-cfg={name}");
    }
}

fn list(variable: &str) -> Vec<String> {
    println!("cargo::rerun-if-env-changed={variable}");
    env::var(variable)
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
