//! Fence, promote and start hooks: an argv without a shell, with `{node}` and `{epoch}` filled in, and a time limit. What they say goes
//! to the log.

use crate::config::runtime::{Standby, Upstream};
use crate::core::failover::event::{Effect, Event};
use crate::world::{Command, Exit, Process, Ran};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinSet};

/// The most lines of a hook's output that are logged.
const MAX_LINES: usize = 50;

/// One hook to run, and what its end means.
pub(super) struct Hook {
    name: &'static str,
    upstream: String,
    node: String,
    argv: Vec<String>,
    time_limit: Duration,
    effect: Effect,
}

/// The hooks that run.
#[derive(Default)]
pub(super) struct Hooks {
    tasks: JoinSet<Option<Event>>,
    /// Of each one its upstream, and what it means if it ends without a word.
    lost: HashMap<Id, (usize, Option<Event>)>,
}

impl Hooks {
    /// Begins one.
    pub(super) fn run(&mut self, upstream: usize, hook: Hook, process: Arc<dyn Process>) {
        let lost = ended(hook.effect, false);
        let id = self.tasks.spawn(hook.run(process)).id();
        self.lost.insert(id, (upstream, lost));
    }

    /// Waits for the end of one: its upstream, and what it means. None when none runs. Dropped before, nothing is lost.
    pub(super) async fn ended(&mut self) -> Option<(usize, Option<Event>)> {
        let (id, event) = match self.tasks.join_next_with_id().await? {
            Ok((id, event)) => (id, Some(event)),
            Err(error) => {
                tracing::error!(%error, "a hook has ended without a word: it counts as failed");
                (error.id(), None)
            }
        };
        let (upstream, lost) = self.lost.remove(&id)?;
        Some((upstream, event.unwrap_or(lost)))
    }
}

impl Hook {
    /// The hook an effect asks for; none when it asks for none.
    pub(super) fn of(upstream: &Upstream, effect: Effect) -> Option<Self> {
        let failover = &upstream.failover;
        let (name, node, epoch, argv, time_limit) = match effect {
            Effect::Fence { node, epoch } => ("fence", node, Some(epoch), &failover.fence, failover.hook_timeout),
            Effect::Promote { node, epoch } => (
                "on_promote",
                node,
                Some(epoch),
                &failover.on_promote,
                failover.hook_timeout,
            ),
            Effect::Start { node, .. } => match upstream.nodes.get(node).and_then(|n| n.standby.as_ref()) {
                Some(Standby::Cold { start, start_timeout }) => ("start", node, None, start, *start_timeout),
                Some(Standby::Hot | Standby::Warm) | None => return None,
            },
            Effect::State { .. }
            | Effect::CloseAll { .. }
            | Effect::CloseIdle { .. }
            | Effect::Failover { .. }
            | Effect::ProbeNow { .. }
            | Effect::Alarm(_)
            | Effect::WakeAt(_) => return None,
        };
        let node_name = upstream.nodes.get(node)?.name.clone();
        let epoch = epoch.map_or_else(String::new, |epoch| epoch.0.to_string());
        Some(Self {
            name,
            upstream: upstream.name.clone(),
            argv: argv.iter().map(|word| filled(word, &node_name, &epoch)).collect(),
            node: node_name,
            time_limit,
            effect,
        })
    }

    /// Runs it to its end; one that is not configured succeeds at once.
    pub(super) async fn run(self, process: Arc<dyn Process>) -> Option<Event> {
        if self.argv.is_empty() {
            return ended(self.effect, true);
        }
        let (upstream, node, hook) = (self.upstream.as_str(), self.node.as_str(), self.name);
        tracing::info!(upstream, node, hook, argv = ?self.argv, "the hook runs");
        let command = Command {
            argv: self.argv,
            time_limit: self.time_limit,
        };
        let ran = process.run(command).await;
        if let Ok(ran) = &ran {
            for line in words(ran) {
                tracing::info!(upstream, node, hook, line, "the hook says");
            }
            if ran.truncated {
                tracing::warn!(upstream, node, hook, "the hook said more than is kept");
            }
        }
        let ok = succeeded(&ran);
        match ran {
            Ok(_) if ok => tracing::info!(upstream, node, hook, "the hook has succeeded"),
            Ok(Ran { exit, .. }) => tracing::error!(upstream, node, hook, ?exit, "the hook has failed"),
            Err(error) => tracing::error!(upstream, node, hook, %error, "the hook cannot be run"),
        }
        ended(self.effect, ok)
    }
}

fn filled(word: &str, node: &str, epoch: &str) -> String {
    // Once, from left to right: a node's name is not looked through again.
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        text += before;
        rest = if let Some(after) = from.strip_prefix("{node}") {
            text += node;
            after
        } else if let Some(after) = from.strip_prefix("{epoch}") {
            text += epoch;
            after
        } else {
            text.push('{');
            from.strip_prefix('{').unwrap_or("")
        };
    }
    text + rest
}

fn ended(effect: Effect, ok: bool) -> Option<Event> {
    match effect {
        Effect::Fence { node, epoch } => Some(Event::Fenced { node, epoch, ok }),
        Effect::Promote { node, epoch } => Some(Event::Promoted { node, epoch, ok }),
        Effect::Start { node, until } => Some(Event::Started { node, until, ok }),
        Effect::State { .. }
        | Effect::CloseAll { .. }
        | Effect::CloseIdle { .. }
        | Effect::Failover { .. }
        | Effect::ProbeNow { .. }
        | Effect::Alarm(_)
        | Effect::WakeAt(_) => None,
    }
}

const fn succeeded(ran: &io::Result<Ran>) -> bool {
    matches!(
        ran,
        Ok(Ran {
            exit: Exit::Code(0),
            ..
        })
    )
}

fn words(ran: &Ran) -> Vec<String> {
    let text = String::from_utf8_lossy(&ran.output);
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.take(MAX_LINES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn node_and_epoch_are_filled_in_once_and_nothing_else_is() {
        for (word, expected) in [
            ("--node={node}", "--node=a{epoch}"),
            ("{epoch}/{node}", "7/a{epoch}"),
            ("{nodes} {} { {{node}", "{nodes} {} { {a{epoch}"),
            ("plain", "plain"),
        ] {
            assert_eq!(filled(word, "a{epoch}", "7"), expected, "{word}");
        }
    }
}
