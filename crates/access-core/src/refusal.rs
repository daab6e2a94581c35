//! Why a request that was taken in is refused after all, as data: the catalogues of `access-text` say it to people.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::fault::FaultName;
use crate::finding::Finding;
use crate::grant::Grant;
use crate::names::{PersonId, RequestId};
use crate::overlap::Holder;
use crate::subscription::Distrusted;

/// One reason why a request is refused, with what its sentence speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Refusal {
    /// The catalogue does not have the database any more.
    TargetGone,
    /// The catalogue does not have the role any more.
    RoleGone,
    /// The catalogue does not have the requester any more.
    RequesterGone,
    /// The target's name stands for another database by now.
    TargetMoved,
    /// An IAM principal that was the requester is not any more.
    RequesterLostPrincipal,
    /// Windows of the role give something else by now.
    GrantChanged,
    /// The role is opened with a password of each window's own by now.
    CredentialChanged,
    /// Who approved it is not an approver of the role any more.
    NotAnApproverAnyMore {
        /// Their name.
        name: String,
    },
    /// The IAM principal with which somebody approved it is not theirs any more.
    ApproverLostPrincipal {
        /// Their name.
        name: String,
    },
    /// Somebody approved it by a link, and the role is decided by signed calls only by now.
    ApprovedByLink {
        /// Their name.
        name: String,
    },
    /// Somebody approved it later than approvers of the role may by now.
    ApprovedTooLate {
        /// Their name.
        name: String,
    },
    /// More people must approve by now than when it was approved.
    MoreMustApprove {
        /// How many must by now.
        required: u8,
        /// How many had to.
        required_then: u8,
    },
    /// Its approvals do not count any more, for several reasons together.
    ApprovalsDoNotCount,
    /// What the limits leave of the window by now is shorter than the role's shortest.
    WindowTooShortByNow {
        /// The role's shortest window.
        shortest_seconds: i64,
        /// What is left.
        left_seconds: i64,
    },
    /// The role's document does not list the requester for emergencies any more.
    BreakGlassWithdrawn,
    /// The requester's last window without approval waits for its review.
    ReviewMissing {
        /// The request of that window.
        unreviewed: RequestId,
    },
    /// Somebody else has the role in that time.
    RoleInUse {
        /// Who.
        holder: Holder,
        /// Until when.
        until: DateTime<Utc>,
    },
    /// The recorded votes do not prove that enough people approved it.
    NotApproved,
    /// Nothing confirms who made a request that is a claim.
    RequesterNotConfirmed,
    /// CloudTrail did not show in time who made it.
    RequesterNotShown {
        /// How long it was given.
        minutes: i64,
    },
    /// A service of AWS started its execution.
    StartedByService {
        /// Whom the request names.
        requester: PersonId,
    },
    /// Who started its execution approved it.
    StartedByApprover {
        /// Who.
        person: PersonId,
    },
    /// Somebody else than the requester started its execution.
    StartedBySomebodyElse {
        /// Who.
        person: PersonId,
        /// Whom the request names.
        requester: PersonId,
    },
    /// A principal that is nobody's started its execution.
    StartedByNobody {
        /// The caller's ARN.
        caller: String,
        /// Whom the request names.
        requester: PersonId,
    },
    /// A principal that is more than one person's started its execution.
    StartedByAmbiguous {
        /// The caller's ARN.
        caller: String,
        /// Whose it is.
        people: Vec<PersonId>,
        /// Whom the request names.
        requester: PersonId,
    },
    /// The database does not know the role.
    NotRegistered,
    /// The registered role does not exist any more.
    Dropped,
    /// The registered role has another name by now.
    Renamed {
        /// Its present name.
        now: String,
    },
    /// Another role or user is registered under the name than when the request was made.
    RegisteredAnew,
    /// Latchkey's functions have lost their rights on the role.
    NotManageable,
    /// The database has another kind of access under the name than the catalogue.
    OtherKindRegistered,
    /// The database has another membership under the name than the catalogue.
    OtherMembershipRegistered {
        /// The database's role.
        role: String,
        /// The database's user.
        user: String,
        /// The catalogue's role.
        asked_role: String,
        /// The catalogue's user.
        asked_user: String,
    },
    /// The role could undo its own window.
    CouldUndoItsWindow,
    /// The role owns a prepared transaction.
    PreparedTransaction,
    /// The user is a member already, by others than Latchkey.
    MemberAlready {
        /// By whom; empty if the database did not say.
        held_by: Vec<String>,
    },
    /// Others can act as the user.
    UserActedAsByOthers {
        /// Who.
        roles: Vec<String>,
    },
    /// The database allows shorter windows only.
    WindowTooLongForDatabase {
        /// The longest that it allows; `None` if it did not say.
        longest_seconds: Option<i64>,
    },
    /// The role can do by now what its approvers were not told.
    RoleChanged {
        /// What they were not told.
        untold: Vec<Finding>,
    },
    /// The role can log in already with a password that is of no window.
    OpenOutsideWindows,
    /// The functions that the DBA installed cannot set a window's password.
    InstallationTooOld,
    /// Readers in other regions, on which the end could not be proved.
    ReadersNotListed {
        /// Their names.
        readers: Vec<String>,
    },
    /// The window was over before it could be opened.
    WindowOver,
    /// Somebody took what the window gives, by hand, while a window was open.
    ClosedByHand {
        /// What the window gives.
        grant: Grant,
    },
    /// The account has no role of AWS of the name that the catalogue has.
    AwsRoleGone,
    /// The role of AWS of that name has another path.
    AwsRoleElsewhere,
    /// Sessions of the role of AWS last longer than its document says.
    AwsSessionsTooLong,
    /// The trust policy of the role of AWS does not require a source identity of Latchkey's in every statement.
    AwsTrustTooWide,
    /// Another role of AWS has been made under the name since the request was made.
    AwsRoleMadeAnew,
    /// Somebody took the policy of the window away while it was open.
    PolicyTakenByHand,
    /// The account has no such user or role to give the policy to.
    GranteeGone {
        /// Which.
        grantee: String,
    },
    /// The user or role is not one of those whose policies Latchkey may change.
    GranteeNotPermitted {
        /// Which.
        grantee: String,
    },
    /// The policies of the requester's account are out of Latchkey's reach.
    GranteeOutOfReach {
        /// The account of the role to assume.
        account: String,
        /// The requester's account.
        grantee_account: String,
    },
    /// One more policy would be longer than IAM allows.
    PoliciesTooLong {
        /// Whose.
        holder: String,
    },
    /// A subscription of the topic could see somebody else's link.
    SubscriptionNotTrusted {
        /// Which, and why.
        subscription: Distrusted,
    },
    /// Messages reach fewer approvers than must approve; this is one whom they do not reach.
    ApproverUnreachable {
        /// Who.
        id: PersonId,
        /// Their name.
        name: String,
        /// How many approvers there are.
        n_approvers: usize,
        /// How many of them messages reach.
        n_reachable: usize,
        /// How many must approve.
        n_required: u8,
    },
}

impl Refusal {
    /// The name of its fault.
    #[must_use]
    pub fn name(&self) -> FaultName {
        match self {
            Self::TargetGone => FaultName::UnknownTarget,
            Self::RoleGone => FaultName::UnknownRole,
            Self::RequesterGone => FaultName::UnknownRequester,
            Self::TargetMoved
            | Self::RequesterLostPrincipal
            | Self::GrantChanged
            | Self::CredentialChanged
            | Self::NotAnApproverAnyMore { .. }
            | Self::ApproverLostPrincipal { .. }
            | Self::ApprovedByLink { .. }
            | Self::ApprovedTooLate { .. }
            | Self::MoreMustApprove { .. }
            | Self::ApprovalsDoNotCount
            | Self::WindowTooShortByNow { .. }
            | Self::BreakGlassWithdrawn => FaultName::CatalogueChanged,
            Self::ReviewMissing { .. } => FaultName::ReviewMissing,
            Self::RoleInUse { .. } => FaultName::RoleInUse,
            Self::NotApproved => FaultName::NotApproved,
            Self::RequesterNotConfirmed | Self::RequesterNotShown { .. } => {
                FaultName::RequesterNotConfirmed
            }
            Self::StartedByService { .. }
            | Self::StartedByApprover { .. }
            | Self::StartedBySomebodyElse { .. }
            | Self::StartedByNobody { .. }
            | Self::StartedByAmbiguous { .. } => FaultName::RequesterMismatch,
            Self::NotRegistered
            | Self::Dropped
            | Self::Renamed { .. }
            | Self::RegisteredAnew
            | Self::NotManageable
            | Self::OtherKindRegistered
            | Self::OtherMembershipRegistered { .. }
            | Self::AwsRoleGone
            | Self::AwsRoleElsewhere
            | Self::AwsSessionsTooLong
            | Self::AwsTrustTooWide
            | Self::AwsRoleMadeAnew => FaultName::RoleNotRegistered,
            Self::CouldUndoItsWindow => FaultName::RoleTooPowerful,
            Self::PreparedTransaction => FaultName::PreparedTransaction,
            Self::MemberAlready { .. } => FaultName::MemberAlready,
            Self::UserActedAsByOthers { .. } => FaultName::UserActedAsByOthers,
            Self::WindowTooLongForDatabase { .. } => FaultName::WindowTooLongForDatabase,
            Self::RoleChanged { .. } => FaultName::RoleChanged,
            Self::OpenOutsideWindows => FaultName::OpenOutsideWindows,
            Self::InstallationTooOld => FaultName::InstallationTooOld,
            Self::ReadersNotListed { .. } => FaultName::ReadersNotListed,
            Self::WindowOver => FaultName::WindowOver,
            Self::ClosedByHand { .. } | Self::PolicyTakenByHand => FaultName::ClosedByHand,
            Self::GranteeGone { .. }
            | Self::GranteeNotPermitted { .. }
            | Self::GranteeOutOfReach { .. } => FaultName::GranteeOutOfReach,
            Self::PoliciesTooLong { .. } => FaultName::PoliciesTooLong,
            Self::SubscriptionNotTrusted { .. } => FaultName::SubscriptionNotTrusted,
            Self::ApproverUnreachable { .. } => FaultName::ApproverUnreachable,
        }
    }

    /// Where in the request, as a JSON path; `$` is the whole of it.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match self {
            Self::TargetGone
            | Self::TargetMoved
            | Self::InstallationTooOld
            | Self::ReadersNotListed { .. } => "$.target",
            Self::RequesterGone
            | Self::RequesterLostPrincipal
            | Self::RequesterNotConfirmed
            | Self::RequesterNotShown { .. }
            | Self::StartedByService { .. }
            | Self::StartedByApprover { .. }
            | Self::StartedBySomebodyElse { .. }
            | Self::StartedByNobody { .. }
            | Self::StartedByAmbiguous { .. }
            | Self::GranteeGone { .. }
            | Self::GranteeNotPermitted { .. }
            | Self::GranteeOutOfReach { .. } => "$.requester",
            Self::NotAnApproverAnyMore { .. }
            | Self::ApproverLostPrincipal { .. }
            | Self::ApprovedByLink { .. }
            | Self::ApprovedTooLate { .. }
            | Self::MoreMustApprove { .. }
            | Self::ApprovalsDoNotCount
            | Self::WindowTooShortByNow { .. }
            | Self::NotApproved
            | Self::WindowTooLongForDatabase { .. }
            | Self::WindowOver
            | Self::PoliciesTooLong { .. }
            | Self::SubscriptionNotTrusted { .. } => "$",
            Self::BreakGlassWithdrawn | Self::ReviewMissing { .. } => "$.break_glass",
            Self::RoleGone
            | Self::GrantChanged
            | Self::CredentialChanged
            | Self::RoleInUse { .. }
            | Self::NotRegistered
            | Self::Dropped
            | Self::Renamed { .. }
            | Self::RegisteredAnew
            | Self::NotManageable
            | Self::OtherKindRegistered
            | Self::OtherMembershipRegistered { .. }
            | Self::CouldUndoItsWindow
            | Self::PreparedTransaction
            | Self::MemberAlready { .. }
            | Self::UserActedAsByOthers { .. }
            | Self::RoleChanged { .. }
            | Self::OpenOutsideWindows
            | Self::ClosedByHand { .. }
            | Self::AwsRoleGone
            | Self::AwsRoleElsewhere
            | Self::AwsSessionsTooLong
            | Self::AwsTrustTooWide
            | Self::AwsRoleMadeAnew
            | Self::PolicyTakenByHand
            | Self::ApproverUnreachable { .. } => "$.role",
        }
    }
}
