//! Every order of what may happen to small upstreams: probes that pass with what nodes say of themselves, or do not come back, hooks that end
//! well or badly or late, copies that are missed and made good, the operator's words, nodes that come and go, writes refused in somebody
//! else's epoch, time, and a crash with a restart from the record.
//!
//! What must hold is judged by a second, plainer account of the same events ([`ghost`]); what the machine believes is not asked for, except
//! its view and record. States that were seen before are not entered again ([`key`]). `TIDEGATE_TEST_WALK_DEEPER=n` goes n acts further.

mod acts;
mod ghost;
mod key;

use super::super::event::Observed;
use super::super::machine::Machine;
use super::super::settings::{Promotion, Sharing, Spread};
use crate::core::consistency::bound::Position;
use crate::core::rules::switch_off_as_told;
use crate::core::time::MonoTime;
use acts::{Act, UNIT, World};
use ghost::Ghost;
use key::Key;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// What was met on the way: a walk that meets nothing proves nothing.
#[derive(Default, Debug)]
struct Found {
    states: usize,
    promotions: usize,
    orders: usize,
    failbacks: usize,
    conflicts: usize,
    refusals: usize,
    starts: usize,
    moves: usize,
    /// Another node was promoted than the one whose hook came to nothing.
    replaced: usize,
    /// A promotion went on after a crash by what was kept of it.
    resumed: usize,
    superseded: usize,
}

/// The acts so far, the last one first.
struct Trail(Act, Option<Rc<Trail>>);

#[derive(Clone)]
struct State {
    machine: Machine,
    now: u64,
    ghost: Ghost,
    trail: Option<Rc<Trail>>,
    length: usize,
}

impl State {
    fn new(world: &World) -> Self {
        let now = 10 * UNIT;
        let machine = Machine::new(MonoTime::from_micros(now), world.settings(), None);
        Self {
            ghost: Ghost::new(world, machine.record().primary),
            machine,
            now,
            trail: None,
            length: 0,
        }
    }

    /// The next state, judged.
    fn after(&self, world: &World, act: Act, found: &mut Found) -> Result<Self, String> {
        let mut next = self.clone();
        next.trail = Some(Rc::new(Trail(act, next.trail.take())));
        next.length += 1;
        next.now += if act == Act::Wait { UNIT } else { 1 };
        let now = MonoTime::from_micros(next.now);
        let mut effects = Vec::new();
        next.account(world, act);
        match act.event(&next.machine, now) {
            Some(event) => {
                let shown = next.ghost.shown;
                let observed = shown.map_or(Observed::Unknown, |p| Observed::At(Position(p)));
                next.machine.step(now, event, observed, &mut effects);
            }
            None if act == Act::Crash => {
                next.machine = Machine::new(now, world.settings(), Some(&self.machine.record()));
            }
            None => {}
        }
        next.judge(world, self, act, &effects, found)
            .map_err(|why| format!("{}: {why}\n{:?}\n{:?}", world.name, next.acts(), next.machine))?;
        Ok(next)
    }

    fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut trail = self.trail.as_ref();
        while let Some(step) = trail {
            acts.push(step.0);
            trail = step.1.as_ref();
        }
        acts.reverse();
        acts
    }
}

#[allow(clippy::disallowed_methods, reason = "a test has no World to ask")]
fn walk(world: World) -> Found {
    switch_off_as_told();
    let deeper = std::env::var("TIDEGATE_TEST_WALK_DEEPER").map_or(0, |n| n.parse().expect("a number"));
    let depth = world.depth + deeper;
    let mut found = Found::default();
    let first = State::new(&world);
    let mut seen: HashSet<Vec<u8>> = HashSet::from([Key::of(&first)]);
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        found.states += 1;
        for act in world.acts(&state.machine) {
            match state.after(&world, act, &mut found) {
                // Those at the end are judged and not entered.
                Ok(next) if next.length < depth => {
                    if seen.insert(Key::of(&next)) {
                        queue.push_back(next);
                    }
                }
                Ok(_) => {}
                Err(why) => panic!("{why}"),
            }
        }
    }
    println!("{}: {found:?}", world.name);
    found
}

const MIRRORED: World = World {
    name: "mirrored",
    nodes: 2,
    sharing: Sharing::Mirrored {
        promotion: Promotion::Automatic,
        initially_all: true,
    },
    spread: Spread::One,
    fences: true,
    promotes: true,
    unclean: false,
    failback: false,
    cold: false,
    threshold: 1,
    discovered: false,
    rival: false,
    words: true,
    depth: 7,
};
const POSITIONS: World = World {
    name: "primary by position",
    sharing: Sharing::Primary {
        promotion: Promotion::Automatic,
        positions: true,
        roles: false,
    },
    depth: 5,
    ..MIRRORED
};
const ROLES: World = World {
    name: "primary by position, with roles",
    sharing: Sharing::Primary {
        promotion: Promotion::Automatic,
        positions: true,
        roles: true,
    },
    fences: false,
    depth: 4,
    ..MIRRORED
};
const FOLLOW: World = World {
    name: "follow",
    sharing: Sharing::Primary {
        promotion: Promotion::Follow,
        positions: false,
        roles: true,
    },
    fences: false,
    promotes: false,
    depth: 6,
    ..MIRRORED
};
const STORE: World = World {
    name: "shared",
    sharing: Sharing::Store,
    fences: false,
    promotes: false,
    depth: 7,
    ..MIRRORED
};

#[test]
fn r29_r33_r37_r53_a_mirrored_upstream_promotes_only_whom_it_fenced_for_and_who_is_in_sync() {
    let found = walk(MIRRORED);
    let enough = found.promotions > 10 && found.orders > 10 && found.refusals > 10;
    assert!(enough, "{found:?}");
    walk(World {
        name: "mirrored without hooks",
        fences: false,
        promotes: false,
        depth: 6,
        ..MIRRORED
    });
    let alone = Sharing::Mirrored {
        promotion: Promotion::Automatic,
        initially_all: false,
    };
    let found = walk(World {
        name: "mirrored, the first one alone in the set at first",
        sharing: alone,
        depth: 6,
        ..MIRRORED
    });
    assert!(found.promotions > 10 && found.refusals > 10, "{found:?}");
}

#[test]
fn r29_r33_r37_three_mirrored_nodes_are_never_promoted_beside_each_other() {
    let three = World {
        name: "three mirrored",
        nodes: 3,
        depth: 5,
        ..MIRRORED
    };
    walk(three);
    let found = walk(World {
        name: "three mirrored without a fence",
        fences: false,
        ..three
    });
    assert!(found.replaced > 0, "{found:?}");
}

#[test]
fn r39_two_results_in_a_row_turn_a_node_over_and_nothing_else_does() {
    for world in [MIRRORED, STORE] {
        walk(World {
            name: "two in a row",
            threshold: 2,
            depth: 6,
            ..world
        });
    }
}

#[test]
fn r29_r32_r36_a_primary_with_positions_is_replaced_only_by_who_has_reached_what_was_shown() {
    let found = walk(POSITIONS);
    assert!(found.orders > 10 && found.refusals > 10, "{found:?}");
    let further = World {
        name: "by position, without words",
        words: false,
        depth: 7,
        ..POSITIONS
    };
    let found = walk(further);
    assert!(found.promotions > 10 && found.moves > 10, "{found:?}");
    walk(World {
        name: "three by position",
        nodes: 3,
        fences: false,
        depth: 4,
        ..further
    });
}

#[test]
fn r32_a_promotion_that_a_crash_cut_goes_on_only_with_who_was_chosen() {
    let found = walk(World {
        name: "by position without a fence",
        fences: false,
        words: false,
        depth: 8,
        ..POSITIONS
    });
    assert!(found.resumed > 0, "{found:?}");
}

#[test]
fn r30_r51_only_one_claimant_of_the_highest_term_is_followed() {
    let found = walk(FOLLOW);
    assert!(found.moves > 10 && found.conflicts > 10, "{found:?}");
    walk(World {
        name: "three that follow",
        nodes: 3,
        depth: 4,
        ..FOLLOW
    });
}

#[test]
fn r30_r51_r36_where_tidegate_promotes_roles_only_warn() {
    let found = walk(ROLES);
    assert!(found.conflicts > 10, "{found:?}");
    let by_hand = Sharing::Primary {
        promotion: Promotion::Manual,
        positions: false,
        roles: true,
    };
    let found = walk(World {
        name: "by hand, with roles",
        sharing: by_hand,
        depth: 6,
        ..MIRRORED
    });
    assert!(found.orders > 10 && found.conflicts > 10, "{found:?}");
}

#[test]
fn r30_where_the_operator_promotes_nobody_else_does() {
    let by_hand = Sharing::Mirrored {
        promotion: Promotion::Manual,
        initially_all: true,
    };
    let found = walk(World {
        name: "mirrored by hand",
        sharing: by_hand,
        ..MIRRORED
    });
    assert!(found.orders > 10 && found.moves > 10, "{found:?}");
}

#[test]
fn r54_nobody_is_in_office_beside_somebody_else_who_promotes() {
    for world in [MIRRORED, POSITIONS] {
        let found = walk(World {
            name: "with a rival",
            rival: true,
            depth: 5,
            ..world
        });
        assert!(found.superseded > 10, "{found:?}");
    }
}

#[test]
fn r39_r53_nodes_over_one_store_move_by_health_alone() {
    let found = walk(STORE);
    assert_eq!(found.promotions, 0);
    walk(World {
        name: "three over a store",
        nodes: 3,
        depth: 5,
        ..STORE
    });
    let all = World {
        name: "all active",
        spread: Spread::All,
        depth: 6,
        ..STORE
    };
    walk(all);
    walk(World {
        name: "multi-primary",
        sharing: Sharing::Homes,
        ..all
    });
}

#[test]
fn r53_nodes_that_come_and_go_never_have_the_traffic_in_anothers_epoch() {
    let found = walk(World {
        name: "discovered",
        discovered: true,
        failback: true,
        ..STORE
    });
    assert!(found.states > 1000, "{found:?}");
}

#[test]
fn r52_failback_waits_until_the_node_is_stable() {
    // A promotion takes more acts than a move.
    for (world, more) in [(STORE, 1), (MIRRORED, 3)] {
        let found = walk(World {
            failback: true,
            words: world.sharing == Sharing::Store,
            depth: world.depth + more,
            ..world
        });
        assert!(found.failbacks > 3, "{found:?}");
    }
}

#[test]
fn a_cold_node_is_started_when_nobody_else_is_left() {
    for world in [STORE, MIRRORED] {
        let found = walk(World {
            cold: true,
            depth: 6,
            ..world
        });
        assert!(found.starts > 3, "{found:?}");
    }
}

#[test]
fn unclean_promotes_whoever_is_alive_but_never_past_a_failed_fence() {
    let found = walk(World {
        unclean: true,
        depth: 6,
        ..MIRRORED
    });
    assert!(found.promotions > 10, "{found:?}");
}
