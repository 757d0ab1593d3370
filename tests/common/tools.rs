//! Where `tests/tools/install.py` has put the programs under test.

use std::env;
use std::path::{Path, PathBuf};

use super::postgres::Major;

/// The tools' directory: `NEONREPL_TEST_TOOLS`, or `tools` in cargo's target directory.
pub fn root() -> PathBuf {
    let target =
        || env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("tools"));
    env::var_os("NEONREPL_TEST_TOOLS")
        .map(PathBuf::from)
        .or_else(target)
        .unwrap_or_else(|| checkout().join("target/tools"))
}

/// The top of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The installation of one Postgres major: the directory that holds `bin`, `lib` and `share`.
///
/// # Panics
/// When it is not installed; the message says how to.
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
