//! Where users are connected: told to the bus, and told to operators.

use std::{sync::Arc, time::Duration};

use http::Request;
use serde::Serialize;

use super::{
    Hub,
    bus::{Alive, BusCommand, BusError, CallId, VisitEvent, Visits as Found},
    errands::{Survey, orders},
    http::Refused,
    nodes::{Contact, VisitTerms},
    peers::{Inner, Ticket},
    reads,
    types::ConnId,
    visitors::Who,
};
use crate::{protocol::Timestamp, reason::Reason, ws::Payload};

/// The bus.
impl Hub {
    /// Whether other nodes are told of users' connections.
    pub(super) fn tracks(&self) -> bool {
        self.env.config.bus.as_ref().is_some_and(|bus| bus.track_connections)
    }

    /// What a user's home is to know of a connection besides that it is there.
    pub(super) fn contact(&self, id: ConnId, who: &Who) -> Option<Box<Contact>> {
        if !matches!(who, Who::User(_)) || !self.tracks() {
            return None;
        }
        self.contact_of(id).map(Box::new)
    }

    fn contact_of(&self, id: ConnId) -> Option<Contact> {
        let conn = self.connections.get(id)?;
        let since = conn.rare().token.as_ref()?.since();
        Some(Contact { name: self.env.public_name(id), address: conn.peer(), since })
    }

    /// At the home of an address, a user or everyone: one more connection. A reason if it may not stay.
    pub(super) fn on_enter(
        &mut self,
        who: Who,
        conn: ConnId,
        contact: Option<Box<Contact>>,
    ) -> Option<Reason> {
        let user = if let Who::User(user) = &who { Some(user.clone()) } else { None };
        let refused = self.visitors.enter(&self.env, who);
        if refused.is_none()
            && let Some((user, contact)) = user.zip(contact)
        {
            self.visits.come(user, conn, *contact);
        }
        refused
    }

    /// At that home: one less.
    pub(super) fn on_exit(&mut self, who: &Who, conn: ConnId) {
        self.visitors.leave(who);
        if let Who::User(user) = who {
            self.visits.go(user, conn);
        }
    }

    /// Tells the bus which connections have come and gone.
    pub(super) fn tell_visits(&mut self) {
        if self.visits.is_ready() {
            let terms = VisitTerms {
                own: self.nodes.node(),
                max: self.env.config.limits.connections.connections_per_user_max,
                alive: self.alive(),
            };
            self.visits.tell(&mut self.calls, &terms);
        }
    }

    pub(super) fn alive(&self) -> Alive {
        let lease = self.env.config.bus.as_ref().map(|bus| bus.lease).unwrap_or_default();
        Alive { nodes: self.nodes.ids().clone(), grace: lease * 2 }
    }

    /// What the bus tells of users' connections.
    pub(super) fn hear_of_visits(&mut self, event: VisitEvent) {
        match event {
            VisitEvent::Visited { id, result } => {
                let when = (self.env.now.mono, self.nodes.node());
                if let Some(conn) = self.visits.on_visited(when, id, result) {
                    let reason = Reason::UserConnections;
                    self.tell(conn.shard, Inner::Evict { conn, reason });
                }
            }
            VisitEvent::Visits { id, result } => self.on_visits(id, result.as_ref()),
        }
    }
}

/// The body of `/connections`.
#[derive(Serialize)]
struct Connections<'a> {
    user: &'a str,
    connections: Vec<Connection>,
    /// Those that are not listed are counted.
    total: u32,
    /// Whether the other nodes' are among them.
    complete: bool,
}

#[derive(Serialize)]
struct Connection {
    connection_id: String,
    /// Absent without a bus.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    address: String,
    since: String,
}

impl Connection {
    fn new(contact: &Contact, node: Option<String>) -> Self {
        Self {
            connection_id: contact.name.to_string(),
            node,
            address: contact.address.to_string(),
            since: Timestamp::from_unix(Duration::from_secs(contact.since.as_secs())).zulu(),
        }
    }
}

/// Operators.
impl Hub {
    /// `GET /connections`: where is a user connected?
    pub(super) fn on_http_connections(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        match self.check_connections(id, request) {
            Ok(user) => self.look_for_connections(id, user),
            Err(refused) => self.refuse_http(id, &refused),
        }
    }

    fn check_connections(
        &self,
        id: ConnId,
        request: &Request<Payload<'_>>,
    ) -> Result<Arc<str>, Refused> {
        let asked = (self.vouched_at_hand(id), request);
        let (_, is_full) = orders::operator(&self.env, &self.tokens, asked)?;
        if !is_full {
            return Err(Reason::OperatorsOnly.into());
        }
        reads::user(request.uri().query().unwrap_or_default())
    }

    fn look_for_connections(&mut self, conn: ConnId, user: Arc<str>) {
        if self.tracks() && self.visits.is_up() {
            let id = self.calls.name();
            let max = self.env.config.limits.connections.connections_listed_max;
            let command = BusCommand::Visits { id, user: user.clone(), alive: self.alive(), max };
            self.calls.send(command);
            return self.visits.ask(id, conn, user);
        }
        let complete = self.env.config.bus.is_none();
        self.survey(conn, user, complete);
    }

    /// The bus has told where a user is connected.
    fn on_visits(&mut self, id: CallId, result: Result<&Found, &BusError>) {
        let Some((conn, user)) = self.visits.answered(id) else { return };
        let Ok(found) = result else { return self.survey(conn, user, false) };
        let listed = found.visits.iter().filter_map(|visit| {
            let contact = Contact::parse(visit)?;
            Some(Connection::new(&contact, Some(self.nodes.name_of(visit.name.node))))
        });
        let (connections, total) = (listed.collect(), found.connections);
        let answer = Connections { user: &user, connections, total, complete: true };
        self.answer_connections(conn, &answer);
    }

    /// Asks all hubs of this process where a user is connected.
    fn survey(&mut self, conn: ConnId, user: Arc<str>, complete: bool) {
        let place = self.env.place;
        let waiting = u32::from(place.shards.max(1));
        let survey = Survey { conn, user: user.clone(), found: Vec::new(), total: 0, complete };
        let Some(ticket) = self.errands.survey(&self.env, survey, waiting) else { return };
        for shard in place.others() {
            self.tell(shard, Inner::Survey { ticket, user: user.clone() });
        }
        let (found, total) = self.connections_of(&user);
        self.on_surveyed(ticket, found, total);
    }

    /// Connections of a user to this hub, and how many there are.
    pub(super) fn connections_of(&self, user: &str) -> (Vec<Contact>, u32) {
        let max = self.env.config.limits.connections.connections_listed_max as usize;
        let ids = self.connections.of_user(user);
        let total = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let found = ids.into_iter().filter_map(|id| self.contact_of(id)).take(max).collect();
        (found, total)
    }

    /// A hub has said where a user is connected there.
    pub(super) fn on_surveyed(&mut self, ticket: Ticket, found: Vec<Contact>, total: u32) {
        let Some(survey) = self.errands.surveyed(ticket, found, total) else { return };
        let Survey { conn, user, found, total, complete } = survey;
        let max = self.env.config.limits.connections.connections_listed_max as usize;
        let node = self.env.config.bus.as_ref().map(|bus| bus.node_name.to_string());
        let listed = found.iter().take(max).map(|contact| Connection::new(contact, node.clone()));
        let answer = Connections { user: &user, connections: listed.collect(), total, complete };
        self.answer_connections(conn, &answer);
    }

    fn answer_connections(&mut self, conn: ConnId, answer: &Connections<'_>) {
        // Writing plain data into memory cannot fail.
        self.answer_json(conn, serde_json::to_vec(answer).unwrap_or_default().into());
    }
}
