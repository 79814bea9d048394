//! `mahavishnu subscribe`: prints events as lines, and comes back after every loss that coming back can mend.

mod dialogue;
mod link;
mod stream;

use std::time::{Duration, Instant};

use mahavishnu_core::{entropy::Entropy, reason::Reason};

use crate::{
    cli::SubscribeArgs,
    exit::{Exit, Failure},
    out, publish, token,
    url::Target,
};

use self::{
    dialogue::{Dialogue, Event, Heard},
    link::{Link, News},
};

/// Subscribes until told to stop, until `--count` events have come, or until trying again would be pointless.
pub(crate) fn subscribe(args: &SubscribeArgs) -> Result<Exit, Failure> {
    let target = Target::from_args(args.client.url.as_deref())?;
    let entropy = Entropy::new(token::seed()?);
    let dialogue =
        Dialogue::new(publish::token(args.client.token.as_deref()), args.channels.clone());
    let printer = Printer { json: args.json, left: args.count };
    Subscriber { target, entropy, dialogue, printer, failures: 0 }.run(args.no_reconnect)
}

/// How one connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As many events as were wanted.
    Done,
    /// Worth another try: the exit code if there is to be none, and why.
    Lost(Exit, String),
    /// Another try would end alike.
    Fatal(Failure),
}

struct Subscriber {
    target: Target,
    entropy: Entropy,
    dialogue: Dialogue,
    printer: Printer,
    /// Connections in a row that did not come to a subscription.
    failures: u32,
}

impl Subscriber {
    fn run(mut self, no_reconnect: bool) -> Result<Exit, Failure> {
        loop {
            let (exit, why) = match self.connect_once()? {
                End::Done => return Ok(Exit::Ok),
                End::Fatal(failure) => return Err(failure),
                End::Lost(exit, why) => (exit, why),
            };
            let line = format!("{}: {why}", self.target.ws());
            if no_reconnect {
                return Err(Failure::new(exit, line));
            }
            let pause = backoff(self.failures, &mut self.entropy);
            self.failures = self.failures.saturating_add(1);
            out::note(format_args!("{line}; again in {:.1} s", pause.as_secs_f64()));
            std::thread::sleep(pause);
        }
    }

    fn connect_once(&mut self) -> Result<End, Failure> {
        let mut link = match Link::open(&self.target, self.entropy.fork()) {
            Ok(link) => link,
            Err(end) => return Ok(end),
        };
        self.dialogue.reset();
        loop {
            match link.next(self.dialogue.wake_at()) {
                Some(News::Open) => self.dialogue.opened(),
                Some(News::Text(text)) => {
                    if let Some(end) = self.hear(&text)? {
                        link.finish(Reason::Finished);
                        return Ok(end);
                    }
                }
                Some(News::Ended(end)) => return Ok(self.explain(end)),
                None => {}
            }
            for message in self.dialogue.take_due(Instant::now()) {
                link.send(&message);
            }
        }
    }

    fn hear(&mut self, text: &str) -> Result<Option<End>, Failure> {
        match self.dialogue.receive(text, Instant::now()) {
            Heard::Event(event) => {
                self.printer.print(text, &event)?;
                Ok(self.printer.is_done().then_some(End::Done))
            }
            Heard::Subscribed(channel) => {
                self.failures = 0;
                out::note(format_args!("subscribed to {channel:?} at {}", self.target.ws()));
                Ok(None)
            }
            Heard::Refused(line) => {
                out::note(line);
                Ok(None)
            }
            Heard::AllRefused(failure) => Ok(Some(End::Fatal(failure))),
            Heard::Nothing => Ok(None),
        }
    }

    /// Adds what the server said before it closed to an end that is final.
    fn explain(&self, end: End) -> End {
        match (end, self.dialogue.last_error()) {
            (End::Fatal(failure), Some(error)) => {
                End::Fatal(Failure::new(failure.exit, format!("{failure} ({error})")))
            }
            (end, _) => end,
        }
    }
}

/// Prints events, and counts down.
struct Printer {
    json: bool,
    left: Option<u64>,
}

impl Printer {
    /// `message` is the whole of what came, of which `event` is the gist.
    fn print(&mut self, message: &str, event: &Event) -> Result<(), Failure> {
        if self.json {
            out::line(one_line(message))?;
        } else {
            out::line(format_args!(
                "{} {} {}",
                one_line(&event.channel),
                one_line(&event.name),
                one_line(&event.data)
            ))?;
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.left == Some(0)
    }
}

/// `text` without line breaks and terminal escapes: in JSON `\u001b` means what the character itself did.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Between JSON's tokens, where a blank is as good.
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line
}

/// Full jitter: anything up to a ceiling that doubles, so that clients of a restarted server do not come back at once.
fn backoff(failures: u32, entropy: &mut Entropy) -> Duration {
    let ceiling = BACKOFF_BASE.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    let ms = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(entropy.below(ms + 1))
}

const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use mahavishnu_core::entropy::Seed;

    use super::*;

    #[test]
    fn pauses_are_spread_under_a_ceiling_that_doubles_to_its_bound() {
        let mut entropy = Entropy::new(Seed::from(1));
        let mut longest =
            |failures| (0..1000).map(|_| backoff(failures, &mut entropy)).max().unwrap();
        for (failures, ceiling) in [(0, 500), (1, 1000), (3, 4000), (6, 30_000), (u32::MAX, 30_000)]
        {
            let longest = longest(failures);
            let ceiling = Duration::from_millis(ceiling);
            assert!(longest <= ceiling && longest > ceiling / 10 * 9, "{failures}: {longest:?}");
        }
    }

    #[test]
    fn what_is_printed_stays_on_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[2J\u{9b}"), r"a b\u001b[2J\u009b");
        assert_eq!(one_line(r#"{"x":"ä"}"#), r#"{"x":"ä"}"#);
    }
}
