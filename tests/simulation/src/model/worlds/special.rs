//! Worlds that are about one rule alone.

use super::World;

/// All of them.
pub fn special() -> Vec<World> {
    Vec::new()
}
