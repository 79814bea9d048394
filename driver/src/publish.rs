//! What an application publishes with more than a message.

use mahavishnu_core::{
    hub::{Publication, PublicationOptions, Published},
    protocol::{Condition, Position},
};
use serde::Serialize;

use crate::{Handle, handle::BroadcastError, mailbox::Mail};

/// An event on its way to a channel, with what it carries besides: see [`Handle::publish`].
///
/// ```no_run
/// # async fn example(handle: mahavishnu_driver::Handle) -> Result<(), Box<dyn std::error::Error>> {
/// use mahavishnu_driver::Publish;
/// use serde_json::json;
///
/// let seen = handle.state("workflow:42").await?;
/// let step = Publish::new("workflow:42", "workflow.step", &json!({ "step": 3 }))?
///     .state(&json!({ "status": "running", "step": 3 }))?
///     .if_offset(seen.offset)
///     .idempotency_key("workflow:42/step/3");
/// let published = handle.publish(step).await?;
/// println!("now at {:?}", published.position());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Publish {
    publication: Publication,
    options: PublicationOptions,
}

impl Publish {
    /// An event for a channel, with data that serialises to a JSON object.
    ///
    /// # Errors
    ///
    /// [`BroadcastError::NotAnObject`].
    pub fn new(
        channel: &str,
        event: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<Self, BroadcastError> {
        let publication = Publication::new(channel, event, object(data)?);
        Ok(Self { publication, options: PublicationOptions::default() })
    }

    /// The channel's document from now on. It serialises to a JSON object of at most
    /// [`state_bytes_max`](mahavishnu_core::limits::History::state_bytes_max).
    ///
    /// # Errors
    ///
    /// [`BroadcastError::NotAnObject`].
    pub fn state(mut self, state: &(impl Serialize + ?Sized)) -> Result<Self, BroadcastError> {
        self.options.state = Some(object(state)?.into());
        Ok(self)
    }

    /// Only if the channel's document is the one that came with the message of this number; 0: only if it has none.
    pub fn if_offset(mut self, offset: u64) -> Self {
        self.options.condition = Some(Condition { offset, epoch: None });
        self
    }

    /// Only if the channel's document is the one of this position: an epoch that has passed does not fit either.
    pub fn if_at(mut self, position: Position) -> Self {
        let Position { epoch, offset } = position;
        self.options.condition = Some(Condition { offset, epoch: Some(epoch) });
        self
    }

    /// The same under the same key, of 1 to 256 bytes, is published once, and answered alike from then on. Clients' keys are
    /// others.
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.options.idempotency_key = Some(key.into());
        self
    }
}

impl Handle {
    /// Publishes with what [`Publish`] carries; otherwise as [`broadcast`](Self::broadcast). [`Published::position`] says
    /// where in the channel the message stands.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`]; nobody got it then. [`Refused`](BroadcastError::Refused) with
    /// [`StateConflict`](mahavishnu_core::reason::Reason::StateConflict) says that the document is another one by now,
    /// with `KeyReused` that the key was used for something else, with `KeyInUse` that its first use is still under way.
    pub async fn publish(&self, publish: Publish) -> Result<Published, BroadcastError> {
        let Publish { publication, options } = publish;
        let options = (options != PublicationOptions::default()).then(|| Box::new(options));
        let publication = Publication { options, ..publication };
        let home = self.placement.home(&publication.channel);
        let outcome = self.ask(home, |answer| Mail::Broadcast(publication, answer)).await;
        outcome.ok_or(BroadcastError::Stopped)?.map_err(BroadcastError::Refused)
    }
}

/// The JSON of something that is an object.
pub(crate) fn object(data: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, BroadcastError> {
    let json = serde_json::to_vec(data).map_err(|_| BroadcastError::NotAnObject)?;
    if json.first() == Some(&b'{') { Ok(json) } else { Err(BroadcastError::NotAnObject) }
}
