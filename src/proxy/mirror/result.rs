//! A write that only the primary runs, and whose result is copied (`replicate_result`, R40): between the primary's answer and the copies the
//! result is fetched from it, in the turn of the write, and what it has created in a turn of that resource too.
//!
//! Two turns are held at once, so two such writes could wait for each other for ever. Nobody waits for ever, and who waits for a resource
//! that comes before its own waits less long: one of the two gives up, and its outcome is unknown.

use super::ask::{How, copied, plain};
use super::line::Place;
use super::write::Copying;
use crate::config::runtime::Action;
use crate::coord::journal::{Intent, IntentId};
use crate::core::failover::mirror::compare::Shown;
use crate::core::failover::mirror::result::{self, Made};
use crate::core::failover::mirror::target::Target;
use crate::core::failover::mirror::turns::Turn;
use crate::core::http::invalidate::{self, ClientUrl, RequestUrl};
use crate::proxy::Core;
use crate::proxy::request::{Job, Seen, host_name};
use crate::proxy::routes::{self, Question};
use crate::store::ResourceId;
use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::response;
use http::{HeaderMap, Method};

/// A resource that a write has created.
pub(super) struct Created {
    pub(super) target: Target,
    pub(super) resource: ResourceId,
    pub(super) intent: IntentId,
    /// Its turn; none while it waits, and where the write's own turn is of the same resource.
    pub(super) _place: Option<Place>,
}

impl Copying {
    /// The primary has applied it and answered like this: makes the copies what it has made of it. Whether they could be.
    pub(super) async fn take_result(&mut self, core: &Core, job: &Job, answer: &response::Parts) -> bool {
        let outside = Seen::of(&job.connection, &job.parts.headers).host;
        let hosts: Vec<&str> = std::iter::once(&*job.authority).chain(outside).collect();
        let request = RequestUrl {
            https: job.https,
            host: &job.authority,
            path: job.path(),
            query: job.target.query(),
        };
        match result::of(answer.status, &answer.headers, request, &hosts) {
            Made::Target => {}
            Made::Elsewhere => return false,
            Made::Created(url) => {
                let target = self.target_of_url(core, job, &url);
                if !self.enter_created(target).await {
                    return false;
                }
            }
        }
        let target = self.copied().clone();
        let mut fields = HeaderMap::new();
        for name in [HOST, AUTHORIZATION, COOKIE] {
            if let Some(value) = self.head.headers.get(&name) {
                fields.insert(name, value.clone());
            }
        }
        fields.extend(self.mirror.fields_of(&target));
        let Some(head) = plain(&target, fields, How::Stored) else {
            return false;
        };
        // Even where nobody is there to copy it to: whoever returns has to be given it.
        let (shown, answered) = self.mirror.show(&core.pool, self.primary, head.clone()).await;
        if shown == Shown::Gone && !invalidate::names_delete(&job.parts.headers) {
            return false; // R40: whatever the write has made is somewhere else
        }
        let Some((head, body)) = copied(&head, &shown, answered.as_ref()) else {
            return false;
        };
        (self.head, self.body) = (head, body);
        true
    }

    /// What a URL that a node has named is called towards the nodes.
    fn target_of_url(&self, core: &Core, job: &Job, url: &ClientUrl) -> Target {
        let fields = HeaderMap::new();
        let question = Question {
            host: &host_name(&job.authority),
            path: &url.path,
            method: &Method::GET,
            headers: &fields,
            https: job.https,
        };
        let route = routes::find(&core.shared, &question);
        let sent = route.and_then(|route| match &route.action {
            Action::Proxy { upstream, rewrite, .. } if upstream.id == job.resource.upstream => {
                let path = routes::sent_path(&route.matches, rewrite.as_ref(), &url.path);
                let sets = !route.set_request_headers.is_empty();
                Some((path.into_owned(), sets.then(|| route.name.clone())))
            }
            _ => None,
        });
        // No route of this upstream: it is the node's own word for it.
        let (path, route) = sent.unwrap_or_else(|| (url.path.clone(), self.target.route.clone()));
        Target {
            uri: match &url.query {
                Some(query) => format!("{path}?{query}"),
                None => path,
            },
            host: self.target.host.clone(),
            route,
        }
    }

    /// What was created is noted durably, and gets a turn.
    async fn enter_created(&mut self, target: Target) -> bool {
        let mirror = &self.mirror;
        let resource = mirror.resource_of(&target);
        let intent = Intent {
            upstream: mirror.config.name.clone(),
            target: target.clone(),
        };
        let noted = mirror.journal.intend(intent).await;
        let durable = noted.is_ok();
        let other = resource != self.place.resource;
        let limit = if resource > self.place.resource {
            mirror.hold()
        } else {
            mirror.config.mirror.timeout
        };
        let place = other.then(|| mirror.lines.enter(resource, Turn::Alone));
        let up = match &place {
            Some(place) if durable => tokio::time::timeout(limit, place.up()).await.is_ok(),
            _ => durable,
        };
        self.created = Some(Created {
            target,
            resource,
            // That of the write itself speaks for it while nothing can be noted: it stays open, as nothing is copied.
            intent: noted.unwrap_or(self.intent),
            _place: place,
        });
        up
    }
}
