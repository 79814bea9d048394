//! The turn of whoever drives a hub by hand.

use mahavishnu_core::{
    hub::{ConnId, Hub, Output},
    time::Now,
};

/// One turn as the contract of `mahavishnu_core` has it: every output is carried out, every connection that has something
/// is flushed, and the turn ends. Inputs come before it, the timer after it.
///
/// `hub` finds the hub in its driver; `output` carries out what it wants, `flush` flushes a connection.
pub fn turn<D>(
    driver: &mut D,
    now: Now,
    hub: impl Fn(&mut D) -> &mut Hub,
    mut output: impl FnMut(&mut D, Output),
    mut flush: impl FnMut(&mut D, ConnId),
) {
    loop {
        while let Some(wanted) = hub(driver).poll_output(now) {
            output(driver, wanted);
        }
        let Some(conn) = hub(driver).poll_dirty() else { break };
        flush(driver, conn);
    }
    hub(driver).end_turn(now);
}
