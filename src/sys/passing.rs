//! Datagrams with at most one descriptor (`SCM_RIGHTS`, unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// What [`receive`] found.
#[derive(Debug)]
pub struct Datagram {
    /// Its bytes.
    pub length: usize,
    /// The descriptor that came with it, close-on-exec.
    pub fd: Option<OwnedFd>,
    /// It had more bytes than there was room for, or more than one descriptor; those are closed.
    pub is_cut: bool,
}

/// Sends a datagram, and a descriptor with it if there is one. It is always `sendmsg(2)`, so a filter
/// needs no other call for it.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = &fd {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
}

/// Receives a datagram.
pub fn receive(socket: impl AsFd, into: &mut [u8], flags: RecvFlags) -> Result<Datagram, Errno> {
    // Room for two: with room for one, alignment would let a second one in unseen.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket, &mut [IoSliceMut::new(into)], &mut ancillary, flags)?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let mut fds = rights.flatten();
    let fd = fds.next();
    let more = fds.count() > 0;
    let is_cut = more || got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Datagram { length: got.bytes, fd, is_cut })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_descriptor_comes_with_its_datagram_and_a_second_is_seen() {
        let (near, far) = UnixDatagram::pair().unwrap();
        let mut bytes = [0; 8];
        let file = std::fs::File::open("/dev/null").unwrap();
        send(&near, b"one", Some(file.as_fd()), SendFlags::empty()).unwrap();
        send(&near, b"none", None, SendFlags::empty()).unwrap();
        let one = receive(&far, &mut bytes, RecvFlags::empty()).unwrap();
        assert!(one.length == 3 && one.fd.is_some() && !one.is_cut);
        let none = receive(&far, &mut bytes, RecvFlags::empty()).unwrap();
        assert!(none.length == 4 && none.fd.is_none() && !none.is_cut);

        for count in [2, 3] {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let fds = [file.as_fd(); 3];
            ancillary.push(SendAncillaryMessage::ScmRights(&fds[..count]));
            let flags = SendFlags::empty();
            sendmsg(&near, &[IoSlice::new(b"many")], &mut ancillary, flags).unwrap();
            assert!(receive(&far, &mut bytes, RecvFlags::empty()).unwrap().is_cut, "{count}");
        }
        send(&near, b"longer than there is room", None, SendFlags::empty()).unwrap();
        assert!(receive(&far, &mut bytes, RecvFlags::empty()).unwrap().is_cut);
    }
}
