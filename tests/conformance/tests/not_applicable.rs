//! What the program cannot be set up for, and why. Nothing is skipped in silence: a body that does not apply has to be
//! here with the reason that it ends by, and one that is here has to end so.

use std::{
    io::Write,
    panic::{self, AssertUnwindSafe},
};

use mahavishnu_conformance::program::NotApplicable;

use crate::program::{BODIES, REASONS};

/// Runs a body on the program. Panics if it fails, and if it does not apply, or does, against what the list says.
pub(crate) fn watched(name: &str, body: impl FnOnce() + Send + 'static) {
    let listed = why(name);
    let run = AssertUnwindSafe(|| mahavishnu_conformance::watched(body));
    match (panic::catch_unwind(run), listed) {
        (Ok(()), None) => {}
        (Ok(()), Some(why)) => panic!("{name} is listed as not applicable ({why}), and it applies"),
        (Err(end), listed) => match end.downcast::<NotApplicable>() {
            Ok(end) => assert_eq!(Some(end.0.as_str()), listed, "{name} does not apply"),
            Err(failure) => panic::resume_unwind(failure),
        },
    }
}

/// Why this body does not apply, if it is listed.
fn why(name: &str) -> Option<&'static str> {
    LIST.iter().find(|(_, names)| names.contains(&name)).map(|(why, _)| *why)
}

#[test]
fn what_does_not_apply_to_the_program_is_counted() {
    let count = |names: &[&str]| {
        let out = names.iter().filter(|name| why(name).is_some()).count();
        (names.len() - out, out)
    };
    let ((bodies, not_bodies), (reasons, not_reasons)) = (count(BODIES), count(REASONS));
    let listed: usize = LIST.iter().map(|(_, names)| names.len()).sum();
    assert_eq!(listed, not_bodies + not_reasons, "each is listed once, and by its name");
    let document = include_str!("../../../docs/testing.md");
    for (what, all, here) in
        [("bodies", BODIES.len(), bodies), ("reasons provoked", REASONS.len(), reasons)]
    {
        let row = document.lines().find(|line| line.starts_with(&format!("| {what} | {all} |")));
        let said = row.is_some_and(|row| row.ends_with(&format!("| {here} |")));
        assert!(said, "docs/testing.md: {what}: {all} on every driver, {here} on the program");
    }
    let line = |(why, names): &(&str, &[&str])| format!("  {why}: {}\n", names.join(", "));
    let lines: String = LIST.iter().map(line).collect();
    // Past the test runner, which shows what a test prints only when it fails.
    let _ = write!(
        std::io::stderr(),
        "program: {bodies} bodies and {reasons} reasons run; {not_bodies} bodies and {not_reasons} reasons do not apply:\n{lines}"
    );
}

/// Why, and which bodies.
const LIST: &[(&str, &[&str])] = &[
    ("a configuration does not tell its keys", &["key_removed"]),
    ("the program ends no drain within its window", &["close_timeout"]),
    (
        "the program has no application to ask",
        &[
            "a_drain_lets_answers_that_are_due_go_out",
            "a_refusal_is_a_status_or_a_close",
            "a_reset_frees_everything",
            "a_server_that_stops_lets_nobody_in_who_was_asked_about",
            "access_denied",
            "an_application_that_cannot_say_is_asked_again_later",
            "an_application_that_says_nothing_leaves_it_to_tokens",
            "an_application_may_answer_for_the_server",
            "gateway_timeout",
            "large_messages_arrive_whole_through_a_narrow_socket",
            "request_failed",
            "requests_in_flight",
            "the_application_answers_requests",
            "the_application_decides_again_on_a_session",
            "the_application_decides_on_publishes",
            "the_application_decides_on_reading",
            "the_application_decides_on_subscriptions",
            "the_application_ends_the_sessions_of_a_user",
            "the_application_says_whose_a_handshake_is",
            "the_application_says_whose_a_request_over_http_is",
            "unauthorized",
            "undecided",
            "what_is_sent_before_it_is_known_whose_it_is_waits",
            "who_leaves_before_it_is_known_whose_it_is_leaves_nothing",
        ],
    ),
    (
        "the program has no application to tell of connections",
        &[
            "a_grant_holds_whatever_the_token_permits",
            "a_message_for_a_user_reaches_all_of_its_connections",
            "a_message_for_one_connection_reaches_it_alone_and_in_order",
            "all_connections_of_a_user_are_ended",
            "disconnected",
            "the_application_ends_connections_in_its_own_words",
            "the_application_hears_of_every_subscription",
            "the_application_puts_connections_into_channels",
            "who_has_no_room_for_a_message_is_told_of",
        ],
    ),
    (
        "only an application speaks to connections",
        &[
            "a_broadcast_need_not_be_waited_for",
            "connections_and_channels_are_listed_over_all_shards",
        ],
    ),
    ("only an application hands sockets over", &["sockets_are_handed_over_to_the_server"]),
    ("no setting says `channel_bytes_max`", &["a_name_may_be_as_long_as_the_limit"]),
    (
        "no setting says `channels_max`",
        &["channels_full", "channels_of_the_server_are_limited", "channels_share"],
    ),
    (
        "no setting says `channels_per_connection_max`",
        &[
            "a_reload_changes_what_holds",
            "channels_per_connection_are_limited",
            "too_many_channels",
        ],
    ),
    (
        "no setting says `close_timeout`",
        &[
            "a_client_that_does_not_end_its_stream_is_dropped",
            "a_client_that_never_reads_again_does_not_keep_its_socket",
            "a_close_that_is_not_answered_ends_the_connection",
            "a_pong_timeout_ends_the_connection",
        ],
    ),
    (
        "no setting says `head_timeout`",
        &[
            "a_body_that_does_not_come_is_refused",
            "a_head_that_does_not_end_is_refused",
            "a_socket_that_says_nothing_is_closed_silently",
            "deadlines_do_not_make_the_server_spin",
            "head_timeout",
        ],
    ),
    ("no setting says `history_page_max`", &["a_page_of_history_is_bounded"]),
    (
        "no setting says `http_idle_timeout`",
        &["a_kept_connection_is_closed_when_it_is_idle", "keep_alive_timeout"],
    ),
    ("no setting says `offsets`", &["offsets_number_the_messages_of_a_channel"]),
    ("no setting says `partial_bytes_max`", &["input_full"]),
    (
        "no setting says `pings_before_auth_max`",
        &["pings_are_answered_before_authentication_up_to_a_limit"],
    ),
    ("no setting says `position_keep`", &["numbers_end_with_their_epoch"]),
    ("no setting says `profile`", &["events_make_documents_and_documents_answer"]),
    ("no setting says `publish_batch_max`", &["the_batch_of_a_publish_is_limited"]),
    ("no setting says `publishes_in_flight_max`", &["busy"]),
    ("no setting says `queued_bytes_max`", &["outboxes_full"]),
    ("no setting says `revocations_max`", &["revocations_full"]),
    ("no setting says `sockets_max`", &["made_room", "max_sockets", "sockets_are_limited"]),
    ("no setting says `tls_handshakes_max`", &["tls_handshakes_max"]),
];
