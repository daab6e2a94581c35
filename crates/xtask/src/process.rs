//! Programs that we run to their end, and servers that never outlive us.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::console::Step;
use crate::error::{Error, Result};
use crate::workspace;

/// How long a server may take to end before it is killed.
const PATIENCE_WITH_A_SERVER: Duration = Duration::from_secs(10);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The guardian of a program: a shell that ends the program's whole process group as soon as its own standard
/// input closes. The other end of that pipe is ours, so the program ends with us however we end, killed included,
/// and without a line of code running here. What the program left behind when it ended by itself goes too.
const GUARDIAN: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ read -r _ <&3; kill -TERM "$program"; sleep 8; kill -KILL 0; } >/dev/null 2>&1 &
exec 3<&-
wait "$program"
status=$?
trap '' TERM
kill -TERM 0
exit "$status"
"#;

/// Runs a program to its end, shown as one step; its output goes to `log`.
///
/// # Errors
/// [`Error::Start`], and [`Error::Failed`] with its last lines.
pub async fn run_step(title: &str, log: &Path, command: Command) -> Result<Duration> {
    let step = Step::begin_with_log(title, Some(log));
    run(title, log, command).await?;
    Ok(step.done())
}

/// Runs a program to its end; its output goes to `log`.
///
/// # Errors
/// [`Error::Start`], and [`Error::Failed`] with its last lines.
pub async fn run(what: &str, log: &Path, command: Command) -> Result<()> {
    let (output, errors) = log_file(log)?;
    let status = Running::start(&command, output.into(), errors.into())?
        .end()
        .await?;
    succeeded(what, log, status)
}

/// Runs a program to its end and returns what it printed to standard output; the rest goes to `log`.
///
/// # Errors
/// [`Error::Start`], and [`Error::Failed`] with its last lines.
pub async fn capture(what: &str, log: &Path, command: Command) -> Result<String> {
    let (_, errors) = log_file(log)?;
    let mut running = Running::start(&command, Stdio::piped(), errors.into())?;
    let mut printed = String::new();
    if let Some(mut stdout) = running.guardian.stdout.take() {
        stdout
            .read_to_string(&mut printed)
            .await
            .map_err(|source| Error::File {
                action: "read what was printed by",
                path: PathBuf::from(what),
                source,
            })?;
    }
    let status = running.end().await?;
    succeeded(what, log, status)?;
    Ok(printed)
}

/// Runs a program to its end, passing each line that it prints to `on_line`, with our own standard error.
///
/// # Errors
/// [`Error::Start`].
pub async fn run_line_by_line(
    command: Command,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    let mut running = Running::start(&command, Stdio::piped(), Stdio::inherit())?;
    if let Some(stdout) = running.guardian.stdout.take() {
        let mut lines = tokio::io::BufReader::new(stdout).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            on_line(&String::from_utf8_lossy(&line));
        }
    }
    running.end().await
}

fn succeeded(what: &str, log: &Path, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        what: what.to_owned(),
        status,
        said: last_lines(log, 30),
        log: log.to_owned(),
    })
}

/// A command in our own environment, but without what Cargo says of the program that it runs
/// (<https://doc.rust-lang.org/cargo/reference/environment-variables.html>): a Cargo below us would take it for a
/// change, and build ring and all that depends on it anew for each caller.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if is_set_by_cargo(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
    command
}

fn is_set_by_cargo(name: &str) -> bool {
    let names = [
        "CARGO",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_CRATE_NAME",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
        "LD_LIBRARY_PATH",
    ];
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The guardian of `command`, which has a process group of its own.
fn guardian_of(command: &Command) -> Command {
    let mut guardian = Command::new("/bin/sh");
    guardian
        .args(["-c", GUARDIAN, "guardian"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guardian.env(name, value),
            None => guardian.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        guardian.current_dir(folder);
    }
    guardian.stdin(Stdio::piped()).process_group(0);
    guardian
}

/// A program with everything that it started, which ends as a whole when this is dropped.
struct Running {
    guardian: tokio::process::Child,
    group: Option<Pid>,
}

impl Running {
    fn start(command: &Command, stdout: Stdio, stderr: Stdio) -> Result<Self> {
        let mut guardian = guardian_of(command);
        guardian.stdout(stdout).stderr(stderr);
        let program = program_name(command.get_program());
        let guardian = tokio::process::Command::from(guardian)
            .spawn()
            .map_err(|source| Error::Start { program, source })?;
        let group = guardian.id().and_then(group_of);
        Ok(Self { guardian, group })
    }

    async fn end(&mut self) -> Result<ExitStatus> {
        // Waiting closes the guardian's standard input, which would end the program, unless we hold on to it.
        let held = self.guardian.stdin.take();
        let status = self.guardian.wait().await.map_err(|source| Error::Start {
            program: "a program to its end".to_owned(),
            source,
        })?;
        drop(held);
        self.group = None;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended by itself in this moment.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

/// A server with everything that it started. It ends when this is dropped, and also when our own process
/// ends in any way.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    log: PathBuf,
    guardian: std::process::Child,
    group: Option<Pid>,
}

impl Server {
    /// Starts a server under its guardian, in no other environment than the command's own; its output goes to
    /// `log`.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn start(name: &'static str, log: &Path, server: &Command) -> Result<Self> {
        let (output, errors) = log_file(log)?;
        let mut guardian = guardian_of(server);
        guardian.env_clear().envs(
            server
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let guardian = guardian
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|source| Error::Start {
                program: name.to_owned(),
                source,
            })?;
        let group = group_of(guardian.id());
        Ok(Self {
            name,
            log: log.to_owned(),
            guardian,
            group,
        })
    }

    /// Waits until `ready` says so, for at most `at_most`; ends early when the server ends.
    ///
    /// # Errors
    /// [`Error::NotReady`] with the last thing that `ready` said.
    pub async fn wait_until_ready(
        &mut self,
        at_most: Duration,
        mut ready: impl AsyncFnMut() -> std::result::Result<(), String>,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let reason = match ready().await {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            };
            let ended = matches!(self.guardian.try_wait(), Ok(Some(_)));
            if ended || started.elapsed() > at_most {
                return Err(Error::NotReady {
                    server: self.name,
                    waited: started.elapsed(),
                    reason: if ended {
                        format!("it ended: {}", last_lines(&self.log, 5))
                    } else {
                        reason
                    },
                    log: self.log.clone(),
                });
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let started = Instant::now();
        while started.elapsed() < PATIENCE_WITH_A_SERVER {
            if !matches!(self.guardian.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.guardian.wait();
    }
}

/// A TCP port of this machine that is free now.
///
/// # Errors
/// When the machine has none.
pub fn free_port() -> Result<u16> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| Error::Start {
            program: "a listener on a free port".to_owned(),
            source,
        })
}

/// Where a program is on the `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn program_name(program: &OsStr) -> String {
    Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_string_lossy()
        .into_owned()
}

fn group_of(process_id: u32) -> Option<Pid> {
    i32::try_from(process_id).ok().and_then(Pid::from_raw)
}

fn log_file(path: &Path) -> Result<(std::fs::File, std::fs::File)> {
    if let Some(folder) = path.parent() {
        workspace::make_folder(folder.to_owned())?;
    }
    let failed = |source| Error::File {
        action: "create",
        path: path.to_owned(),
        source,
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(failed)?;
    let second = file.try_clone().map_err(failed)?;
    Ok((file, second))
}

/// The last lines of a log.
pub fn last_lines(log: &Path, n_lines: usize) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = std::fs::File::open(log) {
        // What could be read is shown.
        let _ = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(n_lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        workspace::target()
            .join("xtask-tests")
            .join(format!("{name}-{}.log", std::process::id()))
    }

    fn is_running(process_id: &str) -> bool {
        // A process that ended and was not waited for yet is a zombie: state Z.
        std::fs::read_to_string(format!("/proc/{process_id}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn a_dropped_server_takes_along_what_it_started() {
        let log = log("family");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 600 & echo $! $$; wait"]);
        let mut server = Server::start("family", &log, &command).unwrap();
        let mut family = String::new();
        server
            .wait_until_ready(Duration::from_secs(10), async || {
                family = std::fs::read_to_string(&log).unwrap_or_default();
                if family.ends_with('\n') {
                    Ok(())
                } else {
                    Err("nothing printed".to_owned())
                }
            })
            .await
            .unwrap();
        assert!(family.split_whitespace().all(is_running));

        drop(server);
        let started = Instant::now();
        while family.split_whitespace().any(is_running) {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{family} still running"
            );
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
        std::fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn a_server_that_ends_says_so_at_once() {
        let log = log("short-lived");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no such luck; exit 3"]);
        let mut server = Server::start("short-lived", &log, &command).unwrap();
        let error = server
            .wait_until_ready(Duration::from_secs(60), async || {
                Err("never ready".to_owned())
            })
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no such luck"), "{error}");
        std::fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn a_failed_program_shows_its_last_lines() {
        let log = log("failed");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo the reason; exit 1"]);
        let error = run("try it", &log, command).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("try it failed (exit status: 1)\nthe reason\n"),
            "{error}"
        );
        std::fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_not_waited_for_any_more_is_ended() {
        let log = log("abandoned");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$; sleep 600"]);
        let abandoned =
            tokio::time::timeout(Duration::from_secs(1), run("wait", &log, command)).await;
        assert!(abandoned.is_err());
        let process_id = std::fs::read_to_string(&log).unwrap();
        let started = Instant::now();
        while is_running(process_id.trim()) {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{process_id} still running"
            );
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
        std::fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn what_a_program_printed_and_how_it_ended_are_known() {
        let log = log("printed");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo out; echo err >&2"]);
        assert_eq!(capture("print", &log, command).await.unwrap(), "out\n");
        assert_eq!(last_lines(&log, 5), "err");

        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo one; echo two; exit 7"]);
        let mut lines = Vec::new();
        let status = run_line_by_line(command, |line| lines.push(line.to_owned()))
            .await
            .unwrap();
        assert_eq!(
            (lines.join(" ").as_str(), status.code()),
            ("one two", Some(7))
        );
        std::fs::remove_file(log).unwrap();
    }
}
