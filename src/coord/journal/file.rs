//! The file: a heading, then one line per batch, each with its checksum. It is always begun by replacing the whole file, and a line is
//! appended only after the one before it is durable; so only the last line can be torn by a crash, and a bad line before a good one is
//! damage to something that was promised.

use super::state::{Record, State};
use crate::coord::lines;
use crate::world::Disk;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The file's name under `state_dir`.
const NAME: &str = "journal";

/// Of the format.
const VERSION: u32 = 1;

/// The most records in one line of a file that is written anew.
const RECORDS_PER_LINE: usize = 1000;

#[derive(Serialize, Deserialize)]
struct Heading {
    tidegate_journal: u32,
}

/// Why the journal of earlier processes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Something that was durable is not there any more.
    #[error(
        "{path}: line {line} is damaged: which writes are open and what each node has missed is not known any more. Remove the file when every node holds the same"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first bad line, from 1.
        line: usize,
    },
    /// Another program, or a later version, wrote it.
    #[error("{path}: not a journal of this version")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// What the file says; nothing when there is none.
pub(super) fn read(disk: &dyn Disk, folder: &Path) -> Result<State, OpenError> {
    let path = path(folder);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let mut lines = bytes.split_inclusive(|b| *b == b'\n').enumerate();
    let heading = lines.next().and_then(|(_, line)| whole::<Heading>(line));
    if heading.is_none_or(|heading| heading.tidegate_journal != VERSION) {
        return Err(OpenError::Foreign { path });
    }
    let mut state = State::default();
    let mut torn = None;
    for (number, line) in lines {
        match (whole::<Vec<Record>>(line), torn) {
            (Some(records), None) => {
                for record in records {
                    state.apply(record);
                }
            }
            (Some(_), Some(line)) => return Err(OpenError::Damaged { path, line }),
            (None, Some(_)) => {}
            (None, None) => torn = Some(number + 1),
        }
    }
    if let Some(line) = torn {
        tracing::warn!(path = %path.display(), line, "the last batch was cut off by a crash; nobody was told that it is durable");
    }
    Ok(state)
}

fn whole<T: serde::de::DeserializeOwned>(line: &[u8]) -> Option<T> {
    lines::value(line.strip_suffix(b"\n")?)
}

/// One batch's line.
pub(super) fn batch(records: &[Record]) -> io::Result<String> {
    Ok(lines::line(&records)?)
}

/// The whole file anew.
pub(super) fn anew(state: &State) -> io::Result<String> {
    let mut text = lines::line(&Heading {
        tidegate_journal: VERSION,
    })?;
    let mut records = state.records();
    loop {
        let some: Vec<_> = records.by_ref().take(RECORDS_PER_LINE).collect();
        if some.is_empty() {
            return Ok(text);
        }
        text += &lines::line(&some)?;
    }
}
