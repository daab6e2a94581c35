//! Headless Chromium on the approval page: start it, look at the page as people will, fill in the form.
//!
//! Everything here takes a URL, so that the same checks serve a page from a file and a page of a deployed stack.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use url::{ParseError, Url};

/// What went wrong, for the person who runs the tests.
pub type Failure = Box<dyn Error + Send + Sync>;

const START_LIMIT: Duration = Duration::from_secs(60);

const INSTALL: &str = "install the Debian packages chromium and chromium-driver";

/// How the page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Part of the screenshot's file name.
    pub name: &'static str,
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// `prefers-color-scheme`.
    pub scheme: &'static str,
}

/// A telephone and a desk, by day and by night, and the narrowest telephone there is.
pub const LOOKS: [Look; 5] = [
    Look {
        name: "phone-light",
        width: 390,
        height: 844,
        scheme: "light",
    },
    Look {
        name: "phone-dark",
        width: 390,
        height: 844,
        scheme: "dark",
    },
    Look {
        name: "desktop-light",
        width: 1280,
        height: 900,
        scheme: "light",
    },
    Look {
        name: "desktop-dark",
        width: 1280,
        height: 900,
        scheme: "dark",
    },
    Look {
        name: "narrow-light",
        width: 320,
        height: 640,
        scheme: "light",
    },
];

/// A running Chromium in which pages may not run scripts.
pub struct Browser {
    client: Client,
    /// axe-core.
    axe: Arc<str>,
}

/// Starts Chromium, hands it to `work`, and ends it whatever happens.
///
/// # Errors
/// If it does not start (the sentence says which packages to install), or what `work` reports.
pub async fn with_browser<T, F, W>(work: W) -> Result<T, Failure>
where
    W: FnOnce(Browser) -> F,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
    T: Send + 'static,
{
    let axe = xtask::axe::script()
        .await
        .map_err(|error| error.with_causes())?;
    let driver = Driver::start().await?;
    let client = driver.open_session().await?;
    let browser = Browser {
        client: client.clone(),
        axe: axe.into(),
    };
    browser.allow_scripts(false).await?;
    // A task of its own, so that a panic in it does not leave a browser behind.
    let result = tokio::spawn(work(browser)).await;
    let closed = client.close().await;
    driver.stop().await?;
    let done = match result {
        Ok(result) => result?,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    closed?;
    Ok(done)
}

/// The chromedriver process. It stays in our process group, so that Ctrl-C reaches it and the browser too.
struct Driver {
    process: Child,
    port: u16,
    /// Kept open, because the driver goes on writing to it.
    output: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    async fn start() -> Result<Self, Failure> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start chromedriver ({error}); {INSTALL}"))?;
        let stdout = process.stdout.take().ok_or("chromedriver has no output")?;
        let mut driver = Self {
            process,
            port: 0,
            output: BufReader::new(stdout).lines(),
        };
        driver.port = timeout(START_LIMIT, driver.read_port())
            .await
            .map_err(|_| "chromedriver does not say its port")??;
        Ok(driver)
    }

    /// `ChromeDriver was started successfully on port 40123.`
    async fn read_port(&mut self) -> Result<u16, Failure> {
        while let Some(line) = self.output.next_line().await? {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                return Ok(port.trim_end_matches('.').parse()?);
            }
        }
        Err("chromedriver ended without saying its port".into())
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.process.kill().await?;
        Ok(())
    }

    async fn open_session(&self) -> Result<Client, Failure> {
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "args": [
                    "--headless=new",
                    // Containers run as root and have a small /dev/shm.
                    "--no-sandbox",
                    "--disable-dev-shm-usage",
                    "--disable-gpu",
                    "--hide-scrollbars",
                    "--force-color-profile=srgb",
                    "--no-first-run",
                    "--disable-background-networking",
                ],
            },
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("an object literal")
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let url = format!("http://127.0.0.1:{}", self.port);
        let client = timeout(START_LIMIT, builder.connect(&url))
            .await
            .map_err(|_| format!("the browser does not start; {INSTALL}"))?
            .map_err(|error| format!("the browser does not start ({error}); {INSTALL}"))?;
        Ok(client)
    }
}

impl Browser {
    /// The WebDriver client, for what is not here.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Opens a page in a given size and colour scheme.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn open(&self, url: &str, look: Look) -> Result<(), Failure> {
        let is_phone = look.width < 600;
        let screen = json!({
            "width": look.width,
            "height": look.height,
            "deviceScaleFactor": if is_phone { 2 } else { 1 },
            "mobile": is_phone,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", screen)
            .await?;
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": look.scheme }] }),
        )
        .await?;
        self.client.goto(url).await?;
        Ok(())
    }

    /// Saves the whole page as `target/screenshots/NAME.png`.
    ///
    /// # Errors
    /// If the browser or the disk refuses.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf, Failure> {
        let shot = self
            .devtools(
                "Page.captureScreenshot",
                json!({ "format": "png", "captureBeyondViewport": true }),
            )
            .await?;
        let png = BASE64.decode(shot["data"].as_str().ok_or("no picture")?.as_bytes())?;
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{name}.png"));
        std::fs::write(&path, png)?;
        Ok(path)
    }

    /// Asks for pages in the language with this tag from now on.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn speak(&self, tag: &str) -> Result<(), Failure> {
        self.devtools("Network.enable", json!({})).await?;
        let headers = json!({ "headers": { "Accept-Language": tag } });
        self.devtools("Network.setExtraHTTPHeaders", headers)
            .await?;
        Ok(())
    }

    /// Opens a page in each of these looks, keeps a picture of each as `NAME-LOOK.png`, and lists everything that is
    /// wrong with it; empty if nothing is.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn inspect(
        &self,
        url: &str,
        name: &str,
        looks: &[Look],
    ) -> Result<Vec<String>, Failure> {
        let mut faults = Vec::new();
        for &look in looks {
            self.open(url, look).await?;
            self.screenshot(&format!("{name}-{}", look.name)).await?;
            let mut found = self.faults_of_layout(look).await?;
            found.extend(self.faults_of_contrast().await?);
            found.extend(self.violations().await?);
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| format!("{name}, {}: {fault}", look.name)),
            );
        }
        let mut found = self.faults_of_structure().await?;
        found.extend(self.console().await?);
        faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
        Ok(faults)
    }

    /// Nothing is wider than the screen, and what is pressed is large enough for a thumb.
    async fn faults_of_layout(&self, look: Look) -> Result<Vec<String>, Failure> {
        let mut faults = self.list(SMALL_TARGETS).await?;
        let width = self
            .evaluate("document.documentElement.scrollWidth")
            .await?;
        if width
            .as_f64()
            .is_none_or(|width| width > f64::from(look.width))
        {
            faults.push(format!("the page is {width} px wide and scrolls sideways"));
        }
        Ok(faults)
    }

    /// WCAG 2.2 AA: text has a contrast of at least 4.5 to what is behind it.
    async fn faults_of_contrast(&self) -> Result<Vec<String>, Failure> {
        self.list(POOR_CONTRAST).await
    }

    /// What axe-core finds, every rule of it (<https://github.com/dequelabs/axe-core/blob/develop/doc/API.md>).
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn violations(&self) -> Result<Vec<String>, Failure> {
        self.allow_scripts(true).await?;
        self.evaluate(&self.axe).await?;
        let found = self
            .devtools(
                "Runtime.evaluate",
                json!({ "expression": RUN_AXE, "returnByValue": true, "awaitPromise": true }),
            )
            .await?;
        self.allow_scripts(false).await?;
        let report = found["result"]["value"].as_object();
        let n_passed = report.and_then(|report| report["passed"].as_u64());
        if n_passed.is_none_or(|n_passed| n_passed == 0) {
            return Err(format!("axe-core looked at nothing: {found}").into());
        }
        let violations = report.and_then(|report| report["violations"].as_array());
        Ok(violations
            .ok_or("axe-core gave no list")?
            .iter()
            .map(|violation| violation.as_str().unwrap_or("?").to_owned())
            .collect())
    }

    /// What a screen reader is told: landmarks, one main heading, a name for everything that can be operated.
    async fn faults_of_structure(&self) -> Result<Vec<String>, Failure> {
        let tree = self
            .devtools("Accessibility.getFullAXTree", json!({}))
            .await?;
        let nodes = tree["nodes"].as_array().ok_or("no accessibility tree")?;
        let role = |node: &Value| {
            node["role"]["value"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let name = |node: &Value| {
            node["name"]["value"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let mut faults = Vec::new();
        for landmark in ["banner", "main", "contentinfo"] {
            if nodes.iter().filter(|node| role(node) == landmark).count() != 1 {
                faults.push(format!("there must be one landmark {landmark}"));
            }
        }
        let mut last_level = 0;
        for node in nodes.iter().filter(|node| role(node) == "heading") {
            let properties = node["properties"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let level = properties
                .iter()
                .find(|property| property["name"] == "level")
                .and_then(|property| property["value"]["value"].as_i64())
                .unwrap_or_default();
            if level > last_level + 1 || (level == 1) != (last_level == 0) {
                faults.push(format!(
                    "heading {:?} has level {level} after {last_level}",
                    name(node)
                ));
            }
            last_level = level;
        }
        if last_level == 0 {
            faults.push("there is no heading".to_owned());
        }
        for node in nodes.iter().filter(|node| {
            matches!(
                role(node).as_str(),
                "textbox" | "button" | "link" | "region"
            )
        }) {
            if name(node).is_empty() && node["ignored"] != true {
                faults.push(format!("a {} has no name", role(node)));
            }
        }
        Ok(faults)
    }

    /// What the browser complained about since the last time, blocked style sheets among it.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn console(&self) -> Result<Vec<String>, Failure> {
        let log = self.client.issue_cmd(DriverCommand::log()).await?;
        let entries = log.as_array().ok_or("the log is no list")?;
        Ok(entries
            .iter()
            // An error page has an error status; that is not a fault of the page.
            .filter(|entry| entry["source"] != "network")
            .filter_map(|entry| entry["message"].as_str().map(str::to_owned))
            .collect())
    }

    /// What Tab reaches, in order, by the elements' `value` (buttons) or `id`, until it leaves the page.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn tab_order(&self) -> Result<Vec<String>, Failure> {
        let mut order = Vec::new();
        for _ in 0..20 {
            for kind in ["rawKeyDown", "keyUp"] {
                let key = json!({ "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 });
                self.devtools("Input.dispatchKeyEvent", key).await?;
            }
            let focused = "(e => e === document.body ? '' : e.matches('button') ? e.value : e.id || e.hash)(document.activeElement)";
            match self.evaluate(focused).await?.as_str() {
                Some(stop)
                    if !stop.is_empty() && order.first().is_none_or(|first| first != stop) =>
                {
                    order.push(stop.to_owned());
                }
                _ => break,
            }
        }
        Ok(order)
    }

    /// Types the role's name and a comment into the form that is open, and presses Approve.
    ///
    /// # Errors
    /// If the page has no such form.
    pub async fn approve(&self, typed_role: &str, comment: &str) -> Result<(), Failure> {
        self.fill("#role", typed_role).await?;
        self.fill("#comment", comment).await?;
        self.press("button[value=approve]").await
    }

    /// Types a comment into the form that is open, and presses Reject.
    ///
    /// # Errors
    /// If the page has no such form.
    pub async fn reject(&self, comment: &str) -> Result<(), Failure> {
        self.fill("#comment", comment).await?;
        self.press("button[value=reject]").await
    }

    /// Types a start and an end (`2026-11-22T19:30:00`, empty to leave one out) into the fields for less time.
    ///
    /// # Errors
    /// If the page has no such fields.
    pub async fn narrow(&self, start: &str, end: &str) -> Result<(), Failure> {
        self.press("#narrow").await?;
        for (field, time) in [("start", start), ("end", end)] {
            // How a date is typed depends on the browser's locale; its value does not.
            self.evaluate(&format!(
                "document.getElementById('{field}').value = '{time}'"
            ))
            .await?;
        }
        Ok(())
    }

    /// Waits for the page that says what has become of the request, and gives its heading.
    ///
    /// # Errors
    /// If no such page comes.
    pub async fn outcome(&self) -> Result<String, Failure> {
        let heading = Locator::Css("[role=status] h1");
        Ok(self
            .client
            .wait()
            .for_element(heading)
            .await?
            .text()
            .await?)
    }

    async fn fill(&self, selector: &str, text: &str) -> Result<(), Failure> {
        let field = self.client.find(Locator::Css(selector)).await?;
        field.clear().await?;
        if !text.is_empty() {
            field.send_keys(text).await?;
        }
        Ok(())
    }

    async fn press(&self, selector: &str) -> Result<(), Failure> {
        self.client
            .find(Locator::Css(selector))
            .await?
            .click()
            .await?;
        Ok(())
    }

    /// Evaluates an expression as the developer tools do, which works although the page may not run scripts.
    async fn evaluate(&self, expression: &str) -> Result<Value, Failure> {
        let answer = self
            .devtools(
                "Runtime.evaluate",
                json!({ "expression": expression, "returnByValue": true }),
            )
            .await?;
        if answer["exceptionDetails"].is_object() {
            return Err(format!(
                "the browser cannot evaluate {expression}: {}",
                answer["exceptionDetails"]
            )
            .into());
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Evaluates a script that gives a list of texts.
    async fn list(&self, script: &str) -> Result<Vec<String>, Failure> {
        let list = self.evaluate(script).await?;
        let items = list.as_array().ok_or("the script gave no list")?;
        Ok(items
            .iter()
            .map(|item| item.as_str().unwrap_or("?").to_owned())
            .collect())
    }

    /// Whether pages may run scripts. axe-core, put into a page from outside, needs timers.
    async fn allow_scripts(&self, allowed: bool) -> Result<(), Failure> {
        let disabled = json!({ "value": !allowed });
        self.devtools("Emulation.setScriptExecutionDisabled", disabled)
            .await?;
        Ok(())
    }

    /// One command of <https://chromedevtools.github.io/devtools-protocol/>.
    async fn devtools(&self, command: &str, parameters: Value) -> Result<Value, Failure> {
        Ok(self
            .client
            .issue_cmd(DriverCommand::devtools(command, &parameters))
            .await?)
    }
}

/// A command that chromedriver has beside the WebDriver standard.
#[derive(Debug)]
struct DriverCommand {
    path: &'static str,
    body: String,
}

impl DriverCommand {
    fn devtools(command: &str, parameters: &Value) -> Self {
        Self {
            path: "goog/cdp/execute",
            body: json!({ "cmd": command, "params": parameters }).to_string(),
        }
    }

    fn log() -> Self {
        Self {
            path: "se/log",
            body: json!({ "type": "browser" }).to_string(),
        }
    }
}

impl WebDriverCompatibleCommand for DriverCommand {
    fn endpoint(&self, base_url: &Url, session_id: Option<&str>) -> Result<Url, ParseError> {
        base_url.join(&format!(
            "session/{}/{}",
            session_id.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.clone()))
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Browser").finish_non_exhaustive()
    }
}

/// Lists what is pressed or typed into, but smaller than 44 CSS pixels, as
/// <https://www.w3.org/TR/WCAG22/#target-size-enhanced> wants it; links inside a sentence are excepted.
const SMALL_TARGETS: &str = r"[...document.querySelectorAll('button, input, textarea, summary, .jump a')]
  .filter(element => element.getClientRects().length)
  .map(element => [element, element.getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44)
  .map(([element, box]) => `${element.tagName} is only ${box.width} x ${box.height} px`)";

/// Runs every rule of axe-core, also those that are only advice, and lists what they find.
const RUN_AXE: &str = r"axe.run(document, { preload: false, resultTypes: ['violations', 'passes'] }).then(({ violations, passes }) => ({
  passed: passes.length,
  violations: violations.flatMap(({ id, help, nodes }) =>
    nodes.map(node => `axe ${id}: ${help} at ${node.target} ${node.failureSummary}`)),
}))";

/// Lists text whose contrast is below 4.5 (<https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio>); backgrounds are opaque.
const POOR_CONTRAST: &str = r"(() => {
  const numbers = colour => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faults = [];
  for (const element of document.body.querySelectorAll('*')) {
    const field = element.matches('input, textarea');
    const text = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!(text || field) || !element.getClientRects().length) continue;
    const [a, b] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)} of ${element.tagName} ${element.textContent.slice(0, 30)}`);
  }
  return faults;
})()";
