//! What layers and clients say to each other.

use serde::{Deserialize, Serialize};

/// The most tiles of one job.
pub(crate) const MOST_TILES: u32 = 1 << 16;

/// The longest line of a client.
pub(crate) const LINE: usize = 512;

/// A picture to be painted: a Julia set of the point `(re, im)`, in tiles of `tile` by `tile` points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Picture {
    pub width: u32,
    pub height: u32,
    pub tile: u32,
    pub re: f64,
    pub im: f64,
    /// How often a point is followed at most: what a tile costs.
    pub depth: u32,
}

impl Picture {
    /// Whether anybody would paint it.
    pub fn is_fit(&self) -> bool {
        let size = 1..=1 << 15;
        size.contains(&self.width)
            && size.contains(&self.height)
            && (1..=256).contains(&self.tile)
            && (1..=1 << 20).contains(&self.depth)
            && self.re.is_finite()
            && self.im.is_finite()
            && self.tiles() <= MOST_TILES
    }

    /// Tiles from left to right, and from top to bottom.
    fn grid(&self) -> (u32, u32) {
        (self.width.div_ceil(self.tile), self.height.div_ceil(self.tile))
    }

    /// How many tiles it has.
    pub fn tiles(&self) -> u32 {
        let (across, down) = self.grid();
        across.saturating_mul(down)
    }

    /// Where a tile begins, and how wide and high it is.
    pub fn place(&self, tile: u32) -> (u32, u32, u32, u32) {
        let across = self.grid().0;
        let (x, y) = (tile % across * self.tile, tile / across * self.tile);
        (x, y, self.tile.min(self.width - x), self.tile.min(self.height - y))
    }
}

/// What a client asks for, in a line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wish {
    /// Paint this, before what has a lower priority.
    Render { picture: Picture, priority: u8 },
    /// Send the tiles of a job: those that are there, and the others as they come.
    Watch { job: u64 },
    /// Paint no more of a job, and forget it.
    Cancel { job: u64 },
    /// Tell how the grid is.
    Status,
}

/// What a client is told, in a line of JSON; the bytes of a tile follow its line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    /// A job was taken.
    Job {
        job: u64,
    },
    /// What a job paints.
    Watched {
        picture: Picture,
    },
    /// A tile is there.
    Tile {
        tile: u32,
        bytes: u32,
    },
    /// All are.
    Done,
    /// It isn't done.
    Refused {
        why: String,
    },
    Status(Status),
}

/// How the grid is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Workers that can be reached, as the dispatcher knows them.
    pub workers: Vec<String>,
    /// Tiles that are being painted.
    pub under_way: usize,
    /// Results that came for what had one already, and were dropped.
    pub twice: u64,
    /// Tiles that were given to somebody once more, since who had them is gone.
    pub again: u64,
    pub jobs: Vec<JobStatus>,
}

/// How a job is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JobStatus {
    pub job: u64,
    pub priority: u8,
    pub tiles: u32,
    pub done: u32,
}

/// One tile to be painted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub picture: Picture,
    pub tile: u32,
}

/// What of a watched job the door is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Part {
    Picture(Picture),
    Tile(u32, Vec<u8>),
}
