//! Helpers: what the framework's own layers get besides what every layer gets, and the sockets by
//! which others ask them.
//!
//! The supervisor makes a socketpair for each client of each helper once both are confined, hands
//! one end to each, and keeps neither: what is asked and answered there it never sees. A restarted
//! helper or client gets new ones.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::child::{Breach, Child};
use super::image::Image;
use super::objects::Handed;
use super::{Life, Supervisor};
use crate::mark;
use crate::prepare::image::LayerImage;
use crate::prepare::own::{OwnImage, Role};
use crate::sys::socket::refuse_descriptors;
use crate::wire::control::{Object, Service, ToLayer};

impl Image {
    /// What one of the framework's own layers holds from the start.
    pub fn of_own(&self) -> io::Result<Vec<Handed>> {
        let mut handed = Vec::new();
        if let Some(state) = &self.state {
            let message = ToLayer::Object { kind: Object::State, number: 0, part: 0 };
            handed.push((message, state.try_clone()?));
        }
        if let Some(log) = &self.kernel_log {
            let message = ToLayer::Object { kind: Object::KernelLog, number: 0, part: 0 };
            handed.push((message, log.try_clone()?));
        }
        let own = self.data.own.as_ref();
        if let Some(&(part, ref path)) = own.and_then(|own| own.host.as_ref()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(path, flags, Mode::empty())?;
            handed.push((ToLayer::Object { kind: Object::Host, number: 0, part }, directory));
        }
        Ok(handed)
    }
}

impl Supervisor<'_> {
    /// The image of the layer at a place.
    fn image_at(&self, place: usize) -> &LayerImage {
        &self.images[self.places[place].seat.layer].data
    }

    /// What is special about a place, if it is of one of the framework's own layers.
    pub(super) fn own(&self, place: usize) -> Option<&OwnImage> {
        self.image_at(place).own.as_ref()
    }

    /// What a place does, if it is of one of the framework's own layers.
    pub(super) fn role(&self, place: usize) -> Option<Role> {
        self.own(place).map(|own| own.role)
    }

    /// The place of one of the framework's own layers, if the plan has it.
    pub(super) fn place_of(&self, role: Role) -> Option<usize> {
        let layer = self.relations.helpers.iter().find(|(it, _)| *it == role)?.1;
        self.places.of(layer).first().copied()
    }

    /// Whether a place is to be filled: while the daemon stops, only that of somebody whom others
    /// may still need.
    pub(super) fn is_wanted(&self, place: usize) -> bool {
        match self.role(place) {
            _ if !self.stopping => true,
            Some(Role::Auditor) => self.needs_auditor(place),
            Some(_) => self.waits_for_others(place),
            None => false,
        }
    }

    /// Whether somebody still runs who ends before a place: the policy's layers do before our own,
    /// and everybody does before the auditor, but who writes the log. The auditor waits for what was
    /// done too.
    pub(super) fn waits_for_others(&self, place: usize) -> bool {
        let last = |place| self.own(place).map_or(0, |own| own.last);
        let own = last(place);
        let writes = self.role(place) == Some(Role::Log);
        let runs = |other: usize| match self.places[other].life {
            Life::Running(_) => true,
            // It waits for who writes down what it says.
            Life::Waiting(_) => writes,
            Life::Down | Life::Spare => false,
        };
        let more = self.may_report_denials();
        let draining = || self.audit.as_ref().is_some_and(|audit| audit.is_draining(more));
        self.is_auditor(place) && draining()
            || (0..self.places.len()).any(|other| last(other) < own && runs(other))
    }

    /// Once nobody else is left or will come, our own layers have nothing more to do.
    pub(super) fn stop_with_nobody_to_serve(&mut self) {
        let over = |it| self.own(it).is_some() || matches!(self.places[it].life, Life::Down);
        if !self.stopping && (0..self.places.len()).all(over) {
            self.stop(self.outcome);
        }
    }

    /// Joins the layer at `place`, which has just become ready, to the helpers that do something
    /// for it; if it is a helper, to its clients.
    pub(super) fn join_services(&mut self, place: usize) -> io::Result<()> {
        for other in 0..self.places.len() {
            let (helper, client) = match self.role(place) {
                Some(Role::Service(_)) => (place, other),
                _ => (other, place),
            };
            if let Some(service) = self.service_between(helper, client) {
                self.join_service(service, helper, client)?;
            }
        }
        Ok(())
    }

    /// What the helper at one place does for the instance at another, if both run.
    fn service_between(&self, helper: usize, client: usize) -> Option<Service> {
        let Some(Role::Service(service)) = self.role(helper) else { return None };
        (self.is_there(helper)
            && self.is_there(client)
            && self.image_at(client).services.contains(&service))
        .then_some(service)
    }

    fn join_service(&mut self, service: Service, helper: usize, client: usize) -> io::Result<()> {
        let (Some((it, key)), Ok(seat)) = (self.person(client), u32::try_from(client)) else {
            return Ok(());
        };
        let (near, far) = service_pair()?;
        self.tell(helper, &ToLayer::Client { seat, client: it, key }, Some(&near));
        mark::reached("supervisor.service.helper-told");
        self.tell(client, &ToLayer::Service(service), Some(&far));
        mark::reached("supervisor.service.client-told");
        Ok(())
    }

    /// Tells the helpers of an instance that it has ended.
    pub(super) fn tell_helpers(&mut self, place: usize, gone: &Child) {
        let Ok(seat) = u32::try_from(place) else { return };
        if !gone.is_serving() {
            return;
        }
        for service in self.image_at(place).services.clone() {
            let helper = self.place_of(Role::Service(service));
            if let Some(helper) = helper.filter(|&helper| self.is_there(helper)) {
                self.tell(helper, &ToLayer::ClientGone { seat }, None);
            }
        }
    }

    /// Whether the instance at `place` is a helper of the one at `seat`.
    pub(super) fn has_client(&self, place: usize, seat: u32) -> bool {
        let Some(Role::Service(service)) = self.role(place) else { return false };
        let client = usize::try_from(seat).ok().filter(|&seat| seat < self.places.len());
        client.is_some_and(|client| self.image_at(client).services.contains(&service))
    }

    /// A client broke the rules of its socket to a helper. One that has ended meanwhile can't be
    /// meant.
    pub(super) fn broke(&mut self, seat: u32, generation: u64) {
        let Ok(place) = usize::try_from(seat) else { return };
        if self.person(place).is_some_and(|(client, _)| client.generation == generation) {
            self.breach(place, Breach::Service);
        }
    }
}

/// A client's socket to a helper, the helper's end first. That refuses descriptors: no client has
/// one to give.
fn service_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // Linux 6.16's SO_PASSRIGHTS; before that the plain receive drops what comes.
    let _ = refuse_descriptors(&near);
    Ok((near, far))
}
