//! Whether the watchdog may be fed: pure, and asked after each waking, with the time read then (F17).

/// What there is to see at that moment. Times in milliseconds of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) now_ms: u64,
    /// How long the feeder meant to sleep at the most.
    pub(super) period_ms: u64,
    /// When the lease ends, or ended.
    pub(super) lease_ends_ms: u64,
    /// The longest lease that was ever granted; 0 if none was.
    pub(super) lease_ms: u64,
    /// What the units that must stop at the end of a lease may take for it, if anything here rests on the watchdog.
    pub(super) protects: Option<u64>,
}

/// Decides about one device.
#[derive(Debug, Default)]
pub(super) struct Judge {
    last_ms: Option<u64>,
    /// How much time there is to stop: the most that was seen since the lease ended, for units that have stopped take
    /// theirs out of the sum.
    budget_ms: u64,
    /// It is never fed again in this process.
    over: bool,
}

impl Judge {
    /// Whether to feed now.
    pub(super) fn may_feed(&mut self, sight: &Sight) -> bool {
        let slept_ms = self.last_ms.map_or(0, |last| sight.now_ms.saturating_sub(last));
        self.last_ms = Some(sight.now_ms);
        let Some(budget_ms) = sight.protects else {
            self.budget_ms = 0;
            return !self.over;
        };
        // Whoever overslept by more than a lease was stopped, or suspended: others have taken this node for lost.
        if sight.lease_ms > 0 && slept_ms > sight.lease_ms.saturating_add(sight.period_ms) {
            self.over = true;
        }
        let leased = sight.now_ms < sight.lease_ends_ms;
        self.budget_ms = if leased { budget_ms } else { self.budget_ms.max(budget_ms) };
        !self.over && sight.now_ms < sight.lease_ends_ms.saturating_add(self.budget_ms)
    }

    /// There is nothing to feed, and however long that lasts is no sleep.
    pub(super) fn rest(&mut self) {
        self.last_ms = None;
    }

    /// What rests here must not go on: it is fed no more.
    pub(super) fn give_up(&mut self) {
        self.over = true;
    }

    /// Whether it is never fed again.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_MS: u64 = 1_840;
    const TIMEOUT_MS: u64 = 5_000;
    const PERIOD_MS: u64 = TIMEOUT_MS / 4;

    fn sight(now_ms: u64, lease_ends_ms: u64, protects: Option<u64>) -> Sight {
        Sight { now_ms, period_ms: PERIOD_MS, lease_ends_ms, lease_ms: LEASE_MS, protects }
    }

    #[test]
    fn with_a_lease_or_with_nothing_to_protect_it_is_fed() {
        let mut judge = Judge::default();
        assert!(judge.may_feed(&sight(1_000, 2_000, Some(0))));
        assert!(!judge.may_feed(&sight(2_000, 2_000, Some(0))), "the lease has ended");
        assert!(judge.may_feed(&sight(2_500, 2_000, None)), "nothing rests on it");
        assert!(judge.may_feed(&sight(9_000, 2_000, None)), "nor did it while we slept");
    }

    #[test]
    fn what_stops_has_the_time_that_was_announced_and_no_more() {
        let mut judge = Judge::default();
        assert!(judge.may_feed(&sight(1_500, 2_000, Some(3_000))));
        assert!(judge.may_feed(&sight(3_000, 2_000, Some(3_000))));
        // One of two units has stopped: the other still has the time of both.
        assert!(judge.may_feed(&sight(4_500, 2_000, Some(500))));
        assert!(!judge.may_feed(&sight(5_000, 2_000, Some(500))));
        // With a new lease the next end counts anew.
        assert!(judge.may_feed(&sight(5_500, 7_000, Some(500))));
        assert!(judge.may_feed(&sight(7_200, 7_000, Some(500))));
        assert!(!judge.may_feed(&sight(7_500, 7_000, Some(500))));
    }

    #[test]
    fn who_overslept_by_more_than_a_lease_never_feeds_again() {
        let mut judge = Judge::default();
        assert!(judge.may_feed(&sight(1_000, 2_000, Some(60_000))));
        assert!(judge.may_feed(&sight(4_090, 60_000, Some(60_000))), "late, as on a busy machine");
        assert!(!judge.may_feed(&sight(7_181, 60_000, Some(60_000))), "a new lease was granted meanwhile");
        assert!(!judge.may_feed(&sight(7_200, 60_000, Some(60_000))));
        assert!(!judge.may_feed(&sight(7_250, 60_000, None)));
        assert!(judge.is_over());
    }

    #[test]
    fn a_time_without_a_device_is_no_sleep() {
        let mut judge = Judge::default();
        assert!(judge.may_feed(&sight(1_000, 2_000, None)));
        judge.rest();
        assert!(judge.may_feed(&sight(90_000, 91_000, Some(0))));
        assert!(!judge.is_over());
    }

    /// A fake clock and a fake device: whatever the feeder's waking and the stalls between, the device fires within its
    /// timeout of the last moment at which it could rightly be fed.
    #[test]
    fn a_device_fires_in_time_whatever_stalls() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut fired = 0;
        for _ in 0..2_000 {
            let (lease_ends_ms, budget_ms) = (1_000 + random(4_000), random(3_000));
            let limit_ms = lease_ends_ms + budget_ms;
            let (mut judge, mut now_ms, mut fed_ms) = (Judge::default(), 1_000, 1_000);
            while now_ms < limit_ms + 3 * TIMEOUT_MS && now_ms < fed_ms + TIMEOUT_MS {
                // The lease ends; the units' sum falls while they stop one after another.
                let sum = if now_ms < lease_ends_ms { budget_ms } else { random(budget_ms + 1) };
                if judge.may_feed(&sight(now_ms, lease_ends_ms, Some(sum))) {
                    fed_ms = now_ms;
                }
                let stall = if random(10) == 0 { random(4_000) } else { 0 };
                now_ms += PERIOD_MS + stall;
            }
            assert!(fed_ms < limit_ms.max(1_001), "fed at {fed_ms}, after {limit_ms}");
            fired += usize::from(now_ms >= fed_ms + TIMEOUT_MS);
        }
        assert_eq!(fired, 2_000, "each of them has fired");
    }
}
