//! Random numbers from a seed, the same on every machine and in every replay.

use crate::provider::Chance;

/// splitmix64 (Steele, Lea and Flood, 2014): eight bytes of state, passes BigCrush.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall alike for this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, at least 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // The high half of the product: a bias of n / 2^64 is none here.
        ((u128::from(self.any()) * u128::from(n.max(1))) >> 64) as u64
    }

    /// An index below `n`.
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// Once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.index(these.len())]
    }
}

impl Chance for Dice {
    fn pick(&mut self, weights: &[u32]) -> usize {
        let total: u32 = weights.iter().sum();
        let mut mark = self.below(total.into()) as u32;
        for (n, weight) in weights.iter().enumerate() {
            if mark < *weight {
                return n;
            }
            mark -= weight;
        }
        0
    }
}

/// Folds everything that happens into one number, so that two runs can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fold {
    /// Takes one more number in.
    pub fn take(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// What became of all of them.
    pub fn value(self) -> u64 {
        self.0
    }
}
