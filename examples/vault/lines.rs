//! Lines of strangers, which end somewhere.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line, in bytes.
const LONGEST: usize = 1024;

/// The next line without its end; `None` once nothing more comes. It takes no byte of what follows,
/// for that is somebody else's to read.
pub(crate) async fn line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    while bytes.len() <= LONGEST {
        let mut byte = [0];
        match stream.read(&mut byte).await? {
            0 => return Ok(None),
            _ if byte == *b"\n" => {
                let text = String::from_utf8(bytes);
                return text.map(Some).map_err(|_| io::Error::other("no UTF-8"));
            }
            _ => bytes.push(byte[0]),
        }
    }
    Err(io::Error::other("a line without end"))
}
