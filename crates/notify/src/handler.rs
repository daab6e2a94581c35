//! One message for each person and event, at least once and as a rule not twice.

use access_aws::catalogue::Catalogue;
use access_aws::message::Topic;
use access_aws::seal::SealingKey;
use access_aws::table::{StoredRequest, Table};
use access_contract::payload::{Answer, Event, Notify, Outcome};
use access_contract::{ErrorName, Link, Status};
use access_core::request::PersonRef;
use access_core::subscription::{self, Reach};
use access_core::{PersonId, RequestId, handover};
use access_text::{Announcement, Message, PersonView, RequestView, Texts};
use chrono::{DateTime, Duration, Utc};
use lambda_shell::{Failure, Invocation, Unit};
use serde_json::Value;

/// How long after the deadline a link still shows how it ended. It decides nothing any more then.
const LINK_SHOWS_AFTER_DEADLINE: Duration = Duration::days(7);

/// The word under which asking is remembered; announcements have the words of [`Event`].
const ASKED: &str = "asked";

pub(crate) struct Handler {
    pub(crate) table: Table,
    pub(crate) topic: Topic,
    pub(crate) catalogue: Catalogue,
    pub(crate) deployment: String,
    pub(crate) region: String,
    pub(crate) link_key: SealingKey,
    pub(crate) callback_url: String,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let outcome = match lambda_shell::read(invocation.payload)? {
            Notify::Ask(step) => self.ask(&step.request_id).await?,
            Notify::Announce {
                request_id, event, ..
            } => self.announce(&request_id, event).await?,
        };
        lambda_shell::write(&Answer::from(outcome))
    }

    /// Asks every approver whom the topic reaches, if they are enough and nobody else could see their links.
    async fn ask(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let stored = self.table.request(id).await.map_err(aws)?;
        match stored.status {
            Status::Pending => {}
            Status::Refused => {
                return Ok(Outcome::Refused {
                    faults: stored.refusal,
                });
            }
            // A late try: those who were asked have decided already.
            _ => return Ok(Outcome::Asked { n_asked: 0 }),
        }
        let approvers = &stored.request.approvers;
        let reach = self.reach().await?;
        let unreachable = reach.unreachable(approvers);
        self.report(&reach, &unreachable);
        let faults = reach.faults(approvers, stored.request.required_approvals);
        if !faults.is_empty() {
            self.table.record_refusal(id, &faults).await.map_err(aws)?;
            tracing::info!(request_id = %id, n_faults = faults.len(), "request refused");
            return Ok(Outcome::Refused { faults });
        }
        let view = self.view(&stored).await?;
        let mut unsent = Unsent::default();
        let mut n_asked = 0;
        for approver in approvers.iter().filter(|it| !unreachable.contains(it)) {
            let sent = async {
                if self.table.was_sent(id, ASKED, &approver.id).await? {
                    return Ok(());
                }
                let link = self.link(&stored, &approver.id).await?;
                let texts = Texts::of(approver.language);
                let message =
                    access_text::ask(texts, &view, &person(approver), &link, (self.now)());
                self.send(id, ASKED, &approver.id, &message).await
            };
            unsent.note(&approver.id, sent.await);
            n_asked += 1;
        }
        unsent.check()?;
        Ok(Outcome::Asked { n_asked })
    }

    /// Whom the topic reaches, as SNS and the catalogue say now.
    async fn reach(&self) -> Result<Reach, Failure> {
        let subscriptions = self.topic.subscriptions().await.map_err(aws)?;
        let named = subscription::people_named(&subscriptions);
        let mailboxes = self.catalogue.mailboxes(&named).await.map_err(aws)?;
        Ok(subscription::judge(&subscriptions, &mailboxes))
    }

    /// An alarm tells the operators, and the log whom to look after.
    fn report(&self, reach: &Reach, unreachable: &[&PersonRef]) {
        for distrusted in &reach.distrusted {
            tracing::error!("no link is sent: {}", distrusted.remedy());
        }
        for approver in unreachable {
            tracing::error!(approver = %approver.id, "no subscription of the topic is this approver's");
        }
        if reach.distrusted.is_empty() && unreachable.is_empty() {
            return;
        }
        let now = (self.now)();
        lambda_shell::metrics(
            &self.deployment,
            &[
                (
                    "DistrustedSubscriptions",
                    Unit::Count,
                    reach.distrusted.len() as f64,
                ),
                (
                    "UnreachableApprovers",
                    Unit::Count,
                    unreachable.len() as f64,
                ),
            ],
            now.timestamp_millis(),
        );
    }

    async fn announce(&self, id: &RequestId, event: Event) -> Result<Outcome, Failure> {
        let stored = self.table.request(id).await.map_err(aws)?;
        let view = self.view(&stored).await?;
        let announcement = announcement(&stored, event)?;
        // Only they can read the password, so only they are told how.
        let to_requester = (event == Event::Opened && !stored.request.credential.is_existing())
            .then(|| Announcement::OpenedWithPassword {
                read_it: handover::read_command(&self.deployment, &self.region, id),
            });
        let mut unsent = Unsent::default();
        for to in std::iter::once(&stored.request.requester).chain(&stored.request.approvers) {
            let sent = async {
                let known = self.table.was_sent(id, event.as_str(), &to.id).await?
                    || self.is_spared(&stored, event, &to.id).await?;
                if known {
                    return Ok(());
                }
                let announcement = match &to_requester {
                    Some(to_requester) if to.id == stored.request.requester.id => to_requester,
                    _ => &announcement,
                };
                let texts = Texts::of(to.language);
                let message = access_text::announce(texts, &view, announcement, (self.now)());
                self.send(id, event.as_str(), &to.id, &message).await
            };
            unsent.note(&to.id, sent.await);
        }
        unsent.check()?;
        Ok(Outcome::Announced)
    }

    /// Approvers who were never asked need not hear that it was refused before that.
    async fn is_spared(
        &self,
        stored: &StoredRequest,
        event: Event,
        to: &PersonId,
    ) -> Result<bool, access_aws::Error> {
        let request = &stored.request;
        if event != Event::Refused || *to == request.requester.id {
            return Ok(false);
        }
        let was_asked = self.table.was_sent(&request.request_id, ASKED, to).await?;
        Ok(!was_asked)
    }

    async fn view(&self, stored: &StoredRequest) -> Result<RequestView, Failure> {
        let sealed = self
            .table
            .votes(&stored.request.request_id)
            .await
            .map_err(aws)?;
        let votes: Vec<_> = sealed.into_iter().map(|sealed| sealed.vote).collect();
        let mut view = RequestView::of(&stored.request, stored.window, &votes);
        view.findings.clone_from(&stored.findings);
        Ok(view.ended_by(stored.ending.as_ref()))
    }

    async fn link(
        &self,
        stored: &StoredRequest,
        approver: &PersonId,
    ) -> Result<String, access_aws::Error> {
        let link = Link {
            request_id: stored.request.request_id.clone(),
            approver: approver.clone(),
            expires_at: stored.request.decide_by + LINK_SHOWS_AFTER_DEADLINE,
            digest: stored.digest.clone(),
            key_id: self.link_key.key_id().to_owned(),
        };
        let mac = self.link_key.seal(&link.sealed_text()).await?;
        Ok(format!(
            "{}/decide/{}",
            self.callback_url.trim_end_matches('/'),
            link.to_segment(&mac)
        ))
    }

    async fn send(
        &self,
        id: &RequestId,
        event: &str,
        to: &PersonId,
        message: &Message,
    ) -> Result<(), access_aws::Error> {
        self.topic.send(to, &message.subject, &message.body).await?;
        self.table.record_sent(id, event, to, (self.now)()).await
    }
}

/// The people who could not be told; the others are told all the same.
#[derive(Default)]
struct Unsent(Vec<(PersonId, access_aws::Error)>);

impl Unsent {
    fn note(&mut self, to: &PersonId, sent: Result<(), access_aws::Error>) {
        if let Err(error) = sent {
            tracing::error!(recipient = %to, "message not sent: {error}");
            self.0.push((to.clone(), error));
        }
    }

    fn check(self) -> Result<(), Failure> {
        let people: Vec<_> = self.0.iter().map(|(to, _)| to.as_str()).collect();
        match self.0.first() {
            None => Ok(()),
            Some((_, error)) => Err(Failure::new(
                ErrorName::MessageNotSent,
                format!(
                    "no message reached {}; first cause: {error}",
                    people.join(", ")
                ),
            )),
        }
    }
}

fn announcement(stored: &StoredRequest, event: Event) -> Result<Announcement, Failure> {
    let closing = || {
        stored.closing.as_ref().ok_or_else(|| {
            let id = &stored.request.request_id;
            Failure::new(
                ErrorName::RequestConflict,
                format!("request {id} is not closed; nothing to announce"),
            )
        })
    };
    Ok(match event {
        Event::Opened => Announcement::Opened,
        Event::Closed => {
            let closing = closing()?;
            Announcement::Closed {
                at: closing.at,
                left_behind: closing.left_behind.clone(),
            }
        }
        Event::EndedRoleStillOpen => {
            let closing = closing()?;
            Announcement::EndedRoleStillOpen {
                open_until: closing.open_until.unwrap_or(closing.at),
                left_behind: closing.left_behind.clone(),
            }
        }
        Event::Rejected => Announcement::Rejected,
        Event::Expired => Announcement::Expired,
        Event::Refused => Announcement::Refused {
            reasons: stored
                .refusal
                .iter()
                .map(|fault| fault.message.clone())
                .collect(),
        },
        Event::Cancelled => Announcement::Cancelled,
        Event::Failed => Announcement::Failed,
        Event::CloseFailing => Announcement::CloseFailing,
    })
}

fn person(person: &PersonRef) -> PersonView {
    PersonView {
        id: person.id.to_string(),
        name: person.name.clone(),
    }
}

fn aws(error: access_aws::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}
