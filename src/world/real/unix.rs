//! Unix sockets: connecting to them, and listening on one whose file is put in place, replaced and removed as its users expect.
//!
//! Invariant: a file that somebody listens on is never removed or replaced, and only a file that this process made is removed at its end.

use super::super::{BoxFuture, Listener, Moving, SharedListener, Stream};
use super::{BACKLOG, accepted};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// Who may connect: whoever gets into the folder, as with nginx. By the umask alone it would be the owner.
const MODE: u32 = 0o666;

/// How long a connect waits before it tries again where the listener's queue is full: unlike TCP's, the kernel does not wait.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(2);

/// Connects. Never ends by itself while the queue is full: how long that may take is the caller's.
pub(super) async fn connect(path: &Path) -> io::Result<Stream> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(QUEUE_FULL_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// Claims the path, takes a dead process's file away, binds and listens.
pub(super) fn listen(path: &Path) -> io::Result<Box<dyn SharedListener>> {
    let path = std::path::absolute(path)?;
    // Keeps out a second process of ours that starts at the same moment.
    let name = std::os::unix::net::SocketAddr::from_abstract_name(format!(
        "tidegate/listen/{:016x}",
        hash(path.as_os_str().as_encoded_bytes())
    ))?;
    let claim = Bound::bind_addr(&name).map_err(|error| in_words(error, &path))?;
    remove_stale(&path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket
        .bind(&SockAddr::unix(&path)?)
        .map_err(|error| in_words(error, &path))?;
    let made = std::fs::symlink_metadata(&path)?;
    let made = OnDisk {
        id: (made.dev(), made.ino()),
        path,
    };
    // Between the two the file is narrower than meant, never wider.
    std::fs::set_permissions(&made.path, std::fs::Permissions::from_mode(MODE))?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(Box::new(Open {
        socket: socket.into(),
        _made: made,
        _claim: claim,
    }))
}

/// A name for the claim that fits where a path may not: an abstract name is as short as a path. FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(in_words(error, path)),
    };
    if !found.file_type().is_socket() {
        let what = "what is there is no socket: remove it, or choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| in_words(error, path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(in_words(error, path)),
        // Somebody accepted, their queue is full, or it is a socket of another kind.
        Ok(()) | Err(_) => Err(in_words(io::ErrorKind::AddrInUse.into(), path)),
    }
}

/// What is wrong with the place, and what mends it.
fn in_words(error: io::Error, path: &Path) -> io::Error {
    let folder = path.parent().unwrap_or(Path::new("/")).display();
    let words = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there: stop it, or choose another path".to_owned(),
        io::ErrorKind::NotFound => format!("there is no folder {folder}: make it (systemd: RuntimeDirectory=)"),
        io::ErrorKind::PermissionDenied => {
            format!("no right to make or replace a socket in {folder}: give that folder to the user of this process")
        }
        _ => return error,
    };
    io::Error::new(error.kind(), words)
}

/// The file, as long as it is the one this process made.
struct OnDisk {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.id);
        if ours {
            // Left behind, the next process replaces it.
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// The fields in this order: the file goes before the claim does.
struct Open {
    socket: Bound,
    _made: OnDisk,
    _claim: Bound,
}

impl SharedListener for Open {
    fn share(&self) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(RealUnixListener(UnixListener::from_std(
            self.socket.try_clone()?,
        )?)))
    }
}

struct RealUnixListener(UnixListener);

impl Listener for RealUnixListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, Option<SocketAddr>)>> {
        Box::pin(async move {
            let (stream, _) = self.0.accept().await?;
            Ok((Box::new(stream) as Stream, None))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn release(&self, stream: Stream) -> io::Result<Moving> {
        let stream = accepted::<UnixStream>(stream)?.into_std()?;
        Ok(Box::new(move || Ok(Box::new(UnixStream::from_std(stream)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream as Connected};

    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tidegate-unix-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn refusal(path: &Path) -> (io::ErrorKind, String) {
        let error = listen(path).map(|_| ()).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn a_socket_file_is_for_everybody_and_goes_with_its_process() {
        let folder = folder("mode");
        let path = folder.join("s");
        let open = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        Connected::connect(&path).unwrap();
        drop(open);
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_nobody_listens_on_is_replaced_and_one_that_somebody_does_is_not() {
        let folder = folder("stale");
        let path = folder.join("s");
        drop(Bound::bind(&path).unwrap());
        assert!(path.exists(), "left by a process that was killed");
        let open = listen(&path).unwrap();
        Connected::connect(&path).unwrap();
        let (kind, why) = refusal(&path);
        assert_eq!(kind, io::ErrorKind::AddrInUse);
        assert!(why.contains("another process listens there"), "{why}");
        drop(open);
        // Not one of ours: only the file tells.
        let theirs = Bound::bind(&path).unwrap();
        assert_eq!(refusal(&path).0, io::ErrorKind::AddrInUse);
        Connected::connect(&path).unwrap();
        drop(theirs);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_socket_that_took_the_place_of_ours_stays() {
        let folder = folder("taken");
        let path = folder.join("s");
        let open = listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _theirs = Bound::bind(&path).unwrap();
        drop(open);
        assert!(path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_connect_waits_while_the_queue_is_full() {
        let folder = folder("full");
        let path = folder.join("s");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap(); // which holds one
        let _held = UnixStream::connect(&path).await.unwrap();
        let full = UnixStream::connect(&path).await.map(|_| ()).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let mut connecting = std::pin::pin!(connect(&path));
        tokio::select! {
            biased;
            _ = &mut connecting => panic!("the queue is full"),
            () = tokio::task::yield_now() => {}
        }
        socket.accept().unwrap();
        connecting.await.unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_with_what_mends_it() {
        let folder = folder("words");
        std::fs::write(folder.join("file"), "").unwrap();
        let _datagrams = UnixDatagram::bind(folder.join("datagrams")).unwrap();
        let cases = [
            ("file", io::ErrorKind::AlreadyExists, "no socket"),
            ("datagrams", io::ErrorKind::AddrInUse, "choose another path"),
            ("none/s", io::ErrorKind::NotFound, "RuntimeDirectory"),
        ];
        for (name, kind, word) in cases {
            let (found, why) = refusal(&folder.join(name));
            assert!(found == kind && why.contains(word), "{name}: {found:?} {why}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
