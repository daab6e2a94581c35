//! What people may see: their requests, what they may ask for, and what is open now. Only where they have a part.

use access_aws::Error;
use access_aws::table::StoredRequest;
use access_contract::{ErrorName, Status};
use access_core::{EndedAs, Person, RequestDraft, RequestId};
use lambda_shell::http::HttpCall;
use serde_json::Value;

use crate::answers;
use crate::handler::Handler;

/// How many requests one answer holds.
const PAGE: i32 = 20;

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
        let mut requests = Vec::new();
        for id in &page.ids {
            requests.extend(self.see(person, id).await?);
        }
        Ok(answers::requests(requests, page.next.as_deref()))
    }

    /// `GET /requests/{id}`. One in which the caller has no part is as one that there is not.
    pub(crate) async fn show(&self, person: &Person, call: &HttpCall) -> Result<Value, Error> {
        let Ok(id) = RequestId::new(call.path_parameter("id").unwrap_or_default()) else {
            return Ok(answers::no_request());
        };
        let seen = self.see(person, &id).await?;
        Ok(seen.map_or_else(answers::no_request, |request| answers::request(&request)))
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
        let mut open = Vec::new();
        for id in self.table.open_windows().await? {
            // A row that cannot be read hides no other; reconcile sees to it that somebody hears of it.
            let stored = match id {
                Ok(id) => self.stored(&id).await,
                Err(error) => Err(error),
            };
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
