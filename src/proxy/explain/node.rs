//! Which node answers, as things are, where not every node may: the primary, a resource's home, or nobody now.

use super::super::plan::Toward;
use crate::core::failover::view::NoPrimary;
use crate::upstream::{Upstreams, Who};

/// Said of a write, or of a read that only the primary may answer; none where every node in service may. `live`: this process serves, so
/// that there is a state to tell of.
pub(super) fn who_answers(
    upstreams: &Upstreams,
    toward: &Toward<'_>,
    query: Option<&str>,
    live: bool,
) -> Option<String> {
    match upstreams.who(toward.resource.upstream, &toward.sent, query) {
        Who::Home { node, answers } => Some(home(&node, answers.as_deref(), live)),
        Who::Primary(node) if live => Some(format!("the primary answers it, now {node} (R29)")),
        Who::Nobody { why, hold } if live => Some(nobody(why, hold.map(|hold| hold.as_millis()))),
        Who::Any | Who::Primary(_) | Who::Nobody { .. } => None,
    }
}

fn home(node: &str, answers: Option<&str>, live: bool) -> String {
    let lives = format!("the resource lives at {node}, whatever the nodes' state");
    match answers {
        _ if !live => lives,
        Some(answers) if answers == node => lives,
        Some(stands_in) => format!("{lives}; that is out of service, and {stands_in} stands in for it (unclean)"),
        None => {
            format!("{lives}; that is out of service: 503 no-primary, or 503 not-applied to a write, until it is back")
        }
    }
}

fn nobody(why: Option<NoPrimary>, hold_ms: Option<u128>) -> String {
    let then = "503 no-primary, or 503 not-applied to a write";
    match (why, hold_ms) {
        (Some(why), _) => format!("{}: {then}", why.why()),
        (None, Some(ms)) => {
            format!("nobody is the primary now, and one may come: held up to {ms} ms (hold), then {then} (R29)")
        }
        (None, None) => format!("nobody is the primary now: {then}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_homes_and_of_nobody() {
        let told = [
            home("a", Some("a"), true),
            home("a", None, false),
            home("a", Some("b"), true),
            home("a", None, true),
            nobody(Some(NoPrimary::Conflict), None),
            nobody(None, Some(5000)),
            nobody(None, None),
        ];
        let lives = "the resource lives at a, whatever the nodes' state";
        let then = "503 no-primary, or 503 not-applied to a write";
        let expected = [
            lives.to_owned(),
            lives.to_owned(),
            format!("{lives}; that is out of service, and b stands in for it (unclean)"),
            format!("{lives}; that is out of service: {then}, until it is back"),
            format!("nobody is the primary: two nodes claim to be it: {then}"),
            format!("nobody is the primary now, and one may come: held up to 5000 ms (hold), then {then} (R29)"),
            format!("nobody is the primary now: {then}"),
        ];
        assert_eq!(told, expected);
    }
}
