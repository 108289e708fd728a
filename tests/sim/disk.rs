//! The disk of a simulated machine. What is on it outlives the process; what was appended and not synced outlives it too, unless the
//! machine itself loses power.

use super::chance::Chance;
use super::world::{Hooks, Life};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tidegate::world::{Disk, Log};

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    /// How many of them are durable.
    synced: usize,
}

impl File {
    fn of(text: &str) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            bytes: text.into(),
            synced: text.len(),
        }))
    }
}

type Files = BTreeMap<PathBuf, Arc<Mutex<File>>>;

/// The disk of one machine.
#[derive(Default)]
pub struct Platter {
    files: Mutex<Files>,
    claimed: AtomicBool,
    full: AtomicBool,
}

impl Platter {
    pub fn write(&self, path: &str, text: &str) {
        self.files.lock().unwrap().insert(path.into(), File::of(text));
    }

    /// What a file says, if there is one.
    pub fn text(&self, path: &str) -> String {
        let files = self.files.lock().unwrap();
        let bytes = files
            .get(Path::new(path))
            .map(|file| file.lock().unwrap().bytes.clone());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    /// The power fails: of each file's unsynced end so much is kept as chance will have it.
    pub fn lose_power(&self, chance: &mut Chance) {
        for file in self.files.lock().unwrap().values() {
            let mut file = file.lock().unwrap();
            let unsynced = (file.bytes.len() - file.synced) as u64;
            let kept = file.synced + (chance.next() % (unsynced + 1)) as usize;
            file.bytes.truncate(kept);
        }
    }

    /// From now on nothing more fits on it, or something does again.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }
}

/// It, as one life of a process sees it.
pub struct SimDisk {
    life: Arc<Life>,
    platter: Arc<Platter>,
}

impl SimDisk {
    pub fn new(life: &Arc<Life>, platter: &Arc<Platter>) -> Self {
        Self {
            life: Arc::clone(life),
            platter: Arc::clone(platter),
        }
    }

    fn files(&self) -> io::Result<MutexGuard<'_, Files>> {
        alive(&self.life)?;
        Ok(self.platter.files.lock().unwrap())
    }
}

fn alive(life: &Life) -> io::Result<()> {
    if life.is_off() {
        return Err(io::Error::other("the process is dead"));
    }
    Ok(())
}

fn room(platter: &Platter) -> io::Result<()> {
    if platter.full.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

impl Disk for SimDisk {
    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.read(path)?).map_err(io::Error::other)
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        room(&self.platter)?;
        self.files()?.insert(path.to_owned(), File::of(text));
        self.life.note(format!("wrote {}: {text}", path.display()));
        Ok(())
    }

    fn claim(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if self.platter.claimed.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Claim(Arc::clone(&self.platter))))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files()?.remove(path);
        self.life.note(format!("removed {}", path.display()));
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files()?.get(path).map(|file| file.lock().unwrap().bytes.clone());
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn append_to(&self, path: &Path) -> io::Result<Box<dyn Log>> {
        let file = Arc::clone(self.files()?.entry(path.to_owned()).or_default());
        Ok(Box::new(SimLog {
            life: Arc::clone(&self.life),
            platter: Arc::clone(&self.platter),
            name: path.display().to_string(),
            file,
        }))
    }
}

struct SimLog {
    life: Arc<Life>,
    platter: Arc<Platter>,
    name: String,
    file: Arc<Mutex<File>>,
}

impl Log for SimLog {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        alive(&self.life)?;
        room(&self.platter)?;
        self.file.lock().unwrap().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        alive(&self.life)?;
        let mut file = self.file.lock().unwrap();
        file.synced = file.bytes.len();
        self.life.note(format!("synced {}: {} bytes", self.name, file.synced));
        Ok(())
    }
}

struct Claim(Arc<Platter>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed.store(false, Ordering::Relaxed);
    }
}

#[test]
fn a_power_failure_takes_what_was_not_synced_and_nothing_else() {
    let platter = Arc::new(Platter::default());
    let journal = Arc::new(super::journal::Journal::default());
    journal.freeze(true);
    let life = Life::new(
        "p".into(),
        1,
        &journal,
        &Arc::default(),
        &platter,
        Arc::new(Hooks(None)),
    );
    let disk = life.world().disk;
    let path = Path::new("/state/log");
    let mut log = disk.append_to(path).unwrap();
    log.append(b"durable").unwrap();
    log.sync().unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        log.append(b"-torn").unwrap();
        platter.lose_power(&mut Chance::of(seed, 1));
        let left = disk.read_to_string(path).unwrap();
        assert!("durable-torn".starts_with(&left) && left.len() >= 7, "{left}");
        lengths.insert(left.len());
        platter.write("/state/log", "durable");
        log = disk.append_to(path).unwrap();
    }
    assert_eq!(lengths.len(), 6, "{lengths:?}");
    platter.set_full(true);
    assert!(log.append(b"x").is_err() && disk.replace(path, "x").is_err());
}
