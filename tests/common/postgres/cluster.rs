// SPDX-License-Identifier: MPL-2.0

//! Data directories: `initdb` runs once for each major, and every server gets a copy.

use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::account::Account;
use super::{Major, SUPERUSER, SUPERUSER_PASSWORD};
use crate::common::tools;

/// Small WAL segments, because a test writes little; the C locale, because it is the same everywhere.
const INITDB: [&str; 8] = [
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--no-locale",
    "--no-sync",
    "--no-instructions",
    "--data-checksums",
    "--wal-segsize=1",
    "--username",
];

/// Makes the directory of a new server, with a fresh cluster in its `data`.
pub(super) fn create(major: Major) -> PathBuf {
    let template = template(major);
    let directory = tempfile::Builder::new().prefix("server-").tempdir_in(base()).expect("making a directory").keep();
    Account::of_servers().own(&directory);
    run(Command::new("cp").arg("-R").arg(template).arg(directory.join("data")));
    directory
}

/// Writes a file that the server owns.
pub(super) fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("writing a server's file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("closing a server's file to others");
    Account::of_servers().own(path);
}

/// A program of one major, in a place where the servers' account can run it.
pub(super) fn binary(major: Major, name: &str) -> PathBuf {
    installation(major).join("bin").join(name)
}

/// The installed Postgres, or a copy if the servers' account cannot reach it.
fn installation(major: Major) -> PathBuf {
    static KNOWN: Mutex<Vec<(Major, PathBuf)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, path)) = known.iter().find(|(of, _)| *of == major) {
        return path.clone();
    }
    let installed = tools::postgres(major);
    let path = if Account::of_servers().can_run(&installed.join("bin/postgres")) {
        installed
    } else {
        once(&format!("postgres-{}-{}", major.number(), age(&installed)), |copy| {
            let done = Command::new("cp").arg("-R").arg(&installed).arg(copy).status();
            assert!(done.is_ok_and(|status| status.success()), "copying {}", installed.display());
        })
    };
    known.push((major, path.clone()));
    path
}

/// A cluster without a server, to copy from.
fn template(major: Major) -> PathBuf {
    let initdb = binary(major, "initdb");
    let mut made_of = DefaultHasher::new();
    (INITDB, SUPERUSER_PASSWORD, age(&tools::postgres(major))).hash(&mut made_of);
    once(&format!("cluster-{}-{:x}", major.number(), made_of.finish()), |data| {
        let password = tempfile::NamedTempFile::new_in(base()).expect("making a file");
        write(password.path(), SUPERUSER_PASSWORD);
        run(Command::new(&initdb).args(INITDB).arg(SUPERUSER).arg("--pwfile").arg(password.path()).arg(data));
    })
}

/// Creates something below `base()` unless it exists; test processes may race for it, and the first one wins.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = base().join(name);
    if !path.exists() {
        let staging = tempfile::Builder::new().prefix("staging-").tempdir_in(base()).expect("making a directory");
        Account::of_servers().own(staging.path());
        fs::set_permissions(staging.path(), Permissions::from_mode(0o755)).expect("opening a directory");
        make(&staging.path().join("made"));
        if let Err(error) = fs::rename(staging.path().join("made"), &path) {
            assert!(path.exists(), "moving {} into place: {error}", path.display());
        }
    }
    path
}

/// When an installation was created, to distinguish it from an earlier one.
fn age(installation: &Path) -> u64 {
    let made = fs::metadata(installation.join("bin/postgres")).and_then(|metadata| metadata.modified());
    let since = made.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

/// The directory of everything here, below the system's temporary one if the servers can enter that.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let account = Account::of_servers();
        let temporary = Some(std::env::temp_dir()).filter(|directory| account.can_enter(directory));
        let user = fs::metadata("/proc/self").map_or(0, |metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
        let base = temporary.unwrap_or_else(|| PathBuf::from("/tmp")).join(format!("neonrepl-tests-{user}"));
        fs::create_dir_all(&base).expect("making the servers' directory");
        account.own(&base);
        base
    })
}

/// Runs a command under the servers' account.
fn run(command: &mut Command) {
    let output = Account::of_servers().run(command.current_dir(base())).output().expect("starting a command");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{said}");
}
