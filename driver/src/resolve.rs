//! Looking names up: the system's resolver makes its caller wait, so that a thread aside asks it.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
};

use mahavishnu_core::hub::ShardId;

use crate::mailbox::{Mail, Mailbox};

/// What became of a look-up: addresses, at least one, or why there are none.
pub(crate) type Resolved = Result<Vec<SocketAddr>, io::ErrorKind>;

/// A name that somebody wants to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    /// Whose mailbox the answer goes to.
    pub(crate) shard: ShardId,
    /// Comes back with the answer.
    pub(crate) number: u64,
}

/// The way to the thread, which is there as long as somebody has this.
#[derive(Clone, Debug)]
pub(crate) struct Resolver(SyncSender<Question>);

impl Resolver {
    /// Starts the thread. It answers by [`Mail::Resolved`].
    pub(crate) fn start(mailboxes: Arc<[Mailbox]>) -> io::Result<Self> {
        let (ask, questions) = mpsc::sync_channel(QUESTIONS_MAX);
        // Nobody waits for its end: a look-up under way may take half a minute.
        let thread = thread::Builder::new().name("resolve".into());
        thread.spawn(move || {
            answer(&questions, |question, resolved| {
                if let Some(mailbox) = mailboxes.get(usize::from(question.shard.0)) {
                    mailbox.pass(Mail::Resolved(question.number, resolved));
                }
            });
        })?;
        Ok(Self(ask))
    }

    /// Asks. An answer that there is at once is returned: an address needs no resolver, and with too many questions waiting
    /// there is no use in one more.
    pub(crate) fn ask(&self, question: Question) -> Option<Resolved> {
        if let Ok(address) = question.host.parse::<IpAddr>() {
            return Some(Ok(vec![SocketAddr::new(address, question.port)]));
        }
        match self.0.try_send(question) {
            Ok(()) => None,
            Err(TrySendError::Full(_)) => Some(Err(io::ErrorKind::ResourceBusy)),
            Err(TrySendError::Disconnected(_)) => Some(Err(io::ErrorKind::BrokenPipe)),
        }
    }
}

/// Answers questions until nobody can ask any more. Those that wait for the same name get the same answer: all shards ask
/// when Redis has gone, and while a name server does not answer each look-up takes long.
fn answer(questions: &Receiver<Question>, mut tell: impl FnMut(&Question, Resolved)) {
    let mut waiting: Vec<Question> = Vec::new();
    loop {
        if waiting.is_empty() {
            match questions.recv() {
                Ok(question) => waiting.push(question),
                Err(_) => return,
            }
        }
        let Some(Question { host, port, .. }) = waiting.first().cloned() else { continue };
        let resolved = look_up(&host, port);
        waiting.extend(questions.try_iter());
        waiting.retain(|question| {
            let same = question.host == host && question.port == port;
            if same {
                tell(question, resolved.clone());
            }
            !same
        });
    }
}

fn look_up(host: &str, port: u16) -> Resolved {
    let found: Vec<_> = (host, port).to_socket_addrs().map_err(|error| error.kind())?.collect();
    if found.is_empty() { Err(io::ErrorKind::NotFound) } else { Ok(found) }
}

/// Questions that may wait, of all shards; each asks one at a time, and gives up one that takes too long.
const QUESTIONS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn question(host: &str, shard: u16, number: u64) -> Question {
        Question { host: host.into(), port: 6379, shard: ShardId(shard), number }
    }

    fn started() -> (Resolver, crate::mailbox::Inbox) {
        let (mailbox, inbox) = Mailbox::new();
        (Resolver::start(vec![mailbox].into()).unwrap(), inbox)
    }

    fn mail(inbox: &crate::mailbox::Inbox) -> Mail {
        loop {
            match inbox.take() {
                Some(mail) => return mail,
                None => thread::yield_now(),
            }
        }
    }

    #[test]
    fn an_address_needs_no_thread() {
        let (resolver, _inbox) = started();
        for (host, address) in [("127.0.0.1", "127.0.0.1:6379"), ("::1", "[::1]:6379")] {
            let resolved = resolver.ask(question(host, 0, 1));
            assert_eq!(resolved, Some(Ok(vec![address.parse().unwrap()])), "{host}");
        }
    }

    #[test]
    fn a_name_is_answered_by_mail() {
        let (resolver, inbox) = started();
        assert_eq!(resolver.ask(question("localhost", 0, 7)), None);
        let Mail::Resolved(7, Ok(addresses)) = mail(&inbox) else { panic!("no addresses") };
        assert!(addresses.iter().all(|it| it.ip().is_loopback() && it.port() == 6379));
        assert_eq!(resolver.ask(question("no-such-host.invalid", 0, 8)), None);
        assert!(matches!(mail(&inbox), Mail::Resolved(8, Err(_))));
    }

    #[test]
    fn who_waits_for_the_same_name_gets_the_same_answer() {
        let (ask, questions) = mpsc::sync_channel(8);
        for asked in [
            question("no-such-host.invalid", 0, 1),
            question("localhost", 1, 2),
            question("no-such-host.invalid", 2, 3),
        ] {
            ask.send(asked).unwrap();
        }
        drop(ask);
        let mut told = Vec::new();
        answer(&questions, |question, resolved| told.push((question.number, resolved.is_ok())));
        assert_eq!(told, [(1, false), (3, false), (2, true)]);
    }

    #[test]
    fn too_many_questions_are_answered_at_once() {
        let (ask, _questions) = mpsc::sync_channel(1);
        let resolver = Resolver(ask);
        assert_eq!(resolver.ask(question("localhost", 0, 1)), None);
        let full = resolver.ask(question("localhost", 0, 2));
        assert_eq!(full, Some(Err(io::ErrorKind::ResourceBusy)));
    }
}
