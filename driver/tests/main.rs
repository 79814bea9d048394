//! A server and its poller over real sockets, on every runtime: `tokio::…`, `smol::…`, `own::…`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "helpers fail a test as tests do; clippy exempts only functions marked as tests"
)]

mod on_each {
    pub(crate) mod poller;
    pub(crate) mod server;
}
#[path = "../examples/own_runtime/own.rs"]
mod own_runtime;

use std::sync::LazyLock;

use mahavishnu_driver::{Handle, Runtime, Server};
use mahavishnu_smol::Smol;
use mahavishnu_tokio::Tokio;
use own_runtime::Own;

/// A runtime, as an application waits on it.
trait Host: Runtime {
    /// What an application waits for, it may wait for on any thread.
    fn block_on<T>(future: impl Future<Output = T> + Send) -> T;
}

impl Host for Tokio {
    fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
        static RUNTIME: LazyLock<::tokio::runtime::Runtime> =
            LazyLock::new(|| ::tokio::runtime::Runtime::new().unwrap());
        RUNTIME.block_on(future)
    }
}

impl Host for Smol {
    fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
        ::smol::block_on(future)
    }
}

impl Host for Own {
    fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
        Self::run(future).unwrap()
    }
}

macro_rules! on_each {
    ($($module:ident { $($body:ident,)* })*) => {
        on_each!(@on tokio Tokio $($($module::$body,)*)*);
        on_each!(@on smol Smol $($($module::$body,)*)*);
        on_each!(@on own Own $($($module::$body,)*)*);
    };
    (@on $name:ident $runtime:ident $($module:ident::$body:ident,)*) => {
        mod $name {
            $(#[test] fn $body() { crate::on_each::$module::$body::<crate::$runtime>(); })*
        }
    };
}

on_each! {
    poller {
        an_end_that_came_with_data_is_read,
        an_end_is_told_once,
        an_end_behind_data_that_fills_the_buffer_is_read,
        a_reset_is_a_failure,
        one_with_much_stands_behind_the_others_after_each_read,
        what_comes_during_a_pause_is_read_after_it,
        what_was_left_before_a_pause_is_read_after_it,
        a_blocked_socket_is_told_when_it_has_room,
        every_arrival_is_announced,
        a_wait_that_is_given_up_loses_nothing,
        an_index_is_free_again_after_its_socket,
        newcomers_are_announced_once,
    }
    server {
        broadcasts_reach_the_subscribers_in_order,
        the_application_answers_and_decides,
        the_application_hears_of_clients_and_ends_them,
        a_revocation_ends_its_connections_on_all_shards,
        a_full_socket_is_written_to_when_it_has_room,
        messages_longer_than_the_scratch_arrive,
        stopping_closes_every_socket,
        the_end_of_a_shard_is_told_and_not_waited_for_again,
        a_message_is_written_in_the_turn_in_which_it_came,
        a_flood_does_not_keep_others_from_being_served,
        a_recorded_server_can_be_replayed,
    }
}

/// smol allocates two lists for a wait, in the reactor that all threads share: what a thread's waits cost is nothing that
/// can be counted there.
#[test]
fn waiting_allocates_nothing() {
    assert_eq!(on_each::poller::allocations_of_100_waits::<Tokio>(), 0);
    assert_eq!(on_each::poller::allocations_of_100_waits::<Own>(), 0);
}

#[test]
fn a_runtime_that_has_to_be_entered_first_says_so() {
    let outside = Own::run(Server::<Tokio>::builder().start()).unwrap();
    assert!(outside.is_err());
}

#[test]
fn handles_are_alike_whatever_the_runtime_and_the_executor() {
    fn start<R: Host>() -> Server<R> {
        R::block_on(Server::builder().listen("127.0.0.1:0").start()).unwrap()
    }
    let (tokio, smol, own) = (start::<Tokio>(), start::<Smol>(), start::<Own>());
    let handles: [Handle; 3] = [tokio.handle(), smol.handle(), own.handle()];
    Own::block_on(async move {
        for handle in handles {
            let published = handle.broadcast("a", "e", &serde_json::json!({})).await;
            assert_eq!(published.map(|published| published.subscribers), Ok(0));
        }
        tokio.stop().await;
        smol.stop().await;
        own.stop().await;
    });
}
