//! Machines that ask to join.

use policy::Wish;

use super::connections::ConnectionId;
use super::core::Core;
use super::leases::{Question, Waiting};
use super::proposals::Ticket;
use crate::pki::{hex, sha256};
use crate::session::message::{Down, Number, Reply, Request};

impl Core {
    /// A stranger's request costs no entry of the log before its token is known; that it is not known is `confirmed` by a round
    /// first, as a later leader may have issued it.
    pub(super) fn enroll(
        &mut self,
        (id, number): (ConnectionId, Number),
        attempt: String,
        wish: Wish,
        confirmed: bool,
    ) {
        let Wish::Enroll { token, secret_hash, name, machine, .. } = &wish else {
            let reply = Reply::Unable("not a request to join".to_owned());
            return self.connections.send(id, Down::Answer { number, reply });
        };
        let client = joiner(&attempt, &wish);
        if !self.state().has_answered(&client)
            && let Err(refusal) = self.state().knows_token(token, secret_hash, self.now())
        {
            if confirmed {
                let reply = Reply::Wish(Err(refusal));
                return self.connections.send(id, Down::Answer { number, reply });
            }
            let request = Request::Enroll { attempt, wish };
            return self.wait_for_round(Waiting::Question(Question { connection: id, number, request }));
        }
        let ticket = Ticket::Enroll(id, number, name.clone(), machine.clone());
        self.propose_wish(wish, client, 1, ticket);
    }

    /// What a machine is told that has joined, also when it asks again: no other one gets that answer.
    pub(super) fn enrolled(&self, name: &str, machine: &str) -> Reply {
        let node = self.state().nodes.iter().find(|(_, node)| node.name == name && node.machine == machine);
        match node {
            Some((id, node)) => Reply::Enrolled {
                node: *id,
                role: node.role,
                generation: self.state().generation,
                book: self.peers(),
                cluster_name: self.state().name.clone(),
            },
            None => Reply::Unable("the node was taken out again".to_owned()),
        }
    }
}

/// Whose command a request to join is: one attempt's with this wish. A repeat is answered as the first was, so another
/// name, machine or token under the same attempt has to be another's.
fn joiner(attempt: &str, wish: &Wish) -> String {
    let Wish::Enroll { token, secret_hash, name, addresses: _, machine, role } = wish else {
        return attempt.to_owned();
    };
    // A machine with several addresses may ask from each.
    let text = serde_json::to_vec(&(token, secret_hash, name, machine, role)).unwrap_or_default();
    format!("{attempt} {}", hex(&sha256(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, machine: &str, token: &str) -> Wish {
        Wish::Enroll {
            token: token.to_owned(),
            secret_hash: "hash".to_owned(),
            name: name.to_owned(),
            addresses: vec!["10.0.0.9:7433".to_owned()],
            machine: machine.to_owned(),
            role: None,
        }
    }

    #[test]
    fn an_attempt_that_was_taken_speaks_for_no_other_name_machine_or_token() {
        let first = joiner("join 1", &wish("n9", "m9", "t1"));
        assert_eq!(joiner("join 1", &wish("n9", "m9", "t1")), first, "its answer was lost");
        let mut elsewhere = wish("n9", "m9", "t1");
        if let Wish::Enroll { addresses, .. } = &mut elsewhere {
            *addresses = vec!["[2001:db8::9]:7433".to_owned()];
        }
        assert_eq!(joiner("join 1", &elsewhere), first, "it asks from another of its addresses");
        for other in [wish("n1", "m9", "t1"), wish("n9", "m1", "t1"), wish("n9", "m9", "t2")] {
            assert_ne!(joiner("join 1", &other), first, "{other:?}");
        }
        assert_ne!(joiner("join 2", &wish("n9", "m9", "t1")), first, "the same machine, later");
    }
}
