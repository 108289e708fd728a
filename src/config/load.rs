//! From a file, a text or three flags to a [`Config`]: parse, shape, compile. Never stops at the first mistake and never panics,
//! whatever the text.

use super::catalogue;
use super::compile::{compile, listed};
use super::diagnostic::{Diagnostic, Sink, Source};
use super::diff;
use super::runtime::Config;
use super::shape::shape;
use super::substitute::Outside;
use super::syntax::{Trust, parse};
use super::validity;
use crate::core::discovery::Member;
use crate::world::World;
use std::io;
use std::path::{Path, PathBuf};

/// What came of a configuration: a `Config` exactly when there are no errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration, unless there were errors.
    pub config: Option<Config>,
    /// What stops the start, in the order of the file.
    pub errors: Vec<Diagnostic>,
    /// What does not.
    pub warnings: Vec<Diagnostic>,
}

/// A file that could not be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Unreadable {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Reads and checks the file at `path`. Relative paths inside are relative to its folder.
///
/// # Errors
/// [`Unreadable`] when there is no text to check.
pub fn from_file(path: &Path, world: &World) -> Result<Loaded, Unreadable> {
    let text = world.disk.read_to_string(path).map_err(|source| Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    Ok(from_text(&text, &path.display().to_string(), base_dir, world))
}

/// Reads the file again for a process that runs: numbered after `running`, and with what only a restart can change among the errors.
///
/// # Errors
/// [`Unreadable`] when there is no text to check.
pub fn again(path: &Path, world: &World, running: &Config) -> Result<Loaded, Unreadable> {
    let text = world.disk.read_to_string(path).map_err(|source| Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let outside = outside(world, base_dir);
    Ok(load(&text, &path.display().to_string(), &outside, Some(running)))
}

/// Checks a text. `file_name` is what messages call it, `base_dir` is where relative paths start.
#[must_use]
pub fn from_text(text: &str, file_name: &str, base_dir: &Path, world: &World) -> Loaded {
    load(text, file_name, &outside(world, base_dir), None)
}

fn outside<'a>(world: &'a World, base_dir: &'a Path) -> Outside<'a> {
    Outside {
        env: world.env.as_ref(),
        disk: world.disk.as_ref(),
        base_dir,
        now: world.clock.wall(),
    }
}

/// The configuration that needs no file: one listener, one upstream of one node, one route.
#[must_use]
pub fn zero_file(listen: &str, admin: &str, upstream: &str, consistency: &str) -> Loaded {
    let quoted = |text: &str| toml::Value::String(text.replace("${", "$${")).to_string();
    let text = format!(
        "[listeners.main]\naddress = {}\n[admin]\naddress = {}\n[upstreams.main]\nnodes = [{{ url = {} }}]\n[[routes]]\nupstream = \"main\"\nconsistency = {}\n",
        quoted(listen),
        quoted(admin),
        quoted(upstream),
        quoted(consistency),
    );
    // Flags are taken as they are: no variables, no files.
    load(&text, "(command line)", &Outside::nothing(), None)
}

/// Reads the text of a file of nodes (`discover = { file = .. }`). Nothing in it is filled in from outside.
///
/// # Errors
/// What is wrong with it, with its places.
pub fn nodes_from_text(text: &str, file_name: &str) -> Result<Vec<Member>, Vec<Diagnostic>> {
    let mut sink = Sink::new(Source::new(file_name, text));
    let (tree, trust) = parse(text, &mut sink);
    let shaped = shape(&tree, catalogue::NODES_FILE, &Outside::nothing(), &mut sink);
    let found = match trust {
        Trust::Above(line) => {
            sink.forget_from(line);
            Vec::new()
        }
        Trust::Whole => listed(&shaped, &mut sink),
    };
    if sink.failed() {
        return Err(sink.finish().0);
    }
    Ok(found)
}

fn load(text: &str, file_name: &str, outside: &Outside<'_>, running: Option<&Config>) -> Loaded {
    let mut sink = Sink::new(Source::new(file_name, text));
    let (tree, trust) = parse(text, &mut sink);
    let shaped = shape(&tree, catalogue::ROOT, outside, &mut sink);
    if let Trust::Above(line) = trust {
        sink.forget_from(line);
        return finish(sink, None);
    }
    validity::warn(&shaped, outside.now, &mut sink);
    let mut config = compile(shaped, &mut sink);
    config.server.state_dir = config.server.state_dir.map(|dir| outside.base_dir.join(dir));
    if let Some(running) = running.filter(|_| !sink.failed()) {
        diff::refuse(running, &config, &mut sink);
        config = diff::number(running, config);
    }
    let config = (!sink.failed()).then_some(config);
    finish(sink, config)
}

fn finish(sink: Sink, config: Option<Config>) -> Loaded {
    let (errors, warnings) = sink.finish();
    Loaded {
        config,
        errors,
        warnings,
    }
}
