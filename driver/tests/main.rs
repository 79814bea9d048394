//! A server and its poller over real sockets, on every runtime: `tokio::…`, `smol::…`, `own::…`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "helpers fail a test as tests do; clippy exempts only functions marked as tests"
)]

mod on_each {
    pub(crate) mod adopt;
    pub(crate) mod handlers;
    pub(crate) mod identity;
    pub(crate) mod poller;
    pub(crate) mod redis;
    pub(crate) mod server;
    pub(crate) mod store;
}
#[path = "../examples/own_runtime/own.rs"]
mod own_runtime;

use std::{io, sync::LazyLock};

use mahavishnu_driver::{Handle, Runtime, Server};
use mahavishnu_smol::Smol;
use mahavishnu_tokio::Tokio;
use own_runtime::Own;

/// A runtime, as an application waits on it.
trait Host: Runtime {
    /// While one of the application's tasks blocks its thread, others run.
    const HAS_THREADS: bool;

    /// What an application waits for, it may wait for on any thread.
    fn block_on<T>(future: impl Future<Output = T> + Send) -> T;

    /// What a handler does to have something done beside it.
    fn spawn_here(task: impl Future<Output = ()> + Send + 'static);
}

impl Host for Tokio {
    const HAS_THREADS: bool = true;

    fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
        static RUNTIME: LazyLock<::tokio::runtime::Runtime> = LazyLock::new(|| {
            let mut builder = ::tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build().unwrap()
        });
        RUNTIME.block_on(future)
    }

    fn spawn_here(task: impl Future<Output = ()> + Send + 'static) {
        ::tokio::spawn(task);
    }
}

/// tokio's runtime of one thread, as programs that do little besides have it.
#[derive(Clone, Debug)]
struct OneThread(Tokio);

impl Runtime for OneThread {
    type Waiter = <Tokio as Runtime>::Waiter;

    fn current() -> io::Result<Self> {
        Tokio::current().map(Self)
    }

    fn run<T>(shard: impl Future<Output = T>) -> io::Result<T> {
        Tokio::run(shard)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    fn within<T>(&self, call: impl FnOnce() -> T) -> T {
        self.0.within(call)
    }
}

impl Host for OneThread {
    const HAS_THREADS: bool = false;

    fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
        static RUNTIME: LazyLock<::tokio::runtime::Handle> = LazyLock::new(|| {
            let mut builder = ::tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().unwrap();
            let handle = runtime.handle().clone();
            std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
            handle
        });
        RUNTIME.block_on(future)
    }

    fn spawn_here(task: impl Future<Output = ()> + Send + 'static) {
        ::tokio::spawn(task);
    }
}

impl Host for Smol {
    const HAS_THREADS: bool = false;

    fn spawn_here(task: impl Future<Output = ()> + Send + 'static) {
        ::smol::spawn(task).detach();
    }

    fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
        ::smol::block_on(future)
    }
}

impl Host for Own {
    const HAS_THREADS: bool = true;

    fn spawn_here(task: impl Future<Output = ()> + Send + 'static) {
        Self.spawn(task);
    }

    fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
        Self::run(future).unwrap()
    }
}

macro_rules! on_each {
    ($($module:ident { $($body:ident,)* })*) => {
        on_each!(@on tokio Tokio $($($module::$body,)*)*);
        on_each!(@on smol Smol $($($module::$body,)*)*);
        on_each!(@on own Own $($($module::$body,)*)*);
        on_each!(@on tokio_of_one_thread OneThread $($($module::$body,)*)*);
    };
    (@on $name:ident $runtime:ident $($module:ident::$body:ident,)*) => {
        mod $name {
            $(#[test] fn $body() { crate::on_each::$module::$body::<crate::$runtime>(); })*
        }
    };
}

on_each! {
    adopt {
        a_request_of_a_router_becomes_a_connection,
        what_came_behind_the_request_is_not_lost,
        a_request_that_is_refused_leaves_nothing,
        a_connection_whose_socket_never_comes_ends,
        a_server_that_takes_nobody_says_so,
        a_socket_is_taken_over_from_who_has_read_a_part,
        clients_come_by_a_unix_socket,
    }
    handlers {
        a_handler_that_panics_fails_its_request_alone,
        a_decision_that_panics_is_no_decision,
        one_who_only_listens_may_panic,
        a_handler_that_blocks_holds_up_no_shard,
        what_a_handler_spawns_does_not_run_on_a_shard,
        of_one_connection_the_application_hears_in_order,
        what_the_application_is_not_done_with_is_bounded,
        stopping_waits_until_the_application_has_heard,
        what_handlers_hold_is_not_dropped_on_a_shard,
        data_without_a_value_is_refused,
        a_server_ends_as_a_whole_and_says_so,
        a_server_runs_until_it_is_told,
        a_recorder_that_panics_ends_no_shard,
        numbers_that_panic_are_asked_for_again,
    }
    identity {
        every_handler_meets_the_same_connection,
        who_hears_of_subscriptions_meets_the_connection,
        what_is_kept_with_a_connection_is_not_dropped_on_a_shard,
        handlers_broadcast_to_the_shards_that_wait_for_them,
        what_cannot_be_kept_is_said_at_the_start,
        a_recorder_may_be_installed_after_the_start,
        an_answer_that_is_no_object_is_told_to_the_developer,
    }
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
        a_socket_tells_when_it_is_connected,
        a_socket_tells_why_it_is_not_connected,
        a_socket_that_has_found_itself_is_refused,
        newcomers_are_announced_once,
    }
    redis {
        every_shard_has_a_connection_to_redis_and_ends_it,
        a_connection_to_redis_is_made_anew_whenever_it_ends,
        a_server_starts_before_its_redis,
        a_new_password_of_redis_is_taken_without_a_restart,
        a_server_with_redis_has_no_store,
    }
    server {
        broadcasts_reach_the_subscribers_in_order,
        documents_are_published_compared_and_read,
        who_is_in_a_channel_is_told_whole,
        the_application_answers_and_decides,
        the_application_hears_of_clients_and_ends_them,
        a_plain_handler_speaks_without_waiting,
        a_revocation_ends_its_connections_on_all_shards,
        a_full_socket_is_written_to_when_it_has_room,
        messages_longer_than_the_scratch_arrive,
        stopping_closes_every_socket,
        a_message_is_written_in_the_turn_in_which_it_came,
        a_flood_does_not_keep_others_from_being_served,
        a_recorded_server_can_be_replayed,
    }
    store {
        a_store_that_fails_refuses_publishers_and_is_tried_again,
        a_store_that_stalls_is_told_of_a_session_as_it_is_then,
        what_is_kept_is_there_in_the_next_server,
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
    let error = outside.map(drop).unwrap_err().to_string();
    assert!(error.contains("within a tokio runtime"), "{error}");
}

/// A request that a runtime does not run any more is not waited for.
#[test]
fn an_application_that_is_over_is_answered_for() {
    let runtime = ::tokio::runtime::Runtime::new().unwrap();
    let builder = Server::<Tokio>::builder()
        .listen("127.0.0.1:0")
        .on_request("ask", |_| std::future::pending())
        .on_connect(|_| {});
    let server = runtime.block_on(builder.start()).unwrap();
    let mut client = on_each::server::Client::connect(server.local_addr().unwrap());
    client.send("ask", &serde_json::json!({}));
    client.ping();
    runtime.shutdown_background();
    // What was under way, and what comes.
    assert_eq!(client.next()["error_message"], "The request failed");
    let late = client.request("ask", &serde_json::json!({}));
    assert_eq!(late["error_message"], "The request failed");
    assert_eq!(Own::block_on(server.stop_with(on_each::server::AT_ONCE)), Ok(()));
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
        for stopped in [tokio.stop().await, smol.stop().await, own.stop().await] {
            assert_eq!(stopped, Ok(()));
        }
    });
}
