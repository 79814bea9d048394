//! The publisher's connection.

use std::collections::VecDeque;

use crate::{
    Result,
    client::Client,
    message::{Answer, Template},
};

/// The publisher's connection and what its socket has not taken yet.
pub(super) struct Publisher {
    client: Client,
    out: VecDeque<u8>,
    batch: Vec<u8>,
    answers: u64,
    answers_expected: bool,
}

impl Publisher {
    /// One whose publishes are answered, or not.
    pub(super) fn new(client: Client, answers_expected: bool) -> Self {
        Self { client, out: VecDeque::new(), batch: Vec::new(), answers: 0, answers_expected }
    }

    /// Adds a message to what is written next.
    pub(super) fn publish(&mut self, message: &Template) {
        message.append_frame(&mut self.batch);
    }

    /// Answers so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// The same, if there is to be one for each publish.
    pub(super) fn answered(&self) -> Option<u64> {
        self.answers_expected.then_some(self.answers)
    }

    /// Those that did not come are not waited for any more.
    pub(super) fn expect_no_answers(&mut self) {
        self.answers_expected = false;
    }

    /// Hands the socket what it takes of the new batch and of earlier ones.
    pub(super) fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.out.extend(self.batch.drain(..));
            let taken = self.client.write(self.out.as_slices().0)?;
            self.out.drain(..taken);
        } else if !self.batch.is_empty() {
            let taken = self.client.write(&self.batch)?;
            self.out.extend(self.batch.drain(..).skip(taken));
        }
        Ok(())
    }

    pub(super) fn read(&mut self, scratch: &mut [u8], now_ns: u64) -> Result<()> {
        let answers = &mut self.answers;
        let on_message = |payload: &[u8], _| match Answer::of(payload) {
            Answer::Done => {
                *answers += 1;
                Ok(())
            }
            Answer::Refused(text) => {
                Err(format!("a publish was answered with an error: {text}").into())
            }
            Answer::Unrelated => Ok(()),
        };
        let in_publisher = |error| format!("publisher: {error}");
        let bytes = self.client.read(scratch).map_err(in_publisher)?;
        self.client
            .parse(scratch.get(..bytes).unwrap_or_default(), on_message)
            .map_err(in_publisher)?;
        self.client.keep_acks_delayed(now_ns)
    }
}
