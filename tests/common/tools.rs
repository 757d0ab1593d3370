// SPDX-License-Identifier: MPL-2.0

//! The programs that `tests/tools/install.py` has installed for the tests.

use std::env;
use std::path::{Path, PathBuf};

use super::postgres::Major;

/// The tools' directory: `NEONREPL_TEST_TOOLS`, or `tools` in cargo's target directory.
pub fn root() -> PathBuf {
    let target = || env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("tools"));
    env::var_os("NEONREPL_TEST_TOOLS")
        .map(PathBuf::from)
        .or_else(target)
        .unwrap_or_else(|| checkout().join("target/tools"))
}

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The installation of one Postgres major: the directory with `bin`, `lib` and `share`.
///
/// # Panics
/// When it is not installed; the message says how to install it.
pub fn postgres(major: Major) -> PathBuf {
    let native = root().join(format!("node_modules/postgres-{}/native", major.number()));
    assert!(
        native.join("bin/postgres").exists(),
        "Postgres {} is not installed in {}: run `python3 tests/tools/install.py`",
        major.number(),
        root().display(),
    );
    native
}

/// The command of a core: the one that `TERRAFORM` or `TOFU` names, or the one that was installed for the tests. A
/// core on the PATH is not used, because it may have any version.
pub fn core(name: &str) -> Option<PathBuf> {
    let named = env::var_os(name.to_uppercase()).map(PathBuf::from);
    named.or_else(|| Some(root().join("bin").join(name)).filter(|installed| installed.exists()))
}

/// A provider in Go that does nothing, for comparison; absent if it was not requested, or if there is no Go.
pub fn go_provider() -> Option<PathBuf> {
    Some(root().join("bin/go-provider")).filter(|installed| installed.exists())
}

/// A program that checks docs or workflows; absent if there is no Go to build it, but never in CI.
///
/// # Panics
/// When `CI` is set and it is not installed.
pub fn checker(name: &str) -> Option<PathBuf> {
    let installed = Some(root().join("bin").join(name)).filter(|installed| installed.exists());
    assert!(installed.is_some() || env::var_os("CI").is_none(), "{name} is not installed: it is built with Go");
    installed
}

/// The built provider: the one that `NEONREPL_BINARY` names, or cargo's release build.
///
/// # Panics
/// When it is not built; the message says how to build it.
pub fn provider() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
    let built = || target.join("release").join(env!("CARGO_PKG_NAME"));
    let binary = env::var_os("NEONREPL_BINARY").map_or_else(built, PathBuf::from);
    assert!(binary.exists(), "{} is not there: run `make build`", binary.display());
    binary
}
