//! One list of test bodies, run against every driver of the core: `tokio::…`, `smol::…`, `own::…`, `sim::…`,
//! `program::…`.
//!
//! A body sees a `Backend` and nothing of what is behind it. The second list has one body for each reason of the core's
//! table, named in [`reasons::EXCUSED`] if no peer can provoke it.

mod bodies;
mod not_applicable;
mod reasons;

use mahavishnu_core::reason::Reason;

macro_rules! conformance {
    (bodies { $($module:ident: $($body:ident,)*;)* } reasons { $($reason:ident: $place:ident::$test:ident;)* }) => {
        conformance!(@on tokio Tokio { $($($module::$body,)*)* } { $($reason: $place::$test;)* });
        conformance!(@on smol Smol { $($($module::$body,)*)* } { $($reason: $place::$test;)* });
        conformance!(@on own Own { $($($module::$body,)*)* } { $($reason: $place::$test;)* });
        conformance!(@on sim Sim { $($($module::$body,)*)* } { $($reason: $place::$test;)* });
        conformance!(@program { $($($module::$body,)*)* } { $($reason: $place::$test;)* });

        /// Reasons with a body.
        const PROVOKED: &[Reason] = &[$(Reason::$reason,)*];
    };
    (@program { $($module:ident::$body:ident,)* } { $($reason:ident: $place:ident::$test:ident;)* }) => {
        mod program {
            use mahavishnu_conformance::Backend::Program;

            /// Every body and every reason, by name.
            pub(crate) const BODIES: &[&str] = &[$(stringify!($body),)*];
            pub(crate) const REASONS: &[&str] = &[$(stringify!($test),)*];

            $(#[test] fn $body() {
                crate::not_applicable::watched(stringify!($body), || crate::bodies::$module::$body(Program));
            })*

            mod reason {
                use mahavishnu_core::reason::Reason;
                use super::Program;

                $(#[test] fn $test() {
                    crate::not_applicable::watched(stringify!($test), || {
                        crate::reasons::$place::$test(Program, Reason::$reason)
                    });
                })*
            }
        }
    };
    (@on $name:ident $backend:ident { $($module:ident::$body:ident,)* } { $($reason:ident: $place:ident::$test:ident;)* }) => {
        mod $name {
            use mahavishnu_conformance::{Backend, watched};

            $(#[test] fn $body() { watched(|| crate::bodies::$module::$body(Backend::$backend)); })*

            mod reason {
                use mahavishnu_core::reason::Reason;
                use super::{Backend, watched};

                $(#[test] fn $test() {
                    watched(|| crate::reasons::$place::$test(Backend::$backend, Reason::$reason));
                })*
            }
        }
    };
}

conformance! {
    bodies {
        handshake:
            a_good_handshake_is_accepted_and_welcomed,
            the_example_of_the_rfc_is_answered_as_there,
            any_path_is_a_way_in,
            a_subprotocol_that_carries_no_token_is_not_agreed_on,
            handshakes_that_break_a_rule_are_refused,
            a_plain_get_is_told_to_upgrade,
            bytes_behind_the_handshake_are_read,
            two_handshakes_do_not_share_an_id,
        ;
        auth:
            a_token_in_the_first_message_is_answered_then_welcomed,
            a_token_in_the_header_is_welcomed_at_once,
            a_token_in_the_query_is_welcomed_at_once,
            a_token_as_a_subprotocol_is_welcomed_and_agreed_on,
            bad_tokens_in_the_header_are_refused_with_401,
            bad_tokens_in_the_first_message_are_told_why_and_closed,
            silence_is_closed_after_the_auth_timeout,
            pings_are_answered_before_authentication_up_to_a_limit,
            permissions_decide_who_may_subscribe_and_publish,
            a_token_is_refreshed_for_the_same_user_only,
            a_token_that_has_expired_lets_nobody_in,
        ;
        application:
            a_message_for_one_connection_reaches_it_alone_and_in_order,
            a_message_for_a_user_reaches_all_of_its_connections,
            who_has_no_room_for_a_message_is_told_of,
            the_application_puts_connections_into_channels,
            a_grant_holds_whatever_the_token_permits,
            the_application_hears_of_every_subscription,
            the_application_ends_connections_in_its_own_words,
            all_connections_of_a_user_are_ended,
            connections_and_channels_are_listed_over_all_shards,
            a_broadcast_need_not_be_waited_for,
        ;
        authenticate:
            the_application_says_whose_a_handshake_is,
            an_application_that_says_nothing_leaves_it_to_tokens,
            what_is_sent_before_it_is_known_whose_it_is_waits,
            an_application_that_cannot_say_is_asked_again_later,
            a_refusal_is_a_status_or_a_close,
            the_application_says_whose_a_request_over_http_is,
            who_leaves_before_it_is_known_whose_it_is_leaves_nothing,
            a_server_that_stops_lets_nobody_in_who_was_asked_about,
        ;
        ways:
            clients_come_by_a_unix_socket,
            sockets_are_handed_over_to_the_server,
        ;
        messages:
            every_message_has_the_nine_fields_in_their_order,
            a_subscription_is_confirmed_and_delivers_until_it_ends,
            subscribe_is_also_a_type_of_its_own,
            an_event_can_subscribe_and_is_confirmed_by_an_ack,
            a_ping_is_answered_and_correlated,
            a_publish_reaches_subscribers_and_says_how_many,
            types_that_only_servers_send_are_ignored,
            what_is_no_message_is_refused_and_the_connection_stays,
            binary_frames_are_messages_too,
            a_message_in_fragments_is_one_message,
            a_ping_frame_is_answered_with_its_payload,
            broadcasts_come_in_order_to_everyone,
            answers_are_correlated_by_either_id,
            offsets_number_the_messages_of_a_channel,
            the_application_answers_requests,
            the_application_decides_on_subscriptions,
            the_application_decides_on_publishes,
            a_reload_changes_what_holds,
        ;
        positions:
            who_asks_is_told_where_the_channel_stands,
            every_way_to_subscribe_takes_a_wish,
            events_carry_their_offset_to_those_who_asked,
            numbers_go_on_while_nobody_subscribes,
            numbers_begin_with_the_first_publish,
            channels_are_numbered_apart,
            where_nothing_is_kept_one_is_told_so,
            a_subscriber_may_ask_for_positions_later,
            a_wish_that_cannot_be_read_is_refused,
            numbers_end_with_their_epoch,
            a_gap_says_where_to_go_on,
        ;
        recovery:
            what_was_missed_comes_before_what_is_new,
            who_unsubscribed_recovers_too,
            a_subscriber_may_recover_without_leaving,
            every_position_is_recovered_from,
            an_empty_channel_is_recovered,
            recovered_events_are_those_that_were_delivered,
            another_epoch_is_not_recovered,
            what_is_no_longer_kept_is_not_recovered,
            a_channel_keeps_only_so_many_bytes,
            all_channels_keep_only_so_many_bytes,
            what_is_too_old_is_not_recovered,
            a_position_ahead_is_not_recovered,
            another_event_at_that_place_is_not_recovered,
            too_much_at_once_is_not_recovered,
            where_nothing_is_kept_nothing_is_recovered,
            who_is_not_recovered_subscribes_from_now_on,
            strict_refuses_what_is_not_recovered,
            recovering_needs_the_permission_to_subscribe,
            rewind_sends_the_last_events_first,
            rewind_is_for_those_who_do_not_recover,
            a_rule_rewinds_for_clients_that_cannot_ask,
        ;
        catch_up:
            much_is_recovered_in_pages_while_more_is_published,
            leaving_in_the_middle_ends_it,
            several_channels_recover_at_once,
            what_is_withdrawn_in_the_middle_ends_without_a_hole,
            a_drain_in_the_middle_leaves_no_hole,
            a_reload_in_the_middle_takes_nothing_back,
            who_is_gone_in_the_middle_leaves_nothing,
            many_come_back_at_once,
            a_slow_reader_comes_back_and_has_missed_nothing,
        ;
        history:
            the_last_events_are_read_without_a_subscription,
            events_are_read_as_they_were_delivered,
            a_log_is_read_forwards_page_by_page,
            a_log_is_read_backwards_page_by_page,
            a_limit_of_zero_says_where_a_channel_stands,
            what_is_no_longer_kept_is_left_out,
            old_events_are_not_read,
            a_position_of_another_epoch_is_refused,
            where_nothing_is_kept_nothing_is_read,
            a_page_of_history_is_bounded,
            reading_needs_the_permission_to_subscribe,
            requests_for_history_that_cannot_be_read_are_refused,
            an_application_may_answer_for_the_server,
            every_shard_reads_the_same_log,
        ;
        publish_options:
            a_key_publishes_once_over_either_way,
            a_key_is_its_owners_and_its_messages,
            a_publisher_is_told_where_its_message_stands,
            members_of_other_types_publish_nothing,
        ;
        state:
            a_document_is_kept_with_its_message,
            a_document_is_replaced_only_by_who_knows_it,
            a_batch_hangs_on_its_first_message,
            a_document_needs_no_history_and_no_subscribers,
            a_document_is_read_by_who_may_subscribe,
            get_state_without_a_channel_is_somebody_elses,
            requests_for_a_status_are_answered_from_documents,
            events_make_documents_and_documents_answer,
        ;
        session_buddy:
            session_buddys_clients_are_spoken_to_in_their_way,
            session_buddys_clients_send_a_token_first,
        ;
        shards:
            a_broadcast_reaches_subscribers_of_every_shard,
            connections_are_counted_over_all_shards,
            connections_of_an_address_are_counted_over_all_shards,
        ;
        sessions:
            a_session_outlives_its_connection,
            the_connection_that_had_the_session_is_closed,
            many_sessions_are_resumed_at_once,
            a_session_waits_no_longer_than_its_window,
            a_session_ends_with_a_client_that_says_goodbye,
            a_session_is_its_users_and_permissions_are_judged_anew,
            the_application_decides_again_on_a_session,
            the_application_ends_the_sessions_of_a_user,
        ;
        http:
            health_tells_of_connections,
            ready_tells_whether_there_is_room,
            metrics_are_on_their_own_port,
            a_publish_by_http_reaches_subscribers,
            a_batch_is_published_all_or_nothing,
            an_idempotency_key_publishes_once,
            publishing_by_http_needs_a_token_where_tokens_are_demanded,
            requests_in_a_row_are_answered_in_a_row,
            head_is_answered_without_a_body,
            a_body_may_be_announced,
            a_body_may_come_in_chunks,
            requests_sent_ahead_wait_until_answers_are_read,
        ;
        reads:
            history_is_read_over_http_as_by_message,
            pages_over_http_to_either_end_are_the_whole,
            who_may_not_subscribe_may_not_read_over_http,
            the_application_decides_on_reading,
            questions_over_http_that_make_no_sense_are_refused,
            history_is_only_read,
            pages_that_may_not_connect_may_not_read,
            without_history_there_is_none_to_read,
        ;
        slow:
            slow_reader_is_disconnected,
            a_client_that_never_reads_again_does_not_keep_its_socket,
            slow_reader_gets_gap,
            slow_reader_gets_latest,
            the_policy_is_chosen_by_channel,
            a_slow_reader_does_not_hold_up_the_others,
            a_client_that_does_not_read_its_answers_is_not_read,
        ;
        presence:
            members_hear_who_comes_and_goes,
            a_member_that_is_cut_off_is_lost,
            who_only_watches_is_no_member,
            who_did_not_ask_for_presence_hears_nothing_of_it,
            a_member_may_say_something_else_of_itself,
            who_watches_can_keep_the_list,
            presence_is_the_same_on_every_shard,
            too_many_changes_are_told_by_their_number,
            a_long_list_comes_in_several_answers,
        ;
        drain:
            a_drain_closes_everyone_with_1001,
            what_was_published_comes_before_the_close,
            a_drain_in_a_window_closes_one_after_the_other,
            a_drain_gives_notice_first,
            a_drain_ends_at_its_deadline,
            a_draining_server_takes_no_connections,
            a_drain_lets_answers_that_are_due_go_out,
        ;
        limits:
            a_message_may_be_as_long_as_the_limit,
            a_message_over_the_limit_is_refused_at_its_header,
            fragments_are_counted_together,
            channels_per_connection_are_limited,
            channels_of_the_server_are_limited,
            a_name_may_be_as_long_as_the_limit,
            the_message_rate_is_limited_and_says_when_to_try_again,
            connections_are_limited_and_room_is_given_back,
            connections_that_wait_for_authentication_take_room,
            new_connections_per_minute_are_limited,
            sockets_are_limited,
            the_batch_of_a_publish_is_limited,
            a_broadcast_larger_than_the_outbox_is_not_delivered,
        ;
        timeouts:
            a_silent_client_is_pinged,
            an_answered_ping_keeps_the_connection,
            a_pong_timeout_ends_the_connection,
            a_close_that_is_not_answered_ends_the_connection,
            a_client_that_does_not_end_its_stream_is_dropped,
            an_idle_connection_is_closed,
            a_head_that_does_not_end_is_refused,
            a_socket_that_says_nothing_is_closed_silently,
            a_kept_connection_is_closed_when_it_is_idle,
            a_body_that_does_not_come_is_refused,
            deadlines_do_not_make_the_server_spin,
        ;
        tls:
            messages_come_and_go_within_tls,
            large_messages_arrive_whole_within_tls,
            http_is_answered_within_tls,
        ;
        transport:
            a_half_close_after_a_close_frame_is_in_order,
            a_half_close_without_a_close_frame_ends_the_connection,
            a_half_close_behind_a_request_still_gets_its_answer,
            a_reset_frees_everything,
            a_reset_before_the_handshake_frees_the_socket,
            bytes_may_come_one_at_a_time,
            http_may_come_one_byte_at_a_time,
            many_messages_may_come_at_once,
            large_messages_arrive_whole_through_a_narrow_socket,
            nothing_comes_after_a_close_frame,
        ;
    }
    reasons {
        PeerClosed: ends::peer_closed;
        Disconnected: ends::disconnected;
        Shutdown: ends::shutdown;
        ResumedElsewhere: ends::resumed_elsewhere;
        HttpDone: requests::http_done;
        Eof: ends::eof;
        Io: ends::io;
        SendFailed: ends::send_failed;
        EofInHead: requests::eof_in_head;
        Unmasked: frames::unmasked;
        ReservedBits: frames::reserved_bits;
        ReservedOpcode: frames::reserved_opcode;
        BadLength: frames::bad_length;
        FragmentedControl: frames::fragmented_control;
        LongControl: frames::long_control;
        UnexpectedContinuation: frames::unexpected_continuation;
        ExpectedContinuation: frames::expected_continuation;
        BadClose: frames::bad_close;
        BadUtf8: frames::bad_utf8;
        MessageTooBig: frames::message_too_big;
        TooManyFragments: frames::too_many_fragments;
        ControlFlood: frames::control_flood;
        PongTimeout: time::pong_timeout;
        IdleTimeout: time::idle_timeout;
        CloseTimeout: time::close_timeout;
        HeadTimeout: time::head_timeout;
        KeepAliveTimeout: time::keep_alive_timeout;
        AuthTimeout: time::auth_timeout;
        GatewayTimeout: time::gateway_timeout;
        TlsHandshake: tls::tls_handshake;
        TlsRecord: tls::tls_record;
        TlsHandshakesMax: tls::tls_handshakes_max;
        TlsHandshakeRate: tls::tls_handshake_rate;
        TlsRequired: tls::tls_required;
        TlsOnly: tls::tls_only;
        BadRequest: requests::bad_request;
        BadHandshake: requests::bad_handshake;
        HeadTooLarge: requests::head_too_large;
        UriTooLong: requests::uri_too_long;
        TransferCoding: requests::transfer_coding;
        NotFound: requests::not_found;
        MethodNotAllowed: requests::method_not_allowed;
        UpgradeRequired: requests::upgrade_required;
        BadVersion: requests::bad_version;
        HttpVersion: requests::http_version;
        LengthRequired: requests::length_required;
        InflateRatio: frames::inflate_ratio;
        BadDeflate: frames::bad_deflate;
        BodyTooLarge: requests::body_too_large;
        NotJson: requests::not_json;
        BadPublish: requests::bad_publish;
        KeyReused: requests::key_reused;
        KeyInUse: requests::key_in_use;
        StateConflict: requests::state_conflict;
        StateTooBig: requests::state_too_big;
        MaxConnections: capacity::max_connections;
        ConnectRate: capacity::connect_rate;
        MadeRoom: capacity::made_room;
        MaxSockets: capacity::max_sockets;
        AddressConnections: capacity::address_connections;
        UserConnections: capacity::user_connections;
        BadProxyHeader: requests::bad_proxy_header;
        SlowReader: capacity::slow_reader;
        OutboxesFull: capacity::outboxes_full;
        InputFull: capacity::input_full;
        ChannelsFull: capacity::channels_full;
        ChannelsShare: capacity::channels_share;
        TooManyChannels: capacity::too_many_channels;
        RequestsInFlight: capacity::requests_in_flight;
        Busy: capacity::busy;
        MessageRate: capacity::message_rate;
        AuthMissing: messages::auth_missing;
        AuthFailed: messages::auth_failed;
        AuthRequired: messages::auth_required;
        AuthError: messages::auth_error;
        AuthOff: messages::auth_off;
        TokenExpired: tokens::token_expired;
        TokenStale: tokens::token_stale;
        TokenRevoked: tokens::token_revoked;
        KeyRemoved: tokens::key_removed;
        OtherUser: tokens::other_user;
        Unauthorized: tokens::unauthorized;
        AccessDenied: tokens::access_denied;
        Undecided: tokens::undecided;
        HostForbidden: tokens::host_forbidden;
        OriginForbidden: tokens::origin_forbidden;
        RevokeForbidden: tokens::revoke_forbidden;
        BadRevocation: tokens::bad_revocation;
        RevocationsFull: tokens::revocations_full;
        OperatorsOnly: tokens::operators_only;
        BadDisconnect: tokens::bad_disconnect;
        Decode: messages::decode;
        SubscribeForbidden: messages::subscribe_forbidden;
        PublishForbidden: messages::publish_forbidden;
        PublishingOff: messages::publishing_off;
        SessionUnknown: messages::session_unknown;
        SessionHeld: messages::session_held;
        NotAsked: messages::not_asked;
        SessionsFull: capacity::sessions_full;
        PresenceOff: presence::presence_off;
        PresenceInfo: presence::presence_info;
        PresenceFull: presence::presence_full;
        UnknownRequest: messages::unknown_request;
        NotRecovered: messages::not_recovered;
        InvalidChannel: messages::invalid_channel;
        RequestFailed: messages::request_failed;
    }
}

#[test]
fn every_reason_is_provoked_or_excused() {
    let excused = reasons::EXCUSED.iter().map(|(reason, why)| {
        assert!(!why.is_empty());
        reason
    });
    let mut known = std::collections::BTreeSet::new();
    for reason in PROVOKED.iter().chain(excused) {
        assert!(known.insert(*reason), "{reason:?} is listed twice");
    }
    for reason in Reason::ALL {
        assert!(known.contains(reason), "{reason:?} is new: provoke it, or say why nobody can");
    }
}
