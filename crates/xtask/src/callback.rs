//! A plain HTTP client for the approval page, as a browser without JavaScript would use it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;

use crate::error::{Error, Result};

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
    send("GET", url, None).await
}

/// `HEAD` of a local address.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn head(url: &str) -> Result<Answer> {
    send("HEAD", url, None).await
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
    send("POST", url, Some(form.join("&"))).await
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

/// `GET` of a path on a port of this machine.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn get_local(port: u16, path: &str) -> Result<Answer> {
    get(&format!("http://127.0.0.1:{port}{path}")).await
}

async fn send(method: &'static str, url: &str, form: Option<String>) -> Result<Answer> {
    let failed = |reason: String| Error::Http {
        method,
        url: url.to_owned(),
        reason,
    };
    match tokio::time::timeout(ANSWER_WITHIN, exchange(method, url, form)).await {
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
    form: Option<String>,
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
        .header("host", &host)
        .header("accept", "text/html");
    if form.is_some() {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    let request = request
        .body(Full::new(Bytes::from(form.unwrap_or_default())))
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
