//! Compression in the hub: one compressor and one decompressor for all its connections, made when first needed.

use std::time::Duration;

use super::{Hub, conn::Session, types::ConnId};
use crate::{
    config::DeflateConfig,
    protocol,
    time::Now,
    ws::{Compressed, Deflated, Deflater, Event, Inflater, Segment},
};

/// What compresses and decompresses. Empty on a hub that never met permessage-deflate.
#[derive(Debug, Default)]
pub(crate) struct Codecs {
    deflater: Option<Box<Deflater>>,
    inflater: Option<Box<Inflater>>,
    /// Messages compressed, over the hub's life.
    #[cfg(test)]
    pub(crate) compressed: u64,
}

impl Codecs {
    fn deflater(&mut self, config: &DeflateConfig) -> &mut Deflater {
        self.deflater
            .get_or_insert_with(|| Box::new(Deflater::new(config.level, config.threshold_bytes)))
    }
}

impl Hub {
    /// A compressed message has come.
    pub(crate) fn on_compressed(&mut self, now: Now, id: ConnId, message: Compressed<'_>) {
        if let Some(wait) = self.message_wait(now, id) {
            // One that is over the limit is not worth the work of inflating it.
            self.refuse_rate(now, id, wait, None);
            return;
        }
        // Out of its place for the time in which the message, which lies in it, is being dealt with.
        let mut inflater = self.codecs.inflater.take().unwrap_or_default();
        let conn = self.conns.get_mut(id.index);
        let event = conn.and_then(|conn| {
            let limits = conn.session.limits(&self.limits_before_auth, &self.config.limits.wire);
            conn.ws.inflate(now, limits, &mut inflater, message)
        });
        match event {
            Some(Event::Text(text)) => self.on_message(now, id, protocol::decode_text(&text)),
            Some(Event::Binary(payload)) => self.on_message(now, id, protocol::decode(&payload)),
            _ => {}
        }
        self.codecs.inflater = Some(inflater);
    }

    /// How long until the next message of an active connection is within its rate, if it is not now.
    fn message_wait(&self, now: Now, id: ConnId) -> Option<Duration> {
        let conn = self.conn(id).filter(|conn| conn.session == Session::Active)?;
        let mut copy = conn.allowance;
        copy.take(self.started, now.mono, &self.config.limits).err()
    }

    /// A round once more, compressed, if its channel is one of those that are and a message gains by it.
    pub(crate) fn deflate_round(
        &mut self,
        channel: &str,
        plain: &Segment,
    ) -> Option<Box<Deflated>> {
        if !self.config.deflate.covers(channel) {
            return None;
        }
        Deflated::of(self.codecs.deflater(&self.config.deflate), plain)
    }

    /// Queues what is in `self.scratch` for a connection with permessage-deflate.
    pub(crate) fn send_scratch_deflated(&mut self, id: ConnId) {
        let deflater = self.codecs.deflater(&self.config.deflate);
        if let Some(conn) = self.conns.get_mut(id.index) {
            conn.ws.send_text_deflated(deflater, &self.scratch);
        }
    }

    /// Adds up what was done since the last turn.
    pub(crate) fn tally_deflate(&mut self) {
        if let Some(deflater) = &mut self.codecs.deflater {
            let work = deflater.take_work();
            #[cfg(test)]
            {
                self.codecs.compressed += work.messages;
            }
            self.tally.deflated.add(work);
        }
        if let Some(inflater) = &mut self.codecs.inflater {
            self.tally.inflated.add(inflater.take_work());
        }
    }

    /// A new configuration may have another level: the next message is compressed by a new compressor.
    pub(crate) fn reset_deflate(&mut self) {
        self.tally_deflate();
        self.codecs.deflater = None;
    }
}
