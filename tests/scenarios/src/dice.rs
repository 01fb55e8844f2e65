//! Random moments that can be had again.

/// A small generator: the moments differ from run to run, and whoever prints the seed can repeat them.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// By `$CONVOKE_SEED`, or by the clock.
    #[must_use]
    pub fn new() -> Dice {
        let given = std::env::var("CONVOKE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(lab::now_ns);
        Dice { seed, state: seed | 1 }
    }

    /// What it was begun with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below another one.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }
}

impl Default for Dice {
    fn default() -> Dice {
        Dice::new()
    }
}
