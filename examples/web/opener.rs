//! The opener: from request paths to descriptors, beneath the document root and nowhere else.

use std::error::Error;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use crate::media::content_type;
use crate::path::SitePath;
use crate::protocol::{Found, OpenReply, OpenRequest};
use crate::requests::Requests;
use cofferdam::Layer;
use cofferdam::ipc::file::{Directory, Opened};
use cofferdam::ipc::message::Message;

/// The layer's function.
pub(crate) async fn opener(layer: Layer) -> Result<(), Box<dyn Error>> {
    let site = layer.directory("site")?;
    let mut requests = Requests::new(&layer, layer.channel("open")?);
    while let Some((message, reply)) = requests.next().await? {
        let (answer, file) = match message.decode::<OpenRequest>() {
            Ok(request) => open(&site, &request.path),
            Err(_) => (OpenReply::Malformed, None),
        };
        let mut message = Message::encode(&answer)?;
        message.fds.extend(file.map(Into::into));
        // Who asked may be gone by now; then the descriptor closes and nothing is lost.
        let _ = reply.reply(message).await;
    }
    Ok(())
}

/// Opens what a request path names: a file, or the index page of a directory.
fn open(site: &Directory, request: &str) -> (OpenReply, Option<Opened>) {
    let Ok(path) = SitePath::parse(request) else { return (OpenReply::Malformed, None) };
    let name = if path.directory { path.index() } else { path.path.clone() };
    match site.open_read(&name) {
        Ok((file, metadata)) => (OpenReply::File(found(&name, &metadata)), Some(file)),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory && !path.directory => {
            match site.open_read(path.index()) {
                Ok(_) => (OpenReply::Moved { to: path.as_directory() }, None),
                Err(error) => (failure(&error.into()), None),
            }
        }
        Err(error) => (failure(&error.into()), None),
    }
}

/// Whatever can't be opened isn't there for the client, whether it is missing, a link, a device
/// or forbidden; only when the system is short of something is it worth to come again.
fn failure(error: &io::Error) -> OpenReply {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => OpenReply::Busy,
        _ => OpenReply::NotFound,
    }
}

fn found(name: &str, metadata: &Metadata) -> Found {
    let seconds = u64::try_from(metadata.mtime());
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    Found {
        size: metadata.len(),
        modified: seconds.map_or((0, 0), |seconds| (seconds, nanoseconds)),
        content_type: content_type(name).to_owned(),
    }
}
