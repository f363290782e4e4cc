//! For somebody whom the monitor knows: a process that reads commands, and asks for what is theirs.

use std::net::TcpStream;

use cofferdam::Layer;
use cofferdam::ipc::message::Channel;
use tokio::io::AsyncWriteExt;

use crate::Outcome;
use crate::lines::line;

pub(crate) async fn session(layer: Layer) -> Outcome {
    let vault = layer.channel("vault")?;
    // Waits until there is a client for it.
    let client = layer.until_stopping(vault.call("client").send(b"")).await;
    let Some(mut client) = client.transpose()? else { return Ok(()) };
    let stream = TcpStream::from(client.fds.pop().ok_or("a client without a connection")?);
    stream.set_nonblocking(true)?;
    let mut stream = tokio::net::TcpStream::from_std(stream)?;
    // What a client does to its own session is no failure of the layer's, of which too many stop the
    // daemon.
    if let Some(Err(error)) = layer.until_stopping(serve(&vault, &mut stream)).await {
        eprintln!("a client is lost: {error}");
    }
    Ok(())
}

async fn serve(vault: &Channel, stream: &mut tokio::net::TcpStream) -> Outcome {
    stream.write_all(b"welcome\n").await?;
    while let Some(words) = line(stream).await? {
        let answer = obey(vault, &words).await?;
        stream.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

async fn obey(vault: &Channel, words: &str) -> Outcome<String> {
    let words: Vec<&str> = words.splitn(3, ' ').collect();
    Ok(match words[..] {
        ["put", key, secret] => {
            let kept = vault.call("put").send_typed::<_, bool>(&(key, secret)).await?;
            if kept { "kept" } else { "too many" }.to_owned()
        }
        ["get", key] => {
            let secret: Option<String> = vault.call("get").send_typed(key).await?;
            secret.unwrap_or_else(|| "nothing".to_owned())
        }
        _ => "put KEY SECRET, or get KEY".to_owned(),
    })
}
