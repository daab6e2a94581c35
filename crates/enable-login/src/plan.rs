//! What opening and closing a window would send to the database: the very statements, by the very rule.

use access_contract::dry_run::{Plan, Planned, Servers};
use access_core::converge::carry_out::{OpeningStep, opening_step};
use access_core::{Database, Request, Window, WindowRow};
use access_postgres::statement::{self, Statement};

/// The plan of `request` for `window`, beside the other windows of its role.
pub(crate) fn of(
    request: &Request,
    at: &Database,
    window: Option<Window>,
    others: Vec<WindowRow>,
) -> Plan {
    let role = request.role.as_str();
    let planned = |login: &str, servers, statement: &Statement<'_>| Planned {
        login: login.to_owned(),
        servers,
        sql: statement.sql().to_owned(),
        values: statement.shown_values(),
    };
    let opening = window.and_then(|window| step(request, window, others));
    let opening = opening.map(|step| {
        let statement = match (step, request.grant.membership()) {
            (OpeningStep::Extend { until }, _) => Statement::extend(role, until),
            (OpeningStep::Open { until }, Some(membership)) => {
                let (granted, user) = (membership.role.as_str(), membership.user.as_str());
                Statement::open_membership(role, granted, user, until)
            }
            (OpeningStep::Open { until }, None) if request.credential.is_existing() => {
                Statement::open(role, until)
            }
            (OpeningStep::Open { until }, None) => Statement::open_with_new_password(role, until),
        };
        planned(&at.opener.user, Servers::Writer, &statement)
    });
    let closing = statement::closing(role).into_iter();
    let closing = closing.map(|(servers, statement)| {
        let servers = match servers {
            statement::Servers::Writer => Servers::Writer,
            statement::Servers::Every => Servers::Every,
        };
        planned(&at.closer.user, servers, &statement)
    });
    Plan {
        opening: opening.into_iter().collect(),
        closing: closing.collect(),
        policies: Vec::new(),
    }
}

/// What would be done at the start of `window`, if it were armed beside the others.
fn step(request: &Request, window: Window, mut rows: Vec<WindowRow>) -> Option<OpeningStep> {
    rows.push(WindowRow {
        request_id: request.request_id.clone(),
        requester: Some(request.requester.clone()),
        window,
        opened_at: None,
        ended_at: None,
        ended_by: None,
        by_hand: false,
    });
    opening_step(&rows, &request.request_id, window.start())
}
