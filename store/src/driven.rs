//! The store under the driver.

use std::time::Duration;

use mahavishnu_core::hub::StoreCommand;
use mahavishnu_driver::StoreFailed;

use crate::{Fsync, Store};

impl mahavishnu_driver::Store for Store {
    fn commit(&mut self, commands: &[StoreCommand]) -> Result<(), StoreFailed> {
        Ok(Self::commit(self, commands)?)
    }

    fn sync_every(&self) -> Option<Duration> {
        match self.fsync() {
            Fsync::EverySec => Some(Duration::from_secs(1)),
            Fsync::Always | Fsync::No => None,
        }
    }

    fn sync(&mut self) -> Result<(), StoreFailed> {
        Ok(Self::sync(self)?)
    }

    fn close(self: Box<Self>) -> Result<(), StoreFailed> {
        Ok(Self::close(*self)?)
    }
}
