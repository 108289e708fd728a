//! A reload at the owner: all of it, durably, or nothing.

use super::super::{Change, NotTaken};
use super::disk::{FakeDisk, Faults};
use super::{Running, VIEWS, config, recalled, run};
use crate::config::runtime::{Promotion, Replication, Upstream};
use crate::core::failover::event::{Event, Said};
use crate::core::failover::health::Outcome;
use crate::core::failover::take_over::Unfit;
use crate::core::failover::view::Primary;
use crate::core::reason::NodeState;
use crate::core::time::MonoTime;
use std::path::Path;
use std::sync::Arc;

/// The upstream with these nodes, of which the file names those in these places.
fn upstream(nodes: &[&str], order: &[usize]) -> Upstream {
    Upstream {
        order: order.to_vec(),
        ..Upstream::clone(&config(nodes).upstreams[0])
    }
}

fn change(upstream: Upstream) -> Change {
    Change {
        config: Arc::new(upstream),
        cell: None,
        probes: Vec::new(),
    }
}

fn probe(node: usize, outcome: Outcome) -> Event {
    Event::Probed {
        node,
        outcome,
        said: Said::default(),
        sent: MonoTime::default(),
    }
}

/// Another upstream, which is new.
fn another(one: &Running, id: usize) -> Change {
    let new = Upstream {
        id,
        name: "new".to_owned(),
        ..upstream(&["n"], &[0])
    };
    Change {
        cell: Some(one.coord.cell_for(MonoTime::default(), &new)),
        probes: vec![probe(0, Outcome::Passed)],
        config: Arc::new(new),
    }
}

async fn both_up(one: &Running) {
    one.probed(0, Outcome::Passed).await.unwrap();
    one.probed(1, Outcome::Passed).await.unwrap();
}

#[tokio::test]
async fn r31_r29_a_reload_that_cannot_be_made_durable_changes_nothing() {
    let disk = FakeDisk::default();
    let one = run(&disk, &["a", "b"]);
    both_up(&one).await;
    let before = (one.view(), one.coord.views()[0].load().states.clone());
    disk.set_faults(Faults {
        replace: true,
        ..Faults::default()
    });
    let changes = || vec![change(upstream(&["a", "b", "c"], &[2, 1])), another(&one, 1)];
    let refused = one.coord.take_over(changes()).await;
    assert!(matches!(refused, Err(NotTaken::NotDurable(_))), "{refused:?}");
    let now = || (one.view(), one.coord.views()[0].load().states.clone());
    assert_eq!(now(), before);
    assert_eq!(one.coord.views().len(), 1, "nothing has come either");
    disk.set_faults(Faults::default());
    one.coord.take_over(changes()).await.unwrap();
    assert_eq!(
        one.view(),
        (before.0.0.next(), Primary::Node(1)),
        "the active node has gone"
    );
    let new = Arc::clone(&one.coord.views()[1]);
    assert_eq!(
        (new.load().primary, new.load().states.clone()),
        (Primary::Node(0), vec![NodeState::Active])
    );
    let kept = String::from_utf8(disk.as_disk().read(Path::new(VIEWS)).unwrap()).unwrap();
    assert!(kept.contains("\"nodes\":[\"c\",\"b\"]"), "{kept}");
    // And a process that follows knows it so.
    one.stop.cancel();
    let (coord, _owner) = recalled(&disk, &["c", "b"]);
    assert_eq!(coord.views()[0].load().epoch, before.0.0.next());
}

#[tokio::test]
async fn r31_what_one_upstream_cannot_take_over_none_does() {
    let disk = FakeDisk::default();
    let one = run(&disk, &["a", "b"]);
    both_up(&one).await;
    let led = |order: &[usize]| {
        let mut led = upstream(&["a", "b"], order);
        led.replication = Replication::Primary;
        led.failover.promotion = Promotion::Manual;
        led
    };
    // As if it had been there from the start.
    let second = Change {
        cell: Some(one.coord.cell_for(MonoTime::default(), &led(&[0, 1]))),
        config: Arc::new(Upstream {
            id: 1,
            name: "led".to_owned(),
            ..led(&[0, 1])
        }),
        probes: vec![probe(0, Outcome::Passed), probe(1, Outcome::Passed)],
    };
    one.coord.take_over(vec![second]).await.unwrap();
    let (before, cells) = (one.view(), one.coord.views());
    let without = |order: &[usize]| {
        change(Upstream {
            id: 1,
            name: "led".to_owned(),
            ..led(order)
        })
    };
    let changes = vec![change(upstream(&["a", "b"], &[1])), without(&[1])];
    let refused = one.coord.take_over(changes).await;
    assert_eq!(refused, Err(NotTaken::Unfit(vec![(1, Unfit::InOffice { node: 0 })])));
    assert_eq!((one.view(), cells[1].load().primary), (before, Primary::Node(0)));
    let changes = vec![change(upstream(&["a", "b"], &[1])), without(&[0])];
    one.coord.take_over(changes).await.unwrap();
    assert_eq!(
        (one.view().1, cells[1].load().primary),
        (Primary::Node(1), Primary::Node(0))
    );
    assert_eq!(cells[1].load().in_sync, [true, false]);
}

#[tokio::test]
async fn r31_an_upstream_that_has_gone_keeps_its_last_view_and_one_that_returns_has_another() {
    let disk = FakeDisk::default();
    let one = run(&disk, &["a", "b"]);
    both_up(&one).await;
    let gone = Upstream {
        order: Vec::new(),
        retired: true,
        ..upstream(&["a", "b"], &[])
    };
    let (before, last) = (one.view(), Arc::clone(&one.coord.views()[0]));
    one.coord.take_over(vec![change(gone)]).await.unwrap();
    one.probed(0, Outcome::Unreachable).await.unwrap();
    assert_eq!(one.view(), before, "what is in flight ends by it");
    let again = Change {
        cell: Some(one.coord.cell_for(MonoTime::default(), &upstream(&["b"], &[0]))),
        probes: vec![probe(0, Outcome::Passed)],
        ..change(upstream(&["b"], &[0]))
    };
    one.coord.take_over(vec![again]).await.unwrap();
    let (epoch, primary) = one.view();
    assert!(epoch >= before.0, "epochs never fall");
    assert_eq!((primary, last.load().primary), (Primary::Node(0), Primary::Node(0)));
    assert_eq!(last.load().states.len(), 2);
}
