//! A session on its way to its next connection: which of its channels were judged, asked for and confirmed.
//!
//! Everything is judged first, which may take as long as the application wants. Then all channels are asked for at once, and
//! what they send is held back until the last one has answered and the client is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Grant, Terms};
use crate::{
    hub::{
        connections::AnswerTo,
        homes::{Since, Wish},
    },
    protocol::{ResumedChannel, Start, error_code},
    reason::Reason,
};

/// What is under way.
#[derive(Debug)]
pub(in crate::hub) struct Resumption {
    answer: AnswerTo,
    /// Where the client left off.
    positions: BTreeMap<Box<str>, Since>,
    /// Channels that the client has left before it is known whether they belong to the session.
    left: BTreeSet<Box<str>>,
    /// The session is granted.
    begun: bool,
    /// In the order of their names.
    channels: Vec<Channel>,
    /// How many of them, from the first on, were judged or put to the application.
    judged: usize,
    /// How many of those the application has not decided on.
    asked: usize,
    /// All are judged: those that are permitted are asked for.
    joining: Option<Joining>,
    /// Somebody is at it: answers that come at once are looked at by whoever that is.
    pub(in crate::hub) busy: bool,
}

#[derive(Debug, Default)]
struct Joining {
    /// Which channel is looked at next.
    next: usize,
    /// How many homes have not answered.
    open: usize,
}

#[derive(Debug)]
struct Channel {
    name: Arc<str>,
    terms: Terms,
    /// The terms are others than those that the home knows.
    changed: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be judged.
    New,
    /// The application decides.
    Asked,
    Allowed,
    /// Its home has been asked.
    Joining,
    /// Subscribed, and where it starts if that was asked for; or why not.
    Done(Result<Option<Start<'static>>, Reason>),
    /// The client does not want it any more.
    Dropped,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) enum Next {
    /// Find out whether this channel is permitted: [`Resumption::judge`].
    Judge(Arc<str>),
    /// Ask this channel's home: [`Resumption::settle`] when it has answered.
    Join(Arc<str>, Option<Box<Wish>>),
    /// Something is still to come.
    Wait,
    /// Tell the client.
    Answer,
}

/// What is known of a channel's permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Verdict {
    Allowed,
    Refused(Reason),
    /// The application was asked, which will say.
    Asked,
}

/// What came of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct Rejoined {
    pub(in crate::hub) name: Arc<str>,
    pub(in crate::hub) terms: Terms,
    /// The terms are others than those that the home knows.
    pub(in crate::hub) changed: bool,
    /// Where it starts, if that was asked for; or why it does not.
    pub(in crate::hub) result: Result<Option<Start<'static>>, Reason>,
}

impl Resumption {
    /// The client wants a session, of which nothing is known yet.
    pub(in crate::hub) fn new(answer: AnswerTo, positions: BTreeMap<Box<str>, Since>) -> Self {
        let (channels, judged, asked) = (Vec::new(), 0, 0);
        let (left, begun) = (BTreeSet::new(), false);
        Self { answer, positions, left, begun, channels, judged, asked, joining: None, busy: false }
    }

    /// The session's home has granted it.
    pub(in crate::hub) fn begin(&mut self, grant: Grant) {
        let channel = |(name, terms)| Channel { name, terms, changed: false, state: State::New };
        self.begun = true;
        self.channels = grant.channels.into_iter().map(channel).collect();
        for name in std::mem::take(&mut self.left) {
            self.drop_channel(&name, 0);
        }
    }

    /// What to do next; `may_ask`: the application can be asked one thing more.
    pub(in crate::hub) fn next(&mut self, may_ask: bool) -> Next {
        if !self.begun {
            return Next::Wait;
        }
        while let Some(channel) = self.channels.get(self.judged) {
            if channel.state == State::New {
                return if may_ask { Next::Judge(channel.name.clone()) } else { Next::Wait };
            }
            self.judged += 1;
        }
        if self.asked > 0 {
            return Next::Wait;
        }
        let joining = self.joining.get_or_insert_default();
        for channel in self.channels.iter_mut().skip(joining.next) {
            joining.next += 1;
            if channel.state == State::Allowed {
                channel.state = State::Joining;
                joining.open += 1;
                return Next::Join(channel.name.clone(), channel.wish(&mut self.positions));
            }
        }
        if joining.open > 0 { Next::Wait } else { Next::Answer }
    }

    /// What was asked for by `presence` with a channel of it.
    pub(in crate::hub) fn presence_of(&self, name: &str) -> Option<Arc<str>> {
        let at = self.channels.binary_search_by(|channel| (*channel.name).cmp(name)).ok()?;
        self.channels.get(at)?.terms.presence.clone()
    }

    /// Whether a channel of it is permitted.
    pub(in crate::hub) fn judge(&mut self, name: &str, verdict: Verdict) {
        let fresh = |channel: &&mut Channel| channel.state == State::New;
        let Some(channel) = find(&mut self.channels, name).filter(fresh) else { return };
        channel.state = match verdict {
            Verdict::Allowed => State::Allowed,
            Verdict::Refused(reason) => State::Done(Err(reason)),
            Verdict::Asked => State::Asked,
        };
        self.asked += usize::from(verdict == Verdict::Asked);
    }

    /// The application has decided on a channel, or will not.
    pub(in crate::hub) fn decided(&mut self, name: &str, verdict: Result<(), Reason>) {
        self.asked = self.asked.saturating_sub(1);
        let Some(channel) = find(&mut self.channels, name) else { return };
        if channel.state == State::Asked {
            channel.state = match verdict {
                Ok(()) => State::Allowed,
                Err(reason) => State::Done(Err(reason)),
            };
        }
    }

    /// A channel's home has answered.
    pub(in crate::hub) fn settle(
        &mut self,
        name: &str,
        result: Result<Option<Start<'static>>, Reason>,
    ) {
        if let Some(joining) = &mut self.joining {
            joining.open = joining.open.saturating_sub(1);
        }
        if let Some(channel) = find(&mut self.channels, name)
            && channel.state == State::Joining
        {
            channel.state = State::Done(result);
        }
    }

    /// The session's home is told that a channel is gone: if it comes back, that has to be told too.
    pub(super) fn mark_changed(&mut self, name: &str) {
        if let Some(channel) = find(&mut self.channels, name) {
            channel.changed = true;
        }
    }

    /// The client does not want a channel any more. So many are remembered that may turn out to be of the session.
    pub(in crate::hub) fn drop_channel(&mut self, name: &str, max: usize) {
        if !self.begun && self.left.len() < max {
            self.left.insert(name.into());
        }
        if let Some(channel) = find(&mut self.channels, name) {
            channel.state = State::Dropped;
        }
    }

    /// The channels that the client has left meanwhile, of which the session's home does not know.
    pub(in crate::hub) fn dropped(&self) -> impl Iterator<Item = &Arc<str>> {
        let dropped = self.channels.iter().filter(|channel| channel.state == State::Dropped);
        dropped.map(|channel| &channel.name)
    }

    /// Those of them where somebody was a member, or watched.
    pub(in crate::hub) fn given_up(&self) -> impl Iterator<Item = &Arc<str>> {
        let dropped = self.channels.iter().filter(|channel| channel.state == State::Dropped);
        dropped.filter(|channel| channel.terms.presence.is_some()).map(|channel| &channel.name)
    }

    /// Whom to tell, and what came of the channels that the client still wants.
    pub(in crate::hub) fn finish(self) -> (AnswerTo, Vec<Rejoined>) {
        let rejoined = |channel: Channel| {
            let Channel { name, terms, changed, state } = channel;
            let State::Done(result) = state else { return None };
            Some(Rejoined { name, terms, changed, result })
        };
        (self.answer, self.channels.into_iter().filter_map(rejoined).collect())
    }
}

impl Rejoined {
    /// As the client is told.
    pub(in crate::hub) fn told(&self) -> ResumedChannel<'_> {
        let code = |reason: Reason| reason.row().code.unwrap_or(error_code::SERVER_ERROR);
        ResumedChannel { channel: &self.name, result: self.result.map_err(code) }
    }
}

impl Channel {
    /// What to ask its home for, besides the channel.
    fn wish(&mut self, positions: &mut BTreeMap<Box<str>, Since>) -> Option<Box<Wish>> {
        let since = positions.remove(&*self.name);
        // Who says where it left off wants to know where it goes on.
        self.changed |= since.is_some() && !self.terms.positions;
        self.terms.positions |= since.is_some();
        let positions = self.terms.positions;
        positions.then(|| Box::new(Wish { positions, since, ..Wish::default() }))
    }
}

fn find<'a>(channels: &'a mut [Channel], name: &str) -> Option<&'a mut Channel> {
    let at = channels.binary_search_by(|channel| (*channel.name).cmp(name)).ok()?;
    channels.get_mut(at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::protocol::{Answer, Epoch, Position};

    const EPOCH: u64 = 7;

    fn since(offset: u64) -> Since {
        Since { epoch: Some(Epoch::from_random(EPOCH)), offset, id: None }
    }

    fn start() -> Start<'static> {
        let position = Position { epoch: Epoch::from_random(EPOCH), offset: 9 };
        Start { position, recoverable: true, recovered: Some(Ok(2)), rewound: None }
    }

    /// A session with these channels, the upper-case ones with positions.
    fn begun(channels: &[&str], positions: &[&str]) -> Resumption {
        let positions = positions.iter().map(|name| (Box::from(*name), since(7)));
        let answer = AnswerTo::new(Some("r"), Answer::Response);
        let mut this = Resumption::new(answer, positions.collect());
        let terms = |name: &str| Terms {
            positions: name.chars().all(char::is_uppercase),
            ..Terms::default()
        };
        let channels = channels.iter().map(|name| (Arc::from(*name), terms(name))).collect();
        this.begin(Grant { public: Uuid::nil(), ttl: Duration::ZERO, channels });
        this
    }

    /// Judges everything in one way.
    fn judge_all(this: &mut Resumption, verdict: Verdict) -> usize {
        let mut judged = 0;
        while let Next::Judge(name) = this.next(true) {
            this.judge(&name, verdict);
            judged += 1;
            if verdict == Verdict::Allowed && judged == this.channels.len() {
                break;
            }
        }
        judged
    }

    #[test]
    fn all_are_judged_before_the_first_is_asked_for() {
        let mut this = begun(&["A", "b"], &["A", "b", "never"]);
        assert_eq!(judge_all(&mut this, Verdict::Allowed), 2);
        let wish = |offset| Wish { positions: true, since: Some(since(offset)), ..Wish::default() };
        assert_eq!(this.next(true), Next::Join("A".into(), Some(Box::new(wish(7)))));
        assert_eq!(this.next(true), Next::Join("b".into(), Some(Box::new(wish(7)))));
        assert_eq!(this.next(true), Next::Wait);
        this.settle("b", Ok(Some(start())));
        assert_eq!(this.next(true), Next::Wait);
        this.settle("A", Err(Reason::ChannelsFull));
        assert_eq!(this.next(true), Next::Answer);

        let (answer, channels) = this.finish();
        assert_eq!(answer.correlation.as_deref(), Some("r"));
        let found: Vec<_> = channels.iter().map(|of| (&*of.name, of.changed, of.result)).collect();
        let expected = [("A", false, Err(Reason::ChannelsFull)), ("b", true, Ok(Some(start())))];
        assert_eq!(found, expected, "b has positions from now on");
        assert_eq!(channels.first().unwrap().told().result, Err("SERVER_ERROR"));
    }

    #[test]
    fn without_a_position_it_goes_on_with_what_is_new() {
        let mut this = begun(&["A", "b"], &[]);
        judge_all(&mut this, Verdict::Allowed);
        let wish = Wish { positions: true, ..Wish::default() };
        assert_eq!(this.next(true), Next::Join("A".into(), Some(Box::new(wish))));
        assert_eq!(this.next(true), Next::Join("b".into(), None));
    }

    #[test]
    fn the_application_takes_its_time() {
        let mut this = begun(&["a", "b", "c"], &[]);
        for name in ["a", "b"] {
            assert_eq!(this.next(true), Next::Judge(name.into()));
            this.judge(name, Verdict::Asked);
        }
        assert_eq!(this.next(false), Next::Wait, "it cannot be asked more at once");
        this.decided("b", Ok(()));
        assert_eq!(this.next(true), Next::Judge("c".into()));
        this.judge("c", Verdict::Refused(Reason::SubscribeForbidden));
        assert_eq!(this.next(true), Next::Wait);
        this.decided("a", Err(Reason::GatewayTimeout));
        assert_eq!(this.next(true), Next::Join("b".into(), None));
        this.settle("b", Ok(None));
        assert_eq!(this.next(true), Next::Answer);
        let results: Vec<_> = this.finish().1.into_iter().map(|of| of.result).collect();
        let refused = |reason| Err(reason);
        assert_eq!(
            results,
            [refused(Reason::GatewayTimeout), Ok(None), refused(Reason::SubscribeForbidden)]
        );
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_told() {
        let mut this = begun(&["a", "b", "c", "d"], &[]);
        this.drop_channel("a", 0);
        for name in ["b", "c", "d"] {
            assert_eq!(this.next(true), Next::Judge(name.into()));
            this.judge(name, if name == "b" { Verdict::Asked } else { Verdict::Allowed });
        }
        this.drop_channel("b", 0);
        assert_eq!(this.next(true), Next::Wait);
        this.decided("b", Ok(()));
        assert_eq!(this.next(true), Next::Join("c".into(), None));
        this.drop_channel("c", 0);
        assert_eq!(this.next(true), Next::Join("d".into(), None));
        this.settle("c", Ok(None));
        this.settle("d", Ok(None));
        assert_eq!(this.next(true), Next::Answer);
        let names: Vec<_> = this.finish().1.into_iter().map(|of| of.name).collect();
        assert_eq!(names, ["d".into()]);
    }

    #[test]
    fn a_channel_may_be_left_before_the_session_is_granted() {
        let answer = AnswerTo::new(None, Answer::Response);
        let mut this = Resumption::new(answer, BTreeMap::new());
        assert_eq!(this.next(true), Next::Wait, "nobody knows yet what it consists of");
        for name in ["b", "other", "a"] {
            this.drop_channel(name, 2);
        }
        let channels = ["a", "b"].map(|name| (name.into(), Terms::default()));
        let (ttl, channels) = (Duration::ZERO, channels.into());
        this.begin(Grant { public: Uuid::nil(), ttl, channels });
        assert_eq!(this.next(true), Next::Judge("a".into()), "so many are remembered");
        assert_eq!(this.dropped().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_session_without_channels_is_answered_at_once() {
        assert_eq!(begun(&[], &["a"]).next(false), Next::Answer);
    }
}
