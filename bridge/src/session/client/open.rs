//! An open session: beats and questions up, states and answers down, and the look whether the path still carries.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::NodeId;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::{Client, End, Pending};
use crate::net::{Direct, FrameError, FrameReader, FrameWriter, Stream};
use crate::session::handle::{FromSession, ToSession};
use crate::session::lease::boottime_ms;
use crate::session::message::{Down, Number, Reply, Request, Up};

/// One open session.
pub(super) struct Open {
    pub(super) leader: NodeId,
    pub(super) relayed: bool,
    pub(super) read: FrameReader<tokio::io::ReadHalf<Stream>>,
    pub(super) write: FrameWriter<tokio::io::WriteHalf<Stream>>,
    /// Sending time of each beat that waits for its answer.
    pub(super) beats: BTreeMap<u64, u64>,
    pub(super) next_nonce: u64,
    pub(super) next_beat: Instant,
    pub(super) beat: Duration,
    /// Unanswered for so long, the path has stalled.
    pub(super) patience: Duration,
    /// The agent has orders of this session.
    pub(super) told: bool,
    /// And has had a lease since it got them.
    pub(super) trusted: bool,
}

impl Open {
    /// When there is something to do without being told: the next beat, or the end of the path's patience.
    fn due(&self) -> Instant {
        let Some(sent) = self.beats.values().next() else { return self.next_beat };
        let age = Duration::from_millis(boottime_ms().saturating_sub(*sent));
        self.next_beat.min(Instant::now() + self.patience.saturating_sub(age))
    }

    /// Whether the oldest beat was left unanswered for too long.
    fn has_stalled(&self) -> bool {
        let age = |sent: &u64| Duration::from_millis(boottime_ms().saturating_sub(*sent));
        self.beats.values().next().map(age).is_some_and(|age| age >= self.patience)
    }
}

impl Client {
    pub(super) async fn serve(&mut self, mut open: Open) -> End {
        self.pending.retain(|_, pending| !pending.reply.is_closed());
        let questions: Vec<(Number, Request)> =
            self.pending.iter().map(|(number, pending)| (*number, pending.request.clone())).collect();
        for (number, request) in questions {
            if let Some(end) = self.ask(number, request, &mut open).await {
                return end;
            }
        }
        let mut healed = self.setup.dialer.healed();
        loop {
            let due = open.due();
            tokio::select! {
                frame = open.read.recv::<Down>() => match self.take(frame, &mut open).await {
                    Some(end) => return end,
                    None => continue,
                },
                request = self.setup.requests.recv() => {
                    let Some(request) = request else { return End::Stop };
                    if let Some(end) = self.send(request, &mut open).await {
                        return end;
                    }
                }
                () = sleep_until(due) => {
                    if let Some(end) = self.beat(&mut open).await {
                        return end;
                    }
                }
                Ok(node) = healed.recv() => {
                    if open.relayed && node == open.leader.0 {
                        info!(node, "the direct path is back");
                        self.target = Some(open.leader);
                        return End::Again;
                    }
                }
            }
        }
    }

    async fn take(&mut self, frame: Result<Down, FrameError>, open: &mut Open) -> Option<End> {
        let down = match frame {
            Ok(down) => down,
            Err(error) => {
                debug!(%error, "the session's connection is gone");
                return Some(End::Again);
            }
        };
        let told = match down {
            Down::Beaten { nonce, lease_ms, next_in_ms, parted } => {
                if let Some(why) = parted {
                    self.setup.accord.differs(why);
                }
                if let Some(sent) = open.beats.get(&nonce) {
                    let lapsed = self.setup.lease.left().is_none();
                    self.extend(sent.saturating_add(lease_ms));
                    // With its lease the agent dropped its orders (F8), and the leader, which has seen no end of it, tells
                    // only what has changed: all is told anew in another session.
                    if lapsed && open.trusted {
                        info!("the lease had ended within the session: another is opened");
                        self.target = Some(open.leader);
                        return Some(End::Again);
                    }
                    open.trusted |= open.told;
                }
                open.beats.retain(|other, _| *other > nonce);
                open.next_beat = Instant::now() + Duration::from_millis(next_in_ms).min(open.beat * 2);
                return None;
            }
            Down::State(orders) => {
                open.told = true;
                open.trusted |= self.setup.lease.left().is_some();
                FromSession::Orders { session: self.session, orders }
            }
            Down::FactTaken { number, outcome } => FromSession::FactTaken { number, outcome },
            Down::Answer { number, reply } => {
                if let Some(pending) = self.pending.remove(&number) {
                    // An asker that has gone does not want the answer.
                    let _ = pending.reply.send(reply);
                }
                return None;
            }
            Down::Book(book) => {
                self.learn(book);
                return None;
            }
            Down::Denied(denial) => return Some(self.denied(denial).await),
            Down::NotLeader { leader, book } => {
                self.learn(book);
                return Some(self.redirected(open.leader, leader));
            }
            Down::Challenge { .. } | Down::Welcome { .. } => return Some(End::Again),
        };
        self.setup.agent.send(told).await.is_err().then_some(End::Stop)
    }

    async fn send(&mut self, request: ToSession, open: &mut Open) -> Option<End> {
        match request {
            ToSession::Fact { number, fact } => {
                open.write.send(&Up::Fact { number, fact }).await.is_err().then_some(End::Again)
            }
            // Whoever asked was told long ago that there is no answer: a wish must not be carried out behind their back.
            ToSession::Ask { reply, .. } if reply.is_closed() => None,
            ToSession::Ask { request, reply } => {
                let number = self.remember(request.clone(), reply);
                self.ask(number, request, open).await
            }
            ToSession::Renew => Some(End::Again),
        }
    }

    /// A question that no session carries is answered here: asked again in each new one, it would end them all.
    async fn ask(&mut self, number: Number, request: Request, open: &mut Open) -> Option<End> {
        match open.write.send(&Up::Ask { number, request }).await {
            Ok(()) => None,
            Err(FrameError::TooLong { max }) => {
                let why =
                    format!("the question is longer than a session carries ({max} bytes); ask about less");
                if let Some(pending) = self.pending.remove(&number) {
                    // An asker that has gone does not want the answer.
                    let _ = pending.reply.send(Reply::Declined(why));
                }
                None
            }
            Err(_) => Some(End::Again),
        }
    }

    fn remember(&mut self, request: Request, reply: oneshot::Sender<Reply>) -> Number {
        let number = self.next_number;
        self.next_number += 1;
        self.pending.insert(number, Pending { request, reply });
        number
    }

    async fn beat(&mut self, open: &mut Open) -> Option<End> {
        if open.has_stalled() {
            let why = format!("no answer for {} ms", open.patience.as_millis());
            if open.leader != self.setup.node && !open.relayed {
                self.setup.dialer.note_stalled(open.leader.0, why);
            }
            self.target = Some(open.leader);
            return Some(End::Again);
        }
        if Instant::now() < open.next_beat {
            return None;
        }
        open.next_beat = Instant::now() + open.beat;
        let gone = self.pending.iter().filter(|(_, pending)| pending.reply.is_closed());
        let gone: Vec<Number> = gone.map(|(number, _)| *number).collect();
        for number in gone {
            self.pending.remove(&number);
            if open.write.send(&Up::Withdraw { number }).await.is_err() {
                return Some(End::Again);
            }
        }
        // F27
        if self.setup.pulse.age() > self.silence {
            return None;
        }
        let links = self.setup.dialer.links();
        let down = links.iter().filter(|link| matches!(link.direct, Direct::Down { .. }));
        let cut_off_from = down.map(|link| NodeId(link.peer)).collect();
        let nonce = open.next_nonce;
        open.next_nonce += 1;
        open.beats.insert(nonce, boottime_ms());
        let (digest, set_aside) = (self.setup.accord.said(), self.setup.accord.is_set_aside());
        let beat = Up::Beat { nonce, cut_off_from, digest, set_aside };
        open.write.send(&beat).await.is_err().then_some(End::Again)
    }
}
