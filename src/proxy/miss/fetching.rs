//! A fetch of a reader's own, carried out where the reader waits for it.

use super::{TooLate, in_time};
use crate::core::rules::Rule;
use crate::proxy::Core;
use crate::proxy::error::Fault;
use crate::proxy::flights::Landed;
use crate::proxy::lead::{self, Led};
use crate::proxy::miss::Looked;
use crate::proxy::request::Job;
use crate::proxy::underway::{self, UnderWay};
use crate::store::Token;
use crate::world::BoxFuture;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A fetch under way. Small: it is awaited where much else is.
pub(super) enum Fetching<'a> {
    /// Which ends in time by itself.
    Ends(UnderWay<'a, Led>),
    Timed(BoxFuture<'a, Result<Option<Led>, TooLate>>),
}

impl Future for Fetching<'_> {
    type Output = Result<Led, TooLate>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let led = match &mut *self {
            Self::Ends(under_way) => Ok(ready!(Pin::new(under_way).poll(cx))),
            Self::Timed(led) => ready!(led.as_mut().poll(cx)),
        };
        Poll::Ready(led.map(|led| led.unwrap_or(Led::Landed(Landed::Failed(Fault::internal()), None))))
    }
}

/// Begins to fetch; what was begun is carried on when the reader leaves (R21).
pub(super) fn fetch<'a>(
    core: &'a Arc<Core>,
    job: &'a Arc<Job>,
    role: lead::Role,
    token: Token,
    seen: Option<Looked>,
) -> Fetching<'a> {
    let (tell, told) = underway::word();
    // A call has the reader's deadline, unless it is given more; a timer of the reader's own is for what may take longer.
    let ends_in_time = !matches!(role, lead::Role::Leader(_, Some(_)))
        && job.left(core.begins(job)) >= std::time::Duration::from(lead::MIN_REFRESH)
        && core.shared.mirror_of(job.resource.upstream).is_none();
    let work = Box::pin(lead::run(Arc::clone(core), Arc::clone(job), role, token, tell, seen));
    let detached = Rule::R21.holds().then_some(&core.shared.detached);
    let under_way = UnderWay::new(detached, work, told);
    match ends_in_time {
        true => Fetching::Ends(under_way),
        false => Fetching::Timed(Box::pin(in_time(core, job, under_way))),
    }
}
