// SPDX-License-Identifier: MPL-2.0

//! The listener for the parent: a unix socket, or a port of 127.0.0.1.

use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
pub(super) use unix::SocketFile;

use super::Failure;
use super::handshake::{Endpoint, Transport};

/// A stream of bytes of any transport.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A bound socket.
#[derive(Debug)]
pub(super) enum Listener {
    /// On a unix socket, which is removed with this value.
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, SocketFile),
    /// On a port of 127.0.0.1.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens as the parent requires.
    ///
    /// # Errors
    /// When no socket or port can be bound; the message names the last one tried.
    pub(super) async fn bind(transport: &Transport) -> Result<Self, Failure> {
        match transport {
            #[cfg(unix)]
            Transport::Unix { dir, group } => unix::bind(dir.as_deref(), group.as_deref()),
            #[cfg(not(unix))]
            Transport::Unix { .. } => Ok(Self::Tcp(bind_port(&(0..=0)).await?)),
            Transport::Tcp(ports) => Ok(Self::Tcp(bind_port(ports).await?)),
        }
    }

    /// The address to connect to.
    ///
    /// # Errors
    /// When the system does not know its own port.
    pub(super) fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(match self {
            #[cfg(unix)]
            Self::Unix(_, file) => Endpoint { network: "unix", address: file.path().display().to_string() },
            Self::Tcp(listener) => Endpoint { network: "tcp", address: listener.local_addr()?.to_string() },
        })
    }

    /// The next connection.
    ///
    /// # Errors
    /// As the system's `accept`.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Io>> {
        Ok(match self {
            #[cfg(unix)]
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(prompt(listener.accept().await?.0)?),
        })
    }
}

/// Calls are small and awaited, so never delay one to fill a packet.
fn prompt(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn bind_port(ports: &RangeInclusive<u16>) -> Result<TcpListener, Failure> {
    let mut last = None;
    for port in ports.clone() {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    let (first, end) = (ports.start(), ports.end());
    let cause = last.map_or_else(|| "no port".to_owned(), |error| error.to_string());
    Err(format!("listening on a port of 127.0.0.1 from {first} to {end}: {cause}").into())
}

#[cfg(unix)]
mod unix {
    use std::fs::Permissions;
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::path::{Path, PathBuf};
    use std::{env, fs, io, process};

    use tokio::net::UnixListener;

    use super::{Failure, Listener};

    /// Systems accept 103 to 107 bytes as the path of a socket.
    const LONGEST_PATH: usize = 100;
    /// The directory for a socket if the path of the temporary one is too long or missing.
    const SHORT_DIR: &str = "/tmp";

    /// A socket's file, removed when dropped.
    #[derive(Debug)]
    pub(in super::super) struct SocketFile(PathBuf);

    impl SocketFile {
        /// The path of the file.
        pub(in super::super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for SocketFile {
        fn drop(&mut self) {
            if let Err(error) = fs::remove_file(&self.0) {
                tracing::debug!(%error, "removing the socket");
            }
        }
    }

    pub(super) fn bind(dir: Option<&Path>, group: Option<&str>) -> Result<Listener, Failure> {
        let preferred = dir.map_or_else(env::temp_dir, Path::to_path_buf);
        let mut last: Failure = "no folder".into();
        for path in candidates(&preferred, &unique_name()) {
            match UnixListener::bind(&path) {
                Ok(listener) => {
                    let file = SocketFile(path);
                    restrict(file.path(), group)?;
                    return Ok(Listener::Unix(listener, file));
                }
                Err(error) => {
                    last = format!("listening on socket {}: {error}", path.display()).into();
                }
            }
        }
        Err(last)
    }

    /// The candidate paths for the socket, best first.
    fn candidates(dir: &Path, name: &str) -> Vec<PathBuf> {
        let mut paths = vec![dir.join(name), Path::new(SHORT_DIR).join(name)];
        paths.retain(|path| path.as_os_str().len() <= LONGEST_PATH);
        paths
    }

    /// A name that no other process has or had.
    fn unique_name() -> String {
        let random = RandomState::new().build_hasher().finish();
        format!("plugin-{}-{random:016x}.sock", process::id())
    }

    /// Allows access only for the user, and for `group` if there is one.
    fn restrict(path: &Path, group: Option<&str>) -> Result<(), Failure> {
        let mode = if let Some(group) = group {
            let failed = |cause| format!("giving socket {} to group {group}: {cause}", path.display());
            let id = group_id(group).map_err(|error| failed(error.to_string()))?;
            chown(path, None, Some(id)).map_err(|error| failed(error.to_string()))?;
            0o660
        } else {
            0o600
        };
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(|error| format!("restricting socket {}: {error}", path.display()).into())
    }

    fn group_id(group: &str) -> io::Result<u32> {
        if let Ok(id) = group.parse() {
            return Ok(id);
        }
        let groups = fs::read_to_string("/etc/group")?;
        find_group(&groups, group).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such group in /etc/group"))
    }

    fn find_group(groups: &str, name: &str) -> Option<u32> {
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            let id = (fields.next() == Some(name)).then(|| fields.nth(1))??;
            id.parse().ok()
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_preferred_folder_comes_first() {
            let paths = candidates(Path::new("/run"), "s");
            assert_eq!(paths, [Path::new("/run/s"), Path::new("/tmp/s")]);
        }

        #[test]
        fn a_folder_too_deep_is_passed_over() {
            let deep = "/d".repeat(60);
            assert_eq!(candidates(Path::new(&deep), "s"), [Path::new("/tmp/s")]);
        }

        #[test]
        fn groups_are_found_by_name_or_number() {
            let groups = "root:x:0:\nstaff:x:50:ann,bob\nshort\n";
            assert_eq!(find_group(groups, "staff"), Some(50));
            assert_eq!(find_group(groups, "short"), None);
            assert_eq!(find_group(groups, "ann"), None);
            assert_eq!(group_id("1000").unwrap(), 1000);
        }

        #[tokio::test]
        async fn the_socket_is_the_users_and_goes_with_the_listener() {
            let dir = tempfile::tempdir().unwrap();
            let listener = bind(Some(dir.path()), None).unwrap();
            let path = PathBuf::from(listener.endpoint().unwrap().address);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            drop(listener);
            assert!(!path.exists());
        }

        #[tokio::test]
        async fn a_missing_folder_is_passed_over() {
            let dir = tempfile::tempdir().unwrap();
            let listener = bind(Some(&dir.path().join("none")), None).unwrap();
            assert!(listener.endpoint().unwrap().address.starts_with("/tmp/"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_free_port_is_taken() {
        let taken = bind_port(&(0..=0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind_port(&(port..=port)).await.unwrap_err().to_string();
        let start = format!("listening on a port of 127.0.0.1 from {port} to {port}: ");
        assert!(error.starts_with(&start), "{error}");
    }
}
