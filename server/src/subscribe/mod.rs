//! `mahavishnu subscribe` and `tail`: print events as lines, and come back after every loss that coming back can mend; what
//! was missed meanwhile comes first then, if the server keeps it.

mod dialogue;
mod link;
mod print;
mod stream;

use std::time::{Duration, Instant};

use mahavishnu_core::{entropy::Entropy, protocol::Epoch, reason::Reason};

use crate::{
    cli::{SubscribeArgs, TailArgs},
    exit::{Exit, Failure},
    history::{self, Page, Since},
    out, publish, reach, token,
    url::Target,
};

pub(crate) use self::link::{Link, News};
use self::{
    dialogue::{Dialogue, Heard, Last, Recovery},
    print::{Form, Printer},
};

/// Subscribes until told to stop, until `--count` events have come, or until trying again would be pointless.
pub(crate) fn subscribe(args: &SubscribeArgs) -> Result<Exit, Failure> {
    let target = Target::from_args(args.client.url.as_deref())?;
    let token = publish::token(args.client.token.as_deref());
    let form = match args.json {
        true => Form::Message,
        false => Form::Words { offsets: args.offsets },
    };
    let dialogue = Dialogue::new(token.clone(), args.channels.clone(), args.rewind);
    let mut subscriber = Subscriber::new(target, dialogue, Printer::new(form, args.count))?;
    if args.since.is_some() {
        for channel in &args.channels {
            if subscriber.begin(token.as_deref(), channel, args.since, None)? {
                return Ok(Exit::Ok);
            }
        }
    }
    subscriber.run(args.no_reconnect)
}

/// Prints what there is of a channel, and goes on behind it.
pub(crate) fn tail(args: &TailArgs) -> Result<Exit, Failure> {
    let target = Target::from_args(args.client.url.as_deref())?;
    let token = publish::token(args.client.token.as_deref());
    let form = Form::Log { json: args.json };
    let dialogue = Dialogue::new(token.clone(), vec![args.channel.clone()], None);
    let mut subscriber = Subscriber::new(target, dialogue, Printer::new(form, args.count))?;
    let lines = args.since.is_none().then_some(args.lines);
    if subscriber.begin(token.as_deref(), &args.channel, args.since, lines)? {
        return Ok(Exit::Ok);
    }
    subscriber.run(args.no_reconnect)
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
    fn new(target: Target, dialogue: Dialogue, printer: Printer) -> Result<Self, Failure> {
        let entropy = Entropy::new(token::seed()?);
        Ok(Self { target, entropy, dialogue, printer, failures: 0 })
    }

    /// Prints what is kept of a channel, and has the subscription go on behind it. True if that was enough.
    fn begin(
        &mut self,
        token: Option<&str>,
        channel: &str,
        since: Option<Since>,
        lines: Option<u64>,
    ) -> Result<bool, Failure> {
        let page = history::past(&self.target, token, channel, since, lines)?;
        let Some(page) = page else {
            out::note(history::none_at(&self.target));
            return Ok(false);
        };
        for event in &page.events {
            self.printer.kept(channel, &page, event)?;
            if self.printer.is_done() {
                return Ok(true);
            }
        }
        if let Some((epoch, last)) = end_of(&page) {
            self.dialogue.go_on(channel, epoch, &last);
        }
        Ok(false)
    }

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
            out::note(format_args!("{line}; again in {}", shown(pause)));
            std::thread::sleep(pause);
        }
    }

    fn connect_once(&mut self) -> Result<End, Failure> {
        let mut link = match Link::open(&self.target, self.entropy.fork()) {
            Ok(link) => link,
            Err(end) => return Ok(self.at(end)),
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
                Some(News::Ended(end)) => return Ok(self.at(self.explain(end))),
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
                if let Some((lost, why)) = &event.gap {
                    out::note(gap(&event.channel, *lost, why.as_deref()));
                }
                self.printer.event(text, &event)?;
                Ok(self.printer.is_done().then_some(End::Done))
            }
            Heard::Subscribed(channel, recovery) => {
                self.failures = 0;
                let recovery = match recovery {
                    Recovery::None => String::new(),
                    Recovery::Recovered(missed) => format!("; recovered {missed}"),
                    Recovery::Not(why) => format!("; not recovered: {}", out::one_line(&why)),
                };
                let url = self.target.ws();
                out::note(format_args!("subscribed to {channel:?} at {url}{recovery}"));
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

    /// A final end with where it was; one that is worth another try is told with it anyway.
    fn at(&self, end: End) -> End {
        let End::Fatal(mut failure) = end else { return end };
        if let Some(line) = failure.lines.first_mut() {
            *line = format!("{}: {line}", self.target.ws());
        }
        End::Fatal(failure)
    }

    /// Adds what the server said before it closed to an end that is final.
    fn explain(&self, end: End) -> End {
        match (end, self.dialogue.last_error()) {
            (End::Fatal(failure), Some(error)) => {
                let code = error.split(':').next().unwrap_or_default();
                let hint = reach::token_hint(code);
                let text = format!("not subscribed: {error}{hint}; {failure}");
                End::Fatal(Failure::new(failure.exit, text))
            }
            (end, _) => end,
        }
    }
}

/// Where a channel stands behind what is kept of it. `None`: its events have no numbers.
fn end_of(page: &Page) -> Option<(Epoch, Last)> {
    let epoch = Epoch::parse(page.epoch.as_deref()?)?;
    let last = page.events.last();
    let none = || Last { offset: page.offset, id: None };
    Some((
        epoch,
        last.map_or_else(none, |last| Last { offset: last.offset, id: Some(last.id.clone()) }),
    ))
}

/// A line about events that did not come.
fn gap(channel: &str, lost: Option<u64>, why: Option<&str>) -> String {
    let why = why.map_or_else(String::new, |why| format!(" ({})", out::one_line(why)));
    match lost {
        Some(lost) => format!("{channel:?}: gap of {lost}{why}"),
        None => format!("{channel:?}: gap, nobody knows of how many{why}"),
    }
}

/// A pause as it is: one of some milliseconds is not none.
fn shown(pause: Duration) -> String {
    match pause.as_millis() {
        ms @ ..1_000 => format!("{ms} ms"),
        _ => format!("{:.1} s", pause.as_secs_f64()),
    }
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
    fn a_pause_is_shown_as_it_is() {
        let shown = |ms| shown(Duration::from_millis(ms));
        assert_eq!(
            [shown(40), shown(999), shown(1_000), shown(12_340)],
            ["40 ms", "999 ms", "1.0 s", "12.3 s"]
        );
    }

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
}
