//! Random numbers that a seed decides, so that a token that a test failed on can be made again.

use rsa::rand_core::{CryptoRng, Error, RngCore, impls};
use sha2::{Digest, Sha256};

/// SHA-256 of a seed and a counter. Good enough for keys of tests, and for nothing else.
pub struct Seeded {
    seed: [u8; 32],
    drawn: u64,
}

impl Seeded {
    /// Another stream for every pair of a seed and what it is for.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let seed = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(purpose).finalize();
        Self { seed: seed.into(), drawn: 0 }
    }

    /// The next bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_bytes(&mut bytes);
        bytes
    }
}

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(32) {
            let block =
                Sha256::new().chain_update(self.seed).chain_update(self.drawn.to_be_bytes());
            chunk.copy_from_slice(&block.finalize()[..chunk.len()]);
            self.drawn += 1;
        }
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(into);
        Ok(())
    }
}

impl CryptoRng for Seeded {}
