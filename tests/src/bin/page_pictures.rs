//! Takes the pictures of docs/page.md anew: of a debug build of the server, in some minutes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::{scope, sleep},
    time::Duration,
};

use mahavishnu_tests::{
    Server,
    page::{NARROW, Page, WIDE},
    token,
};
use serde_json::json;

/// Small enough for a page with several, in bytes and for the eye.
const PICTURE: (u32, u32) = (1040, 800);
const NAME: (&str, &str) = ("SERVER_NAME", "broadcast-1");
const FOLLOWED: &str = "workflow:42";

fn main() {
    under_load();
    console();
    before_and_after_a_token();
}

/// 120 subscribers and a publisher that goes faster and slower, for some minutes.
fn under_load() {
    let server = Server::with(&[NAME, ("MESSAGE_RATE_LIMIT", "0"), ("MEMORY_LIMIT", "2G")]);
    let is_over = AtomicBool::new(false);
    scope(|scope| {
        let (server, is_over) = (&server, &is_over);
        let goes_on = || !is_over.load(Ordering::Relaxed);
        for n in 0..120 {
            scope.spawn(move || {
                let mut client = server.hello();
                client.subscribe(if n % 3 == 0 { "pool:7" } else { FOLLOWED });
                while goes_on() {
                    client.drain();
                    sleep(Duration::from_millis(300));
                }
            });
        }
        let mut page = open(server);
        page.subscribe(FOLLOWED);
        scope.spawn(move || {
            let mut publisher = server.hello();
            let mut n = 0u32;
            while goes_on() {
                for _ in 0..4 {
                    n += 1;
                    let channel = if n.is_multiple_of(4) { "pool:7" } else { FOLLOWED };
                    let data = json!({ "workflow_id": "42", "step": n });
                    let event = "step.finished";
                    publisher.ask(
                        "publish",
                        json!({ "channel": channel, "event": event, "data": data }),
                    );
                }
                publisher.drain();
                sleep(Duration::from_millis(10).mul_f64((f64::from(n) / 2_000.0).sin() + 1.3));
            }
        });
        // Somebody who may not, so that there is something to see.
        for _ in 0..3 {
            server.client().send_text("no message");
        }
        sleep(Duration::from_secs(150));
        page.keep_picture("page-load", "header");
        page.tools.show_as(PICTURE, true);
        page.keep_picture("page-dark", "header");
        page.tools.show_as(NARROW, false);
        page.keep_picture("page-narrow", "header");
        is_over.store(true, Ordering::Relaxed);
    });
}

fn open(server: &Server) -> Page {
    let mut page = Page::open_at(&server.url(), PICTURE, false);
    page.tools.hide_scroll_bars();
    page.until_state("Live");
    page
}

fn console() {
    let server = Server::with(&[NAME]);
    let mut page = open(&server);
    page.subscribe(FOLLOWED);
    for n in 1..=40 {
        for _ in 0..1 + n % 5 {
            server.post(FOLLOWED, "step.finished", &json!({ "workflow_id": "42", "step": n }));
        }
        sleep(Duration::from_secs(1));
    }
    page.keep_picture("page-light", "header");
    page.submit("publish-form");
    page.until_text("publish-note", "reached 1 subscriber");
    page.keep_picture("page-console", "#console");
}

fn before_and_after_a_token() {
    let server = Server::with_auth(&[NAME]);
    let mut page = Page::open_at(&server.url(), WIDE, false);
    page.tools.show_as(PICTURE, false);
    page.tools.hide_scroll_bars();
    page.until_state("Needs a token");
    page.until_text("health", "Healthy");
    page.keep_picture("page-token-before", "header");
    page.log_in(&token::of("ada", &["admin"]));
    page.until_state("Live");
    sleep(Duration::from_secs(15));
    page.keep_picture("page-token-after", "header");
}
