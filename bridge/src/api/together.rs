//! One answer for all who ask the same at a time.
//!
//! An answer goes only to those who had asked before it was asked for: nobody gets one that is older than their question. So
//! any number of callers cost one question under way, and nobody waits for longer than for two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// A question that many may ask.
pub(super) struct Together<T> {
    /// Shortest time from one question to the next.
    pause: Duration,
    asked: AtomicU64,
    last: Mutex<Last<T>>,
}

/// The last question.
struct Last<T> {
    /// Also where whoever asked it has gone meanwhile.
    begun: Option<Instant>,
    /// With how many had asked before it was asked for.
    answer: Option<(u64, T)>,
}

impl<T: Clone> Together<T> {
    /// One that is asked again at once.
    pub(super) fn new() -> Self {
        Self::spaced(Duration::ZERO)
    }

    /// One that is asked no more often than once in this time, however many give up.
    pub(super) fn spaced(pause: Duration) -> Self {
        let last = Last { begun: None, answer: None };
        Self { pause, asked: AtomicU64::new(0), last: Mutex::new(last) }
    }

    /// Asks, unless another one does so for this one too. Safe to cancel: the next one asks then.
    pub(super) async fn ask<F: Future<Output = T>>(&self, question: impl FnOnce() -> F) -> T {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if let Some((_, answer)) = last.answer.as_ref().filter(|(covers, _)| *covers >= mine) {
            return answer.clone();
        }
        if let Some(begun) = last.begun {
            sleep_until(begun + self.pause).await;
        }
        let covers = self.asked.load(Ordering::SeqCst);
        last.begun = Some(Instant::now());
        let answer = question().await;
        last.answer = Some((covers, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::task::yield_now;

    use super::*;

    /// Counts how often it is asked; each answer is its number, and waits to be let go.
    #[derive(Default)]
    struct Oracle {
        asked: AtomicU64,
        go: Option<Semaphore>,
    }

    impl Oracle {
        async fn answer(&self) -> u64 {
            let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some(go) = &self.go {
                go.acquire().await.expect("open").forget();
            }
            number
        }
    }

    #[tokio::test]
    async fn who_asks_meanwhile_shares_the_next_answer() {
        let (oracle, together) = (Oracle::default(), Together::new());
        let answers = join_all((0..100).map(|_| together.ask(|| oracle.answer()))).await;
        assert_eq!(answers[..2], [1, 2]);
        assert_eq!(answers[1..], [2; 99]);
        assert_eq!(together.ask(|| oracle.answer()).await, 3, "an answer is never older than its question");
    }

    #[tokio::test]
    async fn who_has_gone_keeps_nobody_waiting() {
        let oracle = Arc::new(Oracle { go: Some(Semaphore::new(0)), ..Oracle::default() });
        let together = Arc::new(Together::new());
        let ask = || {
            let (oracle, together) = (Arc::clone(&oracle), Arc::clone(&together));
            tokio::spawn(async move { together.ask(|| oracle.answer()).await })
        };
        let first = ask();
        while oracle.asked.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
        let (given_up, later) = (ask(), ask());
        while together.asked.load(Ordering::SeqCst) < 3 {
            yield_now().await;
        }
        given_up.abort();
        oracle.go.as_ref().expect("gate").add_permits(2);
        assert_eq!((first.await.expect("told"), later.await.expect("told")), (1, 2));
    }

    #[tokio::test]
    async fn who_gives_up_again_and_again_asks_no_more_often() {
        let (oracle, together) = (Oracle::default(), Together::spaced(Duration::from_secs(3600)));
        for _ in 0..50 {
            let asking = together.ask(|| async {
                oracle.answer().await;
                std::future::pending().await
            });
            let _: Result<u64, _> = tokio::time::timeout(Duration::from_millis(1), asking).await;
        }
        assert_eq!(oracle.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_question_is_left_alone_for_a_while() {
        let (oracle, together) = (Oracle::default(), Together::spaced(Duration::from_millis(20)));
        let began = Instant::now();
        for _ in 0..5 {
            together.ask(|| oracle.answer()).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
    }
}
