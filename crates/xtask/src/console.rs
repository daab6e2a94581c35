//! What a person sees while a command works: one line per step, with the time it took.
//!
//! On a terminal the running step shows its elapsed time and the last line of what its program printed;
//! elsewhere (CI, a file) every line is plain text and a long step says every half minute that it goes on.
//! Everything here goes to standard error: standard output is for results.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const REDRAW_EVERY: Duration = Duration::from_millis(200);
const SAY_STILL_EVERY: Duration = Duration::from_secs(30);

/// A step that is being done. Dropped without [`Step::done`], it is shown as not finished.
#[derive(Debug)]
pub struct Step {
    title: String,
    started: Instant,
    stop: Option<Sender<()>>,
    ticker: Option<JoinHandle<()>>,
}

impl Step {
    /// Shows that a step begins.
    pub fn begin(title: &str) -> Self {
        Self::begin_with_log(title, None)
    }

    /// Shows that a step begins whose program writes to `log`.
    pub fn begin_with_log(title: &str, log: Option<&Path>) -> Self {
        let started = Instant::now();
        let (stop, stopped) = channel::<()>();
        let on_terminal = on_terminal();
        if !on_terminal {
            write_line(&format!("{title} ..."));
        }
        let ticker = std::thread::spawn({
            let title = title.to_owned();
            let log = log.map(Path::to_owned);
            move || {
                let pause = if on_terminal {
                    REDRAW_EVERY
                } else {
                    SAY_STILL_EVERY
                };
                while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    let elapsed = seconds(started.elapsed());
                    if on_terminal {
                        let detail = log.as_deref().and_then(last_line).unwrap_or_default();
                        redraw(&format!("  {title}  {elapsed}  {}", dim(&detail)));
                    } else {
                        write_line(&format!("{title} ... {elapsed} so far"));
                    }
                }
            }
        });
        Self {
            title: title.to_owned(),
            started,
            stop: Some(stop),
            ticker: Some(ticker),
        }
    }

    /// Shows that the step is done, and returns how long it took.
    pub fn done(self) -> Duration {
        self.done_with("")
    }

    /// Shows that the step is done and what came out of it, and returns how long it took.
    pub fn done_with(mut self, outcome: &str) -> Duration {
        self.stop_ticking();
        let elapsed = self.started.elapsed();
        let outcome = if outcome.is_empty() {
            String::new()
        } else {
            format!(": {outcome}")
        };
        let took = dim(&seconds(elapsed));
        if on_terminal() {
            write_line(&format!(
                "\r\x1b[K{} {}{outcome}  {took}",
                green("✓"),
                self.title
            ));
        } else {
            write_line(&format!("{}{outcome} ({took})", self.title));
        }
        elapsed
    }

    fn stop_ticking(&mut self) {
        drop(self.stop.take());
        if let Some(ticker) = self.ticker.take() {
            // A ticker that panicked has nothing more to show.
            let _ = ticker.join();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.ticker.is_some() {
            self.stop_ticking();
            let elapsed = dim(&seconds(self.started.elapsed()));
            if on_terminal() {
                write_line(&format!("\r\x1b[K{} {}  {elapsed}", red("✗"), self.title));
            } else {
                write_line(&format!("{}: not finished ({elapsed})", self.title));
            }
        }
    }
}

/// Shows a line that is part of the story.
pub fn say(line: &str) {
    write_line(line);
}

/// Shows a heading with an empty line before it.
pub fn heading(text: &str) {
    write_line(&format!("\n{}", bold(text)));
}

/// Shows a line that the next one replaces; only for a terminal.
pub fn show_in_place(line: &str) {
    redraw(line);
}

/// Whether a person is looking.
pub fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// `text` in bold, on a terminal.
pub fn bold(text: &str) -> String {
    painted("1", text)
}

/// `text` less bright, on a terminal.
pub fn dim(text: &str) -> String {
    painted("2", text)
}

/// `text` in green, on a terminal.
pub fn green(text: &str) -> String {
    painted("32", text)
}

/// `text` in red, on a terminal.
pub fn red(text: &str) -> String {
    painted("31", text)
}

/// A duration as a person reads it: `0.4 s`, `12.3 s`, `4 min 05 s`.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(100) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!(
            "{} min {:02} s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        )
    }
}

fn painted(code: &str, text: &str) -> String {
    if on_terminal() && std::env::var_os("NO_COLOR").is_none() && !text.is_empty() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn write_line(line: &str) {
    // Nobody is left to read it when standard error is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn redraw(line: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    let _ = std::io::stderr().flush();
}

/// The last line of a program's output, short enough to stand behind the step's title.
fn last_line(log: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(PathBuf::from(log)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(400)))
        .ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end);
    let line = end.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(
        line.trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(48)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(420)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
    }

    #[test]
    fn the_last_line_of_a_log_is_its_last_with_text() {
        let log = std::env::temp_dir().join(format!("latchkey-console-{}", std::process::id()));
        std::fs::write(&log, "Compiling a\nCompiling b\n\n").unwrap();
        assert_eq!(last_line(&log).as_deref(), Some("Compiling b"));
        std::fs::remove_file(&log).unwrap();
    }
}
