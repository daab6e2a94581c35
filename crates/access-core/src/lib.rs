//! The pure rules of Latchkey: what a request is, who may decide, and when a role may log in.
//!
//! Nothing here reads a clock, a network, an environment or a file: time and documents are arguments.
//! `crates/README.md` names the invariants that rest on this.

pub mod break_glass;
pub mod catalogue;
pub mod converge;
pub mod decision;
pub mod document;
pub mod drift;
pub mod eligibility;
pub mod fault;
pub mod finding;
pub mod grant;
pub mod handover;
pub mod language;
pub mod names;
pub mod notice;
pub mod overlap;
pub mod place;
pub mod plain_text;
pub mod principal;
pub mod refusal;
pub mod request;
pub mod subscription;
pub mod time;
pub mod window;

pub use break_glass::{BreakGlass, BreakGlassPolicy, Review};
pub use catalogue::{
    AssumedRole, CaSource, Database, DecideBy, Location, Login, Mode, Person, RoleCredential,
    RolePolicy,
};
pub use converge::carry_out::{LoginSeen, Windows};
pub use converge::{Desired, WindowRow};
pub use decision::{CannotApprove, Decision, Verdict, Vote};
pub use drift::{DatabaseFacts, Facts, LeftBehind, WhyUnread};
pub use fault::{Fault, FaultName, Faults};
pub use finding::Finding;
pub use grant::{AssumeRole, Grant, LiveSessions};
pub use language::Language;
pub use names::{GrantedRoleName, PersonId, RequestId, RoleName, TargetId};
pub use place::{Account, AccountRoles, Place};
pub use principal::{Nobody, Principal};
pub use refusal::Refusal;
pub use request::{Digest, EndedAs, Ending, Request, RequestDraft, RequesterProof};
pub use window::{Narrowing, Window, WindowSpec};
