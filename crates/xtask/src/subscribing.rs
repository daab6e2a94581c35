//! `cargo xtask people`: the commands of the platform team for a deployment, said to a person.

use access_core::PersonId;
use clap::Subcommand;
use xtask::console::{self, green, red};
use xtask::deploy;
use xtask::error::{Error, Result};
use xtask::people::{Deployment, People};
use xtask::process;

#[derive(Subcommand)]
pub(crate) enum PeopleCommand {
    /// Subscribe the mailbox that the catalogue names, filtered to this person from the first moment.
    Subscribe {
        /// The person's id in the catalogue.
        person: String,
    },
    /// Confirm a subscription, so that no program that follows links in mail can end it.
    Confirm {
        /// The link of the mail "Subscription Confirmation", not followed, or the token in it.
        token_or_link: String,
    },
    /// Say whom messages reach, and which subscriptions stop the sending of links.
    Check,
}

/// Runs one of the commands with the caller's own AWS credentials.
///
/// # Errors
/// When AWS refuses, and for `check` when anybody is not reached or any subscription is not as it should be.
pub(crate) async fn run(stack: &str, command: &PeopleCommand) -> Result<()> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").ok();
    let endpoint = endpoint.as_deref();
    let outputs = deploy::outputs_of(stack, process::command("aws"), endpoint).await?;
    let deployment = Deployment::of_outputs(&outputs)?;
    let people = People::of(deployment, process::command("aws"), endpoint).await?;
    match command {
        PeopleCommand::Subscribe { person } => {
            let person = PersonId::new(person.as_str())
                .map_err(|error| Error::NotAsPromised(error.to_string()))?;
            let mailbox = people.subscribe(&person).await?;
            console::say(&format!(
                "AWS sends a link to {mailbox}. Nobody must follow it: let {person} send it to you, within two days, \
                 and confirm it with\n  cargo xtask people confirm 'LINK'\nUntil then no links are sent to anybody."
            ));
            Ok(())
        }
        PeopleCommand::Confirm { token_or_link } => {
            let arn = people.confirm(token_or_link).await?;
            console::say(&format!("confirmed: {arn}"));
            Ok(())
        }
        PeopleCommand::Check => check(&people).await,
    }
}

async fn check(people: &People) -> Result<()> {
    let report = people.check().await?;
    for person in &report.people {
        if report.reach.reachable.contains(person) {
            console::say(&format!("{person}: {}", green("reached")));
        } else {
            console::say(&format!(
                "{person}: {}: cargo xtask people subscribe {person}",
                red("not reached")
            ));
        }
    }
    for distrusted in &report.reach.distrusted {
        console::say(&format!(
            "{}: {}",
            red("stops all links"),
            access_text::remedy(distrusted)
        ));
    }
    let n_missed = report.people.difference(&report.reach.reachable).count();
    if n_missed == 0 && report.reach.distrusted.is_empty() {
        return Ok(());
    }
    Err(Error::NotAsPromised(format!(
        "people whom no message reaches: {n_missed}; subscriptions that stop all links: {}",
        report.reach.distrusted.len()
    )))
}
