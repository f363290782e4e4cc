//! The plan: what was checked, in the form that everything downstream uses.
//!
//! Only [`check`](crate::policy::check()) makes a plan, so whoever holds one need not validate
//! anything again. A plan holds no text positions, comments or `because` lines: two policies that
//! grant the same have the same [`PolicyId`].

mod audit;
mod channel;
mod directory;
mod edge;
mod facility;
mod host;
mod layer;
mod members;
mod protection;
mod socket;
mod stream;
mod syscall;
mod view;
mod word;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use self::audit::*;
pub use self::channel::*;
pub use self::directory::{DirectoryKind, DirectoryPlan};
pub use self::facility::*;
pub use self::host::{Here, HostPlan};
pub use self::layer::*;
pub use self::members::{End, FacilityKind, Part};
pub use self::protection::Protection;
pub use self::socket::*;
pub use self::stream::Stream;
pub use self::syscall::*;
pub use self::view::{View, ViewPart};
pub use self::word::Word;
pub(crate) use self::word::words;
use crate::ident::{Name, PolicyId};
use crate::policy::beneath::touch;

/// A whole daemon, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// The daemon's name.
    pub name: Name,
    /// The hosts that it is on, sorted by name. Empty where the policy names none.
    pub hosts: Vec<HostPlan>,
    /// The host whose part this is, where it is one's [part](Plan::on).
    pub here: Option<Here>,
    /// Its layers, sorted by name.
    pub layers: Vec<LayerPlan>,
    /// Its channels, sorted by name. A channel's number on the wire is its place here.
    pub channels: Vec<ChannelPlan>,
    /// Its files and directories, sorted by name.
    pub files: Vec<FilePlan>,
    /// The other facilities.
    pub facilities: Facilities,
    /// The audit log.
    pub audit: AuditPlan,
    /// What may change while it runs.
    pub reload: ReloadPlan,
    /// Where its numbers are served, a TCP address; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// What must never be possible, sorted. It holds, or there would be no plan.
    pub never: Vec<Never>,
}

/// What may change while a daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadPlan {
    /// Whether a new policy may grant what this one doesn't.
    pub gain: bool,
}

impl Default for ReloadPlan {
    /// What holds where a policy says nothing.
    fn default() -> Self {
        Self { gain: true }
    }
}

/// Something that must never be possible, in any number of steps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Never {
    /// Who must not.
    pub layer: Name,
    /// What it must not reach: `file.key`, `layer.keeper`, `connect.upstream`.
    pub reach: String,
    /// Ways through these layers are tolerated, sorted.
    pub through_except: Vec<Name>,
}

impl Plan {
    /// The digest of this plan; see [`PolicyId`].
    ///
    /// Postcard of sorted vectors and maps is canonical. It can only fail on a sequence of
    /// unknown length, of which a plan has none; were that ever to change, two plans must not
    /// silently share the digest of nothing, so the failure is told.
    pub fn id(&self) -> Result<PolicyId, postcard::Error> {
        use blake2::Digest;
        if let Some(here) = &self.here {
            return here.whole.id();
        }
        let bytes = postcard::to_stdvec(self)?;
        let mut hash = blake2::Blake2s256::new();
        hash.update(b"cofferdam plan 1\0");
        hash.update(&bytes);
        Ok(PolicyId(hash.finalize().into()))
    }

    /// The layer of that name.
    pub fn layer(&self, name: &str) -> Option<&LayerPlan> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// The channel of that name, with its number on the wire.
    pub fn channel(&self, name: &str) -> Option<(u16, &ChannelPlan)> {
        let index = self.channels.iter().position(|channel| channel.name == name)?;
        Some((u16::try_from(index).ok()?, &self.channels[index]))
    }

    /// Whether other layers could choose, by a symbolic link, what `layer` opens beneath `file`:
    /// they make links there or carry some about, and it makes none itself.
    pub fn is_misled(&self, file: &FilePlan, layer: &Name) -> bool {
        let places = [FileRight::Symlink, FileRight::Move];
        let places = |rights: &[FileRight]| rights.iter().any(|right| places.contains(right));
        let others = |other: &FilePlan| {
            other.grant.iter().any(|(name, rights)| name != layer && places(rights))
        };
        let own = file.grant.get(layer).is_some_and(|it| it.contains(&FileRight::Symlink));
        // In a directory of its own a layer does as an owner does.
        let mut owned = self.layers.iter().filter(|it| it.name != *layer);
        let is_owned = owned.any(|it| {
            let mut kept = it.directories.iter().filter(|own| own.kind.is_kept());
            kept.any(|own| touch(&own.path, &file.path))
        });
        let is_linked =
            self.files.iter().any(|other| touch(&other.path, &file.path) && others(other));
        !own && (is_owned || is_linked)
    }

    /// The files that `layer` holds rights on.
    pub fn files_of<'a>(
        &'a self,
        layer: &'a Name,
    ) -> impl Iterator<Item = (&'a FilePlan, &'a [FileRight])> {
        self.files
            .iter()
            .filter_map(move |file| file.grant.get(layer).map(|rights| (file, rights.as_slice())))
    }
}
