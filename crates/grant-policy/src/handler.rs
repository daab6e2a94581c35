//! Preflight, and converge with the right to write policies that allow.

use access_aws::assumable::{self, AssumableRole, Hand, OwnWindow, Reached};
use access_aws::policy::{Holder, RoleSeen};
use access_aws::schedule::EndSchedules;
use access_contract::dry_run::{DryRun, Plan, PlannedPolicy, Resolved};
use access_contract::payload::{Answer, EnableLogin, Outcome};
use access_contract::{ErrorName, Status};
use access_core::converge::carry_out::{self, OpenableRole as _, Opening};
use access_core::grant::assume_role;
use access_core::{
    Account, AssumeRole, Finding, LiveSessions, Principal, Refusal, Request, RequestId, Window,
    time,
};
use aws_types::SdkConfig;
use chrono::{DateTime, TimeDelta, Utc};
use lambda_shell::{Failure, Invocation};
use serde_json::Value;
use window_shell::{Admission, Admitted, ToOpen};

pub(crate) struct Handler {
    pub(crate) admission: Admission,
    pub(crate) end_schedules: EndSchedules,
    /// The function's own rights.
    pub(crate) config: SdkConfig,
    /// The account that Latchkey is deployed in.
    pub(crate) own_account: String,
    /// How long before its start a policy is written.
    pub(crate) settles_within: TimeDelta,
    pub(crate) now: fn() -> DateTime<Utc>,
}

/// What a request of this kind is about.
struct Asked<'a> {
    account: &'a Account,
    grant: &'a AssumeRole,
    grantee: &'a Principal,
}

/// What was found before anything is written.
struct Checked {
    /// Everything that stands in the way.
    refusals: Vec<Refusal>,
    /// The unique id of the role to assume, where Latchkey may look at it.
    role_id: Option<String>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let outcome = match lambda_shell::read(invocation.payload)? {
            EnableLogin::Preflight(step) => self.preflight(&step.request_id).await?,
            EnableLogin::Open(step) => self.open(&step.request_id).await?,
            EnableLogin::DryRun(step) => self.dry_run(&step.request_id).await?,
        };
        lambda_shell::write(&Answer::from(outcome))
    }

    /// Could this request be opened? Changes nothing in any account.
    async fn preflight(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let stored = self.admission.table.request(id).await.map_err(aws)?;
        let asked = asked(&stored.request)?;
        let checked = self.check(&stored.request, &asked).await?;
        if !checked.refusals.is_empty() {
            return self.refuse(id, checked.refusals).await;
        }
        let role_id = checked.role_id.as_deref();
        self.admission
            .table
            .pin_aws_role(id, role_id, &findings(&asked, id))
            .await
            .map_err(aws)?;
        Ok(Outcome::Ready {
            break_glass: stored.request.break_glass.is_some(),
        })
    }

    /// What preflight would say of a dry run, and what would be written. No step takes its row for a request.
    async fn dry_run(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let request = self.admission.table.dry_run(id).await.map_err(aws)?;
        let asked = asked(&request)?;
        let refusals = self.check(&request, &asked).await?.refusals;
        let window = request.window.approved_at((self.now)());
        tracing::info!(dry_run = %id, n_faults = refusals.len(), "dry run answered");
        Ok(Outcome::DryRun(Box::new(DryRun {
            request: Resolved::from(&request),
            window_if_approved_now: window,
            faults: access_text::faults(refusals),
            // Where the account cannot be reached, that is one of the refusals.
            database_not_asked: None,
            findings: findings(&asked, id),
            plan: Plan {
                policies: window.map_or_else(Vec::new, |window| policies(&asked, id, window)),
                ..Plan::default()
            },
        })))
    }

    /// Everything that stands in the way of opening `request`.
    async fn check(&self, request: &Request, asked: &Asked<'_>) -> Result<Checked, Failure> {
        let mut checked = match self.reach(asked).await? {
            Some(reached) => self.obstacles(request, asked, &reached).await?,
            None => Checked {
                refusals: vec![out_of_reach(asked)],
                role_id: None,
            },
        };
        // Whoever asks for as soon as it is approved means now.
        if let Some(window) = request.window.approved_at((self.now)())
            && let Some(in_use) = self
                .admission
                .in_use(request, window)
                .await
                .map_err(admission)?
        {
            checked.refusals.push(in_use.refusal());
        }
        Ok(checked)
    }

    /// Writes the policies of the window, if people approved it, well before its start: a policy holds its own start.
    /// Called again at the start, it says that the window is open.
    async fn open(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let to_open = match self.admission.admit(id, self.settles_within).await {
            Ok(Admitted::Open(to_open)) => to_open,
            Ok(Admitted::Answer(outcome)) => return Ok(outcome),
            Err(error) => return Err(admission(error)),
        };
        let ToOpen {
            stored,
            stricter,
            window,
        } = *to_open;
        let asked = asked(&stored.request)?;
        let Some(reached) = self.reach(&asked).await? else {
            return self.refuse(id, vec![out_of_reach(&asked)]).await;
        };
        let mut checked = self.obstacles(&stored.request, &asked, &reached).await?;
        if stored.aws_role_id.is_some() && checked.role_id != stored.aws_role_id {
            checked.refusals.push(Refusal::AwsRoleMadeAnew);
        }
        if !checked.refusals.is_empty() {
            return self.refuse(id, checked.refusals).await;
        }
        if stored.status == Status::Approved
            && let Some(refused) = self
                .admission
                .arm(&stricter, window)
                .await
                .map_err(admission)?
        {
            return Ok(refused);
        }
        self.end_schedules
            .arm(&stored.request, window.end())
            .await
            .map_err(aws)?;
        self.converge(&stored.request, &asked, &reached, window)
            .await
    }

    async fn converge(
        &self,
        request: &Request,
        asked: &Asked<'_>,
        reached: &Reached,
        window: Window,
    ) -> Result<Outcome, Failure> {
        let id = &request.request_id;
        let list = OwnWindow {
            table: &self.admission.table,
            request,
            not_before: Some(window.start()),
            now: self.now,
        };
        let role = AssumableRole {
            id,
            grant: asked.grant,
            grantee: asked.grantee,
            window,
            reached,
            now: self.now,
        };
        let seen = role.login().await.map_err(aws)?;
        match carry_out::open(&list, &role, id, seen).await {
            Ok(Opening::Opened { until }) if (self.now)() < window.start() => {
                tracing::info!(request_id = %id, %until, "policies written before the start");
                Ok(Outcome::NotYet {
                    wait_until: time::to_wait_timestamp(window.start()),
                })
            }
            Ok(Opening::Opened { until }) => {
                tracing::info!(request_id = %id, %until, "window opened");
                Ok(Outcome::Opened {
                    end: time::to_wait_timestamp(window.end()),
                })
            }
            Ok(Opening::Over) => self.refuse(id, vec![Refusal::WindowOver]).await,
            Ok(Opening::ClosedByHand) => self.refuse(id, vec![Refusal::PolicyTakenByHand]).await,
            Ok(Opening::NotYet | Opening::Restless) => Err(Failure::new(
                ErrorName::Internal,
                "the window changed all the time while it was being opened",
            )),
            Err(access_aws::Error::PoliciesTooLong(holder)) => {
                self.refuse(id, vec![Refusal::PoliciesTooLong { holder }])
                    .await
            }
            Err(error) => Err(aws(error)),
        }
    }

    async fn reach(&self, asked: &Asked<'_>) -> Result<Option<Reached>, Failure> {
        assumable::reach(
            &self.config,
            &self.own_account,
            asked.account,
            (asked.grant, asked.grantee),
            Hand::Granter,
        )
        .await
        .map_err(aws)
    }

    /// Why IAM or the role would not do what the window promises.
    async fn obstacles(
        &self,
        request: &Request,
        asked: &Asked<'_>,
        reached: &Reached,
    ) -> Result<Checked, Failure> {
        let (grant, id) = (asked.grant, &request.request_id);
        let mut refusals = Vec::new();
        let mut role_id = None;
        if let Some(of_role) = &reached.of_role {
            match of_role.role(grant.role_name()).await.map_err(aws)? {
                Some(seen) => {
                    refusals.extend(refusals_of_role(grant, &seen));
                    role_id = Some(seen.id);
                }
                None => refusals.push(Refusal::AwsRoleGone),
            }
        }
        let grantee = Holder::of(asked.grantee);
        match reached.of_grantee.names(&grantee).await {
            Ok(Some(_)) => {}
            Ok(None) => refusals.push(Refusal::GranteeGone {
                grantee: grantee.to_string(),
            }),
            Err(access_aws::Error::PolicyNotPermitted(_)) => {
                refusals.push(Refusal::GranteeNotPermitted {
                    grantee: grantee.to_string(),
                });
            }
            Err(error) => return Err(aws(error)),
        }
        if !refusals.is_empty() {
            return Ok(Checked { refusals, role_id });
        }
        let name = assume_role::policy_name(id);
        // As long as any of its dates make it.
        let longest = Window::new(request.requested_at, request.latest_end());
        if let Some(window) = longest {
            let allow = assume_role::allow(grant, asked.grantee, id, window).to_string();
            let n_others = reached
                .of_grantee
                .n_characters(&grantee, &name)
                .await
                .map_err(aws)?;
            if n_others + assume_role::n_characters(&allow)
                > assume_role::max_characters(asked.grantee)
            {
                refusals.push(Refusal::PoliciesTooLong {
                    holder: grantee.to_string(),
                });
            }
        }
        if let Some(of_role) = &reached.of_role {
            let privileged = Holder::Role(grant.role_name().to_owned());
            let deny = assume_role::deny(id, request.latest_end()).to_string();
            let n_others = of_role
                .n_characters(&privileged, &name)
                .await
                .map_err(aws)?;
            if n_others + assume_role::n_characters(&deny) > assume_role::MAX_ROLE_CHARACTERS {
                refusals.push(Refusal::PoliciesTooLong {
                    holder: privileged.to_string(),
                });
            }
        }
        Ok(Checked { refusals, role_id })
    }

    async fn refuse(&self, id: &RequestId, refusals: Vec<Refusal>) -> Result<Outcome, Failure> {
        self.admission.refuse(id, refusals).await.map_err(admission)
    }
}

/// What the request asks for; enable-login opens what is at other places.
fn asked(request: &Request) -> Result<Asked<'_>, Failure> {
    let found = request
        .place
        .account()
        .zip(request.grant.assume_role())
        .zip(assume_role::grantee(request));
    found
        .map(|((account, grant), grantee)| Asked {
            account,
            grant,
            grantee,
        })
        .ok_or_else(|| {
            Failure::new(
                ErrorName::RequestConflict,
                format!(
                    "request {} is not about a role of an account",
                    request.request_id
                ),
            )
        })
}

/// Why the role does not keep what its document promises.
fn refusals_of_role(grant: &AssumeRole, seen: &RoleSeen) -> Vec<Refusal> {
    let refusals = [
        (seen.arn != grant.role_arn, Refusal::AwsRoleElsewhere),
        (
            seen.max_session_seconds > grant.max_session_seconds,
            Refusal::AwsSessionsTooLong,
        ),
        (
            !assume_role::trust_requires_source_identity(&seen.trust),
            Refusal::AwsTrustTooWide,
        ),
    ];
    let found = refusals.into_iter().filter(|(is_so, _)| *is_so);
    found.map(|(_, refusal)| refusal).collect()
}

fn out_of_reach(asked: &Asked<'_>) -> Refusal {
    Refusal::GranteeOutOfReach {
        account: asked.account.id.clone(),
        grantee_account: asked.grantee.account().to_owned(),
    }
}

/// What approvers should know.
fn findings(asked: &Asked<'_>, id: &RequestId) -> Vec<Finding> {
    let mut findings = Vec::new();
    let seconds = asked.grant.overrun_seconds();
    if seconds > 0 {
        findings.push(Finding::SessionsRunOut { seconds });
    }
    findings.push(Finding::MayAssume {
        grantee: asked.grantee.arn(),
        role_arn: asked.grant.role_arn.clone(),
        policy_name: assume_role::policy_name(id),
    });
    findings
}

/// What opening would write, in this order.
fn policies(asked: &Asked<'_>, id: &RequestId, window: Window) -> Vec<PlannedPolicy> {
    let planned = |account: &str, holder: &Holder, document| PlannedPolicy {
        account: account.to_owned(),
        holder: holder.to_string(),
        name: assume_role::policy_name(id),
        document,
    };
    let privileged = Holder::Role(asked.grant.role_name().to_owned());
    let denying = (asked.grant.live_sessions == LiveSessions::Denied)
        .then(|| assume_role::deny(id, window.end()));
    let denying = denying.map(|policy| planned(&asked.account.id, &privileged, policy));
    let allowing = planned(
        asked.grantee.account(),
        &Holder::of(asked.grantee),
        assume_role::allow(asked.grant, asked.grantee, id, window),
    );
    denying.into_iter().chain([allowing]).collect()
}

fn admission(error: window_shell::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}

fn aws(error: access_aws::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}
