//! The head of a request, read strictly and written anew (RFC 9112).
//!
//! Nothing of it goes on as it came: who reads a head otherwise than the server does can be led to
//! take two requests for one. What could be read in two ways is refused.

use super::host::Host;
use super::rules::HTTP;

/// Bytes that a head has at most.
pub(super) const MOST: usize = 32 << 10;

/// Fields that a head has at most.
const MOST_FIELDS: usize = 100;

/// Fields that are about one connection alone, and end here (RFC 9110, 7.6.1).
const CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
    "host",
];

/// Fields by which a layer could speak in another's name where a credential is put in.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "x-api-key"];

/// What is asked of the proxy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A tunnel.
    Tunnel,
    /// A request to be sent on.
    Request(Request),
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    method: String,
    /// From the first `/` on.
    path: String,
    /// The host as it is written again.
    authority: String,
    /// HTTP/1.0, whose clients know of no chunks.
    is_old: bool,
    /// Name, in lower case, and value.
    fields: Vec<(String, Vec<u8>)>,
    pub body: Body,
}

/// How long what follows a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks that say their lengths.
    Chunks,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub &'static str);

/// Reads a head, without the empty line at its end.
pub(super) fn parse(head: &[u8]) -> Result<(Asked, Host, u16), Malformed> {
    let mut lines = Lines(Some(head));
    let first = lines.next().ok_or(Malformed("there is no request"))??;
    let first = std::str::from_utf8(first).map_err(|_| Malformed("the request isn't ASCII"))?;
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed("a request is a method, a target and a version"));
    };
    if !is_token(method.as_bytes()) || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Malformed("a request is of plain characters"));
    }
    let is_old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return Err(Malformed("only HTTP/1.0 and HTTP/1.1 are spoken here")),
    };
    let mut fields = Vec::new();
    for line in lines {
        if fields.len() == MOST_FIELDS {
            return Err(Malformed("there are too many fields"));
        }
        fields.push(field(line?)?);
    }
    if method == "CONNECT" {
        let found = Host::with_port(target, None);
        let (host, port) = found.ok_or(Malformed("CONNECT takes HOST:PORT"))?;
        return Ok((Asked::Tunnel, host, port));
    }
    let (authority, path) = target_of(target, &fields)?;
    let (host, port) = Host::with_port(authority, Some(HTTP))
        .ok_or(Malformed("the host is no plain name or address"))?;
    let body = body(&fields, is_old)?;
    let authority = if port == HTTP { host.to_string() } else { format!("{host}:{port}") };
    let (method, path) = (method.to_owned(), path.to_owned());
    Ok((Asked::Request(Request { method, path, authority, is_old, fields, body }), host, port))
}

/// The host that a target is about, and the path there.
fn target_of<'a>(
    target: &'a str,
    fields: &'a [(String, Vec<u8>)],
) -> Result<(&'a str, &'a str), Malformed> {
    let mut hosts = fields.iter().filter(|(name, _)| name == "host");
    let (said, None) = (hosts.next(), hosts.next()) else {
        return Err(Malformed("there are two hosts"));
    };
    if target.contains('#') {
        return Err(Malformed("a target has no fragment"));
    }
    if let Some(rest) = target.get(..7).filter(|it| it.eq_ignore_ascii_case("http://")) {
        let rest = target.get(rest.len()..).unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // Whatever `Host` says doesn't count (RFC 9112, 3.2.2).
        return match path.as_bytes().first() {
            None => Ok((authority, "/")),
            Some(b'/') => Ok((authority, path)),
            Some(_) => Err(Malformed("a path begins with `/`")),
        };
    }
    if !target.starts_with('/') {
        return Err(Malformed("the target is no http:// address; for https:// there is CONNECT"));
    }
    let (_, said) = said.ok_or(Malformed("there is no host"))?;
    let host = std::str::from_utf8(said).map_err(|_| Malformed("the host isn't ASCII"))?;
    Ok((host, target))
}

/// How long the body is, if that can be read in one way only.
fn body(fields: &[(String, Vec<u8>)], is_old: bool) -> Result<Body, Malformed> {
    let all = |wanted: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &value[..]).collect()
    };
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Ok(Body::Length(0)),
        ([length], []) => {
            let plain = (1..=18).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(length).unwrap_or_default();
            let length = text.parse().ok().filter(|_| plain);
            length.map(Body::Length).ok_or(Malformed("the length is no number"))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !is_old => Ok(Body::Chunks),
        ([], [_]) => Err(Malformed("the only transfer coding is `chunked`, in HTTP/1.1")),
        _ => Err(Malformed("the length is said in two ways")),
    }
}

impl Request {
    /// Whether it asks the server to send back what it got.
    pub fn is_echo(&self) -> bool {
        self.method.eq_ignore_ascii_case("TRACE")
    }

    /// The head as it is sent on: for one request, after which the connection ends. A credential, a
    /// field's name and its value, takes the place of whatever the layer said.
    pub fn write(&self, credential: Option<(&str, &[u8])>) -> Vec<u8> {
        let version = if self.is_old { "HTTP/1.0" } else { "HTTP/1.1" };
        let Self { method, path, authority, .. } = self;
        let mut head = format!("{method} {path} {version}\r\nhost: {authority}\r\n").into_bytes();
        let mut add = |name: &str, value: &[u8]| {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        };
        let named = self.named_by_connection();
        for (name, value) in &self.fields {
            let own = credential
                .is_some_and(|(own, _)| own == name || CREDENTIALS.contains(&name.as_str()));
            if !own && !CONNECTION.contains(&name.as_str()) && !named.contains(name) {
                add(name, value);
            }
        }
        if let Some((name, value)) = credential {
            add(name, value);
        }
        add("connection", b"close");
        head.extend(b"\r\n");
        head
    }

    /// Fields of which `Connection` says that they end here. How long the body is isn't among what
    /// can be taken away.
    fn named_by_connection(&self) -> Vec<String> {
        let connection = self.fields.iter().filter(|(name, _)| name == "connection");
        let words = connection.flat_map(|(_, value)| value.split(|byte| *byte == b','));
        words
            .map(|word| String::from_utf8_lossy(word).trim().to_ascii_lowercase())
            .filter(|name| !matches!(name.as_str(), "content-length" | "transfer-encoding"))
            .collect()
    }
}

/// The lines of a head, each ended by CR and LF, and neither of them anywhere else.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.take()?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let line = match end {
            Some(end) => {
                self.0 = rest.get(end + 2..);
                &rest[..end]
            }
            None => rest,
        };
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Some(Err(Malformed("a line has a break or a zero byte in it")));
        }
        Some(Ok(line))
    }
}

/// A field: its name in lower case, and its value without the blanks around it.
fn field(line: &[u8]) -> Result<(String, Vec<u8>), Malformed> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or(Malformed("a field has no colon"))?);
    // With a blank before the colon, or at the line's begin, it would be another field to others.
    if !is_token(name) {
        return Err(Malformed("a field's name is of letters, digits and a few signs"));
    }
    let value = value[1..].trim_ascii();
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Malformed("a field has a control character in it"));
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

/// RFC 9110, 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let sign = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || sign(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<(Asked, String), &'static str> {
        parse(head.as_bytes())
            .map(|(asked, host, port)| (asked, format!("{host}:{port}")))
            .map_err(|Malformed(why)| why)
    }

    fn written(head: &str, credential: Option<(&str, &[u8])>) -> String {
        match read(head) {
            Ok((Asked::Request(request), _)) => {
                String::from_utf8(request.write(credential)).unwrap()
            }
            other => panic!("{head}: {other:?}"),
        }
    }

    #[test]
    fn a_request_is_written_anew() {
        assert_eq!(
            read("CONNECT A.example:443 HTTP/1.1\r\nHost: b.example"),
            Ok((Asked::Tunnel, "a.example:443".to_owned()))
        );
        let head = "GET http://A.example:8080/p?q HTTP/1.1\r\nHost: evil.example\r\n\
                    Connection: close, X-Own\r\nX-Own: 1\r\nAccept: */*\r\nUpgrade: h2c";
        assert_eq!(
            written(head, None),
            "GET /p?q HTTP/1.1\r\nhost: a.example:8080\r\naccept: */*\r\nconnection: close\r\n\r\n"
        );
        let (_, host) = read(head).unwrap();
        assert_eq!(host, "a.example:8080");
        assert!(written("GET http://a.example HTTP/1.0", None).starts_with("GET / HTTP/1.0\r\n"));
        let direct = "GET /p HTTP/1.1\r\nHost: a.example:443";
        assert!(written(direct, None).starts_with("GET /p HTTP/1.1\r\nhost: a.example:443\r\n"));
    }

    #[test]
    fn a_credential_takes_the_place_of_what_the_layer_says() {
        let head = "POST http://a.example/ HTTP/1.1\r\nAuthorization: Bearer mine\r\nX-Key: mine\r\n\
                    x-key: mine\r\nX-API-KEY: mine\r\nCookie: mine\r\nContent-Length: 2";
        let head = written(head, Some(("x-key", b"secret")));
        assert!(!head.contains("mine"), "{head}");
        assert!(
            head.contains("\r\nx-key: secret\r\n") && head.contains("\r\ncontent-length: 2\r\n")
        );
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let begin = "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\n";
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: +1",
            "Content-Length: 1, 1",
            "Content-Length: ",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: xchunked",
            "Content-Length : 1",
            " Content-Length: 1",
            "A: b\r\n folded: 1",
            "A: b\nContent-Length: 1",
            "A: b\rContent-Length: 1",
            "A: b\0c",
            "A: b\x0bc",
            "no colon",
            ": empty",
            "Host: b.example",
        ] {
            assert!(read(&format!("{begin}{fields}")).is_err(), "{fields:?}");
        }
        for line in [
            "",
            "GET",
            "GET / HTTP/2.0",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /\t HTTP/1.1",
            "GET https://a.example/ HTTP/1.1",
            "GET ftp://a.example/ HTTP/1.1",
            "GET a.example/ HTTP/1.1",
            "GET * HTTP/1.1",
            "GET http:// HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "GET http://a.example@evil.example/ HTTP/1.1",
            "GET http://a.example?x HTTP/1.1",
            "GET http://a.example/#x HTTP/1.1",
            "GET http://a.example\\@evil.example/ HTTP/1.1",
            "CONNECT a.example HTTP/1.1",
            "CONNECT http://a.example:443/ HTTP/1.1",
            "CONNECT a.example:443/ HTTP/1.1",
            "CONNECT a@evil.example:443 HTTP/1.1",
            "GET / HTTP/1.1",
        ] {
            assert!(read(line).is_err(), "{line:?}");
        }
        assert!(read("GET / HTTP/1.1\r\nHost: a.example, b.example").is_err());
        let many = "a: b\r\n".repeat(MOST_FIELDS);
        assert!(read(&format!("{begin}{many}a: b")).is_err());
        assert!(read("POST http://a.example/ HTTP/1.0\r\nTransfer-Encoding: chunked").is_err());
    }
}
