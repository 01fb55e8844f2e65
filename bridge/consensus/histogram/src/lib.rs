//! Counts samples and forgets them: stands in for the histograms of openraft's run-time statistics.
//!
//! Nothing of Convoke reads those statistics, and the real crate fills 27 MB of tables at its first use, more than all
//! the rest of the daemon. Only what openraft names is here; `docs/design/0006-no-histograms.md` has the reasons.

use std::fmt;
use std::marker::PhantomData;

/// The number of samples, and nothing else of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    samples: u64,
    slot: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// No samples yet.
    #[must_use]
    pub fn new() -> Self {
        Self { samples: 0, slot: PhantomData }
    }

    /// Counts one sample.
    pub fn record(&mut self, _value: u64) {
        self.samples = self.samples.saturating_add(1);
    }

    /// Counts many samples of one value.
    pub fn record_n(&mut self, _value: u64, count: u64) {
        self.samples = self.samples.saturating_add(count);
    }

    /// The count; every percentile is 0.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats { samples: self.samples, ..PercentileStats::default() }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles that are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    /// Samples counted.
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[samples: {}]", self.samples)
    }
}

/// A chart that shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty chart.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Leaves the series out.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn add<T>(self, _name: &str, _series: Histogram<T>) -> Self {
        self
    }

    /// The same, which is nothing.
    #[must_use]
    pub fn detailed(&self) -> &'static str {
        ""
    }
}
