//! Paths of unix sockets: `unix:PATH`, for listeners and nodes.

use crate::config::diagnostic::Sink;
use crate::core::discovery::UNIX;
use std::path::{Path, PathBuf};

/// The longest path of a unix socket on Linux, in bytes (unix(7): 108 with the zero at its end).
const MAX_BYTES: usize = 107;

/// The path of `unix:PATH`, relative to the configuration's own folder; none: the text is no such thing.
pub(super) fn path(text: &str, sink: &Sink) -> Option<Result<PathBuf, String>> {
    let folder = Path::new(&*sink.source.name).parent().unwrap_or(Path::new(""));
    Some(checked(text.strip_prefix(UNIX)?, folder))
}

fn checked(path: &str, folder: &Path) -> Result<PathBuf, String> {
    if path.is_empty() {
        return Err("a path is missing, as in \"unix:/run/tidegate.sock\"".to_owned());
    }
    if let Some(rest) = path.strip_prefix("//") {
        let rest = rest.trim_start_matches('/');
        return Err(format!(
            "the path stands behind the colon, without // (did you mean \"unix:/{rest}\"?)"
        ));
    }
    if path.starts_with('@') || path.contains('\0') {
        return Err("sockets without a file (abstract ones) are not supported: give a path".to_owned());
    }
    if path.ends_with('/') {
        return Err(format!("{path} is a folder: name the socket in it"));
    }
    let path = folder.join(path);
    let bytes = path.as_os_str().len();
    if bytes > MAX_BYTES {
        return Err(format!(
            "the path {} is {bytes} bytes long, a unix socket's has at most {MAX_BYTES}: choose a shorter folder, as /run",
            path.display()
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_sockets() {
        let folder = Path::new("/etc/tidegate");
        let ok = |path: &str| Ok(PathBuf::from(path));
        assert_eq!(checked("/run/a.sock", folder), ok("/run/a.sock"));
        assert_eq!(checked("a.sock", folder), ok("/etc/tidegate/a.sock"));
        assert_eq!(checked("a.sock", Path::new("")), ok("a.sock"));
        let longest = format!("/{}", "x".repeat(MAX_BYTES - 1));
        assert_eq!(checked(&longest, folder), ok(&longest));
        for (case, wrong, word) in [
            ("empty", String::new(), "missing"),
            ("as a url", "///run/a.sock".to_owned(), "unix:/run/a.sock"),
            ("abstract", "@a".to_owned(), "abstract"),
            ("a zero", "/a\0b".to_owned(), "abstract"),
            ("a folder", "/run/".to_owned(), "folder"),
            ("too long", format!("{longest}x"), "at most 107"),
        ] {
            let told = checked(&wrong, folder).unwrap_err();
            assert!(told.contains(word), "{case}: {told}");
        }
    }
}
