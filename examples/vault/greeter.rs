//! Before anybody knows who is there: a process reads two lines, and asks the monitor.

use std::os::fd::AsFd;

use cofferdam::Layer;
use cofferdam::ipc::message::Message;
use cofferdam::ipc::socket::Stream;
use tokio::io::AsyncWriteExt;

use crate::Outcome;
use crate::lines::line;

pub(crate) async fn greeter(layer: Layer) -> Outcome {
    let login = layer.channel("login")?;
    let Some(mut connection) = layer.connection().await? else { return Ok(()) };
    connection.write_all(b"name and password, in a line each\n").await?;
    let (Some(name), Some(password)) = (line(&mut connection).await?, line(&mut connection).await?)
    else {
        return Ok(());
    };
    let stream = match connection.stream() {
        Stream::Tcp(stream) => stream.as_fd().try_clone_to_owned()?,
        Stream::Unix(stream) => stream.as_fd().try_clone_to_owned()?,
    };
    let mut request = Message::encode(&(name, password))?;
    request.fds.push(stream);
    // Whoever is let in hears of it from its session. This process ends either way, and with it its
    // hold on the connection.
    if !login.call("login").send(request).await?.decode::<bool>()? {
        connection.write_all(b"no\n").await?;
    }
    Ok(())
}
