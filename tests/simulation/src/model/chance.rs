//! What a provider may do, tried one after the other instead of drawn.
//!
//! An action of the model carries a script: one digit for every question that the provider asks.
//! All scripts of one request are found by asking it again and again on a copy of its books, so
//! none is left out and none is tried twice.

use crate::provider::Chance;

/// Questions that one request may ask.
const QUESTIONS_MAX: u8 = 12;

/// The answers to a provider's questions, in order: 0 is the first thing that may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Script {
    digits: u64,
    len: u8,
}

impl Script {
    fn digit(self, at: u8) -> u8 {
        if at < self.len { (self.digits >> (4 * at) & 15) as u8 } else { 0 }
    }

    fn with(self, at: u8, digit: u8) -> Self {
        let below = self.digits & ((1 << (4 * at)) - 1);
        Self { digits: below | u64::from(digit) << (4 * at), len: at + 1 }
    }

    /// How often something else than the first thing happens: each costs one fault.
    pub fn whims(self) -> u8 {
        (0..self.len).filter(|at| self.digit(*at) > 0).count() as u8
    }
}

impl std::fmt::Display for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (0..self.len).try_for_each(|at| write!(f, "{}", self.digit(at)))
    }
}

/// Answers by a script.
pub struct Player {
    script: Script,
    asked: u8,
    options: [u8; QUESTIONS_MAX as usize],
}

impl Player {
    /// Answers by this script, and by the first thing where it ends.
    pub fn new(script: Script) -> Self {
        Self { script, asked: 0, options: [0; QUESTIONS_MAX as usize] }
    }

    /// Whether every answer of the script was asked for, and no other.
    pub fn used_up(&self) -> bool {
        self.asked == self.script.len
    }
}

impl Chance for Player {
    fn pick(&mut self, weights: &[u32]) -> usize {
        let mut possible = weights.iter().enumerate().filter(|(_, w)| **w > 0).map(|(n, _)| n);
        let options = possible.clone().count();
        assert!(options > 0, "something must be possible");
        if options == 1 {
            return possible.next().expect("one is possible");
        }
        let digit = self.script.digit(self.asked);
        self.options[usize::from(self.asked)] = options as u8;
        self.asked += 1;
        possible.nth(usize::from(digit)).expect("the digit names something possible")
    }
}

/// Every script with at most this many whims for what `run` asks.
pub fn scripts(whims: u8, mut run: impl FnMut(&mut Player)) -> Vec<Script> {
    let mut found = Vec::new();
    let mut next = Some(Script::default());
    while let Some(script) = next {
        let mut player = Player::new(script);
        run(&mut player);
        let full = Script { len: player.asked, ..script };
        found.push(full);
        next = (0..player.asked).rev().find_map(|at| {
            let digit = full.digit(at) + 1;
            let candidate = full.with(at, digit);
            let possible = digit < player.options[usize::from(at)];
            (possible && candidate.whims() <= whims).then_some(candidate)
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_tried_once_and_none_above_the_budget() {
        let ask = |p: &mut Player| {
            if p.pick(&[5, 0, 1]) == 0 {
                p.pick(&[1, 1, 1]);
            }
            p.happens(500);
        };
        let all = scripts(9, ask);
        // The first question's second answer ends it early: 3 * 2 + 2.
        assert_eq!(all.len(), 8);
        for (n, script) in all.iter().enumerate() {
            assert!(!all[..n].contains(script), "{script}");
            let mut player = Player::new(*script);
            ask(&mut player);
            assert!(player.used_up());
        }
        assert_eq!(scripts(0, ask).len(), 1);
        assert_eq!(scripts(1, ask).len(), 5);
    }
}
