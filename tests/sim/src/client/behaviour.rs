//! What clients do of their own accord.

use super::{Client, Kind, Pending, Phase, Tokens, Wishes};
use crate::{
    hostile, http, message,
    oracle::{APPLICATION, Oracle},
    swarm::{Options, channel_name},
};

impl Client {
    /// The socket is connected.
    pub(crate) fn on_connected(&mut self, options: &Options, wishes: &mut Wishes) {
        self.close_code = None;
        self.showed_token = false;
        self.bad_token = false;
        self.brief = false;
        self.said_all = false;
        match self.kind {
            Kind::Poster => self.phase = Phase::Http,
            Kind::Hostile => hostile::begin(self, options, wishes),
            Kind::Subscriber | Kind::Publisher | Kind::Sluggard | Kind::Storming => {
                self.phase = Phase::Head;
                let bad = !self.healing && self.random.chance(30);
                self.bad_token = bad && options.auth == 1;
                let brief = options.auth == 1 && !self.healing && !self.bad_token;
                self.brief = brief && self.random.chance(options.brief_pm);
                let by_header = options.auth == 1 && self.random.chance(500);
                self.showed_token = by_header;
                let tokens = self.tokens.clone();
                let token = by_header.then(|| self.token(&tokens));
                wishes.bytes = http::handshake(token);
                if !by_header && self.random.chance(200) {
                    // Impatient clients send before they know that they may.
                    self.impatient_ping(wishes);
                }
            }
        }
    }

    fn token<'t>(&mut self, tokens: &'t Tokens) -> &'t str {
        if self.brief {
            return &tokens.brief[self.rights as usize];
        }
        let which = if self.bad_token { self.random.range(1, 2) } else { 0 };
        &tokens.by_rights[self.rights as usize][which as usize]
    }

    fn impatient_ping(&mut self, wishes: &mut Wishes) {
        self.ask(Pending::Ping, message::ping, wishes);
    }

    /// The handshake is done: show a token if one is wanted.
    pub(crate) fn greet(&mut self, options: &Options, wishes: &mut Wishes) {
        if options.auth == 0 || self.showed_token {
            return;
        }
        if !self.healing && self.random.chance(20) {
            return; // Forgets to.
        }
        self.showed_token = true;
        let pending = match (self.bad_token, self.brief) {
            (true, _) => Pending::BadAuth,
            (_, true) => Pending::BriefAuth,
            _ => Pending::Auth,
        };
        let tokens = self.tokens.clone();
        let token = self.token(&tokens);
        self.ask(pending, |id| message::request("auth", "token", token, id), wishes);
    }

    /// It is time to do something.
    pub(crate) fn wake(&mut self, options: &Options, oracle: &mut Oracle, wishes: &mut Wishes) {
        if self.healing && self.brief {
            // Comes back with a token that lasts.
            wishes.reset = true;
            return;
        }
        match (self.kind, self.phase) {
            (Kind::Hostile, _) => hostile::go_on(self, options, wishes),
            (Kind::Poster, Phase::Http)
                if self.asked.is_none() && !self.healing && !self.said_all =>
            {
                self.post_or_get(options, oracle, wishes);
            }
            (_, Phase::Open) if !self.said_all => self.act(options, oracle, wishes),
            _ => {}
        }
        if !self.healing && self.phase != Phase::Away {
            self.leave_perhaps(options, oracle, wishes);
            self.blink_perhaps(options, wishes);
            self.break_perhaps(options, oracle, wishes);
        }
    }

    fn leave_perhaps(&mut self, options: &Options, oracle: &mut Oracle, wishes: &mut Wishes) {
        let storm = if self.kind == Kind::Storming { 200 } else { 0 };
        if self.random.chance(options.reset_pm + storm / 2) {
            wishes.reset = true;
        } else if self.random.chance(options.half_close_pm + storm / 4) {
            wishes.fin = true;
            self.said_all = true;
        } else if self.random.chance(storm / 4) && self.phase == Phase::Open {
            self.say_goodbye(1000, oracle, wishes);
        }
    }

    /// The connection is cut, wherever it is, and the client comes back at once.
    fn blink_perhaps(&mut self, options: &Options, wishes: &mut Wishes) {
        if self.positions && self.phase == Phase::Open {
            let owed = self.members.iter().any(|member| member.promised > 0);
            let rate = options.blink_pm * if owed { 5 } else { 1 };
            if self.recall.chance(rate) {
                (wishes.reset, self.eager) = (true, true);
            }
        }
    }

    fn act(&mut self, options: &Options, oracle: &mut Oracle, wishes: &mut Wishes) {
        let roll = self.random.below(1000);
        if self.tend_session(options, oracle, wishes) {
            return;
        }
        self.ask_for_lists(options, oracle, wishes);
        // Leaves all that it may not have any more; what it wants it asks for again.
        for channel in std::mem::take(&mut self.unsure) {
            self.unsubscribe(channel, wishes);
        }
        if self.healing {
            self.leave_unwanted(options, wishes);
            self.subscribe_wanted(options, 1000, oracle, wishes);
            return;
        }
        self.subscribe_wanted(options, 500, oracle, wishes);
        if self.positions {
            self.look(options, oracle, wishes);
        }
        self.read_perhaps(options, oracle, wishes);
        match self.kind {
            Kind::Publisher => self.publish_burst(options, oracle, wishes),
            Kind::Sluggard => {
                if roll < 300 {
                    self.paused = !self.paused;
                }
            }
            Kind::Subscriber | Kind::Storming | Kind::Poster | Kind::Hostile => {}
        }
        match roll {
            0..20 => self.churn(options, oracle, wishes),
            20..40 => self.ask(Pending::Ping, message::ping, wishes),
            40..60 => self.ask(Pending::Ask, |id| message::request("ask", "x", "y", id), wishes),
            60..65 => self.publish_burst(options, oracle, wishes),
            65..70 => self.try_any_channel(options, oracle, wishes),
            70..73 if options.auth == 1 => {
                let tokens = self.tokens.clone();
                let good = tokens.by_rights[self.rights as usize][0].as_str();
                self.ask(
                    Pending::Auth,
                    |id| message::request("refresh_token", "token", good, id),
                    wishes,
                );
            }
            73..76 if options.auth == 1 => {
                let tokens = self.tokens.clone();
                let bad = tokens.by_rights[self.rights as usize][1].as_str();
                self.ask(Pending::BadAuth, |id| message::request("auth", "token", bad, id), wishes);
            }
            _ => {}
        }
    }

    /// Asks for each wanted channel that it has neither got nor asked for.
    fn subscribe_wanted(
        &mut self,
        options: &Options,
        per_mille: u64,
        oracle: &mut Oracle,
        wishes: &mut Wishes,
    ) {
        for channel in 0..options.channels {
            let asked = self.pending.values().any(|pending| pending.membership() == Some(channel));
            let missing = self.wanted[channel as usize] && !self.members[channel as usize].on;
            if missing && !asked && self.random.chance(per_mille) {
                self.subscribe(options, channel, oracle, wishes);
            }
        }
    }

    fn leave_unwanted(&mut self, options: &Options, wishes: &mut Wishes) {
        for channel in 0..options.channels {
            let unwanted = !self.wanted[channel as usize] && self.members[channel as usize].on;
            if unwanted && self.pending.is_empty() {
                self.unsubscribe(channel, wishes);
            }
        }
    }

    pub(super) fn subscribe_plainly(&mut self, channel: u64, wishes: &mut Wishes) {
        let name = channel_name(channel);
        self.ask(
            Pending::Subscribe(channel),
            |id| message::request("subscribe", "channel", &name, id),
            wishes,
        );
    }

    /// What became of a subscription that it had is not known.
    pub(super) fn doubt(&mut self, channel: u64) {
        if self.members[channel as usize].on {
            self.unsure.insert(channel);
        }
    }

    pub(super) fn unsubscribe(&mut self, channel: u64, wishes: &mut Wishes) {
        let name = channel_name(channel);
        self.ask(
            Pending::Unsubscribe(channel),
            |id| message::request("unsubscribe", "channel", &name, id),
            wishes,
        );
        self.left[channel as usize].0 = self.correlation;
    }

    /// Comes and goes, without waiting for answers.
    fn churn(&mut self, options: &Options, oracle: &mut Oracle, wishes: &mut Wishes) {
        let channel = self.random.below(options.channels);
        for _ in 0..self.random.range(1, 5) {
            if self.random.chance(500) {
                self.subscribe(options, channel, oracle, wishes);
            } else {
                self.unsubscribe(channel, wishes);
            }
        }
    }

    fn try_any_channel(&mut self, options: &Options, oracle: &mut Oracle, wishes: &mut Wishes) {
        let channel = self.random.below(options.channels);
        self.subscribe(options, channel, oracle, wishes);
    }

    fn publish_burst(&mut self, options: &Options, oracle: &mut Oracle, wishes: &mut Wishes) {
        let publisher = match options.ask_publish {
            1 => APPLICATION as usize,
            _ => self.link.unwrap_or_default(),
        };
        let channel = self.random.below(options.channels);
        let name = channel_name(channel);
        for _ in 0..self.random.range(1, options.burst_max) {
            let padding = self.random.below(options.padding_max + 1) as usize;
            let number = oracle.publish(channel, padding, publisher);
            let mut data = Vec::new();
            message::write_data(&mut data, channel, number, padding);
            if let Some(carried) = self.carry(options, channel) {
                oracle.carries(channel, number, carried);
                data.extend_from_slice(
                    self.members_of(oracle, channel, number, carried).as_bytes(),
                );
            }
            self.ask(
                Pending::Publish(channel, number),
                |id| message::publish(&name, &data, id),
                wishes,
            );
        }
    }

    fn post_or_get(&mut self, options: &Options, oracle: &mut Oracle, wishes: &mut Wishes) {
        let nothing = http::Asked::default;
        match self.random.below(10) {
            0 => {
                wishes.bytes = http::get("/health");
                self.asked = Some(nothing());
            }
            1 => {
                wishes.bytes = http::get("/nothing");
                self.asked = Some(nothing());
            }
            2 if options.state_pm > 0 => http::get_state(self, options, oracle, wishes),
            _ => http::post(self, options, oracle, wishes),
        }
    }
}
