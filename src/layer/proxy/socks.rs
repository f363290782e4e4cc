//! SOCKS of version 5 (RFC 1928): a connection, without authentication.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::host::Host;

/// The first byte of all that is said.
pub(super) const VERSION: u8 = 5;

const NO_AUTHENTICATION: u8 = 0;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;

/// What the proxy answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Connected = 0,
    Failed = 1,
    NotAllowed = 2,
    Unreachable = 4,
    Refused = 5,
    NoSuchCommand = 7,
}

/// Reads what is wanted, the version read already; `None`: it can't be read, and was answered.
pub(super) async fn asked(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Option<(Host, u16)>> {
    let mut methods = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        stream.write_all(&[VERSION, NONE_ACCEPTABLE]).await?;
        return Ok(None);
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [VERSION, command, 0, kind] = head else {
        reply(stream, Reply::Failed).await?;
        return Ok(None);
    };
    let host = match kind {
        1 => {
            let mut four = [0; 4];
            stream.read_exact(&mut four).await?;
            Some(Host::Address(Ipv4Addr::from(four).into()))
        }
        3 => {
            let mut name = vec![0; stream.read_u8().await?.into()];
            stream.read_exact(&mut name).await?;
            std::str::from_utf8(&name).ok().and_then(Host::parse)
        }
        4 => {
            let mut six = [0; 16];
            stream.read_exact(&mut six).await?;
            Some(Host::Address(IpAddr::V6(Ipv6Addr::from(six)).to_canonical()))
        }
        _ => None,
    };
    let port = match host {
        Some(_) => stream.read_u16().await?,
        None => 0,
    };
    let (Some(host), CONNECT) = (host.filter(|_| port > 0), command) else {
        let why = if command == CONNECT { Reply::NotAllowed } else { Reply::NoSuchCommand };
        reply(stream, why).await?;
        return Ok(None);
    };
    Ok(Some((host, port)))
}

/// Answers. Of what address the proxy connects from, nobody needs to know.
pub(super) async fn reply(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and what was answered.
    fn heard(said: &[u8]) -> (Option<String>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, mut far) = tokio::io::duplex(1024);
            far.write_all(said).await.unwrap();
            let asked = asked(&mut near).await.ok().flatten();
            drop(near);
            let mut answered = Vec::new();
            far.read_to_end(&mut answered).await.unwrap();
            (asked.map(|(host, port)| format!("{host}:{port}")), answered)
        })
    }

    #[test]
    fn a_host_is_asked_for_by_name_or_address() {
        let asked = |rest: &[u8]| heard(&[&[1, 0, 5, 1, 0][..], rest].concat());
        let open = vec![5, 0];
        let name = [&[3, 11][..], b"A.example.x", &[1, 187]].concat();
        assert_eq!(asked(&name), (Some("a.example.x:443".to_owned()), open.clone()));
        let four = asked(&[1, 127, 0, 0, 1, 0, 80]);
        assert_eq!(four, (Some("127.0.0.1:80".to_owned()), open.clone()));
        let mapped = [&[4][..], &Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), &[0, 80]].concat();
        assert_eq!(asked(&mapped), (Some("127.0.0.1:80".to_owned()), open));
    }

    #[test]
    fn whatever_else_is_asked_for_is_refused() {
        let refused = |said: &[u8]| {
            let (asked, answered) = heard(said);
            assert_eq!(asked, None);
            answered.get(2..).unwrap_or_default().get(1).copied().or(answered.get(1).copied())
        };
        // A password is wanted, which nobody has.
        assert_eq!(refused(&[1, 2]), Some(NONE_ACCEPTABLE));
        // To be bound to, and datagrams.
        for command in [2, 3] {
            let code = refused(&[1, 0, 5, command, 0, 1, 127, 0, 0, 1, 0, 80]);
            assert_eq!(code, Some(Reply::NoSuchCommand as u8));
        }
        let name = [&[1, 0, 5, 1, 0, 3, 4][..], b"a@bc", &[0, 80]].concat();
        assert_eq!(refused(&name), Some(Reply::NotAllowed as u8));
        assert_eq!(refused(&[1, 0, 5, 1, 0, 9]), Some(Reply::NotAllowed as u8));
        assert_eq!(refused(&[1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 0]), Some(2));
        assert_eq!(refused(&[1, 0, 4, 1, 0, 1]), Some(Reply::Failed as u8));
    }
}
