//! Bad files with the expected messages beside each: `bad/NAME.toml`, `bad/NAME.expected`. `TIDEGATE_BLESS=1` writes the expectations.

use crate::support::{messages, world};
use std::fs;
use std::path::{Path, PathBuf};
use tidegate::config::{Loaded, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad")
}

fn read(path: &Path) -> Loaded {
    let world = world(&[("HOST", "10.0.0.1")], &[("/etc/tidegate/empty", "")]);
    let name = path.file_name().unwrap().to_str().unwrap();
    load::from_text(
        &fs::read_to_string(path).unwrap(),
        name,
        Path::new("/etc/tidegate"),
        &world,
    )
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch that rewrites the expectations")]
fn each_bad_file_says_what_is_expected() {
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(files.len() >= 15, "{files:?}");
    let bless = std::env::var("TIDEGATE_BLESS").is_ok();
    let mut wrong = String::new();
    for path in files {
        let loaded = read(&path);
        let found = messages(&loaded);
        // Files called `warn-*` are legal and probably not meant.
        let only_warns = path.file_name().unwrap().to_str().unwrap().starts_with("warn-");
        assert_eq!(loaded.config.is_some(), only_warns, "{}:\n{found}", path.display());
        assert!(!found.is_empty(), "{} has nothing wrong", path.display());
        let beside = path.with_extension("expected");
        if bless {
            fs::write(&beside, &found).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if found != expected {
            wrong.push_str(&format!("{}\nexpected:\n{expected}found:\n{found}\n", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn twenty_mistakes_are_twenty_messages() {
    let path = folder().join("twenty.toml");
    let text = fs::read_to_string(&path).unwrap();
    let marked: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(_, l)| l.contains("# wrong"))
        .map(|(i, _)| i + 1)
        .collect();
    assert_eq!(marked.len(), 20);
    let found: Vec<usize> = read(&path).errors.iter().map(|e| e.line).collect();
    assert_eq!(found, marked, "{}", messages(&read(&path)));
}
