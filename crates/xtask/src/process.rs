//! Programs that we run to their end, and servers that never outlive us.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::console::Step;
use crate::error::{Error, Result};
use crate::workspace;

/// How long a server may take to end before it is killed.
const PATIENCE_WITH_A_SERVER: Duration = Duration::from_secs(10);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The guardian of a server: a shell that ends the server's whole process group as soon as its own
/// standard input closes. The other end of that pipe is ours, so the server ends with us however we end,
/// killed included, and without a line of code running here.
const GUARDIAN: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ read -r _ <&3; kill -TERM "$server"; sleep 8; kill -KILL 0; } 2>/dev/null &
exec 3<&-
wait "$server"
status=$?
trap '' TERM
kill -TERM 0
exit "$status"
"#;

/// Runs a program to its end, shown as one step; its output goes to `log`.
///
/// # Errors
/// [`Error::Start`], and [`Error::Failed`] with its last lines.
pub async fn run_step(title: &str, log: &Path, command: std::process::Command) -> Result<Duration> {
    let step = Step::begin_with_log(title, Some(log));
    run(title, log, command).await?;
    Ok(step.done())
}

/// Runs a program to its end; its output goes to `log`.
///
/// # Errors
/// [`Error::Start`], and [`Error::Failed`] with its last lines.
pub async fn run(what: &str, log: &Path, mut command: std::process::Command) -> Result<()> {
    let (output, errors) = log_file(log)?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let status = RunningGroup::start(command)?.end().await?;
    succeeded(what, log, status)
}

/// Runs a program to its end and returns what it printed to standard output; the rest goes to `log`.
///
/// # Errors
/// [`Error::Start`], and [`Error::Failed`] with its last lines.
pub async fn capture(what: &str, log: &Path, mut command: std::process::Command) -> Result<String> {
    use tokio::io::AsyncReadExt;
    let (_, errors) = log_file(log)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors);
    let mut group = RunningGroup::start(command)?;
    let mut printed = String::new();
    if let Some(mut stdout) = group.child.stdout.take() {
        stdout
            .read_to_string(&mut printed)
            .await
            .map_err(|source| Error::File {
                action: "read what was printed by",
                path: PathBuf::from(what),
                source,
            })?;
    }
    let status = group.end().await?;
    succeeded(what, log, status)?;
    Ok(printed)
}

/// Runs a program to its end, passing each line that it prints to `on_line`, with our own standard error.
///
/// # Errors
/// [`Error::Start`].
pub async fn run_line_by_line(
    mut command: std::process::Command,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    use tokio::io::AsyncBufReadExt;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut group = RunningGroup::start(command)?;
    if let Some(stdout) = group.child.stdout.take() {
        let mut lines = tokio::io::BufReader::new(stdout).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            on_line(&String::from_utf8_lossy(&line));
        }
    }
    group.end().await
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

/// A program in a process group of its own, which ends as a whole when this is dropped.
struct RunningGroup {
    child: tokio::process::Child,
    group: Option<Pid>,
}

impl RunningGroup {
    fn start(mut command: std::process::Command) -> Result<Self> {
        command.process_group(0);
        let program = program_name(command.get_program());
        let child = tokio::process::Command::from(command)
            .spawn()
            .map_err(|source| Error::Start { program, source })?;
        let group = child.id().and_then(group_of);
        Ok(Self { child, group })
    }

    async fn end(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await.map_err(|source| Error::Start {
            program: "a program to its end".to_owned(),
            source,
        })?;
        self.group = None;
        Ok(status)
    }
}

impl Drop for RunningGroup {
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
    /// Starts a server under its guardian; its output goes to `log`.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn start(name: &'static str, log: &Path, server: &std::process::Command) -> Result<Self> {
        let (output, errors) = log_file(log)?;
        let mut guardian = std::process::Command::new("/bin/sh");
        guardian
            .args(["-c", GUARDIAN, "guardian"])
            .arg(server.get_program())
            .args(server.get_args());
        guardian.env_clear();
        guardian.envs(
            server
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        if let Some(folder) = server.get_current_dir() {
            guardian.current_dir(folder);
        }
        guardian
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let guardian = guardian.spawn().map_err(|source| Error::Start {
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
        let mut command = std::process::Command::new("/bin/sh");
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
        let mut command = std::process::Command::new("/bin/sh");
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
        let mut command = std::process::Command::new("/bin/sh");
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
}
