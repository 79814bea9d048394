//! Orders: what an operator wants on all hubs of all nodes, revocations of tokens and ends of connections.
//!
//! The hub that is asked tells the others and answers when all have done it: from then on no hub accepts such a token or
//! delivers to its connection. With a bus the first hub tells the other nodes, whose first hubs do the same there and confirm
//! it.

use std::sync::Arc;

use http::Request;

use super::{
    Hub,
    application::{DirectMessage, Disconnect, Recipient},
    bus::{BusError, CallId},
    errands::{self, Asker, OrderDone},
    http::Refused,
    nodes::{Entry, NodesMessage, Order, OrderKind, Spread, USER_BYTES_MAX, Whom},
    output::{Audit, Output},
    peers::{Inner, Ticket},
    types::{CommandId, ConnId, Published, ShardId},
};
use crate::{auth::Revocation, reason::Reason, ws::Payload};

/// Giving them.
impl Hub {
    pub(super) fn on_http_revoke(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        let peer = self.connections.get(id).map(|conn| conn.peer());
        let mut audit = Box::new(Audit { peer, ..Audit::default() });
        let asker = Asker::Http(id);
        match errands::orders::revocation(
            &self.env,
            &self.tokens,
            (self.vouched_at_hand(id), request),
            &mut audit,
        ) {
            Ok(revocation) => self.revoke(asker, audit, revocation),
            Err(refused) => self.fail_order(asker, audit, &refused),
        }
    }

    pub(super) fn on_http_disconnect(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        let peer = self.connections.get(id).map(|conn| conn.peer());
        let kind = OrderKind::Disconnect;
        let mut audit = Box::new(Audit { peer, kind, ..Audit::default() });
        let asker = Asker::Http(id);
        match errands::orders::disconnect(
            &self.env,
            &self.tokens,
            (self.vouched_at_hand(id), request),
            &mut audit,
        ) {
            Ok(whom) => self.disconnect(asker, audit, Order::Disconnect(whom, None)),
            Err(refused) => self.fail_order(asker, audit, &refused),
        }
    }

    /// The application, or an operator through it, revokes.
    pub(super) fn on_revoke_command(&mut self, id: Option<CommandId>, revocation: Revocation) {
        let revoked = Some(revocation.clone());
        let audit = Box::new(Audit { revocation: revoked, ..Audit::default() });
        let asker = Asker::Command(id);
        match revocation.check() {
            Ok(()) => self.revoke(asker, audit, revocation),
            Err(_) => self.fail_order(asker, audit, &Reason::BadRevocation.into()),
        }
    }

    fn revoke(&mut self, asker: Asker, audit: Box<Audit>, revocation: Revocation) {
        // Others may be revoking at this moment, so a hub can come to hold a few more than the limit.
        let max = self.env.config.limits.revocations.revocations_max;
        if self.tokens.revoked() >= max || self.errands.ordered() >= max {
            return self.fail_order(asker, audit, &Reason::RevocationsFull.into());
        }
        self.give(asker, Some(audit), Order::Revoke(revocation));
    }

    /// The application sends to a user's connections to all nodes.
    pub(super) fn on_send_everywhere(
        &mut self,
        id: Option<CommandId>,
        user: Arc<str>,
        message: DirectMessage,
    ) {
        if let Err(reason) = self.check_direct(&message) {
            self.fail_command(id, reason);
        } else if self.errands.ordered() >= self.env.config.limits.revocations.revocations_max {
            self.fail_command(id, Reason::Busy);
        } else {
            self.give(Asker::Command(id), None, Order::Send { user, message });
        }
    }

    /// The application ends connections in its own words.
    pub(super) fn on_dismiss_command(
        &mut self,
        id: Option<CommandId>,
        whom: Recipient,
        how: Box<Disconnect>,
    ) {
        let user = match &whom {
            Recipient::User(user) => Some(user),
            Recipient::Connection(_) => None,
        };
        let named = user.is_none_or(|user| (1..=USER_BYTES_MAX).contains(&user.len()));
        if how.check().is_err() || !named {
            return self.fail_command(id, Reason::BadDisconnect);
        }
        match whom {
            Recipient::Connection(conn) => {
                let here = conn.shard == self.env.place.shard;
                let found =
                    self.connections.get(conn).filter(|found| here && found.phase.is_open());
                let closed = u32::from(found.is_some());
                if found.is_some() {
                    self.dismiss(conn, &how);
                }
                let published = Published { subscribers: closed, ..Published::default() };
                self.outputs.extend(id.map(|id| Output::Done { id, result: Ok(published) }));
            }
            Recipient::User(user) => {
                let (whom, kind) = (Whom::User(user), OrderKind::Disconnect);
                let audit = Audit { kind, whom: Some(whom.clone()), ..Audit::default() };
                let how = (*how != Disconnect::default()).then_some(how);
                let order = Order::Disconnect(whom, how);
                self.disconnect(Asker::Command(id), Box::new(audit), order);
            }
        }
    }

    /// Ends a connection in words of the application's. They may come behind what is queued, and behind advice.
    fn dismiss(&mut self, id: ConnId, how: &Disconnect) {
        if !how.at_once {
            self.send_all_queued(id);
            if let Some(advice) = how.advice() {
                self.connections.send_closing(&mut self.env, id, &advice);
            }
        }
        self.connections.close_as(&self.env, id, how);
        self.retire(id, Reason::Disconnected);
    }

    fn disconnect(&mut self, asker: Asker, audit: Box<Audit>, order: Order) {
        if self.errands.ordered() >= self.env.config.limits.revocations.revocations_max {
            return self.fail_order(asker, audit, &Reason::Busy.into());
        }
        self.give(asker, Some(audit), order);
    }

    pub(super) fn give(&mut self, asker: Asker, audit: Option<Box<Audit>>, order: Order) {
        let place = self.env.place;
        // What another node has ordered, all nodes have been told.
        let spreads = self.env.config.bus.is_some() && !matches!(asker, Asker::Node { .. });
        let waiting = u32::from(place.shards.max(1)) + u32::from(spreads);
        let kind = order.kind();
        let Some(ticket) = self.errands.order(&self.env, asker, kind, audit, waiting) else {
            return;
        };
        for shard in place.others() {
            let order = Box::new(order.clone());
            self.tell(shard, Inner::Order { ticket, order });
        }
        let closed = self.obey(&order);
        self.on_carried_out(ticket, closed);
        if spreads {
            self.tell(ShardId(0), Inner::Nodes(Box::new(NodesMessage::Spread { ticket, order })));
        }
    }

    /// How many connections ended.
    pub(super) fn obey(&mut self, order: &Order) -> u32 {
        match order {
            Order::Revoke(revocation) => {
                self.tokens.revoke(&mut self.env, revocation);
                self.end_tokens(|claims| revocation.fits(claims))
            }
            Order::Disconnect(whom, how) => self.end_connections(whom, how.as_deref()),
            Order::EndSessions { of, begun_by } => self.obey_end_sessions(of, *begun_by),
            Order::Send { user, message } => self.send_to_user(user, message).reached,
        }
    }

    fn end_connections(&mut self, whom: &Whom, how: Option<&Disconnect>) -> u32 {
        let meant = match whom {
            Whom::User(user) => self.connections.of_user(user),
            // Who has resumed a session goes by the name of its first connection.
            Whom::Connection(name) => {
                let goes_by = |id: &ConnId| {
                    *name == self.public_name(*id) || *name == self.env.public_name(*id)
                };
                self.connections.active().into_iter().filter(goes_by).collect()
            }
        };
        let mut ended = 0;
        for id in meant {
            // Another one's end may have been this one's.
            if !self.connections.is_active(id) {
                continue;
            }
            match how {
                Some(how) => self.dismiss(id, how),
                None => self.close(id, Reason::Disconnected),
            }
            ended += 1;
        }
        ended
    }

    /// A hub has carried an order out.
    pub(super) fn on_carried_out(&mut self, ticket: Ticket, closed: u32) {
        if let Some(done) = self.errands.carried_out(ticket, closed) {
            self.on_order_done(done);
        }
    }

    fn on_order_done(&mut self, done: OrderDone) {
        let OrderDone { asker, kind, audit, closed, spread } = done;
        let result = match spread.map_or(Ok(()), |spread| spread.result(kind)) {
            Ok(()) => Ok(Published { subscribers: closed, offset: 0, epoch: None }),
            Err(reason) => Err(reason),
        };
        if let Some(audit) = audit {
            self.outputs.push_back(Output::Audit { audit, result });
        }
        match (asker, result) {
            (Asker::Http(conn), Ok(_)) => {
                let answer = errands::orders::answer(kind, closed, spread);
                self.answer_json(conn, answer.into());
            }
            (Asker::Http(conn), Err(reason)) => self.refuse_http(conn, &reason.into()),
            (Asker::Command(id), result) => {
                self.outputs.extend(id.map(|id| Output::Done { id, result }));
            }
            (Asker::Node { id, confirms }, _) => {
                if confirms {
                    self.nodes.confirm(&mut self.calls, id, closed);
                }
            }
        }
    }

    fn fail_order(&mut self, asker: Asker, audit: Box<Audit>, refused: &Refused) {
        if self.tokens.is_refusal_noted(&self.env) {
            self.outputs.push_back(Output::Audit { audit, result: Err(refused.reason) });
        }
        match asker {
            Asker::Http(conn) => self.refuse_http(conn, refused),
            Asker::Command(id) => self.fail_command(id, refused.reason),
            Asker::Node { .. } => {}
        }
    }
}

/// Between nodes, at the first hub.
impl Hub {
    /// A hub of this process wants all nodes to be told.
    pub(super) fn on_spread(&mut self, ticket: Ticket, order: Order) {
        let done = self.nodes.spread(&mut self.env, &mut self.calls, ticket, order);
        self.answer_spread(done);
    }

    /// What became of telling all nodes of an order.
    pub(super) fn on_controlled(&mut self, id: CallId, result: Result<u32, BusError>) {
        let done = self.nodes.on_controlled(&self.env, id, result);
        self.answer_spread(done);
    }

    /// All nodes are told of an order.
    pub(super) fn on_control(&mut self, command: &[u8]) {
        let Some(Entry { id, from, order }) = Entry::parse(command) else {
            self.env.tally.bus.unknown_orders += 1;
            return;
        };
        // What this one has ordered was carried out here before.
        if from != self.nodes.node() {
            let confirms = self.nodes.is_informed();
            self.give(Asker::Node { id, confirms }, None, order);
        }
    }

    /// Those who waited for other nodes need not wait any more.
    pub(super) fn answer_spread(&mut self, done: impl IntoIterator<Item = (Ticket, Spread)>) {
        for (ticket, spread) in done {
            let message = NodesMessage::HasSpread { ticket, spread };
            self.tell(ticket.shard, Inner::Nodes(Box::new(message)));
        }
    }

    /// At the hub that was asked: how far the order has come.
    pub(super) fn on_spread_done(&mut self, ticket: Ticket, spread: Spread) {
        if let Some(done) = self.errands.spread(ticket, spread) {
            self.on_order_done(done);
        }
    }
}
