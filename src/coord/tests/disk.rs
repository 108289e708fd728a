//! A disk that can fail, and crash: what was appended and not synced is then kept up to any byte.

use crate::world::{Disk, Log};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Default)]
struct File {
    durable: Vec<u8>,
    unsynced: Vec<u8>,
}

/// What goes wrong from now on.
#[derive(Copy, Clone, Debug, Default)]
pub(in crate::coord) struct Faults {
    /// An append writes only so many bytes, then fails.
    pub(in crate::coord) append_after: Option<usize>,
    pub(in crate::coord) sync: bool,
    pub(in crate::coord) replace: bool,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<PathBuf, Arc<Mutex<File>>>,
    faults: Faults,
    syncs: usize,
    replaced: usize,
}

#[derive(Clone, Default)]
pub(in crate::coord) struct FakeDisk(Arc<Mutex<Inner>>);

impl FakeDisk {
    pub(in crate::coord) fn as_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub(in crate::coord) fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    pub(in crate::coord) fn syncs(&self) -> usize {
        self.0.lock().syncs
    }

    pub(in crate::coord) fn replaced(&self) -> usize {
        self.0.lock().replaced
    }

    /// Bytes of a file that a crash may take.
    pub(in crate::coord) fn unsynced(&self, path: &Path) -> usize {
        self.0.lock().files.get(path).map_or(0, |f| f.lock().unsynced.len())
    }

    pub(in crate::coord) fn put(&self, path: &Path, bytes: &[u8]) {
        let file = File {
            durable: bytes.to_vec(),
            unsynced: Vec::new(),
        };
        self.0.lock().files.insert(path.to_owned(), Arc::new(Mutex::new(file)));
    }

    /// The disk as it is after a crash that keeps so many bytes of what was not synced of a file.
    pub(in crate::coord) fn crashed(&self, path: &Path, kept: usize) -> Self {
        let after = Self::default();
        for (at, file) in &self.0.lock().files {
            let file = file.lock();
            let mut bytes = file.durable.clone();
            let kept = if at == path { kept } else { 0 };
            bytes.extend(file.unsynced.iter().take(kept));
            after.put(at, &bytes);
        }
        after
    }
}

impl Disk for FakeDisk {
    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.read(path)?).map_err(io::Error::other)
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        if self.0.lock().faults.replace {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.put(path, text.as_bytes());
        self.0.lock().replaced += 1;
        Ok(())
    }

    fn claim(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.0.lock().files.remove(path);
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.0.lock();
        let file = inner.files.get(path).ok_or(io::ErrorKind::NotFound)?.lock();
        Ok([file.durable.as_slice(), file.unsynced.as_slice()].concat())
    }

    fn append_to(&self, path: &Path) -> io::Result<Box<dyn Log>> {
        let file = Arc::clone(self.0.lock().files.entry(path.to_owned()).or_default());
        Ok(Box::new(FakeLog(self.clone(), file)))
    }
}

struct FakeLog(FakeDisk, Arc<Mutex<File>>);

impl Log for FakeLog {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.0.0.lock().faults.append_after;
        let written = room.unwrap_or(bytes.len()).min(bytes.len());
        self.1.lock().unsynced.extend(bytes.iter().take(written));
        if room.is_some() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.0.0.lock();
        disk.syncs += 1;
        if disk.faults.sync {
            return Err(io::Error::other("the disk is broken"));
        }
        let mut file = self.1.lock();
        let unsynced = std::mem::take(&mut file.unsynced);
        file.durable.extend(unsynced);
        Ok(())
    }
}
