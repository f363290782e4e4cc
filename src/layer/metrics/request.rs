//! What is asked by HTTP (RFC 9112), and the answer: pure. One request, `GET /metrics`, is answered
//! with numbers, and every other with what is wrong; one connection has one request.

use std::fmt::Write;

/// The longest head of a request, in bytes. Prometheus sends some 300.
pub(super) const MOST: usize = 4096;

/// `OpenMetrics` 1.0, for who asks for it by `Accept`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The older format of Prometheus, in which the same text is good.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The numbers.
    Numbers {
        /// By their newer format's name.
        open: bool,
        /// Only the head of the answer.
        head: bool,
    },
    /// Something else: a status, and its words.
    Wrong(u16, &'static str),
}

/// Reads a request; `None` if it isn't whole yet.
pub(super) fn read(said: &[u8]) -> Option<Wanted> {
    let Some(end) = said.windows(4).position(|four| four == b"\r\n\r\n") else {
        // Whatever is no text never becomes one.
        let is_text = said.iter().all(|byte| is_text(*byte) || b"\r\n".contains(byte));
        return match (is_text, said.len() < MOST) {
            (false, _) => Some(BAD),
            (true, false) => Some(Wanted::Wrong(431, "Request Header Fields Too Large")),
            (true, true) => None,
        };
    };
    Some(whole(&said[..end]).unwrap_or(BAD))
}

const BAD: Wanted = Wanted::Wrong(400, "Bad Request");

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (b' '..=b'~').contains(&byte)
}

/// A whole head without the empty line at its end; `None` if it is none.
fn whole(head: &[u8]) -> Option<Wanted> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !target.starts_with('/') {
        return None;
    }
    let mut open = false;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        if name.is_empty() || !name.bytes().all(is_token) || !value.bytes().all(is_text) {
            return None;
        }
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "accept" => open |= value.contains("application/openmetrics-text"),
            // Nothing follows a request of this kind.
            "content-length" if value != "0" => return None,
            "transfer-encoding" | "upgrade" => return None,
            _ => {}
        }
    }
    let path = target.split('?').next()?;
    Some(match (version, method, path) {
        ("HTTP/1.0" | "HTTP/1.1", "GET" | "HEAD", "/metrics") => {
            Wanted::Numbers { open, head: method == "HEAD" }
        }
        ("HTTP/1.0" | "HTTP/1.1", "GET" | "HEAD", _) => Wanted::Wrong(404, "Not Found"),
        ("HTTP/1.0" | "HTTP/1.1", ..) => Wanted::Wrong(405, "Method Not Allowed"),
        _ => return None,
    })
}

/// The answer.
pub(super) fn answer(wanted: Wanted, numbers: &str) -> Vec<u8> {
    let (status, words, kind, body, head) = match wanted {
        Wanted::Numbers { open, head } => {
            (200, "OK", if open { OPEN_METRICS } else { TEXT }, numbers, head)
        }
        Wanted::Wrong(status, words) => (status, words, "text/plain", words, false),
    };
    let mut out = format!(
        "HTTP/1.1 {status} {words}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n",
        body.len()
    );
    if status == 405 {
        out.push_str("Allow: GET, HEAD\r\n");
    }
    let _ = write!(out, "\r\n{}", if head { "" } else { body });
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_is_answered_with_numbers() {
        let numbers = |open, head| Some(Wanted::Numbers { open, head });
        assert_eq!(read(b"GET /metrics HTTP/1.1\r\n\r\n"), numbers(false, false));
        assert_eq!(read(b"GET /metrics?x=1 HTTP/1.0\r\nHost: a\r\n\r\n"), numbers(false, false));
        let asked =
            b"HEAD /metrics HTTP/1.1\r\naccept: application/openmetrics-text;q=1,*/*\r\n\r\n";
        assert_eq!(read(asked), numbers(true, true));
        for end in 0..asked.len() {
            assert_eq!(read(&asked[..end]), None, "{end}");
        }
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Some(Wanted::Wrong(404, "Not Found")));
        let other = read(b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(other, Some(Wanted::Wrong(405, "Method Not Allowed")));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for wrong in [
            &b"\x16\x03\x01\x02"[..],
            b"GET /metrics\r\n\r\n",
            b"GET /metrics HTTP/2.0\r\n\r\n",
            b"GET  /metrics HTTP/1.1\r\n\r\n",
            b"GET http://x/metrics HTTP/1.1\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nno header\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\na b: c\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\na: c\nb: d\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"\r\n\r\n",
            b"\0",
        ] {
            assert_eq!(read(wrong), Some(BAD), "{}", String::from_utf8_lossy(wrong));
        }
        let long = [b"GET /metrics HTTP/1.1\r\na: ".to_vec(), vec![b'x'; MOST]].concat();
        assert!(matches!(read(&long), Some(Wanted::Wrong(431, _))));
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let text = |wanted| String::from_utf8(answer(wanted, "a 1\n# EOF\n")).unwrap();
        let whole = text(Wanted::Numbers { open: true, head: false });
        assert!(
            whole.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text;")
        );
        assert!(whole.contains("\r\nContent-Length: 10\r\n"), "{whole}");
        assert!(whole.ends_with("\r\n\r\na 1\n# EOF\n"), "{whole}");
        assert!(text(Wanted::Numbers { open: false, head: true }).ends_with("\r\n\r\n"));
        assert!(text(Wanted::Wrong(405, "no")).contains("\r\nAllow: GET, HEAD\r\n"));
    }
}
