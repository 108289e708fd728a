//! A world without an operating system: variables and files given in the test.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tidegate::config::{Loaded, load};
use tidegate::world::{Disk, Env, World};

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) files: BTreeMap<String, String>,
}

impl Env for Fake {
    fn var(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
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
        self.files
            .get(path.to_str().unwrap())
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

pub(crate) fn world(variables: &[(&str, &str)], files: &[(&str, &str)]) -> World {
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let fake = Arc::new(Fake {
        variables: owned(variables),
        files: owned(files),
    });
    World {
        env: fake.clone(),
        disk: fake,
        ..World::real()
    }
}

pub(crate) fn load(text: &str) -> Loaded {
    load::from_text(text, "tidegate.toml", Path::new("/etc/tidegate"), &world(&[], &[]))
}

/// The configuration of a text without errors.
pub(crate) fn good(text: &str) -> tidegate::config::runtime::Config {
    let loaded = load(text);
    assert!(loaded.errors.is_empty(), "{}\n{text}", messages(&loaded));
    loaded.config.unwrap()
}

/// The errors of a text, one per line, without their excerpts.
pub(crate) fn errors(text: &str) -> Vec<String> {
    let loaded = load(text);
    assert_eq!(loaded.config.is_none(), !loaded.errors.is_empty());
    loaded
        .errors
        .iter()
        .map(|e| e.to_string().lines().next().unwrap().to_owned())
        .collect()
}

pub(crate) fn messages(loaded: &Loaded) -> String {
    let all = loaded.errors.iter().chain(&loaded.warnings);
    all.map(|d| format!("{d}\n")).collect()
}
