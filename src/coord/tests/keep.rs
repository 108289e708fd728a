//! The register over restarts: whose name a node has, and a disk that is full.

use super::disk::{FakeDisk, Faults};
use super::{FOLDER, VIEWS, begun, configured, recalled, run};
use crate::config::runtime::{Config, Promotion};
use crate::core::failover::health::Outcome;
use crate::core::failover::view::Primary;
use crate::core::reason::NodeState;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const A: (&str, &str) = ("a", "http://a.example:80");
const B: (&str, &str) = ("b", "http://b.example:80");
const MOVED: (&str, &str) = ("b", "http://c.example:80");

/// The nodes in sync as a process begins, and those of which nobody knows what they lack.
fn starts(disk: &FakeDisk, config: &Arc<Config>) -> (Vec<bool>, Vec<(String, String)>) {
    let (coord, mut owner) = begun(disk, config);
    let strangers = owner.strangers();
    owner.remember(&disk.as_disk(), Path::new(FOLDER)).unwrap();
    (coord.views()[0].load().in_sync.clone(), strangers)
}

#[test]
fn r33b_a_mirrored_machine_that_was_replaced_is_out_of_sync_whatever_it_is_called() {
    let disk = FakeDisk::default();
    let mirrored = |nodes: &[(&str, &str)]| configured(nodes, "mirrored");
    let stranger = || vec![("orders".to_owned(), "b".to_owned())];
    assert_eq!(starts(&disk, &mirrored(&[A, B])), (vec![true, true], vec![]));
    assert_eq!(starts(&disk, &mirrored(&[A, B])), (vec![true, true], vec![]));
    // Nothing that had to be remembered happened in between: who the nodes were is known all the same.
    assert_eq!(starts(&disk, &mirrored(&[A, MOVED])), (vec![true, false], stranger()));
    assert_eq!(
        starts(&disk, &mirrored(&[A, MOVED])),
        (vec![true, false], vec![]),
        "what it lacks has been noted by now, and it stays out"
    );
    assert_eq!(
        starts(&disk, &mirrored(&[A, B])),
        (vec![true, false], stranger()),
        "the first one has missed what was written without it"
    );
    assert_eq!(starts(&disk, &mirrored(&[A])), (vec![true], vec![]));
    assert_eq!(
        starts(&disk, &mirrored(&[A, B])),
        (vec![true, false], stranger()),
        "nor may it come back as if it had never been away"
    );
    let (coord, _owner) = begun(&disk, &mirrored(&[("a", "http://d.example:80"), B]));
    assert_eq!(
        coord.views()[0].load().active(),
        None,
        "who took its name is not the primary"
    );
}

#[tokio::test]
async fn nodes_over_one_store_fail_over_on_a_full_disk_and_are_remembered_when_there_is_room() {
    let disk = FakeDisk::default();
    let one = run(&disk, &["a", "b"]);
    one.probed(0, Outcome::Passed).await.unwrap();
    one.probed(1, Outcome::Passed).await.unwrap();
    let (epoch, primary) = one.view();
    assert_eq!(primary, Primary::Node(0));
    disk.set_faults(Faults {
        replace: true,
        ..Faults::default()
    });
    let written = disk.replaced();
    one.probed(0, Outcome::Unreachable).await.unwrap();
    assert_eq!(one.view(), (epoch.next(), Primary::Node(1)));
    assert!(*one.seen.not_durable.lock() > 0, "somebody is told");
    assert_eq!(disk.replaced(), written);
    disk.set_faults(Faults::default());
    let kept = async {
        while disk.replaced() == written {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), kept).await.unwrap();
    one.stop.cancel();
    let (coord, _owner) = recalled(&disk, &["a", "b"]);
    let view = coord.views()[0].load().clone();
    assert_eq!((view.epoch, view.state(1)), (epoch.next(), NodeState::Unprobed));
}

#[tokio::test]
async fn r33b_a_mirrored_upstream_that_a_reload_brings_is_remembered_with_its_nodes() {
    let disk = FakeDisk::default();
    let one = run(&disk, &["a", "b"]);
    let mut new = (*configured(&[A, B], "mirrored").upstreams[0]).clone();
    new.id = 1;
    new.name = "new".to_owned();
    new.failover.promotion = Promotion::Manual;
    let change = super::super::Change {
        cell: Some(one.coord.cell_for(crate::core::time::MonoTime::default(), &new)),
        config: Arc::new(new),
        probes: Vec::new(),
    };
    one.coord.take_over(vec![change]).await.unwrap();
    let kept = String::from_utf8(disk.as_disk().read(Path::new(VIEWS)).unwrap()).unwrap();
    assert!(
        kept.contains(r#""urls":{"a":"http://a.example:80","b":"http://b.example:80"}"#),
        "{kept}"
    );
    one.stop.cancel();
}
