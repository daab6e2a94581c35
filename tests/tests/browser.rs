//! The approval page in a real browser: the rendered files of `access-text` with the real headers.

// What axe-core looked at is worth a line.
#![allow(clippy::print_stdout)]

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use access_text::security_headers;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use latchkey_tests::browser::{Browser, Failure, LOOKS, with_browser};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// Serves `/decide/NAME` from the golden file `NAME.html`, and keeps what is posted there.
#[derive(Clone)]
struct Site {
    base_url: String,
    posts: watch::Sender<Vec<Post>>,
}

/// A submitted form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Post {
    path: String,
    content_type: String,
    body: String,
}

impl Site {
    async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let site = Self {
            base_url: format!("http://{}", listener.local_addr()?),
            posts: watch::Sender::default(),
        };
        let serving = site.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let site = serving.clone();
                let service = service_fn(move |request| answer(site.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(site)
    }

    fn url(&self, page: &str) -> String {
        format!("{}/decide/{page}", self.base_url)
    }

    /// The forms submitted so far, at least one.
    async fn posts(&self) -> Result<Vec<Post>, Failure> {
        let mut posts = self.posts.subscribe();
        let posts = timeout(
            Duration::from_secs(30),
            posts.wait_for(|posts| !posts.is_empty()),
        );
        Ok(posts.await.map_err(|_| "no form was submitted")??.clone())
    }
}

/// A page with one fault of every kind that [`Browser::inspect`] looks for. Its style is blocked by the real headers.
const BAD_PAGE: &str = r##"<!DOCTYPE html><html lang="en"><title>Bad</title><style>p { color: red }</style>
<body bgcolor="#ffffff"><main><h3>Too deep</h3><font color="#aaaaaa">pale</font><table width="2000"><tr><td>wide</table>
<input size="1"></main>"##;

fn pages() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/access-text/tests/golden/pages")
}

/// The pages in one language's folder.
fn names(folder: &str) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(pages().join(folder))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".html").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

async fn answer(
    site: Site,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let page = if request.method() == Method::POST {
        let content_type = request
            .headers()
            .get("content-type")
            .and_then(|it| it.to_str().ok())
            .unwrap_or_default();
        let content_type = content_type.to_owned();
        let body = request
            .into_body()
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        let post = Post {
            path,
            content_type,
            body,
        };
        site.posts.send_modify(|posts| posts.push(post));
        "decided_approved".to_owned()
    } else {
        path.trim_start_matches("/decide/").to_owned()
    };
    let html = if page == "bad" {
        Ok(BAD_PAGE.into())
    } else {
        std::fs::read(pages().join(format!("{page}.html")))
    };
    let mut response = Response::builder().status(if html.is_ok() { 200 } else { 404 });
    for (name, value) in security_headers() {
        response = response.header(name, value);
    }
    let body = Full::from(html.unwrap_or_default());
    Ok(response.body(body).expect("the headers are valid"))
}

/// Runs one test with a browser and a site of its own.
async fn check<F>(work: impl FnOnce(Browser, Site) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let site = Site::start().await?;
    with_browser(|browser| work(browser, site)).await
}

#[tokio::test]
async fn every_page_is_sound_in_every_look() -> Result<(), Failure> {
    check(|browser, site| async move {
        let mut faults = Vec::new();
        let mut n_pages = 0;
        // Whatever the language, the style sheet is the same: two looks tell whether the words fit.
        for (folder, looks) in [("", &LOOKS[..]), ("ja/", &[LOOKS[0], LOOKS[4]])] {
            for name in names(folder)? {
                let shown = format!("{folder}{name}").replace('/', "-");
                let url = site.url(&format!("{folder}{name}"));
                faults.extend(browser.inspect(&url, &shown, looks).await?);
                n_pages += 1;
            }
        }
        println!("axe-core: {n_pages} pages, {} faults", faults.len());
        assert!(n_pages > 60, "{n_pages}");
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert!(site.posts.borrow().is_empty(), "looking changes nothing");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_inspection_finds_every_kind_of_fault() -> Result<(), Failure> {
    check(|browser, site| async move {
        let faults = browser
            .inspect(&site.url("bad"), "bad", &LOOKS)
            .await?
            .join("\n");
        for kind in [
            "scrolls sideways",
            "INPUT is only",
            "contrast 2.32 of FONT",
            "one landmark banner",
            "level 3 after 0",
            "a textbox has no name",
            "axe label:",
            "axe color-contrast:",
            "Content Security Policy",
        ] {
            assert!(faults.contains(kind), "{kind} is not in\n{faults}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn approving_submits_the_typed_role_to_the_same_link() -> Result<(), Failure> {
    check(|browser, site| async move {
        browser.open(&site.url("decision"), LOOKS[0]).await?;
        browser
            .approve("breakglass", "go\nahead & good luck")
            .await?;
        let expected = Post {
            path: "/decide/decision".to_owned(),
            content_type: FORM_TYPE.to_owned(),
            body:
                "comment=go%0D%0Aahead+%26+good+luck&start=&end=&role=breakglass&decision=approve"
                    .to_owned(),
        };
        assert_eq!(site.posts().await?, [expected]);
        assert_eq!(browser.outcome().await?, "Approved");
        assert_eq!(browser.console().await?, Vec::<String>::new());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn rejecting_submits_the_comment() -> Result<(), Failure> {
    check(|browser, site| async move {
        browser.open(&site.url("decision"), LOOKS[2]).await?;
        browser.reject("nicht heute, 今日はだめ").await?;
        let posts = site.posts().await?;
        assert_eq!(posts.len(), 1);
        assert_eq!(
            posts[0].body,
            "comment=nicht+heute%2C+%E4%BB%8A%E6%97%A5%E3%81%AF%E3%81%A0%E3%82%81&start=&end=&role=&decision=reject"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn less_time_is_submitted_as_local_times() -> Result<(), Failure> {
    check(|browser, site| async move {
        browser.open(&site.url("ja/decision"), LOOKS[0]).await?;
        browser
            .narrow("2026-11-22T19:15", "2026-11-22T20:00:30")
            .await?;
        browser.screenshot("ja-narrowing").await?;
        browser.approve("breakglass", "").await?;
        let posts = site.posts().await?;
        assert_eq!(posts.len(), 1);
        assert_eq!(
            posts[0].body,
            "comment=&start=2026-11-22T19%3A15&end=2026-11-22T20%3A00%3A30&role=breakglass&decision=approve"
        );
        Ok(())
    })
    .await
}

/// The pictures of the README: copy them to `docs/` when the pages have changed.
#[tokio::test]
async fn the_pictures_of_the_readme_show_the_pages_as_they_are() -> Result<(), Failure> {
    check(|browser, site| async move {
        for (page, picture, narrows) in [
            ("decision_findings", "readme-approval-page", false),
            ("decision_narrowed", "readme-narrowing", true),
            ("ja/decision_narrowed", "readme-japanese", true),
            ("end_open", "readme-ending", false),
            ("ja/end_open", "readme-ending-japanese", false),
            ("decision_extension", "readme-extension", false),
        ] {
            browser.open(&site.url(page), LOOKS[2]).await?;
            if narrows {
                browser
                    .narrow("2026-11-22T19:30", "2026-11-22T20:00")
                    .await?;
            }
            let picture = browser.screenshot(picture).await?;
            let n_bytes = std::fs::metadata(&picture)?.len();
            assert!(n_bytes > 50_000, "{}: {n_bytes}", picture.display());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn enter_in_the_role_field_approves_and_does_not_reject() -> Result<(), Failure> {
    check(|browser, site| async move {
        browser.open(&site.url("decision"), LOOKS[2]).await?;
        let role = browser
            .client()
            .find(fantoccini::Locator::Css("#role"))
            .await?;
        role.send_keys("breakglass\u{E007}").await?;
        let posts = site.posts().await?;
        assert_eq!(posts.len(), 1);
        assert_eq!(
            posts[0].body,
            "comment=&start=&end=&role=breakglass&decision=approve"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_keyboard_goes_through_the_form_in_reading_order() -> Result<(), Failure> {
    check(|browser, site| async move {
        browser.open(&site.url("decision"), LOOKS[2]).await?;
        assert_eq!(
            browser.tab_order().await?,
            ["#form", "comment", "narrow", "role", "approve", "reject"]
        );
        browser.open(&site.url("problem_role"), LOOKS[2]).await?;
        assert_eq!(
            browser.tab_order().await?,
            [
                "#role", "#form", "comment", "narrow", "role", "approve", "reject"
            ]
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_problem_keeps_what_was_typed_and_is_tied_to_its_field() -> Result<(), Failure> {
    check(|browser, site| async move {
        browser.open(&site.url("problem_role"), LOOKS[0]).await?;
        let role = browser
            .client()
            .find(fantoccini::Locator::Css("#role"))
            .await?;
        assert_eq!(
            role.prop("value").await?.as_deref(),
            Some("breakglas\"><script>")
        );
        assert_eq!(role.attr("aria-invalid").await?.as_deref(), Some("true"));
        assert_eq!(
            role.attr("aria-describedby").await?.as_deref(),
            Some("role-hint role-error")
        );
        let comment = browser
            .client()
            .find(fantoccini::Locator::Css("#comment"))
            .await?;
        assert_eq!(
            comment.prop("value").await?.as_deref(),
            Some("Go ahead </textarea><script>")
        );
        Ok(())
    })
    .await
}
