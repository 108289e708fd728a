//! The floors of the house, read from the `use` lines: an import that points up, or anything that acts inside `core`, fails.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. Rooms on one floor are siblings and do not import each other.
const FLOORS: &[&[&str]] = &[
    &["core"],
    &["world"],
    &["config"],
    &["telemetry"],
    &["upstream", "store", "coord"],
    &["proxy"],
    &["server", "admin"],
    &["app"],
    &["demo", "verify"],
    &["cli", "main"],
];

/// What `core` may import beside itself.
const PURE: &[&str] = &[
    "crate",
    "super",
    "self",
    "std",
    "http",
    "bytes",
    "core",
    "httpdate",
    "itoa",
    "smallvec",
    "siphasher",
    "foldhash",
    "thiserror",
    "base64",
    "hmac",
    "sha2",
];

/// Parts of the standard library that act, or whose iteration order differs from run to run.
const IMPURE: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::thread",
    "std::net::Tcp",
    "std::fs",
    "std::io::",
    "std::env",
    "std::process",
    "HashMap",
    "HashSet",
    "tokio",
    "tracing::",
    "println!",
    "eprintln!",
    "async fn",
    ".await",
    "rand::",
    "parking_lot",
    "dashmap::",
    "moka::",
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|f| f.contains(&room))
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn room(path: &Path, src: &Path) -> String {
    let first = path
        .strip_prefix(src)
        .unwrap()
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms a line names through `crate::room`, wherever it stands in the line, grouped imports included.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        let mut rest = code;
        while let Some(at) = rest.find("crate::") {
            rest = &rest[at + "crate::".len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let mut depth = 0_usize;
                let mut word = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 && (c.is_alphanumeric() || c == '_') {
                        word.push(c);
                    } else if depth == 0 && (c == ',' || (c == ':' && !word.is_empty())) {
                        found.push((number + 1, std::mem::take(&mut word)));
                    }
                }
                found.push((number + 1, word));
            } else {
                found.push((
                    number + 1,
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect(),
                ));
            }
        }
    }
    found.retain(|(_, room)| floor(room).is_some());
    found
}

fn is_test_file(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n == "tests.rs") || path.components().any(|c| c.as_os_str() == "tests")
}

/// The text before the unit tests, which may do what they like.
fn product_code(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |at| &text[..at])
}

#[test]
fn imports_only_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(
        files.len() > 10,
        "the walk found only {} files: it looks in the wrong place",
        files.len()
    );
    let mut wrong = Vec::new();
    for path in files.iter().filter(|p| !is_test_file(p)) {
        let here = room(path, &src);
        if here == "lib" {
            continue;
        }
        let Some(level) = floor(&here) else {
            wrong.push(format!("{}: the room `{here}` stands on no floor", path.display()));
            continue;
        };
        let text = fs::read_to_string(path).unwrap();
        for (line, there) in imports(product_code(&text)) {
            if there != here && floor(&there).is_some_and(|l| l >= level) {
                wrong.push(format!(
                    "{}:{line}: `{here}` imports `{there}`, which is not below it",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn core_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src.join("core"), &mut files);
    let mut wrong = Vec::new();
    for path in files.iter().filter(|p| !is_test_file(p)) {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in product_code(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if let Some(import) = code.trim_start().strip_prefix("use ") {
                let root: String = import
                    .trim_start_matches("::")
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if !PURE.contains(&root.as_str()) {
                    wrong.push(format!("{}:{}: core imports `{root}`", path.display(), number + 1));
                }
            }
            for word in IMPURE {
                if code.contains(word) {
                    wrong.push(format!("{}:{}: core names `{word}`", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_what_it_must() {
    let rooms = |text: &str| imports(text).into_iter().map(|(_, r)| r).collect::<Vec<_>>();
    assert_eq!(rooms("use crate::proxy::Proxy;"), ["proxy"]);
    assert_eq!(
        rooms("use crate::{store::Entry, core::{time::Age, key}};"),
        ["store", "core"]
    );
    assert_eq!(rooms("let x = crate::admin::serve();"), ["admin"]);
    assert_eq!(rooms("// crate::admin"), Vec::<String>::new());
}

/// The user fixed what lies at the top; build output and what version control ignores may lie beside it.
#[test]
fn nothing_else_lies_at_the_top() {
    const TOP: &[&str] = &[
        "Cargo.toml",
        "Cargo.lock",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "benches",
        "config",
        "deploy",
        "proptest-regressions",
        "src",
        "target",
        "tests",
    ];
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = fs::read_dir(top)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let others: Vec<_> = names
        .filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()))
        .collect();
    assert!(others.is_empty(), "not at the top: {others:?}");
}
