//! The page at `/`, for browsers: files that are part of this program.

use bytes::Bytes;
use mahavishnu_core::config::Page;

use crate::settings::Settings;

/// The page with what it loads; nothing if it is switched off.
pub(crate) fn pages(settings: &Settings) -> Vec<Page> {
    if !settings.page {
        return Vec::new();
    }
    // It asks for a token before it connects: a connection without one would be counted as refused.
    let auth = if settings.auth_enabled { "required" } else { "off" };
    let html = HTML.replace("{{auth}}", auth);
    let fixed = FILES.iter().map(|(path, content_type, text)| {
        page(path, content_type, Bytes::from_static(text.as_bytes()))
    });
    std::iter::once(page("/", "text/html; charset=utf-8", html.into())).chain(fixed).collect()
}

fn page(path: &str, content_type: &'static str, body: Bytes) -> Page {
    Page { path: path.into(), content_type, body }
}

const HTML: &str = include_str!("../page/index.html");

/// Path, content type, text.
const FILES: [(&str, &str, &str); 3] = [
    ("/page/page.css", "text/css; charset=utf-8", include_str!("../page/page.css")),
    ("/page/page.js", "text/javascript; charset=utf-8", include_str!("../page/page.js")),
    (
        "/page/connection.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/connection.js"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::load;

    fn html(pairs: &[(&str, &str)]) -> String {
        let pages = pages(&load(pairs).settings);
        String::from_utf8(pages[0].body.to_vec()).unwrap()
    }

    #[test]
    fn it_says_whether_a_token_is_wanted() {
        let secret = ("JWT_SECRET", "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu");
        assert!(html(&[]).contains(r#"<html lang="en" data-auth="off">"#));
        let with = html(&[secret, ("AUTH_ENABLED", "true")]);
        assert!(with.contains(r#"<html lang="en" data-auth="required">"#));
        assert!(!with.contains("{{"));
    }

    #[test]
    fn it_can_be_switched_off() {
        assert_eq!(pages(&load(&[("PAGE", "false")]).settings), []);
    }

    #[test]
    fn what_it_loads_is_there_and_nothing_of_it_is_inline() {
        let served: Vec<_> = FILES.iter().map(|(path, ..)| *path).collect();
        let loads = |text: &str, before: &str| -> Vec<String> {
            let parts = text.split(before).skip(1);
            parts.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
        };
        let mut loaded = loads(HTML, r#"href="page/"#);
        loaded.extend(loads(HTML, r#"src="page/"#));
        loaded.extend(loads(FILES[1].2, r#"from "./"#));
        loaded.sort();
        let mut names: Vec<_> = served.iter().map(|path| path.replacen("/page/", "", 1)).collect();
        names.sort();
        assert_eq!(loaded, names);
        // The policy that goes with it would refuse these.
        for inline in
            ["<style", " style=", " onclick=", " onload=", "<script>", "http://", "https://"]
        {
            let found = HTML.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(inline), "{inline}");
        }
        let size: usize = FILES.iter().map(|(.., text)| text.len()).sum::<usize>() + HTML.len();
        assert!(size < 64 * 1024, "{size} bytes");
    }
}
