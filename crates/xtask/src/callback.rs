//! A plain HTTP client: for the approval page as a browser without JavaScript, for the IAM routes as `curl --aws-sigv4`.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;

use crate::error::{Error, Result};
use crate::ministack::{Keys, REGION};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers; names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The first header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }
}

/// `GET` of a local address.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn get(url: &str) -> Result<Answer> {
    send("GET", url, page_headers(), String::new()).await
}

/// `HEAD` of a local address.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn head(url: &str) -> Result<Answer> {
    send("HEAD", url, page_headers(), String::new()).await
}

/// `POST` of a form to a local address.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn post_form(url: &str, fields: &[(&str, &str)]) -> Result<Answer> {
    let form: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", form_encode(name), form_encode(value)))
        .collect();
    let mut headers = page_headers();
    headers.push((
        "content-type".to_owned(),
        "application/x-www-form-urlencoded".to_owned(),
    ));
    send("POST", url, headers, form.join("&")).await
}

fn page_headers() -> Vec<(String, String)> {
    vec![("accept".to_owned(), "text/html".to_owned())]
}

/// A call of an IAM route with a JSON body, signed with `keys` (Signature Version 4, service `execute-api`). Without
/// keys it is not signed.
///
/// # Errors
/// When it cannot be signed, and when the server cannot be reached or does not answer in time.
pub async fn call(
    keys: Option<&Keys>,
    method: &'static str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer> {
    let mut headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    if let Some(keys) = keys {
        let signed =
            signature(keys, method, url, &headers, body).map_err(|reason| Error::Http {
                method,
                url: url.to_owned(),
                reason,
            })?;
        headers.extend(signed);
    }
    send(method, url, headers, body.to_owned()).await
}

/// The headers that sign a call.
fn signature(
    keys: &Keys,
    method: &str,
    url: &str,
    headers: &[(String, String)],
    body: &str,
) -> std::result::Result<Vec<(String, String)>, String> {
    let text = |error: &dyn std::error::Error| crate::error::with_causes(error);
    let identity = keys.credentials().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("execute-api")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| text(&error))?
        .into();
    let request = SignableRequest::new(
        method,
        url,
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::Bytes(body.as_bytes()),
    )
    .map_err(|error| text(&error))?;
    let (instructions, _) = sign(request, &parameters)
        .map_err(|error| text(&error))?
        .into_parts();
    Ok(instructions
        .headers()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// Approves on the page behind `link`: sends its form with the role's name typed in.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn approve(link: &str, role: &str, comment: &str) -> Result<Answer> {
    post_form(
        link,
        &[
            ("decision", "approve"),
            ("role", role),
            ("comment", comment),
        ],
    )
    .await
}

/// Rejects on the page behind `link`.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn reject(link: &str, comment: &str) -> Result<Answer> {
    post_form(
        link,
        &[("decision", "reject"), ("role", ""), ("comment", comment)],
    )
    .await
}

/// Ends what the page behind `link` offers to end: sends its form with the role's name typed in.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn end(link: &str, role: &str, reason: &str) -> Result<Answer> {
    let fields = [("reason", reason), ("role", role), ("ending", "end")];
    post_form(link, &fields).await
}

/// `GET` of a path on a port of this machine.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn get_local(port: u16, path: &str) -> Result<Answer> {
    get(&format!("http://127.0.0.1:{port}{path}")).await
}

async fn send(
    method: &'static str,
    url: &str,
    headers: Vec<(String, String)>,
    body: String,
) -> Result<Answer> {
    let failed = |reason: String| Error::Http {
        method,
        url: url.to_owned(),
        reason,
    };
    match tokio::time::timeout(ANSWER_WITHIN, exchange(method, url, headers, body)).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed(format!(
            "no answer within {} s",
            ANSWER_WITHIN.as_secs()
        ))),
    }
}

/// Sends one request. The host is always this machine: every name below `localhost` means it
/// (<https://www.rfc-editor.org/rfc/rfc6761#section-6.3>), but not every resolver knows that.
async fn exchange(
    method: &str,
    url: &str,
    headers: Vec<(String, String)>,
    body: String,
) -> std::result::Result<Answer, String> {
    let text = |error: &dyn std::error::Error| crate::error::with_causes(error);
    let uri: hyper::Uri = url
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| text(&error))?;
    let host = uri
        .authority()
        .map(ToString::to_string)
        .ok_or("no host in the address")?;
    let name = uri.host().unwrap_or_default();
    if !(name == "127.0.0.1" || name == "localhost" || name.ends_with(".localhost")) {
        return Err(format!("{name} is not this machine"));
    }
    let port = uri.port_u16().unwrap_or(80);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());

    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .map_err(|error| text(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", &host);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| text(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| text(&error))?;
    let (head, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| text(&error))?
        .to_bytes();
    connection.abort();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Encodes a form field (<https://url.spec.whatwg.org/#application/x-www-form-urlencoded>).
fn form_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            b' ' => "+".to_owned(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded_as_browsers_do() {
        assert_eq!(form_encode("fine, go & do it"), "fine%2C+go+%26+do+it");
        assert_eq!(form_encode("ü"), "%C3%BC");
    }

    #[tokio::test]
    async fn other_machines_are_never_called() {
        let error = get("http://example.com/").await.unwrap_err();
        assert!(error.to_string().contains("is not this machine"), "{error}");
    }
}
