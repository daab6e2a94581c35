//! `cargo xtask`: the developer commands of Latchkey.

mod bench;
mod catalogue;
mod demo;
mod lint;
mod runbook;
mod subscribing;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::console;

/// The developer commands of Latchkey. Everything they install, build and start is below target/, on
/// 127.0.0.1 and free ports; nothing but `people` needs an AWS account.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show a whole access window on real parts: request, approval, login, end.
    Demo(demo::Options),
    /// Run all tests, or one part of them.
    Test(suite::Options),
    /// Measure how fast and small the functions are, beside Python, Node and psql, and check the ratios.
    Bench(bench::Options),
    /// Check format, lints, documentation, dependencies and the template.
    Lint,
    /// Work with catalogue documents.
    Catalogue {
        #[command(subcommand)]
        command: CatalogueCommand,
    },
    /// Subscribe people to the messages of a deployment on AWS, and see whom they reach.
    People {
        /// The name of the CloudFormation stack.
        #[arg(long, default_value = "latchkey")]
        stack: String,
        #[command(subcommand)]
        command: subscribing::PeopleCommand,
    },
    /// Install the tools of the other commands into target/tools, and nothing else.
    Tools,
}

#[derive(Subcommand)]
enum CatalogueCommand {
    /// Say every fault of catalogue documents, each with its JSON path, without asking AWS.
    Check {
        /// JSON files, named or foldered as in the catalogue: databases/NAME.json, roles/TARGET/NAME.json,
        /// people/NAME.json.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Make a role's document, its approvers' and a request of the parameters of a Systems Manager runbook (DBUser,
    /// DBName, StartTime, EndTime, Approvers, SnsTopicArn), without asking AWS.
    ImportRunbook(runbook::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Whoever loses is dropped, and with it every process that it started.
    let result = tokio::select! {
        result = run(arguments.command) => result,
        () = interrupted() => {
            console::say("\ninterrupted; everything that was started has been ended");
            return ExitCode::from(130);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::say(&format!(
                "{} {}",
                console::red("error:"),
                error.with_causes()
            ));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> xtask::Result<()> {
    match command {
        Command::Demo(options) => demo::run(&options).await,
        Command::Test(options) => suite::run(&options).await,
        Command::Bench(options) => bench::run(&options).await,
        Command::Lint => lint::run().await,
        Command::Catalogue {
            command: CatalogueCommand::Check { files },
        } => catalogue::check(&files),
        Command::Catalogue {
            command: CatalogueCommand::ImportRunbook(options),
        } => runbook::import(&options),
        Command::People { stack, command } => subscribing::run(&stack, &command).await,
        Command::Tools => xtask::tools::Tools::ensure().await.map(|tools| {
            console::say(&format!("the tools are in {}", tools.bin().display()));
        }),
    }
}

/// Waits until a person presses Ctrl-C or somebody ends us.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
