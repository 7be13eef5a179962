//! What is refused before anything is looked up, in this order: another method, a long address, long headers, a body, a foreign `Host`, a
//! foreign page's request, a browser without a session. Every answer, refusals too, carries the headers that keep the page to itself.

use std::net::Ipv4Addr;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Viewer;
use super::routes::OPEN;

/// Bytes of a request's address.
const LONGEST_ADDRESS: usize = 4 << 10;
/// Bytes of a request's headers.
const MOST_HEADERS: usize = 16 << 10;

/// What is sent with every answer.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
    ("cache-control", "private, no-cache"),
];

/// A refusal: its status and one sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{}\n", self.1)).into_response();
        // Who is refused holds no connection; and what is left of a body must not be read as the next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// Answers or refuses, with the headers of every answer.
pub(super) async fn guard(State(viewer): State<Viewer>, request: Request, next: Next) -> Response {
    let mut response = match check(&request, |cookies| viewer.keys.knows(cookies)) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn check(request: &Request<Body>, knows: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    use StatusCode as Status;
    let headers = request.headers();
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(Refusal(Status::METHOD_NOT_ALLOWED, "The viewer is read-only: GET and HEAD alone are answered."));
    }
    if request.uri().to_string().len() > LONGEST_ADDRESS {
        return Err(Refusal(Status::URI_TOO_LONG, "The address is longer than 4 KiB."));
    }
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() > MOST_HEADERS {
        return Err(Refusal(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are longer than 16 KiB."));
    }
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if length || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal(Status::PAYLOAD_TOO_LARGE, "The request has a body; none is taken."));
    }
    let host = one(headers, "host").filter(|host| is_loopback(host));
    let stated = request.uri().authority().is_none_or(|stated| Some(stated.as_str()) == host);
    let Some(host) = host.filter(|_| stated) else {
        return Err(Refusal(
            Status::MISDIRECTED_REQUEST,
            "The viewer answers to localhost, 127.0.0.1 and [::1] alone, through a tunnel too.",
        ));
    };
    if headers.contains_key(header::ORIGIN) && one(headers, "origin") != Some(&format!("http://{host}")) {
        return Err(Refusal(Status::FORBIDDEN, "The request comes from another page."));
    }
    let says = |name: &str, value: &str| one(headers, name) == Some(value);
    // Pages of other ports of this machine are of the same site; links on them may be followed.
    let foreign = says("sec-fetch-site", "cross-site") || says("sec-fetch-site", "same-site") && !says("sec-fetch-mode", "navigate");
    if foreign {
        return Err(Refusal(Status::FORBIDDEN, "The request comes from another page; type or paste the address into the browser."));
    }
    if request.uri().path() != OPEN && !headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).any(knows) {
        return Err(Refusal(Status::FORBIDDEN, "This browser has not been let in: open the link that `wsi view` printed last."));
    }
    Ok(())
}

/// A header's value, if there is one such header and it is text.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

/// Whether a host, with or without a port, is this machine's own name for itself. A name that somebody else's server gave to this address
/// is not.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some(("::1", port)) => ("localhost", port),
            _ => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let number = port.strip_prefix(':').map(str::parse::<u16>);
    (port.is_empty() || matches!(number, Some(Ok(_))))
        && (name.eq_ignore_ascii_case("localhost") || name.parse() == Ok(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, address: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        check(&request, |cookies| cookies == "good").err().map(|refusal| refusal.0.as_u16())
    }

    #[test]
    fn hosts_that_are_this_machine() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8123", "[::1]", "[::1]:9"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "localhost:",
            "localhost:x",
            "127.0.0.2",
            "[::1",
            "[::2]",
            "::1",
            "[::1]x",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn each_refusal_has_its_status() {
        let host = ("host", "localhost:9");
        let cookie = ("cookie", "good");
        assert_eq!(refused("GET", "/", &[host, cookie]), None);
        assert_eq!(refused("HEAD", "/open", &[host]), None, "the link is what a session is made with");
        assert_eq!(refused("POST", "/", &[host, cookie]), Some(405));
        assert_eq!(refused("GET", &format!("/{}", "a".repeat(5000)), &[host, cookie]), Some(414));
        assert_eq!(refused("GET", "/", &[host, cookie, ("x", &"a".repeat(17_000))]), Some(431));
        assert_eq!(refused("GET", "/", &[host, cookie, ("content-length", "1")]), Some(413));
        assert_eq!(refused("GET", "/", &[host, cookie, ("content-length", "0")]), None);
        assert_eq!(refused("GET", "/", &[host, cookie, ("transfer-encoding", "chunked")]), Some(413));
        assert_eq!(refused("GET", "/", &[cookie]), Some(421));
        assert_eq!(refused("GET", "/", &[("host", "evil.example"), cookie]), Some(421));
        assert_eq!(refused("GET", "/", &[host, host, cookie]), Some(421), "two hosts");
        assert_eq!(refused("GET", "http://evil.example/", &[host, cookie]), Some(421));
        assert_eq!(refused("GET", "/", &[host, cookie, ("origin", "http://localhost:9")]), None);
        assert_eq!(refused("GET", "/", &[host, cookie, ("origin", "http://localhost:10")]), Some(403));
        assert_eq!(refused("GET", "/", &[host, cookie, ("origin", "null")]), Some(403));
        assert_eq!(refused("GET", "/", &[host, cookie, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(refused("GET", "/", &[host, cookie, ("sec-fetch-site", "same-site")]), Some(403));
        assert_eq!(refused("GET", "/", &[host, cookie, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")]), None);
        assert_eq!(refused("GET", "/", &[host]), Some(403));
        assert_eq!(refused("GET", "/", &[host, ("cookie", "bad")]), Some(403));
    }
}
