//! What goes through channels and between hubs: subscriptions, rounds, questions; what is published is in `publishing`. Each method carries on between departments what one of them has found out.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use super::{
    Hub,
    application::Leave,
    attending::Wishes,
    channels::{Left, Subscribe},
    connections::{AnswerTo, Asker},
    errands::Publisher,
    follow::Parked,
    homes::{Form, Known, Lost, Sealed, Start, Wish},
    http::Refused,
    output::Output,
    peers::{Inner, Joiner, PublishOnce, Withheld},
    presence::{Attended, Departure, Why},
    questions::{About, Question, is_object},
    tokens::Withdrawn,
    types::{Backlog, ConnId, Handler, Publication, RequestError, RequestId, ShardId},
    visitors::Who,
};
use crate::{
    auth::Verb,
    config::Config,
    protocol::{self, Answer},
    reason::Reason,
};

/// Between hubs.
impl Hub {
    /// To another hub, or straight on when it is this one: one shard pays nothing for the others.
    pub(super) fn tell(&mut self, to: ShardId, message: Inner) {
        if to == self.env.place.shard {
            self.on_shard(to, message);
        } else {
            self.peers.send(&self.env, to, message);
        }
    }

    pub(super) fn on_shard(&mut self, from: ShardId, message: Inner) {
        match message {
            Inner::Publish { ticket, firm, held: _, publication } => {
                self.on_home_publish(ticket, firm, publication, None)
            }
            Inner::PublishOnce(publish) => {
                let PublishOnce { ticket, firm, publication, once, .. } = *publish;
                self.on_home_publish(ticket, firm, publication, Some(once));
            }
            Inner::Published { ticket, published } => self.on_published(ticket, published),
            Inner::Refused { ticket, reason } => {
                if let Some((publisher, reason)) = self.errands.refused(ticket, reason) {
                    self.give_up(publisher, reason);
                }
            }
            Inner::Join { channel, member, wish, mut presence }
                if self.env.config.bus.is_some() =>
            {
                self.presence.note_arrival(presence.as_deref_mut());
                self.on_interest(Parked::Join { from, channel, member, wish, presence });
            }
            Inner::Join { channel, member, wish, presence } => {
                self.seal_channel(&channel);
                self.on_join(from, channel, member, (wish.as_deref(), Known::All), presence);
            }
            Inner::Joined { channel, member, start, presence } => {
                self.on_joined(&channel, member, start, presence)
            }
            Inner::Look(look) if self.env.config.bus.is_some() => {
                self.on_interest(Parked::Look { from, look });
            }
            Inner::Look(look) => self.answer_look(from, *look, Known::All),
            Inner::Missing { channel, missing } => self.on_missing(&channel, &missing),
            Inner::Seen { looker, result } => self.on_seen(looker, result),
            Inner::Leave { channel, form, deflates, presence } => {
                if let Some(departure) = presence {
                    self.presence.leave(&mut self.env, &channel, departure);
                }
                let refund = self.homes.leave(&mut self.env, from, &channel, (form, deflates));
                if let Some(bytes) = refund {
                    self.on_done(from, (bytes, 0));
                }
                if self.env.config.bus.is_some() {
                    self.review_interest(&channel);
                }
            }
            Inner::Absent { channel, id, why } => {
                self.presence.settle_held(&mut self.env, &channel, id, why);
            }
            Inner::Presence { channel, segment } => self.on_presence(&channel, &segment),
            Inner::Deliver { channel, plain, positioned, first_offset } => {
                let (remote, here) = (0, true);
                let sealed = Sealed { channel, plain, positioned, first_offset, remote, here };
                self.deliver(from, sealed);
            }
            Inner::Claim { ticket, key, digest, bytes: _ } => {
                let limits = &self.env.config.limits.publishing;
                let verdict = self.keys.claim(self.env.now.mono, &key, digest, limits);
                self.tell(ticket.shard, Inner::Claimed { ticket, verdict });
            }
            Inner::Claimed { ticket, verdict } => self.on_claimed(ticket, verdict),
            Inner::Resolve { key, digest, answer } => {
                self.keys.resolve(&key, digest, answer, &self.env.config.limits.publishing);
            }
            Inner::Order { ticket, order } => {
                let closed = self.obey(&order);
                self.tell(ticket.shard, Inner::CarriedOut { ticket, closed });
            }
            Inner::CarriedOut { ticket, closed } => self.on_carried_out(ticket, closed),
            Inner::Session(message) => self.on_session_message(*message),
            Inner::Given(given) => self.on_given(given),
            Inner::GivenTold { request, taken } => self.on_given_told(request, taken),
            Inner::Nodes(message) => self.on_nodes_message(from, *message),
            Inner::Enter { who, conn, contact } => {
                if let Some(reason) = self.on_enter(who, conn, contact) {
                    self.tell(conn.shard, Inner::Evict { conn, reason });
                }
            }
            Inner::Evict { conn, reason } => {
                if self.connections.get(conn).is_some() {
                    self.close(conn, reason);
                }
            }
            Inner::Exit { who, conn } => self.on_exit(&who, conn),
            Inner::Survey { ticket, user } => {
                let (found, total) = self.connections_of(&user);
                self.tell(ticket.shard, Inner::Surveyed { ticket, found, total });
            }
            Inner::Surveyed { ticket, found, total } => self.on_surveyed(ticket, found, total),
            Inner::Census(census) => self.peers.learn(from, census),
            Inner::Done { bytes, firm } => self.on_done(from, (bytes, firm)),
        }
    }

    /// Another hub is done with what it was sent, or need not be sent it.
    fn on_done(&mut self, from: ShardId, bytes: (usize, usize)) {
        let released = self.peers.done(&self.env, from, bytes);
        self.answer_withheld(released);
    }

    fn answer_withheld(&mut self, released: Vec<Withheld>) {
        for Withheld { ticket, published, .. } in released {
            self.tell(ticket.shard, Inner::Published { ticket, published });
        }
    }

    /// Counts a connection at the home of whom it belongs to. A reason if it may not stay; from another hub that comes
    /// later, by [`Inner::Evict`].
    pub(super) fn enter(&mut self, conn: ConnId, who: Who) -> Option<Reason> {
        let home = self.homes.placement().home_of(&who);
        if self.peers.is_full(home) {
            // Connections that come and go would otherwise be told to a hub that does not listen, without end.
            return Some(Reason::Busy);
        }
        let contact = self.contact(conn, &who);
        self.connections.edit(conn)?.entered.add(who.bit());
        if home == self.env.place.shard {
            return self.on_enter(who, conn, contact);
        }
        self.tell(home, Inner::Enter { who, conn, contact });
        None
    }

    /// A connection does not count there any more.
    pub(super) fn exit(&mut self, conn: ConnId, who: Option<Who>) {
        if let Some(who) = who {
            self.tell(self.homes.placement().home_of(&who), Inner::Exit { who, conn });
        }
    }

    /// A new configuration: what each user may do is worked out anew, limits hold from now on.
    pub(super) fn on_reload(&mut self, config: Arc<Config>) {
        // A round is of one form only.
        self.seal_all();
        self.channels.set_policies(|name| config.slow_readers.of(name));
        self.connections.reload(&config);
        self.env.reload(config);
        self.homes.reload(&mut self.env);
        self.presence.review(&mut self.env);
        if self.env.config.statistics {
            // Those who subscribe may have done so while it was a channel like any other.
            self.statistics.begin(self.env.now.mono);
        }
        let released = self.peers.review(&self.env);
        self.answer_withheld(released);
        self.review_connections();
    }
}

/// Subscriptions.
impl Hub {
    pub(super) fn on_subscribe(
        &mut self,
        id: ConnId,
        channel: Option<Cow<'_, str>>,
        answer: AnswerTo,
        wishes: Wishes,
    ) {
        let config = &self.env.config;
        let max = config.limits.channels.channel_bytes_max;
        let Some(channel) = channel.filter(|channel| protocol::channel_is_valid(channel, max))
        else {
            return self.refuse(id, Reason::InvalidChannel, answer.correlation.as_deref());
        };
        let conn = self.connections.get(id);
        if !conn.is_some_and(|conn| conn.may(config, Verb::Subscribe, &channel)) {
            let refused = Refused::forbidden(config, Verb::Subscribe, &channel);
            self.refuse_because(id, &refused, answer.correlation.as_deref());
        } else if let Some(reason) = wishes.refusal(config, &channel) {
            self.refuse(id, reason, answer.correlation.as_deref());
        } else if config.hooks.authorize_subscribe {
            self.ask_to_subscribe(id, &channel, answer, wishes);
        } else {
            self.subscribe(id, &channel, answer, wishes);
        }
    }

    /// Asks the channel's home to add a connection. The answer follows once it is confirmed.
    pub(super) fn subscribe(&mut self, id: ConnId, name: &str, answer: AnswerTo, wishes: Wishes) {
        if wishes.presence.is_some() && self.peers.is_full(self.homes.of(name)) {
            // What it has to say of itself would pile up before a hub that does not listen.
            return self.decline(id, name, &answer, Reason::Busy);
        }
        if self.env.config.hooks.subscriptions && self.questions.backlog() != Backlog::None {
            // The application could not hear of it.
            return self.decline(id, name, &answer, Reason::Busy);
        }
        let everywhere = self.homes.len() + self.peers.channels();
        self.start_anew(id, name, &wishes);
        let presence = wishes.presence.and_then(|wanted| self.attendance(id, *wanted));
        let wish = wishes.start;
        let form = wish.as_ref().map_or(Form::Plain, |wish| wish.form());
        let traced = wish.as_ref().is_some_and(|wish| wish.traces);
        let asked = (answer, (form, traced), wish.is_some() || presence.is_some());
        let resumes = asked.0.resumes();
        let (env, connections) = (&self.env, &mut self.connections);
        match self.channels.subscribe(env, connections, id, name, asked, everywhere) {
            Some(Subscribe::Ask(channel, member)) => {
                // Who comes back has what was sent before.
                let rewind = || if resumes { None } else { self.rewind(&channel) };
                let wish = wish.or_else(rewind);
                let join = |channel| Inner::Join { channel, member, wish, presence };
                self.tell(self.homes.of(&channel), join(channel));
            }
            Some(Subscribe::Already(answer)) => {
                if answer.is_granted() {
                    self.channels.grant(&self.connections, name, id);
                }
                self.confirm(id, name, &answer, (None, None));
            }
            Some(Subscribe::Refused(reason, answer)) => {
                if reason == Reason::ChannelsShare
                    && let Some(conn) = self.connections.get(id)
                {
                    self.outputs.extend(self.channels.refused_share(&self.env, conn));
                }
                self.decline(id, name, &answer, reason);
            }
            None => {}
        }
    }

    /// What who subscribes without a wish is sent first, by a rule of the configuration.
    fn rewind(&self, channel: &str) -> Option<Box<Wish>> {
        let history = &self.env.config.history;
        let count = if history.rewind.is_empty() { 0 } else { history.rewind(channel) };
        (count > 0).then(|| Box::new(Wish { rewind: Some(count), ..Wish::default() }))
    }

    /// The home has added the connection, or has not for that reason.
    fn on_joined(
        &mut self,
        name: &str,
        member: Joiner,
        start: Result<Option<Box<Start>>, Lost>,
        presence: Option<Result<Box<Attended>, Reason>>,
    ) {
        let index = self.channels.find(name);
        // It was a subscriber before, and by grant.
        let (mut before, mut granted) = (false, false);
        if let Some(index) = index {
            // Rounds from before are for the others. This may close slow readers, even all: what is still waiting keeps
            // the channel.
            self.hand_out_channel(index);
            // Who is a subscriber and wants to be another starts anew, or is none any more.
            if self.channels.begins_anew(index, member.conn) {
                granted = self.channels.is_granted(index, member.conn);
                let (env, connections) = (&mut self.env, &mut self.connections);
                if let Some(left) = self.channels.leave(env, connections, index, member.conn) {
                    before = true;
                    self.note_unsubscribed(member.conn, &left.channel);
                    match (&presence, &start) {
                        // Who has said nothing of presence attends as before.
                        (None, Ok(_)) => self.tell_left(left, None),
                        (None, Err(_)) => self.leave(member.conn, left, Why::Lost),
                        // As a member it stays if that is what it wants to be: its home knows by now.
                        (Some(_), _) => self.leave(member.conn, left, Why::Left),
                    }
                }
            }
        }
        let Joiner { conn: id, deflates, form, .. } = member;
        let (mut start, lost) = match start {
            Ok(start) => (start, None),
            Err(lost) => (None, Some(lost)),
        };
        let (attended, refused) = match presence {
            Some(Ok(attended)) => (Some(attended), None),
            Some(Err(reason)) => (None, Some(reason)),
            None => (None, None),
        };
        let declined = refused.or_else(|| lost.map(|_| Reason::NotRecovered));
        let begins = declined.map_or(Ok(start.as_deref_mut()), Err);
        let (env, connections) = (&mut self.env, &mut self.connections);
        let joined = self.channels.joined(env, connections, name, member, begins);
        let Some(joined) = joined else { return };
        granted |= joined.answer.as_ref().is_some_and(|(answer, _)| answer.is_granted());
        if granted {
            self.channels.grant(&self.connections, name, id);
        }
        if self.env.config.hooks.subscriptions {
            self.tell_joined(id, name, before, &joined);
        }
        let members = attended.as_ref().map(|attended| attended.members);
        let held = joined.answer.as_ref().is_some_and(|(answer, _)| answer.resumes());
        let presence = match attended {
            Some(attended) => self.attend(id, name, attended.watch, held),
            None => index.and_then(|index| self.attend_on(index, id)),
        };
        if joined.leaves {
            let channel: Arc<str> = name.into();
            let home = self.homes.of(&channel);
            self.tell(home, Inner::Leave { channel, form, deflates, presence });
        }
        match joined.answer {
            Some((answer, Ok(()))) => {
                let told = start.as_ref().filter(|_| form == Form::Positioned);
                let told = told.map(|start| start.told());
                if joined.added && !answer.resumes() && !granted {
                    self.note_subscribed(id, name, form == Form::Positioned);
                }
                match answer.command() {
                    Some(command) => self.answer_joining(command, id, name, joined.added),
                    None => self.confirm(id, name, &answer, (told, members)),
                }
            }
            Some((answer, Err(Reason::NotRecovered))) => {
                let word = lost.map_or("", Lost::as_str);
                let text = format!("{}: {word}", Reason::NotRecovered.row().text);
                let (env, correlation) = (&mut self.env, answer.correlation.as_deref());
                self.connections.refuse_with(env, id, Reason::NotRecovered, &text, correlation);
            }
            Some((answer, Err(reason))) => self.decline(id, name, &answer, reason),
            None => {}
        }
        if joined.catching && !joined.held {
            self.channels.let_go(&self.connections, id, Some(name));
            self.channels.go_on(&mut self.env, &mut self.connections, id);
        }
    }

    /// A connection is a subscriber: tells its client, now or together with the rest of its session.
    fn confirm(
        &mut self,
        id: ConnId,
        channel: &str,
        answer: &AnswerTo,
        (start, members): (Option<protocol::Start<'static>>, Option<u32>),
    ) {
        match answer.asker {
            Asker::Session => self.on_rejoined(id, channel, Ok(start)),
            Asker::Client => {
                let (env, start) = (&mut self.env, (start, members));
                self.connections.answer_subscribed(env, id, channel, answer, start);
            }
            // It was one already, or has been taken out meanwhile.
            Asker::Application { id: command, .. } => self.answer_changed(command, id, false),
        }
    }

    /// A connection is no subscriber: tells its client why, now or together with the rest of its session.
    fn decline(&mut self, id: ConnId, channel: &str, answer: &AnswerTo, reason: Reason) {
        match answer.asker {
            Asker::Session => self.on_rejoined(id, channel, Err(reason)),
            Asker::Client => self.refuse(id, reason, answer.correlation.as_deref()),
            Asker::Application { id: command, .. } => self.answer_command(command, Err(reason)),
        }
    }

    /// Tells a channel's home that a connection has left, and what becomes of the member that it was.
    pub(super) fn leave(&mut self, id: ConnId, left: Left, why: Why) {
        let watched = self.watchers.remove(left.index, id);
        let presence = watched.map(|watch| Departure { conn: id, number: watch.number, why });
        self.tell_left(left, presence);
    }

    fn tell_left(&mut self, left: Left, presence: Option<Departure>) {
        let Left { channel, index: _, form, deflates } = left;
        self.tell(self.homes.of(&channel), Inner::Leave { channel, form, deflates, presence });
    }

    /// Takes a connection out of a channel; it is not an error if it is not in it.
    pub(super) fn unsubscribe(&mut self, id: ConnId, name: &str, why: Why, leave: Leave) {
        self.questions.cancel_subscribe(&self.connections, id, name);
        self.take_out(id, name, why, leave);
    }

    /// The same, but for what the application has not decided on yet: that comes after it.
    /// Whether its client takes it for a subscriber.
    pub(super) fn take_out(&mut self, id: ConnId, name: &str, why: Why, leave: Leave) -> bool {
        let Some(index) = self.channels.find(name) else { return false };
        // What was published before this moment is still delivered.
        self.seal_channel(name);
        self.hand_out_channel(index);
        let mut was = false;
        for answer in self.channels.cancel_waiting(index, id) {
            was |= answer.asker == Asker::Client;
            self.confirm(id, name, &answer, (None, None));
        }
        let (env, connections) = (&mut self.env, &mut self.connections);
        if let Some(left) = self.channels.leave(env, connections, index, id) {
            was = true;
            self.note_unsubscribed(id, &left.channel);
            if self.env.config.hooks.subscriptions {
                let channel = left.channel.clone();
                self.outputs.push_back(Output::Unsubscribed { conn: id, channel, leave });
            }
            self.leave(id, left, why);
        }
        was
    }

    /// Takes back the subscriptions that the connection may no longer have, and tells it which.
    pub(super) fn withdraw(&mut self, id: ConnId, why: Withdrawn) {
        let Some(conn) = self.connections.get(id).filter(|conn| conn.is_active()) else { return };
        for name in self.channels.forbidden(&self.env, id, conn) {
            self.drop_from_resumption(id, &name);
            self.unsubscribe(id, &name, Why::Left, why.leave());
            self.connections.send_withdrawn(&mut self.env, id, &name, why.as_str());
            self.env.tally.withdrawn += 1;
        }
    }

    pub(super) fn refuse(&mut self, id: ConnId, reason: Reason, correlation: Option<&str>) {
        self.connections.refuse(&mut self.env, id, reason, correlation);
    }

    /// The same, with what exactly was wrong or missing.
    pub(super) fn refuse_because(
        &mut self,
        id: ConnId,
        refused: &Refused,
        correlation: Option<&str>,
    ) {
        self.connections.refuse_because(&mut self.env, id, refused, correlation);
    }

    /// The same, if the connection is still a session: for what comes later.
    pub(super) fn refuse_active(&mut self, id: ConnId, reason: Reason, correlation: Option<&str>) {
        if self.connections.is_active(id) {
            self.refuse(id, reason, correlation);
        }
    }
}

/// Questions to the application.
impl Hub {
    /// A request of the application's own vocabulary.
    pub(super) fn on_request(
        &mut self,
        id: ConnId,
        event: &str,
        data: &str,
        correlation: Option<&str>,
    ) {
        if !self.env.config.hooks.requests.contains(event) {
            let is_asked =
                self.env.config.backend.is_some() && self.ask_backend(id, event, data, correlation);
            if !is_asked {
                self.on_own_request(id, event, data, correlation);
            }
            return;
        }
        let data = Bytes::copy_from_slice(data.as_bytes());
        let event: Box<str> = event.into();
        let answer = AnswerTo::new(correlation, Answer::Response);
        let about = About::Request { event: event.clone(), answer };
        if let Some((request, user)) = self.ask(id, about) {
            self.outputs.push_back(Output::Request { id: request, conn: id, user, event, data });
        }
    }

    /// Puts a subscription that the policy allows to the application.
    pub(super) fn ask_to_subscribe(
        &mut self,
        id: ConnId,
        channel: &str,
        answer: AnswerTo,
        wishes: Wishes,
    ) {
        let name: Box<str> = channel.into();
        let about = About::Subscribe { channel: name.clone(), answer, wishes, cancelled: false };
        self.ask_whether(id, None, Verb::Subscribe, name, about);
    }

    /// Puts a publish that the policy allows to the application, one channel of those `left` at a time.
    pub(super) fn ask_publish(
        &mut self,
        id: ConnId,
        publisher: Publisher,
        publications: Vec<Publication>,
        mut left: Vec<Box<str>>,
    ) {
        match left.pop() {
            None => self.publish(publisher, publications),
            Some(channel) => {
                let about = About::Publish { publisher, publications, left };
                self.ask_whether(id, None, Verb::Publish, channel, about);
            }
        }
    }

    /// Puts something that the policy allows to the application. `named` is whose request over HTTP it is.
    pub(super) fn ask_whether(
        &mut self,
        id: ConnId,
        named: Option<Arc<str>>,
        verb: Verb,
        channel: Box<str>,
        about: About,
    ) {
        if let Some((request, user)) = self.ask(id, about) {
            let user = named.or(user);
            let identity = self.connections.get(id).and_then(|conn| conn.identity());
            let introduction = self.introduce_caller(id);
            self.outputs.push_back(Output::Authorize {
                id: request,
                conn: id,
                user,
                verb,
                channel,
                identity,
                introduction,
            });
        }
    }

    pub(super) fn ask(
        &mut self,
        id: ConnId,
        about: About,
    ) -> Option<(RequestId, Option<Arc<str>>)> {
        match self.questions.ask(&self.env, &mut self.connections, id, about)? {
            Ok(asked) => Some(asked),
            Err((about, reason)) => {
                self.fail_question(id, about, reason);
                None
            }
        }
    }

    pub(super) fn on_reply(&mut self, id: RequestId, result: Result<Bytes, RequestError>) {
        let question = self.questions.answered(&mut self.connections, id);
        let Some(Question { conn, about }) = question else { return };
        let About::Request { event, answer } = about else {
            // A reply where a decision was due decides nothing.
            self.fail_question(conn, about, Reason::RequestFailed);
            return self.go_on_resuming(conn);
        };
        if !self.connections.is_active(conn) {
            return;
        }
        let correlation = answer.correlation.as_deref();
        let (env, connections) = (&mut self.env, &mut self.connections);
        match result {
            Ok(data) => match std::str::from_utf8(&data).ok().filter(|data| is_object(data)) {
                Some(data) => connections.answer_request(env, conn, &event, data, correlation),
                None => connections.refuse(env, conn, Reason::RequestFailed, correlation),
            },
            Err(error) => {
                env.tally.error(Reason::RequestFailed);
                connections.send_application_error(env, conn, &error, correlation);
            }
        }
        self.go_on_resuming(conn);
    }

    pub(super) fn on_decision(&mut self, id: RequestId, allow: bool) {
        let question = self.questions.answered(&mut self.connections, id);
        let Some(Question { conn, about }) = question else { return };
        match about {
            About::Subscribe { channel, answer, wishes, cancelled } if allow => {
                if !self.connections.is_active(conn) {
                } else if answer.resumes() {
                    self.on_judged(conn, &channel, Ok(()));
                } else if cancelled {
                    self.confirm(conn, &channel, &answer, (None, None));
                } else {
                    self.subscribe(conn, &channel, answer, wishes);
                }
            }
            About::Publish { publisher, publications, left } if allow => {
                self.ask_publish(conn, publisher, publications, left);
            }
            About::Look(look) if allow => self.carry_out_look(look),
            About::Subscribe { .. } | About::Look(_) => {
                self.fail_question(conn, about, Reason::SubscribeForbidden);
            }
            About::Publish { .. } => self.fail_question(conn, about, Reason::PublishForbidden),
            About::Request { .. }
            | About::Backend { .. }
            | About::Answering { .. }
            | About::Whose { .. } => {
                self.fail_question(conn, about, Reason::RequestFailed);
            }
        }
        self.go_on_resuming(conn);
    }

    pub(super) fn on_failed(&mut self, handler: Handler) {
        self.env.tally.handler_failed(handler);
        match handler {
            Handler::Request(id)
            | Handler::Subscribe(id)
            | Handler::Publish(id)
            | Handler::Authenticate(id) => {
                // It may have been answered before, or be over.
                let question = self.questions.answered(&mut self.connections, id);
                if let Some(Question { conn, about }) = question {
                    self.fail_question(conn, about, Reason::RequestFailed);
                    self.go_on_resuming(conn);
                }
            }
            Handler::Metrics(_) => {
                // Others have come to wait for the same.
                for conn in self.scrapes.take() {
                    self.refuse_http(conn, &Reason::RequestFailed.into());
                }
            }
            Handler::Statistics => self.statistics.answered(),
            Handler::Connect
            | Handler::Disconnect
            | Handler::Record
            | Handler::Subscribed
            | Handler::Unsubscribed => {}
        }
    }

    pub(super) fn fail_question(&mut self, conn: ConnId, about: About, reason: Reason) {
        match about {
            About::Subscribe { channel, answer, .. } if answer.resumes() => {
                self.on_judged(conn, &channel, Err(reason));
            }
            About::Request { answer, .. }
            | About::Subscribe { answer, .. }
            | About::Backend { answer, .. }
            | About::Answering { answer: Some(answer) } => {
                self.refuse_active(conn, reason, answer.correlation.as_deref());
            }
            About::Answering { answer: None } => self.refuse_http(conn, &reason.into()),
            About::Publish { publisher, .. } => self.fail_publish(publisher, reason),
            About::Look(look) => self.on_seen(look.looker, Err(reason)),
            About::Whose { request, body } => {
                self.on_undecided(conn, &request, body.is_none(), reason);
            }
        }
    }
}
