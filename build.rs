//! Checks what the whole product needs before its parts are built: an SPDK tree.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=SPDK_DIR");
    let Some(tree) = env::var_os("SPDK_DIR") else {
        println!(
            "cargo::error=SPDK_DIR is not set. Set it to the top of a built SPDK tree, or run `make`, which finds \
             or builds one"
        );
        return;
    };
    let version = Path::new(&tree).join("include/spdk/version.h");
    if !version.is_file() {
        println!(
            "cargo::error=SPDK_DIR is {}, which has no include/spdk/version.h. Set it to the top of a built SPDK \
             tree, or run `make`, which finds or builds one",
            Path::new(&tree).display()
        );
    }
}
