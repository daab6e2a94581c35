//! The headers that go with every page.

use std::sync::LazyLock;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use crate::page::STYLE;

/// Nothing may load, run, frame or be framed; the one style sheet is named by its hash, the form may only go home.
static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = BASE64.encode(&Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
});

/// The headers of every answer that holds a page, `HEAD` too. Names are in lower case.
///
/// The link in the address bar is a capability, so nothing may keep it, pass it on or index it.
#[must_use]
pub fn security_headers() -> [(&'static str, &'static str); 12] {
    [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", &CONTENT_SECURITY_POLICY),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-robots-tag", "noindex, nofollow, noarchive"),
        (
            "strict-transport-security",
            "max-age=63072000; includeSubDomains",
        ),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("vary", "accept-language"),
    ]
}
