//! What became of each tile of a plan when its pixels were read. Only tiles with pixels become features: none is ever made up.

use serde::{Deserialize, Serialize};

/// What became of one tile. The number is its code in the bag's dataset `tile_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TileStatus {
    /// Its pixels were read.
    Ok = 0,
    /// The reader refused: the file is damaged there.
    Unreadable = 1,
    /// It lies outside the area that the slide says was scanned.
    Outside = 2,
    /// Every pixel has one colour: nothing was scanned there, or nothing can be seen.
    Blank = 3,
}

impl TileStatus {
    /// The status with this code.
    pub fn of_code(code: u8) -> Option<Self> {
        [Self::Ok, Self::Unreadable, Self::Outside, Self::Blank].into_iter().find(|&status| status as u8 == code)
    }
}

/// How many tiles of a slide came to which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCounts {
    /// With features.
    pub ok: usize,
    /// Damaged.
    pub unreadable: usize,
    /// Not in the scanned area.
    pub outside: usize,
    /// Of one colour.
    pub blank: usize,
}

impl StatusCounts {
    /// Counts a list of statuses.
    pub fn of(statuses: &[TileStatus]) -> Self {
        let count = |wanted| statuses.iter().filter(|&&status| status == wanted).count();
        Self {
            ok: count(TileStatus::Ok),
            unreadable: count(TileStatus::Unreadable),
            outside: count(TileStatus::Outside),
            blank: count(TileStatus::Blank),
        }
    }

    /// Tiles of the plan.
    pub fn total(self) -> usize {
        self.ok + self.unreadable + self.outside + self.blank
    }
}
