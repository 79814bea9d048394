//! The server's page in a real browser, as a person uses it.

use std::{thread::sleep, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    Server, binary,
    browser::{Browser, DevTools},
    foreign, wait,
};

/// A window on a desk.
pub const WIDE: (u32, u32) = (1120, 900);
/// A window on a small telephone.
pub const NARROW: (u32, u32) = (360, 740);

/// The page of a server, open in a browser.
#[derive(Debug)]
pub struct Page {
    /// The browser's own view of it.
    pub tools: DevTools,
    _browser: Browser,
}

impl Page {
    /// Of this server, in a wide window, in light colours.
    pub fn open(server: &Server) -> Self {
        Self::open_at(&server.url(), WIDE, false)
    }

    /// By its URL, in a window of that many pixels, for someone who prefers dark colours or does not.
    pub fn open_at(url: &str, window: (u32, u32), dark: bool) -> Self {
        Self::open_with(url, window, dark, &[])
    }

    /// The same with further arguments of the browser.
    pub fn open_with(url: &str, window: (u32, u32), dark: bool, args: &[&str]) -> Self {
        let browser = Browser::open("about:blank", args);
        let mut tools = browser.devtools();
        // What the page's policy forbids, and errors that its script does not expect.
        tools.before_each_document(
            "window.faults = [];
             addEventListener('securitypolicyviolation', (e) => faults.push(`${e.violatedDirective} ${e.blockedURI}`));
             for (const kind of ['error', 'unhandledrejection'])
                 addEventListener(kind, (e) => faults.push(String(e.message ?? e.reason)));",
        );
        tools.show_as(window, dark);
        tools.go(url);
        Self { tools, _browser: browser }
    }

    /// Waits until an expression of the page's script is true.
    pub fn until(&mut self, what: &str, expression: &str) {
        let found = wait::within(wait::DEADLINE, || {
            let is = self.tools.evaluate(&format!("Boolean({expression})")) == json!(true);
            if !is {
                sleep(Duration::from_millis(20));
            }
            is.then_some(())
        });
        let text = self.tools.evaluate("document.body.innerText");
        assert!(found.is_some(), "waited in vain for {what} in:\n{}", text.as_str().unwrap_or(""));
    }

    /// Waits for the word at the top.
    pub fn until_state(&mut self, words: &str) {
        self.until(words, &format!("document.getElementById('state').textContent === '{words}'"));
    }

    /// Waits until what is seen of an element has this text.
    pub fn until_text(&mut self, id: &str, text: &str) {
        let shown = format!("document.getElementById('{id}')?.innerText.includes({})", json!(text));
        self.until(&format!("{text:?} in {id}"), &shown);
    }

    /// What is seen of an element.
    pub fn text(&mut self, id: &str) -> String {
        let text = self.tools.evaluate(&format!("document.getElementById('{id}').innerText"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Writes into a field.
    pub fn fill(&mut self, id: &str, value: &str) {
        self.tools.evaluate(&format!("document.getElementById('{id}').value = {}", json!(value)));
    }

    /// Sends a form, as its button does.
    pub fn submit(&mut self, form: &str) {
        self.tools.evaluate(&format!("document.getElementById('{form}').requestSubmit()"));
    }

    /// Subscribes in the console.
    pub fn subscribe(&mut self, channel: &str) {
        self.fill("channel", channel);
        self.submit("subscribe-form");
        self.until_text("subscriptions", channel);
        self.until_text("log", "subscribed to");
    }

    /// Gives it a token.
    pub fn log_in(&mut self, token: &str) {
        self.fill("token", token);
        self.submit("token-form");
    }

    /// Panics if axe-core finds something that keeps people out of it, or if it is wider than its window.
    pub fn assert_accessible(&mut self, what: &str) {
        let axe = foreign::node_file("axe-core/axe.min.js");
        self.tools.evaluate(&format!("{axe}; 0"));
        let found = self.tools.promise(
            "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
                .then(({ violations, passes }) => ({
                    passes: passes.length,
                    violations: violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => html + failureSummary)}`),
                }))",
        );
        assert_eq!(found["violations"], json!([]), "{what}");
        assert!(found["passes"].as_u64() > Some(20), "{what}: {found}");
        let wider = self.tools.evaluate("document.scrollingElement.scrollWidth > innerWidth");
        assert_eq!(wider, json!(false), "{what}: it scrolls sideways");
    }

    /// Panics if its policy has forbidden something, or its script has failed.
    pub fn assert_faultless(&mut self) {
        assert_eq!(self.tools.evaluate("faults"), json!([]));
    }

    /// Keeps a picture of what is seen from an element on.
    pub fn keep_picture(&mut self, name: &str, from: &str) {
        let scroll = format!("document.querySelector('{from}').scrollIntoView()");
        self.tools.evaluate(&scroll);
        let picture = STANDARD.decode(self.tools.picture()).expect("base64");
        assert!(picture.len() <= 100_000, "{name}: {} bytes", picture.len());
        let dir = binary::workspace().join("docs/images");
        std::fs::create_dir_all(&dir).expect("the tree is ours");
        std::fs::write(dir.join(format!("{name}.png")), picture).expect("the tree is ours");
    }
}
