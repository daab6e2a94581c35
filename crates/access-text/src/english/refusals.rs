//! Why a request is refused, in English.

use access_core::Refusal;
use access_core::overlap::Holder;
use access_core::subscription::{Distrust, Distrusted};
use chrono::TimeDelta;
use chrono_tz::Tz;

use super::{ENGLISH, english_duration, english_list};
use crate::moment::Moment;
use crate::request_text::finding_text;

/// One sentence that says how to mend it; times also in `zone`.
pub(super) fn refusal(refusal: &Refusal, zone: Tz) -> String {
    match refusal {
        Refusal::TargetGone => {
            "choose another target: the catalogue does not have this one any more".to_owned()
        }
        Refusal::RoleGone => {
            "choose another role: the catalogue does not have this one any more".to_owned()
        }
        Refusal::RequesterGone => {
            "ask the platform team: the catalogue does not have the requester any more".to_owned()
        }
        Refusal::TargetMoved => {
            "ask again: this name stands for another database or account than when the request was made"
                .to_owned()
        }
        Refusal::RequesterLostPrincipal => {
            "ask again: an IAM principal that was the requester when the request was made is not any more".to_owned()
        }
        Refusal::GrantChanged => {
            "ask again: windows of this role give something else than when the request was made"
                .to_owned()
        }
        Refusal::CredentialChanged => {
            "ask again: this role is opened with a password of each window's own by now".to_owned()
        }
        Refusal::NotAnApproverAnyMore { name } => format!(
            "ask again: {name}, who approved it, is not an approver of this role any more"
        ),
        Refusal::ApproverLostPrincipal { name } => format!(
            "ask again: the IAM principal with which {name} approved it is not theirs any more"
        ),
        Refusal::ApprovedByLink { name } => format!(
            "ask again: {name} approved it by a link, and this role is decided by signed calls only by now"
        ),
        Refusal::ApprovedTooLate { name } => format!(
            "ask again: {name} approved it later than approvers of this role may by now"
        ),
        Refusal::MoreMustApprove {
            required,
            required_then,
        } => format!(
            "ask again: {required} people must approve by now, and it was approved when {required_then} had to"
        ),
        Refusal::ApprovalsDoNotCount => "ask again: its approvals do not count any more".to_owned(),
        Refusal::WindowTooShortByNow {
            shortest_seconds,
            left_seconds,
        } => format!(
            "ask again for a longer window: the shortest of this role is {} by now, and this one has {}",
            seconds(*shortest_seconds),
            seconds(*left_seconds)
        ),
        Refusal::BreakGlassWithdrawn => {
            "ask again and wait for approval: this role's document does not list the requester for emergencies any more".to_owned()
        }
        Refusal::ReviewMissing { unreviewed } => format!(
            "have {unreviewed} reviewed first (POST /requests/{unreviewed}/review, by one of its reviewers), or leave out \"break_glass\" and wait for approval: one window without approval is reviewed before the next"
        ),
        Refusal::RoleInUse { holder, until } => {
            let until = Moment::new(&ENGLISH, *until, zone).line();
            let (who, ask) = match holder {
                Holder::Person(name) => (name.as_str(), "ask them to give it back"),
                Holder::ByHand => (
                    "somebody for whom the database's owner opened it by hand",
                    "ask the owner to close it",
                ),
                Holder::Unknown => ("somebody else", "ask the platform team who it is"),
            };
            format!(
                "ask again for a start at or after {until}, or {ask}: until then {who} has this role, which people do not share"
            )
        }
        Refusal::NotApproved => {
            "ask again: the recorded votes do not prove that enough people approved this request"
                .to_owned()
        }
        Refusal::RequesterNotConfirmed => {
            "ask again through the front door, POST /requests: nothing confirms who made this request".to_owned()
        }
        Refusal::RequesterNotShown { minutes } => format!(
            "ask again through the front door, POST /requests, which proves who asks: CloudTrail did not show within {minutes} minutes who started this request's execution"
        ),
        Refusal::StartedByService { requester } => format!(
            "ask again yourself: a service of AWS started this request's execution, not {requester}"
        ),
        Refusal::StartedByApprover { person } => format!(
            "ask again, and let others approve: {person} started this request's execution and approved it"
        ),
        Refusal::StartedBySomebodyElse { person, requester } => format!(
            "ask again under your own id: {person} started this request's execution, not {requester}"
        ),
        Refusal::StartedByNobody { caller, requester } => format!(
            "ask again as {requester} with a principal that the catalogue lists for them: {caller}, which started this request's execution, is nobody's there"
        ),
        Refusal::StartedByAmbiguous {
            caller,
            people,
            requester,
        } => {
            let people: Vec<String> = people.iter().map(ToString::to_string).collect();
            format!(
                "ask again as {requester} with a principal that the catalogue lists for them alone: {caller}, which started this request's execution, is {} there",
                english_list(&people)
            )
        }
        Refusal::NotRegistered => {
            "ask the database's owner to register this role: the database does not know it"
                .to_owned()
        }
        Refusal::Dropped => {
            "ask the database's owner to register its successor: the registered role or user was dropped".to_owned()
        }
        Refusal::Renamed { now } => format!(
            "ask the database's owner to register it again: what was registered is now called {now}"
        ),
        Refusal::RegisteredAnew => {
            "ask again: another role or user has been registered under this name since the request was made".to_owned()
        }
        Refusal::NotManageable => {
            "ask the database's owner to register it again: Latchkey has lost its rights on the role or the user".to_owned()
        }
        Refusal::OtherKindRegistered => {
            "ask the platform team: the database has another kind of access under this name than the catalogue".to_owned()
        }
        Refusal::OtherMembershipRegistered {
            role,
            user,
            asked_role,
            asked_user,
        } => format!(
            "ask the platform team: the database has {user} in {role} under this name, the catalogue {asked_user} in {asked_role}"
        ),
        Refusal::CouldUndoItsWindow => {
            "ask the database's owner to take SUPERUSER from it, and before PostgreSQL 16 CREATEROLE too: the role could undo its own window".to_owned()
        }
        Refusal::PreparedTransaction => {
            "ask the database's owner to roll it back (see pg_prepared_xacts): the role owns a prepared transaction, which could block closing".to_owned()
        }
        Refusal::MemberAlready { held_by } if held_by.is_empty() => {
            "ask the database's owner: the user is a member already, by others than Latchkey, and no closing here could end that (latchkey.membership says by whom)".to_owned()
        }
        Refusal::MemberAlready { held_by } => format!(
            "ask the database's owner: the user is a member already, {}, and no closing here could end that",
            held_by.join(", ")
        ),
        Refusal::UserActedAsByOthers { roles } => format!(
            "ask the database's owner: {} can act as the user, so their sessions would outlive the window",
            english_list(roles)
        ),
        Refusal::WindowTooLongForDatabase {
            longest_seconds: Some(longest),
        } => format!(
            "ask for at most {}: the database allows no more for this role",
            seconds(*longest)
        ),
        Refusal::WindowTooLongForDatabase {
            longest_seconds: None,
        } => {
            "ask for a shorter window: the database allows less for this role".to_owned()
        }
        Refusal::RoleChanged { untold } => {
            let untold: Vec<String> = untold
                .iter()
                .map(|finding| finding_text(&ENGLISH, finding).said)
                .collect();
            format!(
                "ask again: since this was asked for, the role has changed in what its approvers were not told. {}",
                untold.join(" ")
            )
        }
        Refusal::OpenOutsideWindows => {
            "ask the database's owner: the role can log in already with a password that is not of a window, which a new one would replace".to_owned()
        }
        Refusal::InstallationTooOld => {
            "ask the database's owner to run install.sql again: what is installed there cannot set a window's password".to_owned()
        }
        Refusal::ReadersNotListed { readers } => format!(
            "ask the platform team to list the database's readers in other regions as \"readers\" in its catalogue document, or to remove them: {}",
            readers.join(", ")
        ),
        Refusal::WindowOver => {
            "ask again: the window was over before it could be opened".to_owned()
        }
        Refusal::ClosedByHand { grant } => {
            let what = match grant.membership() {
                Some(_) => "revoked this membership",
                None => "took LOGIN from this role",
            };
            format!(
                "ask the database's owner: somebody {what} while a window was open. To let it be opened again, they run latchkey.close for it"
            )
        }
        Refusal::AwsRoleGone => {
            "ask the platform team to mend the role or its document: the account has no role of this name".to_owned()
        }
        Refusal::AwsRoleElsewhere => {
            "ask the platform team to mend the role or its document: the role of this name has another path".to_owned()
        }
        Refusal::AwsSessionsTooLong => {
            "ask the platform team to mend the role or its document: its sessions last longer than \"max_session\" in the catalogue says".to_owned()
        }
        Refusal::AwsTrustTooWide => {
            "ask the platform team to mend the role or its document: its trust policy does not require a source identity of Latchkey's in every statement, so that its sessions could not be told apart".to_owned()
        }
        Refusal::AwsRoleMadeAnew => {
            "ask again: another role has been made under this name since the request was made"
                .to_owned()
        }
        Refusal::PolicyTakenByHand => {
            "ask the account's administrators: somebody took the policy of this window away while it was open".to_owned()
        }
        Refusal::GranteeGone { grantee } => format!(
            "ask the platform team to mend your document: the account has no {grantee}"
        ),
        Refusal::GranteeNotPermitted { grantee } => format!(
            "ask the platform team: {grantee} is not one of those whose policies Latchkey may change"
        ),
        Refusal::GranteeOutOfReach {
            account,
            grantee_account,
        } => format!(
            "ask with an IAM user or role of account {account} or of Latchkey's own: policies of account {grantee_account} are out of its reach"
        ),
        Refusal::PoliciesTooLong { holder } => format!(
            "ask the platform team to remove inline policies of {holder}, or ask again when other windows are over: one more would be longer than IAM allows"
        ),
        Refusal::SubscriptionNotTrusted { subscription } => {
            format!("ask the platform team to {}", remedy(subscription))
        }
        Refusal::ApproverUnreachable {
            id,
            name,
            n_approvers,
            n_reachable,
            n_required,
        } => format!(
            "ask the platform team to subscribe {name} ({id}): of {n_approvers} approvers messages reach {n_reachable}, and {n_required} must approve"
        ),
    }
}

/// What to do about a subscription that stops the sending of links, for the platform team and the log.
#[must_use]
pub fn remedy(subscription: &Distrusted) -> String {
    let Distrusted { arn, endpoint, why } = subscription;
    match why {
        Distrust::Unconfirmed => {
            format!("confirm or delete the subscription of {endpoint:?}, which is not confirmed")
        }
        Distrust::NoFilter => format!(
            "delete subscription {arn} of {endpoint:?}: it has no filter and gets everybody's messages"
        ),
        Distrust::NotOnePerson => format!(
            "delete subscription {arn} of {endpoint:?}: its filter is not the id of one person"
        ),
        Distrust::UnknownPerson(person) => format!(
            "delete subscription {arn} of {endpoint:?}: the catalogue has no sound document of {person}"
        ),
        Distrust::AnotherMailbox(person) => format!(
            "delete subscription {arn} of {endpoint:?}: it gets the messages of {person}, whose mailbox is another"
        ),
        Distrust::Unauthenticated(person) => format!(
            "delete subscription {arn} of {endpoint:?} and subscribe {person} again: it was confirmed without a signature, so any mail scanner can end it"
        ),
    }
}

fn seconds(seconds: i64) -> String {
    english_duration(TimeDelta::seconds(seconds))
}
