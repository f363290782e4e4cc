//! Starting one instance: its slice, its pipes, its cgroup, its process.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::child::{Child, Printing};
use super::image::Image;
use super::outbox::Outbox;
use super::pipes::Standard;
use super::start_error::StartError;
use crate::confine::cgroup::Group;
use crate::confine::{Identity, Order, spaces};
use crate::ident::Instance;
use crate::layer::enter::TITLE;
use crate::layer::slice::{PIPE_FDS, Slice};
use crate::policy::plan::Program;
use crate::prepare::upgrade::facts::Facts;
use crate::sys::spawn::{self, Namespaces, Spawn};
use crate::wire::life::Culprit;

impl Image {
    /// Starts `instance`. When this returns, its program has been executed, and nothing else has
    /// happened in it yet.
    ///
    /// `reports` is the ring for its reports, if it has one.
    pub fn spawn(
        &self,
        instance: &Instance,
        standard: &Standard,
        reports: Option<&OwnedFd>,
    ) -> Result<Child, StartError> {
        let is_refused = |error: &StartError| matches!(error, StartError::Spawn(_));
        let attempt = || self.attempt(instance.clone(), standard, reports);
        self.ground.namespaces.start(attempt, is_refused)
    }

    fn attempt(
        &self,
        instance: Instance,
        standard: &Standard,
        reports: Option<&OwnedFd>,
    ) -> Result<Child, StartError> {
        let ground = &*self.ground;
        let group = self.group(&instance)?;
        let identity = self.identity(instance.index);
        let own = self.data.own.as_ref();
        let runs = matches!(self.data.plan.program, Program::Run(_));
        // Standard output and error, and where an init tells of refusals.
        let printed = (0..if runs { 2 } else { 3 }).map(|_| log_pipe());
        let (output, far): (Vec<_>, Vec<_>) = printed.collect::<io::Result<_>>()?;
        let pipes = standard.streams.iter().flatten().chain(far.get(2));
        let pipes: Vec<&OwnedFd> = pipes.collect();
        // The ring for reports, if there is one, comes before them.
        let kept = if runs { 0 } else { pipes.len() + usize::from(reports.is_some()) };
        let order = Order {
            instance: instance.clone(),
            layer: self.data.plan.clone(),
            identity,
            namespaces: self.namespaces(),
            contents: self.data.contents.clone(),
            ports: own.map_or_else(Vec::new, |own| own.ports.clone()),
            sockets: own.is_some_and(|own| own.sockets),
            keep: [0, 1, 2, 3].into_iter().chain(PIPE_FDS.take(kept)).collect(),
            lingers: own.is_some_and(|own| own.lingers),
            grouped: group.as_ref().map_or_else(|| ground.groups.without_group(), Group::grouped),
        };
        let settings = own.map_or(&*self.settings, |own| &own.settings);
        let slice = Slice::seal(&order, self.reports.as_deref(), settings, &self.data.part)?;
        let (control, far_control) = control_pair()?;

        let title = CString::new(format!("{TITLE}{instance}")).map_err(io::Error::other)?;
        let fds = [&ground.null, &far[0], &far[1], &slice, &far_control];
        let fds: Vec<_> = fds.into_iter().chain(reports).chain(pipes).map(AsFd::as_fd).collect();
        let joins = group.as_ref().map(|group| group.joins());
        let argv = [title];
        // A foreign program gets its own from its init; ours is read before it is confined, so the
        // checker lets through only what no loader obeys.
        let own = runs.then_some(&self.data.plan.env);
        let envp = own.into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
        let envp =
            envp.map(CString::new).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let ids = match identity {
            Identity::Own { .. } => None,
            Identity::Mapped { uid, gid } => Some(spaces::ids(uid, gid)),
        };
        // An ordinary user who may make no user namespace has nothing to map in.
        let ids = ids.filter(|_| ground.namespaces.get().contains(Namespaces::USER));
        let child = spawn::spawn(&Spawn {
            fds: &fds,
            namespaces: self.namespaces(),
            ids: ids.as_ref(),
            cgroup: joins.as_ref().and_then(|joins| joins.unified),
            tasks: joins.as_ref().map_or(&[], |joins| &joins.tasks),
            envp: &envp,
            ..Spawn::new(ground.program.as_fd(), &argv)
        })?;
        Ok(Child {
            printing: Rc::new(Printing {
                culprit: self.culprit(identity, child.pid.as_raw_nonzero().get()),
                instance: instance.clone(),
                output,
            }),
            instance,
            process: child.pidfd,
            pid: child.pid,
            control,
            outbox: Outbox::default(),
            cgroup: group,
            facts: Facts::new(standard.severed),
        })
    }

    /// By what the kernel's log tells of the instance that is the process `pid`.
    fn culprit(&self, identity: Identity, pid: i32) -> Culprit {
        match identity {
            // Nobody else's: the record of users has it.
            Identity::Own { uid, .. } if self.data.plan.uid.is_none() => Culprit::User(uid),
            Identity::Own { uid, .. } => Culprit::Process { pid, uid },
            Identity::Mapped { .. } => Culprit::Process { pid, uid: spaces::own_numbers().0 },
        }
    }
}

/// The control socket. The supervisor's end refuses descriptors: a layer has none to give it.
fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::io::ioctl_fionbio(&near, true)?;
    // Linux 6.16's SO_PASSRIGHTS; before that the plain receive drops what comes.
    let _ = crate::sys::socket::refuse_descriptors(&near);
    Ok((near, far))
}

/// A pipe for what a layer prints. Only the reading end is non-blocking: each end has its own
/// flags, so a layer can't change ours.
fn log_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}
