//! Whether a server is alive: whether its shards take turns.

use async_channel::{Receiver, TryRecvError};

use crate::{Handle, mailbox::Mail};

/// A question to all shards, which each of them answers at the end of its next turn: when it has read its sockets, handled
/// what was due and written. One that hangs does not answer.
#[derive(Debug)]
#[must_use = "the answers are in it"]
pub struct Pulse {
    /// The shards that have not answered, with where they do.
    missing: Vec<(u16, Receiver<()>)>,
}

impl Handle {
    /// Asks all shards for a sign of life. One question at a time is enough: what a shard that hangs is asked waits in its
    /// mailbox.
    pub fn pulse(&self) -> Pulse {
        let ask = |(shard, mailbox): (u16, &crate::mailbox::Mailbox)| {
            let (tell, told) = async_channel::bounded(1);
            // Not by way of the application's commands, of which there may be as many as there is room for.
            mailbox.pass(Mail::Pulse(tell));
            (shard, told)
        };
        Pulse { missing: (0..).zip(self.mailboxes.iter()).map(ask).collect() }
    }
}

impl Pulse {
    /// Waits until all shards have answered but those that have ended. It may be given up and called again.
    pub async fn complete(&mut self) {
        while let Some((_, told)) = self.missing.last() {
            // An error: it has ended.
            let _ = told.recv().await;
            self.missing.pop();
        }
    }

    /// The numbers of the shards that have not answered by now.
    pub fn missing(&mut self) -> Vec<u16> {
        self.missing.retain(|(_, told)| told.try_recv() == Err(TryRecvError::Empty));
        self.missing.iter().map(|(shard, _)| *shard).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll(pulse: &mut Pulse) -> Poll<()> {
        pin!(pulse.complete()).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_pulse_is_complete_when_every_shard_has_answered_or_ended() {
        let channels = [0, 1, 2].map(|shard| (shard, async_channel::bounded(1)));
        let [(_, (first, _)), (_, (second, _)), (_, (third, _))] = &channels;
        let (first, second, third) = (first.clone(), second.clone(), third.clone());
        let missing = channels.map(|(shard, (_, told))| (shard, told)).into();
        let mut pulse = Pulse { missing };

        assert!(poll(&mut pulse).is_pending());
        second.try_send(()).unwrap();
        assert!(poll(&mut pulse).is_pending());
        assert_eq!(pulse.missing(), [0, 2]);
        drop(third);
        assert!(poll(&mut pulse).is_pending());
        assert_eq!(pulse.missing(), [0]);
        first.try_send(()).unwrap();
        assert!(poll(&mut pulse).is_ready());
        assert!(pulse.missing().is_empty());
    }
}
