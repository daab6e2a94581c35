//! One message for each person and event, at least once and as a rule not twice.

use std::collections::BTreeSet;

use access_aws::catalogue::Catalogue;
use access_aws::message::{ChatTopic, Topic};
use access_aws::schedule::{Notice, NoticeSchedules};
use access_aws::seal::SealingKey;
use access_aws::table::{StoredRequest, Table};
use access_contract::payload::{Answer, Event, Notify, Outcome};
use access_contract::record::Event as Record;
use access_contract::{ErrorName, Link, Purpose, Status};
use access_core::grant::assume_role;
use access_core::request::PersonRef;
use access_core::subscription::{self, Reach};
use access_core::{Language, PersonId, Request, RequestId, handover, notice};
use access_text::{Announcement, ChatNote, Message, PersonView, RequestView, Texts};
use chrono::{DateTime, Duration, Utc};
use lambda_shell::{Failure, Invocation, Unit};
use serde_json::Value;

/// How long after the deadline, and after the last possible end of the window, a link still shows how it ended. By then
/// there is nothing left to decide or to end.
const LINK_SHOWS_AFTERWARDS: Duration = Duration::days(7);

/// The words under which messages are remembered; announcements have those of [`Event`].
const ASKED: &str = "asked";
const ACCEPTED: &str = "accepted";
const REMINDED: &str = "reminded";
const WARNED: &str = "warned";
const REVIEWED: &str = "reviewed";

/// How long looking at the subscriptions may take where only a link depends on it.
const REACH_LIMIT: std::time::Duration = std::time::Duration::from_secs(4);

/// How long telling the chat channels may take: nothing waits for it.
const CHAT_LIMIT: std::time::Duration = std::time::Duration::from_secs(4);

/// How long a schedule may take to be made: nothing waits for a reminder.
const SCHEDULING_LIMIT: std::time::Duration = std::time::Duration::from_secs(4);

pub(crate) struct Handler {
    pub(crate) table: Table,
    pub(crate) topic: Topic,
    pub(crate) chat: ChatTopic,
    pub(crate) chat_language: Language,
    pub(crate) notices: NoticeSchedules,
    pub(crate) catalogue: Catalogue,
    pub(crate) deployment: String,
    pub(crate) region: String,
    pub(crate) link_key: SealingKey,
    pub(crate) callback_url: String,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let called_as = invocation.function_arn.as_str();
        let outcome = match lambda_shell::read(invocation.payload)? {
            Notify::Ask(step) => self.ask(&step.request_id, called_as).await?,
            Notify::Remind(step) => self.remind(&step.request_id).await?,
            Notify::Warn(step) => self.warn(&step.request_id).await?,
            Notify::Reviewed(step) => self.reviewed(&step.request_id).await?,
            Notify::DryRun(step) => self.dry_run(&step.request_id).await?,
            Notify::Announce {
                request_id, event, ..
            } => self.announce(&request_id, event, called_as).await?,
        };
        lambda_shell::write(&Answer::from(outcome))
    }

    /// Asks every approver whom the topic reaches, if they are enough and nobody else could see their links.
    async fn ask(&self, id: &RequestId, called_as: &str) -> Result<Outcome, Failure> {
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
        let refusals = reach.refusals(approvers, stored.request.required_approvals);
        if !refusals.is_empty() {
            let faults = access_text::faults(refusals);
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
                let link = self.link(&stored, &approver.id, Purpose::Decide).await?;
                let texts = Texts::of(approver.language);
                let message =
                    access_text::ask(texts, &view, &person(approver), &link, (self.now)());
                self.send(id, ASKED, &approver.id, &message).await
            };
            unsent.note(ASKED, &approver.id, sent.await);
            n_asked += 1;
        }
        for to in stored.request.who_only_end_it() {
            let sent = async {
                if self.table.was_sent(id, ACCEPTED, &to.id).await? {
                    return Ok(());
                }
                let link = self.link(&stored, &to.id, Purpose::End).await?;
                let message = access_text::announce_with_link(
                    Texts::of(to.language),
                    &view,
                    &Announcement::Accepted,
                    &link,
                    (self.now)(),
                );
                self.send(id, ACCEPTED, &to.id, &message).await
            };
            unsent.note(ACCEPTED, &to.id, sent.await);
        }
        let texts = Texts::of(self.chat_language);
        let command = self.decide_command(id);
        let note = access_text::chat_about_request(texts, &view, &command, (self.now)());
        self.tell_chat(&stored, ASKED, &note).await;
        if let Some(at) = notice::reminder_at((self.now)(), stored.request.decide_by) {
            self.set(id, Notice::Reminder, at, called_as).await;
        }
        self.check(id, unsent).await?;
        Ok(Outcome::Asked { n_asked })
    }

    /// Why nobody could be asked about a dry run. Nobody is told of it, and no alarm goes off: that is for a request.
    async fn dry_run(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let request = self.table.dry_run(id).await.map_err(aws)?;
        // Nobody is asked for a window without approval.
        let refusals = match request.break_glass {
            Some(_) => Vec::new(),
            None => {
                let reach = self.reach().await?;
                reach.refusals(&request.approvers, request.required_approvals)
            }
        };
        tracing::info!(dry_run = %id, n_faults = refusals.len(), "subscriptions looked at");
        Ok(Outcome::SubscriptionsChecked {
            faults: access_text::faults(refusals),
        })
    }

    /// Asks those once more who were asked and have not decided. Woken late, when it is decided, it sends nothing.
    async fn remind(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let stored = self.table.request(id).await.map_err(aws)?;
        let now = (self.now)();
        if stored.status != Status::Pending || now >= stored.request.decide_by {
            return Ok(Outcome::Asked { n_asked: 0 });
        }
        let approvers = &stored.request.approvers;
        let reach = self.reach().await?;
        let unreachable = reach.unreachable(approvers);
        self.report(&reach, &unreachable);
        if let Some(distrusted) = reach.distrusted.first() {
            self.measure(&[("MessagesNotSent", approvers.len())]);
            return Err(Failure::new(
                ErrorName::MessageNotSent,
                format!("no reminder was sent: {}", access_text::remedy(distrusted)),
            ));
        }
        let view = self.view(&stored).await?;
        let mut unsent = Unsent::default();
        let mut n_asked = 0;
        for approver in approvers.iter().filter(|it| !unreachable.contains(it)) {
            let has_decided = view
                .decisions
                .iter()
                .any(|decision| decision.person.id == approver.id.as_str());
            if has_decided {
                continue;
            }
            let sent = async {
                if !self.table.was_sent(id, ASKED, &approver.id).await?
                    || self.table.was_sent(id, REMINDED, &approver.id).await?
                {
                    return Ok(());
                }
                let link = self.link(&stored, &approver.id, Purpose::Decide).await?;
                let texts = Texts::of(approver.language);
                let message = access_text::remind(texts, &view, &person(approver), &link, now);
                self.send(id, REMINDED, &approver.id, &message).await
            };
            unsent.note(REMINDED, &approver.id, sent.await);
            n_asked += 1;
        }
        self.check(id, unsent).await?;
        Ok(Outcome::Asked { n_asked })
    }

    /// Warns the requester of the end. Woken late, when the window is over, it sends nothing; nor where the requester has
    /// the role from then on by another window.
    async fn warn(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let stored = self.table.request(id).await.map_err(aws)?;
        let now = (self.now)();
        let window = stored.window.filter(|it| it.covers(now));
        let Some(window) = window.filter(|_| stored.status == Status::Open) else {
            return Ok(Outcome::Announced);
        };
        let view = self.view(&stored).await?;
        // The role stays theirs; the other window's own warning comes before that one ends.
        if view.goes_on_at(window.end()) {
            return Ok(Outcome::Announced);
        }
        let to = &stored.request.requester;
        let mut unsent = Unsent::default();
        let sent = async {
            if self.table.was_sent(id, WARNED, &to.id).await? {
                return Ok(());
            }
            let texts = Texts::of(to.language);
            let event = Announcement::EndsSoon;
            let reach = self.reach_in_time().await;
            let message = match self.end_link(&stored, &to.id, reach.as_ref()).await? {
                Some(link) => access_text::announce_with_link(texts, &view, &event, &link, now),
                None => access_text::announce(texts, &view, &event, now),
            };
            self.send(id, WARNED, &to.id, &message).await
        };
        unsent.note(WARNED, &to.id, sent.await);
        self.check(id, unsent).await?;
        Ok(Outcome::Announced)
    }

    /// Tells whoever opened it without approval, and who else could have reviewed it, that somebody has.
    async fn reviewed(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let stored = self.table.request(id).await.map_err(aws)?;
        let request = &stored.request;
        let (Some(review), Some(break_glass)) = (&stored.review, &request.break_glass) else {
            return Ok(Outcome::Announced);
        };
        let view = self.view(&stored).await?;
        let event = Announcement::Reviewed {
            by: person(&review.by),
            comment: review.comment.clone(),
            at: review.at,
        };
        let others = break_glass.reviewers.iter();
        let others = others.filter(|it| it.id != review.by.id && it.id != request.requester.id);
        let mut unsent = Unsent::default();
        for to in std::iter::once(&request.requester).chain(others) {
            let sent = async {
                if self.table.was_sent(id, REVIEWED, &to.id).await? {
                    return Ok(());
                }
                let texts = Texts::of(to.language);
                let message = access_text::announce(texts, &view, &event, (self.now)());
                self.send(id, REVIEWED, &to.id, &message).await
            };
            unsent.note(REVIEWED, &to.id, sent.await);
        }
        self.check(id, unsent).await?;
        Ok(Outcome::Announced)
    }

    /// Has this function called again for a notice. Nothing waits for it and nothing fails by it, but it counts as a
    /// message that was not sent.
    async fn set(&self, id: &RequestId, notice: Notice, at: DateTime<Utc>, called_as: &str) {
        let set = self.notices.set(id, notice, at, called_as);
        let problem = match tokio::time::timeout(SCHEDULING_LIMIT, set).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "Scheduler did not answer in time".to_owned(),
        };
        tracing::error!(request_id = %id, ?notice, "notice not scheduled: {problem}");
        self.measure(&[("MessagesNotSent", 1)]);
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
            tracing::error!("no link is sent: {}", access_text::remedy(distrusted));
        }
        for approver in unreachable {
            tracing::error!(approver = %approver.id, "no subscription of the topic is this approver's");
        }
        self.measure(&[
            ("DistrustedSubscriptions", reach.distrusted.len()),
            ("UnreachableApprovers", unreachable.len()),
        ]);
    }

    /// Fails if anybody was not told, and counts them.
    async fn check(&self, id: &RequestId, unsent: Unsent) -> Result<(), Failure> {
        self.measure(&[("MessagesNotSent", unsent.0.len())]);
        for (message, to, error) in &unsent.0 {
            let event = Record::MessageNotSent {
                message: (*message).to_owned(),
                to: to.clone(),
                error: error.name().as_str().to_owned(),
            };
            if let Err(error) = self.table.record(Some(id), None, event).await {
                tracing::error!(request_id = %id, recipient = %to, "not in the record: {error}");
            }
        }
        unsent.check()
    }

    /// Writes those of the metrics that are not zero: each has an alarm, and silence is good.
    fn measure(&self, counted: &[(&str, usize)]) {
        let counted: Vec<_> = counted
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (*name, Unit::Count, *count as f64))
            .collect();
        if !counted.is_empty() {
            let timestamp_millis = (self.now)().timestamp_millis();
            lambda_shell::metrics(&self.deployment, &counted, timestamp_millis);
        }
    }

    async fn announce(
        &self,
        id: &RequestId,
        event: Event,
        called_as: &str,
    ) -> Result<Outcome, Failure> {
        let stored = self.table.request(id).await.map_err(aws)?;
        let view = self.view(&stored).await?;
        let now = (self.now)();
        let said = announcement(&stored, event)?;
        let to_requester = (event == Event::Opened)
            .then(|| self.how_to_use_it(&stored.request))
            .flatten();
        let request = &stored.request;
        let requester = &request.requester;
        let mut unsent = Unsent::default();
        let can_be_ended = matches!(event, Event::Approved | Event::Opened);
        let reach = if can_be_ended {
            self.reach_in_time().await
        } else {
            None
        };
        if event == Event::Opened
            && request.break_glass.is_some()
            && let Some(reach) = &reach
        {
            note_unreachable(request, reach, &mut unsent);
        }
        for to in concerned(request) {
            let sent = async {
                let known = self.table.was_sent(id, event.as_str(), &to.id).await?
                    || self.is_spared(&stored, event, &to.id).await?;
                if known {
                    return Ok(());
                }
                let announce = if self.asked_in_vain(&stored, &view, event, &to.id).await? {
                    access_text::announce_already_handled
                } else {
                    access_text::announce
                };
                let texts = Texts::of(to.language);
                let message = if !request.may_decide(&to.id) {
                    let to_requester = to_requester.as_ref().filter(|_| to.id == requester.id);
                    let said = to_requester.unwrap_or(&said);
                    match self.end_link(&stored, &to.id, reach.as_ref()).await? {
                        Some(link) => {
                            access_text::announce_with_link(texts, &view, said, &link, now)
                        }
                        None => access_text::announce(texts, &view, said, now),
                    }
                } else {
                    announce(texts, &view, &said, now)
                };
                self.send(id, event.as_str(), &to.id, &message).await
            };
            unsent.note(event.as_str(), &to.id, sent.await);
        }
        let texts = Texts::of(self.chat_language);
        let note = access_text::chat_about_event(texts, &view, &said, now);
        self.tell_chat(&stored, event.as_str(), &note).await;
        if event == Event::Opened
            && let Some(at) = stored.window.and_then(notice::warning_at)
            && at > now
        {
            self.set(id, Notice::Warning, at, called_as).await;
        }
        self.check(id, unsent).await?;
        Ok(Outcome::Announced)
    }

    /// Only the requester can read the password or assume the role, so only they are told how.
    fn how_to_use_it(&self, request: &Request) -> Option<Announcement> {
        let id = &request.request_id;
        if let Some(grant) = request.grant.assume_role() {
            return Some(Announcement::OpenedToAssume {
                assume_it: assume_role::command(grant, id),
            });
        }
        (!request.credential.is_existing()).then(|| Announcement::OpenedWithPassword {
            read_it: handover::read_command(&self.deployment, &self.region, id),
        })
    }

    /// Approvers who were never asked, and operators who never heard of it, need not hear that it was refused before
    /// that.
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
        let id = &request.request_id;
        let knows = self.table.was_sent(id, ASKED, to).await?
            || self.table.was_sent(id, ACCEPTED, to).await?;
        Ok(!knows)
    }

    /// Whether this is an approver who was asked, has not decided, and now hears for the first time that others have.
    async fn asked_in_vain(
        &self,
        stored: &StoredRequest,
        view: &RequestView,
        event: Event,
        to: &PersonId,
    ) -> Result<bool, access_aws::Error> {
        let id = &stored.request.request_id;
        let is_decided = matches!(event, Event::Approved | Event::Rejected | Event::Opened);
        let has_decided = view
            .decisions
            .iter()
            .any(|decision| decision.person.id == to.as_str());
        if !is_decided || has_decided || !stored.request.may_decide(to) {
            return Ok(false);
        }
        let knows = event == Event::Opened
            && self
                .table
                .was_sent(id, Event::Approved.as_str(), to)
                .await?;
        Ok(!knows && self.table.was_sent(id, ASKED, to).await?)
    }

    async fn view(&self, stored: &StoredRequest) -> Result<RequestView, Failure> {
        let sealed = self
            .table
            .votes(&stored.request.request_id)
            .await
            .map_err(aws)?;
        let votes: Vec<_> = sealed.into_iter().map(|sealed| sealed.vote).collect();
        let request = &stored.request;
        let windows = self
            .table
            .windows(&request.target, &request.role)
            .await
            .map_err(aws)?;
        let mut view = RequestView::of(request, stored.window, &votes)
            .ended_by(stored.ending.as_ref())
            .beside(request, &windows.rows, (self.now)());
        view.findings = stored.findings.clone().unwrap_or_default();
        Ok(view)
    }

    /// Whom the topic reaches, for what must not wait for it. `None` if that cannot be told in time.
    async fn reach_in_time(&self) -> Option<Reach> {
        match tokio::time::timeout(REACH_LIMIT, self.reach()).await {
            Ok(Ok(reach)) => {
                self.report(&reach, &[]);
                Some(reach)
            }
            Ok(Err(error)) => {
                tracing::error!("who is reached is not known: {error}");
                None
            }
            Err(_) => {
                tracing::error!("who is reached is not known: SNS did not say in time");
                None
            }
        }
    }

    /// A link of `person` to end it. `None` if somebody else could see it, or if that is not known: the message goes
    /// without.
    async fn end_link(
        &self,
        stored: &StoredRequest,
        person: &PersonId,
        reach: Option<&Reach>,
    ) -> Result<Option<String>, access_aws::Error> {
        if !reach.is_some_and(|reach| reach.distrusted.is_empty()) {
            return Ok(None);
        }
        self.link(stored, person, Purpose::End).await.map(Some)
    }

    async fn link(
        &self,
        stored: &StoredRequest,
        person: &PersonId,
        purpose: Purpose,
    ) -> Result<String, access_aws::Error> {
        let request = &stored.request;
        let link = Link {
            purpose: Some(purpose),
            request_id: request.request_id.clone(),
            person: person.clone(),
            expires_at: request.decide_by.max(request.latest_end()) + LINK_SHOWS_AFTERWARDS,
            digest: stored.digest.clone(),
            key_id: self.link_key.key_id().to_owned(),
        };
        let mac = self.link_key.seal(&link.sealed_text()).await?;
        Ok(format!(
            "{}/{}/{}",
            self.callback_url.trim_end_matches('/'),
            purpose.as_str(),
            link.to_segment(&mac)
        ))
    }

    /// What an approver signs to decide. Whoever else runs it decides nothing.
    fn decide_command(&self, id: &RequestId) -> String {
        format!(
            "awscurl --service execute-api --region {} -X POST -d '{{\"verdict\": \"approve\", \"comment\": \"\"}}' {}/requests/{id}/decision",
            self.region,
            self.callback_url.trim_end_matches('/'),
        )
    }

    /// Tells the chat channels, once. Whoever must know has been told by mail, so nothing fails by it, but it counts as a
    /// message that was not sent.
    async fn tell_chat(&self, stored: &StoredRequest, event: &str, note: &ChatNote) {
        let id = &stored.request.request_id;
        // Remembered beside the messages to people, as one to the requester that no person gets.
        let (remembered, to) = (format!("chat-{event}"), &stored.request.requester.id);
        let told = async {
            if self.table.was_sent(id, &remembered, to).await? {
                return Ok(());
            }
            let ChatNote {
                title,
                description,
                next_steps,
            } = note;
            self.chat
                .send(id, event, title, description, next_steps)
                .await?;
            self.table
                .record_sent(id, &remembered, to, (self.now)())
                .await
        };
        let problem = match tokio::time::timeout(CHAT_LIMIT, told).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        tracing::error!(request_id = %id, event, "chat channels were not told: {problem}");
        self.measure(&[("MessagesNotSent", 1)]);
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
struct Unsent(Vec<(&'static str, PersonId, access_aws::Error)>);

impl Unsent {
    fn note(&mut self, message: &'static str, to: &PersonId, sent: Result<(), access_aws::Error>) {
        if let Err(error) = sent {
            tracing::error!(recipient = %to, "message not sent: {error}");
            self.0.push((message, to.clone(), error));
        }
    }

    fn check(self) -> Result<(), Failure> {
        let people: Vec<_> = self.0.iter().map(|(_, to, _)| to.as_str()).collect();
        match self.0.first() {
            None => Ok(()),
            Some((_, _, error)) => Err(Failure::new(
                ErrorName::MessageNotSent,
                format!(
                    "no message reached {}; first cause: {error}",
                    people.join(", ")
                ),
            )),
        }
    }
}

/// Everybody concerned is told when a window opens without approval: a message to somebody without a subscription
/// reaches nobody, and SNS says nothing of it.
fn note_unreachable(request: &Request, reach: &Reach, unsent: &mut Unsent) {
    let concerned: Vec<_> = concerned(request).into_iter().cloned().collect();
    for person in reach.unreachable(&concerned) {
        let why = "no subscription of the topic is theirs".to_owned();
        let error = access_aws::Error::Message(why);
        unsent.note(Event::Opened.as_str(), &person.id, Err(error));
    }
}

/// Everybody who hears what becomes of it, each once: where it is opened without approval, its reviewers too.
fn concerned(request: &Request) -> Vec<&PersonRef> {
    let reviewers = request.break_glass.iter().flat_map(|it| &it.reviewers);
    let mut concerned: Vec<_> = request
        .who_only_end_it()
        .chain(&request.approvers)
        .chain(reviewers)
        .collect();
    let mut seen = BTreeSet::new();
    concerned.retain(|person| seen.insert(&person.id));
    concerned
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
        Event::Approved => Announcement::Approved,
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
            faults: stored.refusal.clone(),
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
