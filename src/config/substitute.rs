//! `${NAME}` and `file:PATH` inside string values. `$${` is a literal `${`. What comes out is not substituted again.

use crate::core::time::WallTime;
use crate::world::{Disk, Env};
use std::io;
use std::path::Path;

/// The environment and the files a configuration may refer to.
pub(super) struct Outside<'a> {
    pub(super) env: &'a dyn Env,
    pub(super) disk: &'a dyn Disk,
    pub(super) base_dir: &'a Path,
    /// When it is looked at.
    pub(super) now: WallTime,
}

impl Outside<'_> {
    /// An outside with no variables and no files.
    pub(super) fn nothing() -> Self {
        Self {
            env: &Nothing,
            disk: &Nothing,
            base_dir: Path::new(""),
            now: WallTime::default(),
        }
    }
}

struct Nothing;

impl Env for Nothing {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }
}

impl Disk for Nothing {
    fn replace(&self, _: &Path, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn claim(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_to_string(&self, _path: &Path) -> io::Result<String> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "only a configuration file can refer to files",
        ))
    }
}

/// The text with its references filled in, and whether there were any.
pub(super) fn substitute(text: &str, outside: &Outside<'_>) -> Result<(String, bool), String> {
    let (filled, referred) = variables(text, outside.env)?;
    let Some(path) = text.strip_prefix("file:").and(filled.strip_prefix("file:")) else {
        return Ok((filled, referred));
    };
    let path = outside.base_dir.join(path);
    match outside.disk.read_to_string(&path) {
        Ok(content) => Ok((content.trim_end_matches(['\n', '\r']).to_owned(), true)),
        Err(e) => Err(format!("cannot read {}: {e}", path.display())),
    }
}

fn variables(text: &str, env: &dyn Env) -> Result<(String, bool), String> {
    let mut filled = String::with_capacity(text.len());
    let mut referred = false;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let after = after.strip_prefix("${").unwrap_or(after);
        if let Some(literal) = before.strip_suffix('$') {
            filled.push_str(literal);
            filled.push_str("${");
            rest = after;
            continue;
        }
        filled.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            return Err("\"${\" without \"}\" (write \"$${\" for the characters themselves)".into());
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("\"${{{name}}}\" is no environment variable's name"));
        }
        match env.var(name) {
            Some(value) => filled.push_str(&value),
            None => return Err(format!("the environment variable {name} is not set")),
        }
        referred = true;
        rest = tail;
    }
    filled.push_str(rest);
    Ok((filled, referred))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Fake;
    impl Env for Fake {
        fn var(&self, name: &str) -> Option<String> {
            (name == "HOST").then(|| "node${HOST}".to_owned())
        }
    }
    impl Disk for Fake {
        fn replace(&self, _: &Path, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn claim(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn remove(&self, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn read_to_string(&self, path: &Path) -> io::Result<String> {
            if path == Path::new("/etc/tidegate/token") {
                Ok("s3cret\n".into())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }

    fn fill(text: &str) -> Result<(String, bool), String> {
        substitute(
            text,
            &Outside {
                env: &Fake,
                disk: &Fake,
                base_dir: Path::new("/etc/tidegate"),
                now: WallTime::default(),
            },
        )
    }

    #[test]
    fn variables_and_files_are_filled_in_once() {
        for (text, filled) in [
            ("plain $ and { }", "plain $ and { }"),
            ("http://${HOST}:1", "http://node${HOST}:1"),
            ("$${HOST}", "${HOST}"),
            ("${HOST}${HOST}", "node${HOST}node${HOST}"),
            ("file:token", "s3cret"),
            ("file:/etc/tidegate/token", "s3cret"),
            ("a file:token", "a file:token"),
        ] {
            assert_eq!(fill(text).map(|(t, _)| t), Ok(filled.to_owned()), "{text}");
        }
        assert!(!fill("$${HOST}").unwrap().1);
        assert!(fill("file:token").unwrap().1);
    }

    #[test]
    fn errors_name_the_variable_or_the_file() {
        for (text, part) in [
            ("${NOPE}", "variable NOPE is not set"),
            ("${HOST", "without \"}\""),
            ("${}", "no environment variable's name"),
            ("${A B}", "no environment variable's name"),
            ("file:gone", "cannot read /etc/tidegate/gone"),
        ] {
            let error = fill(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
