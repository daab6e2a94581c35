//! What people may see: their requests, what they may ask for, and what is open now. Only where they have a part.

use access_aws::Error;
use access_aws::execution;
use access_aws::table::StoredRequest;
use access_contract::{ErrorName, Status};
use access_core::{EndedAs, Person, RequestDraft, RequestId};
use futures_util::{StreamExt as _, TryStreamExt as _};
use lambda_shell::http::HttpCall;
use serde_json::Value;

use crate::answers;
use crate::handler::Handler;

/// How many requests one answer holds.
const PAGE: i32 = 20;

/// How many requests are read at the same time.
const AT_ONCE: usize = 10;

impl Handler {
    /// `GET /requests`: those in which the caller has the part that they name, or which they made, the newest first.
    pub(crate) async fn list(&self, person: &Person, call: &HttpCall) -> Result<Value, Error> {
        let word = call
            .query_parameter("part")
            .unwrap_or(EndedAs::Requester.as_str());
        let Some(part) = EndedAs::from_word(word) else {
            return Ok(answers::no_part());
        };
        let after = call.query_parameter("after");
        let is_ours = |after: &str| {
            let id = after.rsplit_once('#').map(|(_, id)| RequestId::new(id));
            matches!(id, Some(Ok(_)))
        };
        if after.is_some_and(|after| !is_ours(after)) {
            return Ok(answers::no_page());
        }
        let page = self
            .table
            .requests_of(part, &person.id, after, PAGE)
            .await?;
        let seen: Vec<_> = futures_util::stream::iter(&page.ids)
            .map(|id| self.see(person, id))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let requests = seen.into_iter().flatten().collect();
        Ok(answers::requests(requests, page.next.as_deref()))
    }

    /// `GET /requests/{id}`, a dry run of the caller's too. One in which they have no part is as one that there is not.
    pub(crate) async fn show(&self, person: &Person, call: &HttpCall) -> Result<Value, Error> {
        let Ok(id) = RequestId::new(call.path_parameter("id").unwrap_or_default()) else {
            return Ok(answers::no_request());
        };
        let seen = match self.see(person, &id).await? {
            Some(request) => Some(request),
            None => self.see_dry_run(person, &id).await?,
        };
        Ok(seen.map_or_else(answers::no_request, |request| answers::request(&request)))
    }

    /// What a dry run of `person` answered, which only its execution keeps; `None` if there is none of theirs.
    async fn see_dry_run(&self, person: &Person, id: &RequestId) -> Result<Option<Value>, Error> {
        let asked = match self.table.dry_run(id).await {
            Err(error) if error.name() == ErrorName::RequestNotFound => return Ok(None),
            asked => asked?,
        };
        if asked.requester.id != person.id {
            return Ok(None);
        }
        let arn = &asked.execution_arn;
        let (execution, answer) = execution::answer(&self.step_functions, arn).await?;
        Ok(Some(answers::dry_run(id, &execution, answer)))
    }

    /// `GET /access`: what the caller may ask for, and the windows that are open now in which they have a part.
    pub(crate) async fn access(&self, person: &Person, people: &[Person]) -> Result<Value, Error> {
        let now = (self.now)();
        let mut may_request = Vec::new();
        for entry in self.catalogue.everything().await? {
            let roles = entry.roles.iter().filter(|policy| {
                let (target, place) = (&entry.target, &entry.place);
                RequestDraft::may_ask_for(target, place, policy, person, people, now)
            });
            may_request.extend(roles.map(|policy| answers::role(&entry.target, policy)));
        }
        let ids = self.table.open_windows().await?;
        let found: Vec<_> = futures_util::stream::iter(ids)
            .map(async |id| match id {
                Ok(id) => self.stored(&id).await,
                Err(error) => Err(error),
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let mut open = Vec::new();
        for stored in found {
            // A row that cannot be read hides no other; reconcile sees to it that somebody hears of it.
            let stored = match stored {
                Ok(Some(stored)) => stored,
                Ok(None) => continue, // opened by hand
                Err(error @ Error::DamagedRow { .. }) => {
                    tracing::error!("window not listed: {error}");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_open = stored.status == Status::Open
                && stored.ending.is_none()
                && stored.window.is_some_and(|window| window.covers(now));
            if is_open && let Some(part) = stored.request.may_end(&person.id) {
                open.push(answers::seen(&stored, part));
            }
        }
        Ok(answers::access(may_request, open))
    }

    /// The request as `person` sees it; `None` if they have no part in it, or if there is none.
    async fn see(&self, person: &Person, id: &RequestId) -> Result<Option<Value>, Error> {
        let stored = self.stored(id).await?;
        Ok(stored.and_then(|stored| {
            let part = stored.request.may_end(&person.id)?;
            Some(answers::seen(&stored, part))
        }))
    }

    async fn stored(&self, id: &RequestId) -> Result<Option<StoredRequest>, Error> {
        match self.table.request(id).await {
            Err(error) if error.name() == ErrorName::RequestNotFound => Ok(None),
            stored => stored.map(Some),
        }
    }
}
