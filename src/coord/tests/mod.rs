//! The owner over a disk that fails, and what the rooms' own tests share.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

pub(super) mod disk;
mod keep;
mod take_over;

use super::hooks::{Hook, Hooks};
use super::{Coord, Nodes, NotDone, Owner, RecallError};
use crate::config::load::from_text;
use crate::config::runtime::{Config, Replication, Standby};
use crate::core::consistency::bound::Position;
use crate::core::failover::event::{Effect, Event, Said, Word};
use crate::core::failover::health::Outcome;
use crate::core::failover::settings::{Pending, Record};
use crate::core::failover::view::{Epoch, Primary};
use crate::core::reason::NodeState;
use crate::core::time::MonoTime;
use crate::world::{BoxFuture, Command, Exit, Process, Ran, World};
use disk::{FakeDisk, Faults};
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "/state";
const VIEWS: &str = "/state/views";

fn config(nodes: &[&str]) -> Arc<Config> {
    let nodes: Vec<_> = nodes.iter().map(|n| (*n, "http://127.0.0.1:1")).collect();
    configured(&nodes, "shared")
}

/// Nodes by name and url.
fn configured(nodes: &[(&str, &str)], replication: &str) -> Arc<Config> {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(name, url)| format!("{{ url = \"{url}\", name = \"{name}\" }}"))
        .collect();
    let text = format!(
        "[upstreams.orders]\nmode = \"active-passive\"\nreplication = \"{replication}\"\nnodes = [{}]\n\
         health_check = {{ path = \"/\", unhealthy_threshold = 1, healthy_threshold = 1 }}\n\
         [[routes]]\nupstream = \"orders\"\n",
        nodes.join(",")
    );
    let loaded = from_text(&text, "test.toml", Path::new(""), &World::real());
    Arc::new(loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.errors)))
}

#[derive(Default)]
struct Seen {
    effects: Mutex<Vec<Effect>>,
    not_durable: Mutex<usize>,
}

impl Nodes for Seen {
    fn carry_out(&self, _: usize, effects: &[Effect]) {
        self.effects.lock().extend(effects);
    }

    fn not_durable(&self, _: usize) {
        *self.not_durable.lock() += 1;
    }
}

struct Running {
    coord: Arc<Coord>,
    seen: Arc<Seen>,
    stop: CancellationToken,
}

fn recalled(disk: &FakeDisk, nodes: &[&str]) -> (Arc<Coord>, Owner) {
    begun(disk, &config(nodes))
}

fn begun(disk: &FakeDisk, config: &Arc<Config>) -> (Arc<Coord>, Owner) {
    let (coord, mut owner) = Coord::new(config, &World::real());
    owner.recall(&disk.as_disk(), Path::new(FOLDER)).unwrap();
    (coord, owner)
}

fn run(disk: &FakeDisk, nodes: &[&str]) -> Running {
    running(recalled(disk, nodes))
}

fn running((coord, owner): (Arc<Coord>, Owner)) -> Running {
    let seen = Arc::<Seen>::default();
    let stop = CancellationToken::new();
    tokio::spawn(owner.run(Arc::<Seen>::clone(&seen), stop.clone()));
    Running { coord, seen, stop }
}

impl Running {
    async fn probed(&self, node: usize, outcome: Outcome) -> Result<(), NotDone> {
        let event = Event::Probed {
            node,
            outcome,
            said: Said::default(),
            sent: MonoTime::default(),
        };
        self.coord.tell(0, event).await
    }

    fn view(&self) -> (Epoch, Primary) {
        let views = self.coord.views();
        let view = views[0].load();
        (view.epoch, view.primary)
    }
}

#[tokio::test]
async fn r29_a_step_that_cannot_be_made_durable_did_not_happen() {
    let disk = FakeDisk::default();
    let url = "http://127.0.0.1:1";
    let one = running(begun(&disk, &configured(&[("a", url), ("b", url)], "mirrored")));
    one.probed(0, Outcome::Passed).await.unwrap();
    one.probed(1, Outcome::Passed).await.unwrap();
    let before = one.view();
    assert_eq!(before.1, Primary::Node(0));
    disk.set_faults(Faults {
        replace: true,
        ..Faults::default()
    });
    one.seen.effects.lock().clear();
    let refused = one.probed(0, Outcome::Unreachable).await;
    assert!(matches!(refused, Err(NotDone::NotDurable(_))), "{refused:?}");
    assert_eq!(one.view(), before, "the view is not ahead of the disk");
    assert_eq!(*one.seen.effects.lock(), [], "nothing follows from what did not happen");
    assert_eq!(*one.seen.not_durable.lock(), 1);
    // What changes nothing durable goes on.
    one.probed(1, Outcome::Passed).await.unwrap();
    disk.set_faults(Faults::default());
    one.probed(0, Outcome::Unreachable).await.unwrap();
    let promoted = |_: &()| one.view() == (before.0.next(), Primary::Node(1));
    one.coord.changed.subscribe().wait_for(promoted).await.unwrap();
    let moved = one
        .seen
        .effects
        .lock()
        .iter()
        .any(|e| matches!(e, Effect::Failover { from: 0, to: 1, .. }));
    assert!(moved);
    one.stop.cancel();
}

#[tokio::test]
async fn r29_the_next_process_goes_on_from_what_was_kept() {
    let disk = FakeDisk::default();
    let one = run(&disk, &["a", "b"]);
    for (node, outcome) in [(0, Outcome::Passed), (1, Outcome::Passed), (0, Outcome::Unreachable)] {
        one.probed(node, outcome).await.unwrap();
    }
    let (epoch, _) = one.view();
    one.stop.cancel();
    let (coord, owner) = recalled(&disk, &["a", "b"]);
    assert_eq!(coord.views()[0].load().epoch, epoch);
    assert_eq!(owner.strangers(), []);
    let (_, owner) = recalled(&disk, &["b", "c"]);
    assert_eq!(owner.strangers(), [("orders".to_owned(), "c".to_owned())]);
    drop(owner);
    assert_eq!(one.probed(0, Outcome::Passed).await, Err(NotDone::Leaving));
}

#[test]
fn views_that_are_damaged_are_not_guessed() {
    let disk = FakeDisk::default();
    for text in ["", "{}", "0000000000000000 {\"version\":1,\"upstreams\":{}}\n"] {
        disk.put(Path::new(VIEWS), text.as_bytes());
        let (_, mut owner) = Coord::new(&config(&["a"]), &World::real());
        let refused = owner.recall(&disk.as_disk(), Path::new(FOLDER));
        assert!(matches!(refused, Err(RecallError::Damaged { .. })), "{text}");
    }
}

#[test]
fn views_of_the_first_format_are_read_and_kept_in_the_present_one() {
    let disk = FakeDisk::default();
    // As the first releases wrote it.
    let json = r#"{"version":1,"upstreams":{"orders":{"epoch":9,"primary":"b","deposed":null,"nodes":["a","b"],"in_sync":["a","b"],"term":null}}}"#;
    let checksum = siphasher::sip::SipHasher13::new_with_keys(0, 0).hash(json.as_bytes());
    disk.put(Path::new(VIEWS), format!("{checksum:016x} {json}\n").as_bytes());
    let (coord, _owner) = recalled(&disk, &["a", "b"]);
    assert_eq!(coord.views()[0].load().epoch, Epoch(9));
    let later = json.replace("\"version\":1", "\"version\":4");
    let checksum = siphasher::sip::SipHasher13::new_with_keys(0, 0).hash(later.as_bytes());
    disk.put(Path::new(VIEWS), format!("{checksum:016x} {later}\n").as_bytes());
    let (_, mut owner) = Coord::new(&config(&["a", "b"]), &World::real());
    let refused = owner.recall(&disk.as_disk(), Path::new(FOLDER));
    assert!(
        matches!(refused, Err(RecallError::Damaged { .. })),
        "of a later release"
    );
}

#[tokio::test]
async fn what_the_operator_said_of_a_node_outlives_the_process() {
    let disk = FakeDisk::default();
    let one = run(&disk, &["a", "b"]);
    for node in [0, 1] {
        one.probed(node, Outcome::Passed).await.unwrap();
    }
    let drain = Event::Operator(Word::Drain { node: 1 });
    one.coord.tell(0, drain).await.unwrap();
    one.stop.cancel();
    let next = run(&disk, &["b", "a"]);
    for node in [0, 1] {
        next.probed(node, Outcome::Passed).await.unwrap();
    }
    let view = next.coord.views()[0].load().clone();
    assert_eq!((view.state(0), view.primary), (NodeState::Draining, Primary::Node(1)));
    let undrain = Event::Operator(Word::Undrain { node: 0 });
    next.coord.tell(0, undrain).await.unwrap();
    next.stop.cancel();
    let (coord, _owner) = recalled(&disk, &["a", "b"]);
    assert_eq!(coord.views()[0].load().state(1), NodeState::Unprobed);
    let kept = String::from_utf8(disk.as_disk().read(Path::new(VIEWS)).unwrap()).unwrap();
    assert!(kept.contains(r#""drained":[]"#), "{kept}");
}

#[test]
fn records_go_by_name_when_the_order_of_the_file_changes() {
    let record = Record {
        epoch: Epoch(9),
        primary: Some(1),
        deposed: Some(2),
        in_sync: vec![false, true, true],
        drained: vec![true, false, true],
        pinned: Some(1),
        superseded: Some(Epoch(12)),
        pending: Some(Pending {
            node: 0,
            reached: Some(Position(3)),
            lossy: true,
        }),
        ..Record::default()
    };
    let before = config(&["a", "b", "gone"]);
    let lost = Record {
        primary: Some(2),
        deposed: None,
        ..record.clone()
    };
    let lost = super::keep::Remembered::of(&before.upstreams[0], &lost);
    let lost = lost.record(&config(&["a", "b"]).upstreams[0]);
    assert_eq!(
        (lost.primary, lost.epoch),
        (None, Epoch(10)),
        "R53: the next primary is another one"
    );
    let remembered = super::keep::Remembered::of(&before.upstreams[0], &record);
    for replication in [Replication::Shared, Replication::Primary, Replication::Mirrored] {
        let mut after = (*config(&["b", "new", "a"]).upstreams[0]).clone();
        after.replication = replication;
        let expected = Record {
            epoch: Epoch(9),
            primary: Some(0),
            deposed: None,
            // A new node holds nothing of what the proxy copied.
            in_sync: vec![true, replication != Replication::Mirrored, false],
            drained: vec![false, false, true],
            pinned: Some(0),
            superseded: Some(Epoch(12)),
            pending: Some(Pending {
                node: 2,
                reached: Some(Position(3)),
                lossy: true,
            }),
            ..Record::default()
        };
        assert_eq!(remembered.record(&after), expected, "{replication:?}");
    }
}

#[test]
fn a_node_that_has_moved_is_another_one_unless_nobody_knows_where_it_was() {
    let mirrored = |url: &str| {
        let mut upstream = (*config(&["a", "b"]).upstreams[0]).clone();
        upstream.replication = Replication::Mirrored;
        upstream.nodes[1].url = url.to_owned();
        upstream
    };
    let record = Record {
        epoch: Epoch(9),
        primary: Some(1),
        in_sync: vec![true, true],
        ..Record::default()
    };
    let before = super::keep::Remembered::of(&mirrored("http://127.0.0.1:1"), &record);
    let told = |remembered: &super::keep::Remembered, url: &str| {
        let after = mirrored(url);
        let record = remembered.record(&after);
        let strangers: Vec<_> = remembered.strangers(&after).map(str::to_owned).collect();
        (record.epoch.0, record.primary, record.in_sync, strangers)
    };
    assert_eq!(
        told(&before, "http://127.0.0.1:1"),
        (9, Some(1), vec![true, true], vec![])
    );
    let moved = (10, None, vec![true, false], vec!["b".to_owned()]);
    assert_eq!(told(&before, "http://127.0.0.1:2"), moved, "R35, R53");
    let mut kept = serde_json::to_value(&before).unwrap();
    kept.as_object_mut().unwrap().remove("urls");
    let earlier = serde_json::from_value(kept).unwrap();
    assert_eq!(
        told(&earlier, "http://127.0.0.1:2"),
        (9, Some(1), vec![true, true], vec![])
    );
}

#[test]
fn what_is_remembered_of_a_common_store_says_nothing_of_data_of_the_nodes_own() {
    let upstream = |replication: Replication| {
        let mut upstream = (*config(&["a", "b"]).upstreams[0]).clone();
        upstream.replication = replication;
        upstream
    };
    let record = Record {
        epoch: Epoch(9),
        primary: Some(1),
        in_sync: vec![true, true],
        drained: vec![false, false],
        ..Record::default()
    };
    use Replication::{Mirrored, MultiPrimary, Primary, Shared};
    for (was, is, goes_on) in [
        (Shared, Mirrored, false),
        (Shared, Primary, false),
        (MultiPrimary, Mirrored, false),
        (Primary, Mirrored, true),
        (Mirrored, Primary, true),
        (Mirrored, Shared, true),
        (Shared, Shared, true),
    ] {
        let known = super::keep::Remembered::of(&upstream(was), &record);
        let (epoch, recalled) = super::keep::Remembered::recall(Some(&known), &upstream(is), Epoch(3));
        assert_eq!(recalled, goes_on.then(|| record.clone()), "{was:?} {is:?}");
        // R53: whoever is the primary now is another one.
        assert_eq!(
            epoch,
            if goes_on { Epoch(3) } else { Epoch(9).next() },
            "{was:?} {is:?}"
        );
        let mut kept = serde_json::to_value(&known).unwrap();
        kept.as_object_mut().unwrap().remove("replication");
        let earlier = serde_json::from_value(kept).unwrap();
        let (_, recalled) = super::keep::Remembered::recall(Some(&earlier), &upstream(is), Epoch(3));
        assert_eq!(recalled, Some(record.clone()), "of an earlier version: {was:?} {is:?}");
    }
}

struct Scripted(Mutex<Vec<Command>>, Option<Exit>);

impl Process for Scripted {
    fn run(&self, command: Command) -> BoxFuture<'_, io::Result<Ran>> {
        self.0.lock().push(command);
        let ran = self.1.map(|exit| Ran {
            exit,
            output: b"done\n".to_vec(),
            truncated: false,
        });
        Box::pin(async move { ran.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

struct Panics;

impl Process for Panics {
    fn run(&self, _: Command) -> BoxFuture<'_, io::Result<Ran>> {
        panic!("of the test")
    }
}

#[tokio::test]
async fn a_hook_that_ends_without_a_word_has_failed() {
    let mut upstream = (*config(&["a", "b"]).upstreams[0]).clone();
    upstream.failover.fence = vec!["fence".to_owned()];
    let epoch = Epoch(7);
    let hook = || Hook::of(&upstream, Effect::Fence { node: 0, epoch }).unwrap();
    let mut hooks = Hooks::default();
    hooks.run(3, hook(), Arc::new(Panics));
    let failed = Event::Fenced {
        node: 0,
        epoch,
        ok: false,
    };
    assert_eq!(hooks.ended().await, Some((3, Some(failed))));
    // And the next one is told apart from it.
    hooks.run(4, hook(), Arc::new(Scripted(Mutex::default(), Some(Exit::Code(0)))));
    let fenced = Event::Fenced {
        node: 0,
        epoch,
        ok: true,
    };
    assert_eq!(hooks.ended().await, Some((4, Some(fenced))));
    assert_eq!(hooks.ended().await, None);
}

#[tokio::test]
async fn hooks_are_run_with_their_words_filled_in_and_answer_with_their_end() {
    let mut upstream = (*config(&["a", "b"]).upstreams[0]).clone();
    upstream.failover.fence = ["fence", "{node}", "--epoch={epoch}"].map(str::to_owned).to_vec();
    upstream.failover.hook_timeout = Duration::from_secs(3);
    upstream.nodes[1].standby = Some(Standby::Cold {
        start: vec!["start".to_owned(), "{node}".to_owned()],
        start_timeout: Duration::from_secs(30),
    });
    let epoch = Epoch(7);
    let fence = Effect::Fence { node: 0, epoch };
    let promote = Effect::Promote { node: 1, epoch };
    let until = MonoTime::default();
    let start = Effect::Start { node: 1, until };
    for (exit, ok) in [
        (Some(Exit::Code(0)), true),
        (Some(Exit::Code(1)), false),
        (Some(Exit::Signal(9)), false),
        (Some(Exit::TimedOut), false),
        (None, false),
    ] {
        let process = Arc::new(Scripted(Mutex::default(), exit));
        let run = async |effect| {
            let hook = Hook::of(&upstream, effect).unwrap();
            hook.run(Arc::<Scripted>::clone(&process)).await
        };
        assert_eq!(run(fence).await, Some(Event::Fenced { node: 0, epoch, ok }), "{exit:?}");
        assert_eq!(
            run(start).await,
            Some(Event::Started { node: 1, until, ok }),
            "{exit:?}"
        );
        // Not configured: nobody is asked.
        assert_eq!(
            run(promote).await,
            Some(Event::Promoted {
                node: 1,
                epoch,
                ok: true
            })
        );
        let expected = [(vec!["fence", "a", "--epoch=7"], 3), (vec!["start", "b"], 30)];
        let asked: Vec<_> = process.0.lock().drain(..).collect();
        let asked = asked
            .iter()
            .map(|c| (c.argv.iter().map(String::as_str).collect(), c.time_limit.as_secs()));
        assert_eq!(asked.collect::<Vec<(Vec<_>, _)>>(), expected);
    }
    assert!(Hook::of(&upstream, Effect::Start { node: 0, until }).is_none());
    assert!(Hook::of(&upstream, Effect::CloseAll { node: 0 }).is_none());
}
