//! Who gets a message of the topic, and whether anybody else could: the subscriptions, as SNS describes them.
//!
//! A link decides, so it may reach one person only. Every subscription of the topic must be one person's own: confirmed
//! with a signature, to the mailbox that the catalogue names, with a filter that lets exactly that person's messages
//! through. One that is not could see somebody else's link, and then no link is sent at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::PersonId;
use crate::refusal::Refusal;
use crate::request::PersonRef;

/// The message attribute that subscriptions filter on.
pub const RECIPIENT: &str = "recipient";

/// What a list of subscriptions has in place of an ARN until somebody confirms
/// (<https://docs.aws.amazon.com/sns/latest/api/API_Subscribe.html>).
const PENDING: &str = "PendingConfirmation";
/// What it has for some days after the subscription was deleted.
const DELETED: &str = "Deleted";

/// The filter policy of a person's own subscription.
#[must_use]
pub fn filter_policy(person: &PersonId) -> String {
    serde_json::json!({ RECIPIENT: [person.as_str()] }).to_string()
}

/// One subscription of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its ARN, or the word that stands in its place.
    pub arn: String,
    /// Where its messages go: a mail address, an ARN, a URL.
    pub endpoint: String,
    /// What `GetSubscriptionAttributes` says of it; nothing if it has no ARN to ask for
    /// (<https://docs.aws.amazon.com/sns/latest/api/API_GetSubscriptionAttributes.html>).
    pub attributes: BTreeMap<String, String>,
}

impl Subscription {
    /// Whether it can be asked for its attributes: neither waiting for its confirmation nor deleted.
    #[must_use]
    pub fn has_attributes(&self) -> bool {
        self.arn != PENDING && self.arn != DELETED
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// A deleted subscription is still listed for days, and gets nothing.
    fn is_deleted(&self) -> bool {
        self.arn == DELETED
    }

    fn is_pending(&self) -> bool {
        self.arn == PENDING || self.attribute("PendingConfirmation") == Some("true")
    }

    /// The one person whose messages its filter lets through. Only the plainest filter counts: any other operator,
    /// value, attribute or scope could let more through, now or after an addition to SNS.
    fn person(&self) -> Result<PersonId, Distrust> {
        let policy = self
            .attribute("FilterPolicy")
            .filter(|policy| !policy.trim().is_empty())
            .ok_or(Distrust::NoFilter)?;
        let scope = self.attribute("FilterPolicyScope");
        if scope.is_some_and(|scope| scope != "MessageAttributes") {
            return Err(Distrust::NotOnePerson);
        }
        let parsed: Value = serde_json::from_str(policy).map_err(|_| Distrust::NotOnePerson)?;
        let only = parsed
            .pointer(&format!("/{RECIPIENT}/0"))
            .and_then(Value::as_str)
            .ok_or(Distrust::NotOnePerson)?;
        let person = PersonId::new(only).map_err(|_| Distrust::NotOnePerson)?;
        // Compared as text, because who knows which of two equal keys counts for SNS.
        let compact: String = policy.split_ascii_whitespace().collect();
        if compact == filter_policy(&person) {
            Ok(person)
        } else {
            Err(Distrust::NotOnePerson)
        }
    }
}

/// Why a subscription stops the sending of links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distrust {
    /// Nobody confirmed it, so SNS does not say what it filters; it may begin to deliver at any moment.
    Unconfirmed,
    /// It gets every message.
    NoFilter,
    /// Its filter is not one person's id and nothing else.
    NotOnePerson,
    /// The catalogue does not know the person, or their document is faulty.
    UnknownPerson(PersonId),
    /// It takes a person's messages to another mailbox than theirs.
    AnotherMailbox(PersonId),
    /// It was confirmed by following a link, so whoever follows the one under each message ends it; mail scanners do.
    Unauthenticated(PersonId),
}

/// A subscription that stops the sending of links. The endpoint is somebody's text: make it harmless where it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distrusted {
    /// Its ARN, or the word that stands in its place.
    pub arn: String,
    /// Where its messages go.
    pub endpoint: String,
    /// Why.
    pub why: Distrust,
}

/// Whom the topic reaches, and what must not be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The people who get their own messages.
    pub reachable: BTreeSet<PersonId>,
    /// The subscriptions that stop the sending of links.
    pub distrusted: Vec<Distrusted>,
}

/// The people that the filters name, to look their mailboxes up.
#[must_use]
pub fn people_named(subscriptions: &[Subscription]) -> BTreeSet<PersonId> {
    subscriptions
        .iter()
        .filter_map(|subscription| subscription.person().ok())
        .collect()
}

/// Judges every subscription of the topic by the mailboxes that the catalogue names.
#[must_use]
pub fn judge(subscriptions: &[Subscription], mailboxes: &BTreeMap<PersonId, String>) -> Reach {
    let mut reach = Reach::default();
    for subscription in subscriptions.iter().filter(|it| !it.is_deleted()) {
        match own_person(subscription, mailboxes) {
            Ok(person) => {
                reach.reachable.insert(person);
            }
            Err(why) => reach.distrusted.push(Distrusted {
                arn: subscription.arn.clone(),
                endpoint: subscription.endpoint.clone(),
                why,
            }),
        }
    }
    reach
}

fn own_person(
    subscription: &Subscription,
    mailboxes: &BTreeMap<PersonId, String>,
) -> Result<PersonId, Distrust> {
    if subscription.is_pending() {
        return Err(Distrust::Unconfirmed);
    }
    let person = subscription.person()?;
    let Some(mailbox) = mailboxes.get(&person) else {
        return Err(Distrust::UnknownPerson(person));
    };
    if subscription.endpoint != *mailbox {
        return Err(Distrust::AnotherMailbox(person));
    }
    if subscription.attribute("ConfirmationWasAuthenticated") != Some("true") {
        return Err(Distrust::Unauthenticated(person));
    }
    Ok(person)
}

impl Reach {
    /// Those of `approvers` whom no message reaches.
    #[must_use]
    pub fn unreachable<'a>(&self, approvers: &'a [PersonRef]) -> Vec<&'a PersonRef> {
        approvers
            .iter()
            .filter(|approver| !self.reachable.contains(&approver.id))
            .collect()
    }

    /// Everything for which nobody may be asked; nothing if `n_required` of `approvers` can be, safely.
    #[must_use]
    pub fn refusals(&self, approvers: &[PersonRef], n_required: u8) -> Vec<Refusal> {
        let mut refusals: Vec<_> = self
            .distrusted
            .iter()
            .cloned()
            .map(|subscription| Refusal::SubscriptionNotTrusted { subscription })
            .collect();
        let unreachable = self.unreachable(approvers);
        let n_reachable = approvers.len() - unreachable.len();
        if n_reachable < usize::from(n_required) {
            refusals.extend(
                unreachable
                    .into_iter()
                    .map(|approver| Refusal::ApproverUnreachable {
                        id: approver.id.clone(),
                        name: approver.name.clone(),
                        n_approvers: approvers.len(),
                        n_reachable,
                        n_required,
                    }),
            );
        }
        refusals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(person: &str) -> PersonId {
        PersonId::new(person).unwrap()
    }

    fn mailboxes() -> BTreeMap<PersonId, String> {
        ["alice", "bob"]
            .map(|person| (id(person), format!("{person}@example.com")))
            .into()
    }

    fn approvers() -> Vec<PersonRef> {
        ["alice", "bob"]
            .map(|person| PersonRef {
                id: id(person),
                name: person.to_uppercase(),
                language: crate::Language::English,
            })
            .into()
    }

    fn own(person: &str) -> Subscription {
        with(person, &[])
    }

    /// A sound subscription with some attributes changed; an empty value takes the attribute away.
    fn with(person: &str, changes: &[(&str, &str)]) -> Subscription {
        let mut attributes: BTreeMap<String, String> = [
            ("FilterPolicy", filter_policy(&id(person)).as_str()),
            ("PendingConfirmation", "false"),
            ("ConfirmationWasAuthenticated", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in changes {
            if value.is_empty() {
                attributes.remove(*name);
            } else {
                attributes.insert((*name).to_owned(), (*value).to_owned());
            }
        }
        Subscription {
            arn: format!("arn:aws:sns:us-east-1:123456789012:topic:{person}"),
            endpoint: format!("{person}@example.com"),
            attributes,
        }
    }

    fn of_filter(policy: &str) -> Subscription {
        with("alice", &[("FilterPolicy", policy)])
    }

    #[test]
    fn one_persons_own_subscription_reaches_them() {
        for subscription in [
            own("alice"),
            with("alice", &[("FilterPolicyScope", "MessageAttributes")]),
            of_filter(" { \"recipient\" : [ \"alice\" ] } "),
        ] {
            let reach = judge(std::slice::from_ref(&subscription), &mailboxes());
            assert_eq!(reach.reachable, [id("alice")].into(), "{subscription:?}");
            assert_eq!(reach.distrusted, [], "{subscription:?}");
            assert_eq!(reach.refusals(&approvers(), 1), []);
        }
    }

    #[test]
    fn what_could_see_another_persons_link_is_distrusted() {
        let mut elsewhere = own("alice");
        elsewhere.endpoint = "mallory@example.com".to_owned();
        let mut not_confirmed = own("alice");
        not_confirmed.arn = "PendingConfirmation".to_owned();
        not_confirmed.attributes.clear();
        let unauthenticated = ("ConfirmationWasAuthenticated", "false");
        for (subscription, why) in [
            (with("alice", &[("FilterPolicy", "")]), Distrust::NoFilter),
            (with("alice", &[("FilterPolicy", " ")]), Distrust::NoFilter),
            (of_filter("{}"), Distrust::NotOnePerson),
            (of_filter("null"), Distrust::NotOnePerson),
            (of_filter("[\"alice\"]"), Distrust::NotOnePerson),
            (of_filter("{\"recipient\":"), Distrust::NotOnePerson),
            (of_filter(r#"{"recipient":[]}"#), Distrust::NotOnePerson),
            (
                of_filter(r#"{"recipient":"alice"}"#),
                Distrust::NotOnePerson,
            ),
            (of_filter(r#"{"recipient":[7]}"#), Distrust::NotOnePerson),
            (of_filter(r#"{"recipient":[""]}"#), Distrust::NotOnePerson),
            (
                of_filter(r#"{"recipient":["alice","bob"]}"#),
                Distrust::NotOnePerson,
            ),
            (
                of_filter(r#"{"recipient":[{"prefix":"alice"}]}"#),
                Distrust::NotOnePerson,
            ),
            (
                of_filter(r#"{"recipient":[{"anything-but":"bob"}]}"#),
                Distrust::NotOnePerson,
            ),
            (
                of_filter(r#"{"recipient":["alice"],"$or":[{"a":["b"]}]}"#),
                Distrust::NotOnePerson,
            ),
            (
                of_filter(r#"{"recipient":["bob"],"recipient":["alice"]}"#),
                Distrust::NotOnePerson,
            ),
            (
                of_filter(r#"{"recipient":[["alice"]]}"#),
                Distrust::NotOnePerson,
            ),
            (
                of_filter(r#"{"recipient":["al ice"]}"#),
                Distrust::NotOnePerson,
            ),
            (of_filter(r#"{"sender":["alice"]}"#), Distrust::NotOnePerson),
            (
                with("alice", &[("FilterPolicyScope", "MessageBody")]),
                Distrust::NotOnePerson,
            ),
            (own("mallory"), Distrust::UnknownPerson(id("mallory"))),
            (elsewhere, Distrust::AnotherMailbox(id("alice"))),
            (not_confirmed, Distrust::Unconfirmed),
            (
                with("alice", &[("PendingConfirmation", "true")]),
                Distrust::Unconfirmed,
            ),
            (
                with("alice", &[unauthenticated]),
                Distrust::Unauthenticated(id("alice")),
            ),
            (
                with("alice", &[("ConfirmationWasAuthenticated", "")]),
                Distrust::Unauthenticated(id("alice")),
            ),
        ] {
            // However well the approvers themselves are subscribed.
            let all = [own("alice"), own("bob"), subscription.clone()];
            let reach = judge(&all, &mailboxes());
            assert_eq!(reach.reachable, [id("alice"), id("bob")].into());
            let [distrusted] = reach.distrusted.as_slice() else {
                panic!("{subscription:?}: {reach:?}");
            };
            assert_eq!(distrusted.why, why, "{subscription:?}");
            let not_trusted = Refusal::SubscriptionNotTrusted {
                subscription: distrusted.clone(),
            };
            assert_eq!(reach.refusals(&approvers(), 1), [not_trusted]);
        }
    }

    #[test]
    fn a_deleted_subscription_is_nobodys() {
        let deleted = Subscription {
            arn: "Deleted".to_owned(),
            endpoint: "alice@example.com".to_owned(),
            attributes: BTreeMap::new(),
        };
        assert!(!deleted.has_attributes());
        assert_eq!(judge(&[deleted], &mailboxes()), Reach::default());
    }

    #[test]
    fn too_few_reachable_approvers_are_named() {
        let only_alice = judge(&[own("alice")], &mailboxes());
        assert_eq!(only_alice.refusals(&approvers(), 1), []);
        assert_eq!(only_alice.unreachable(&approvers())[0].id, id("bob"));
        let bob = Refusal::ApproverUnreachable {
            id: id("bob"),
            name: "BOB".to_owned(),
            n_approvers: 2,
            n_reachable: 1,
            n_required: 2,
        };
        assert_eq!(only_alice.refusals(&approvers(), 2), [bob]);
        assert_eq!(judge(&[], &mailboxes()).refusals(&approvers(), 1).len(), 2);
    }

    #[test]
    fn the_requesters_own_subscription_does_not_make_an_approver_reachable() {
        let reach = judge(&[own("bob")], &mailboxes());
        assert_eq!(reach.refusals(&approvers()[..1], 1).len(), 1);
    }

    proptest! {
        /// Whatever the filter is, it is trusted for a person only if SNS's plainest rule selects them alone.
        #[test]
        fn only_the_plainest_filter_is_trusted(values in prop::collection::vec("[a-z]{1,8}|alice|bob", 0..4)) {
            let policy = serde_json::json!({ RECIPIENT: values }).to_string();
            let reach = judge(&[of_filter(&policy)], &mailboxes());
            let is_own = values == ["alice"];
            prop_assert_eq!(reach.distrusted.is_empty(), is_own);
            prop_assert_eq!(reach.reachable.contains(&id("alice")), is_own);
        }
    }
}
