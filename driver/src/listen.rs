//! Listening sockets: every address of a name, on one port; and Unix sockets, which are files.

use std::{
    fs::{self, Permissions},
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use mio::net as polled;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tracing::warn;

/// Connections that the operating system holds ready while the server is busy.
const BACKLOG: i32 = 4096;

/// How long a name may take to be resolved; then starting fails.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a free port is looked for that is free on every address.
const PORT_TRIES: usize = 16;

/// A listening socket that a shard waits for.
#[derive(Debug)]
pub(crate) enum Open {
    Tcp(polled::TcpListener),
    /// With the file to be removed when it is closed, if it is ours.
    Unix(polled::UnixListener, #[expect(dead_code, reason = "dropped with it")] Option<UnixFile>),
}

impl From<TcpListener> for Open {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(polled::TcpListener::from_std(listener))
    }
}

/// The file of a Unix socket. It is removed when this is dropped, unless another has taken its place.
#[derive(Debug)]
pub(crate) struct UnixFile {
    path: PathBuf,
    /// Device and number of the file.
    is: (u64, u64),
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|is| is == self.is) {
            // Whoever has made the path read-only has to remove it, too.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Listens at a Unix socket that is made at `path`. A socket that is there and at which nobody listens any more, as a process
/// that was killed leaves it, is replaced; nothing else is. With a `mode` nobody else can have connected before it holds.
///
/// # Errors
///
/// Somebody listens there (`AddrInUse`), something else is there (`AlreadyExists`), or it cannot be made: a path may have 107
/// bytes on Linux.
pub(crate) fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<Open> {
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there and no socket"));
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?
            }
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            // Somebody may be there and too busy to be asked.
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = UnixFile { path: path.to_owned(), is: identity(path)? };
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    Ok(Open::Unix(polled::UnixListener::from_std(listener), Some(file)))
}

/// Listens on every address that `address` (`host:port`) stands for, all on the same port. An address that this machine does
/// not have is passed over with a warning, as long as another is left.
///
/// # Errors
///
/// The name has no address (`NotFound`), or one of them cannot be bound.
pub(crate) async fn bind(address: &str) -> io::Result<Vec<TcpListener>> {
    let addresses = resolve(address).await?;
    let free = addresses.iter().any(|address| address.port() == 0) && addresses.len() > 1;
    for _ in 1..PORT_TRIES {
        match bind_all(address, &addresses) {
            // Free on the first address does not mean free on the next.
            Err(error) if free && error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    bind_all(address, &addresses)
}

/// Each address once. A name is looked up on a thread of its own, which may wait for a server far away.
async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let (tell, told) = async_channel::bounded(1);
    let name = address.to_owned();
    spawn(move || {
        let (answer, answered) = mpsc::sync_channel(1);
        let asked = spawn(move || {
            let _ = answer.send(name.to_socket_addrs().map(Vec::from_iter));
        });
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the name is not resolved in time");
        let addresses =
            asked.and_then(|()| answered.recv_timeout(RESOLVE_TIMEOUT).map_err(|_| late())?);
        let _ = tell.try_send(addresses);
    })?;
    let found = told.recv().await.map_err(io::Error::other)?;
    // The system's words have no kind of their own.
    let found = found.map_err(|error| {
        let known = [io::ErrorKind::TimedOut, io::ErrorKind::InvalidInput].contains(&error.kind());
        if known { error } else { io::Error::new(io::ErrorKind::NotFound, error.to_string()) }
    })?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("resolve".into()).spawn(work).map(drop)
}

fn bind_all(name: &str, addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let (mut listeners, mut missing) = (Vec::<TcpListener>::new(), None);
    for address in addresses {
        let mut address = *address;
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr()?.port());
        }
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing(&error) => missing = Some((address, error)),
            Err(error) => return Err(named(name, address, &error)),
        }
    }
    match missing {
        Some((address, error)) if listeners.is_empty() => Err(named(name, address, &error)),
        Some((address, error)) => {
            warn!(name, %address, %error, "this machine has no such address: not listening there");
            Ok(listeners)
        }
        None => Ok(listeners),
    }
}

/// Whether this machine has no such address, or nothing of its family.
fn is_missing(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own everywhere.
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Says which of a name's addresses it was.
fn named(name: &str, address: SocketAddr, error: &io::Error) -> io::Error {
    let shown = if name.parse::<SocketAddr>().is_ok() {
        error.to_string()
    } else {
        format!("{address}: {error}")
    };
    io::Error::new(error.kind(), shown)
}

/// A listening socket that can be bound again right after the last one on its port was closed.
fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `::` is every address, IPv4's too, whatever the system's default is; any other is one of IPv6.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// "Address family not supported", Linux.
const EAFNOSUPPORT: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn bound(texts: &[&str]) -> io::Result<Vec<SocketAddr>> {
        let listeners = bind_all("name:0", &addresses(texts))?;
        listeners.iter().map(TcpListener::local_addr).collect()
    }

    #[test]
    fn all_addresses_of_a_name_share_the_port_that_was_free() {
        let bound = bound(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]).unwrap();
        assert_eq!(bound.len(), 3);
        assert!(bound.iter().all(|one| one.port() == bound[0].port() && one.port() != 0));
    }

    #[test]
    fn both_families_share_a_port_where_there_are_both() {
        let bound = bound(&["[::1]:0", "127.0.0.1:0"]).unwrap();
        let both = TcpListener::bind("[::1]:0").is_ok();
        assert_eq!(bound.len(), 1 + usize::from(both));
        assert!(bound.iter().all(|one| one.port() == bound[0].port()));
    }

    #[test]
    fn an_address_that_this_machine_lacks_is_passed_over_unless_it_is_the_only_one() {
        // RFC 5737 §3: nobody has it.
        let here = bound(&["192.0.2.1:0", "127.0.0.1:0"]).unwrap();
        assert_eq!(here.len(), 1);
        let error = bound(&["192.0.2.1:0"]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().starts_with("192.0.2.1:0: "), "{error}");
    }

    #[test]
    fn a_unix_socket_replaces_a_dead_one_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());

        let open = bind_unix(&path, Some(0o600)).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(bind_unix(&path, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(open);
        assert!(!path.exists());

        fs::write(&path, "precious").unwrap();
        assert_eq!(bind_unix(&path, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn the_file_of_a_successor_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = bind_unix(&path, None).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = bind_unix(&path, None).unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn one_that_is_taken_fails_the_whole() {
        let taken = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error =
            bound(&[&format!("127.0.0.1:{port}"), &format!("127.0.0.2:{port}")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with("127.0.0.2:"), "{error}");
    }
}
