//! Handlers that hear of who subscribes.

use std::sync::Arc;

use mahavishnu_core::hub::Leave;

use crate::{Builder, Connected, Runtime};

impl<R: Runtime> Builder<R> {
    /// Hears of connections that become subscribers of a channel, in whatever way: by their clients' will, by a session that
    /// is resumed, by [`Handle::subscribe`](crate::Handle::subscribe). Of one connection and channel it and
    /// [`on_unsubscribe`](Self::on_unsubscribe) are called in turns. It does not decide:
    /// [`authorize_subscribe`](Self::authorize_subscribe) does. While the application is not done with
    /// [`handlers_bytes_max`](mahavishnu_core::limits::Requests::handlers_bytes_max) nobody becomes a subscriber, but is
    /// refused with [`Busy`](mahavishnu_core::reason::Reason::Busy). Default: nothing is told, which costs nothing.
    ///
    /// ```no_run
    /// # use mahavishnu_driver::{Runtime, Server};
    /// # fn example<R: Runtime>() {
    /// let builder = Server::<R>::builder()
    ///     .on_subscribe(|connected, channel| println!("{:?} came to {channel}", connected.user()))
    ///     .on_unsubscribe(|connected, channel, why| {
    ///         println!("{:?} left {channel}: {why:?}", connected.user());
    ///     });
    /// # drop(builder);
    /// # }
    /// ```
    pub fn on_subscribe(
        mut self,
        handler: impl Fn(Connected, &str) + Send + Sync + 'static,
    ) -> Self {
        self.handlers.subscribed = Some(Arc::new(handler));
        self
    }

    /// Hears of connections that are no subscribers of a channel any more, and why. Of all channels of a connection that
    /// ends it has heard before `on_disconnect`. Default: nothing.
    pub fn on_unsubscribe(
        mut self,
        handler: impl Fn(Connected, &str, Leave) + Send + Sync + 'static,
    ) -> Self {
        self.handlers.unsubscribed = Some(Arc::new(handler));
        self
    }
}
