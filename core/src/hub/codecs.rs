//! Compression in the hub: one compressor and one decompressor for all its connections, made when first needed.

use crate::{
    config::DeflateConfig,
    metrics::Tally,
    ws::{Deflated, Deflater, Inflater, Segment},
};

/// What compresses and decompresses. Empty on a hub that never met permessage-deflate.
#[derive(Debug, Default)]
pub(super) struct Codecs {
    deflater: Option<Box<Deflater>>,
    inflater: Option<Box<Inflater>>,
    /// Messages compressed, over the hub's life.
    #[cfg(test)]
    pub(super) compressed: u64,
}

impl Codecs {
    pub(super) fn deflater(&mut self, config: &DeflateConfig) -> &mut Deflater {
        self.deflater
            .get_or_insert_with(|| Box::new(Deflater::new(config.level, config.threshold_bytes)))
    }

    /// Takes the decompressor out of its place for the time in which a message, which lies in it, is being dealt with.
    pub(super) fn take_inflater(&mut self) -> Box<Inflater> {
        self.inflater.take().unwrap_or_default()
    }

    pub(super) fn put_inflater(&mut self, inflater: Box<Inflater>) {
        self.inflater = Some(inflater);
    }

    /// A round once more, compressed, if its channel is one of those that are and a message gains by it.
    pub(super) fn deflate_round(
        &mut self,
        config: &DeflateConfig,
        channel: &str,
        plain: &Segment,
    ) -> Option<Box<Deflated>> {
        if !config.covers(channel) {
            return None;
        }
        Deflated::of(self.deflater(config), plain)
    }

    /// Adds up what was done since the last time.
    pub(super) fn tally(&mut self, tally: &mut Tally) {
        if let Some(deflater) = &mut self.deflater {
            let work = deflater.take_work();
            #[cfg(test)]
            {
                self.compressed += work.messages;
            }
            tally.deflated.add(work);
        }
        if let Some(inflater) = &mut self.inflater {
            tally.inflated.add(inflater.take_work());
        }
    }

    /// The next message is compressed by a new compressor.
    pub(super) fn reset(&mut self) {
        self.deflater = None;
    }
}
