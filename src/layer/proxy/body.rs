//! The body of one request, and not a byte more: what follows it would be a second request, to a host
//! that nobody has judged.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::head::Body;
use super::relay::Clock;

/// Bytes that the line of a chunk has at most: its length, and extensions, which end here.
const LINE: usize = 256;
/// Bytes that fields behind the last chunk have at most. They end here.
const TRAILER: usize = 8 << 10;
/// Bytes that are copied at once.
const PART: usize = 16 << 10;

/// Copies a body.
pub(super) async fn copy(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    to: &mut (impl AsyncWrite + Unpin),
    body: Body,
    clock: &Clock,
) -> io::Result<()> {
    match body {
        Body::Length(length) => bytes(from, to, length, clock).await?,
        Body::Chunks => chunks(from, to, clock).await?,
    }
    to.flush().await
}

async fn chunks(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    to: &mut (impl AsyncWrite + Unpin),
    clock: &Clock,
) -> io::Result<()> {
    loop {
        let line = line(from, LINE).await?;
        let length = length(&line).ok_or_else(|| malformed("a chunk's length"))?;
        if length == 0 {
            break;
        }
        to.write_all(format!("{length:x}\r\n").as_bytes()).await?;
        bytes(from, to, length, clock).await?;
        let mut end = [0; 2];
        from.read_exact(&mut end).await?;
        if end != *b"\r\n" {
            return Err(malformed("a chunk's end"));
        }
        to.write_all(b"\r\n").await?;
        to.flush().await?;
    }
    let mut left = TRAILER;
    loop {
        let line = line(from, left).await?;
        left = left.saturating_sub(line.len() + 2);
        if line.is_empty() {
            return to.write_all(b"0\r\n\r\n").await;
        }
    }
}

async fn bytes(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    to: &mut (impl AsyncWrite + Unpin),
    mut left: u64,
    clock: &Clock,
) -> io::Result<()> {
    let mut part = vec![0; PART];
    while left > 0 {
        let most = usize::try_from(left).map_or(PART, |left| left.min(PART));
        let read = from.read(&mut part[..most]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&part[..read]).await?;
        clock.tick();
        left -= read as u64;
    }
    Ok(())
}

/// A line without its end, which is CR and LF.
async fn line(from: &mut BufReader<impl AsyncRead + Unpin>, most: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let limit = most as u64 + 2;
    (&mut *from).take(limit).read_until(b'\n', &mut line).await?;
    let Some(bare) = line.strip_suffix(b"\r\n") else { return Err(malformed("a line")) };
    Ok(bare.to_vec())
}

/// The length of a chunk, in plain hexadecimal digits; whatever stands behind a `;` says nothing.
fn length(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    let plain = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    u64::from_str_radix(text, 16).ok()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(text: &[u8], body: Body) -> (Option<Vec<u8>>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut from, mut to) = (BufReader::new(text), Vec::new());
            let done = copy(&mut from, &mut to, body, &Clock::default()).await;
            let mut rest = Vec::new();
            from.read_to_end(&mut rest).await.unwrap();
            (done.is_ok().then_some(to), rest)
        })
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let (done, rest) = copied(b"abcdeGET / HTTP/1.1", Body::Length(5));
        assert_eq!((done.as_deref(), &rest[..]), (Some(&b"abcde"[..]), &b"GET / HTTP/1.1"[..]));
        let chunked = b"3;x=y\r\nabc\r\n2 \r\nde\r\n0\r\nTrailer: x\r\n\r\nGET /";
        let (done, rest) = copied(chunked, Body::Chunks);
        let anew = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!((done.as_deref(), &rest[..]), (Some(&anew[..]), &b"GET /"[..]));
        assert_eq!(copied(b"", Body::Length(0)).0, Some(Vec::new()));
    }

    #[test]
    fn chunks_that_others_might_read_otherwise_are_refused() {
        for text in [
            &b"3\nabc\r\n0\r\n\r\n"[..],
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"\r\nabc\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\nabc",
            b"3\r\nab",
            b"0\r\nTrailer",
            b"0\r\n",
        ] {
            assert_eq!(copied(text, Body::Chunks).0, None, "{:?}", text.escape_ascii().to_string());
        }
        let long = [&b"3;"[..], &[b'x'; LINE], b"\r\nabc\r\n0\r\n\r\n"].concat();
        assert_eq!(copied(&long, Body::Chunks).0, None);
        assert_eq!(copied(b"abc", Body::Length(4)).0, None);
    }
}
