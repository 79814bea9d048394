//! What a connection is told first, which is of the service that the server is.

use super::*;
use crate::{config::Service, protocol::WelcomeExtra};

#[test]
fn a_welcome_has_the_names_and_fields_of_its_service() {
    let service = |welcome: &[WelcomeExtra]| Service {
        label: "label".into(),
        server: Some("name".into()),
        greeting: "Connected to it".into(),
        welcome: welcome.into(),
        ..Service::default()
    };
    for (extras, end) in [
        (&[][..], ""),
        (&[WelcomeExtra::TlsMode], r#","tls_mode":"WS""#),
        (&[WelcomeExtra::Secure, WelcomeExtra::RateLimit], r#","secure":false,"rate_limit":100"#),
    ] {
        let mut rig = Rig::new(1, Config { service: service(extras), ..Config::default() });
        let frames = rig.connect_with(0, "").take_frames();
        let [(_, payload)] = &frames[..] else { panic!("{frames:?}") };
        let text = std::str::from_utf8(payload).unwrap();
        let data = format!(
            r#","server":"name","message":"Connected to it","authenticated":false{end}}},"timestamp""#
        );
        assert!(text.contains(&data), "{text}");
    }
}

#[test]
fn without_a_name_of_its_own_it_has_that_of_the_metrics() {
    let service = Service { label: "label".into(), ..Service::default() };
    let mut rig = Rig::new(1, Config { service, ..Config::default() });
    let welcome = rig.connect_with(0, "").take().remove(0);
    assert_eq!(welcome["data"]["server"], "label");
    assert_eq!(welcome["data"]["tls_mode"], "WS");
}
