//! The setting that says which requests a channel's document answers.

use mahavishnu_core::protocol::StatusRequest;

use super::kind::Kind;

/// `request=channel` pairs with commas between.
pub(crate) struct StatusRequests;

impl Kind for StatusRequests {
    type Value = Vec<StatusRequest>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let requests: Vec<_> = pairs.map(StatusRequest::parse).collect::<Option<_>>()?;
        let is_twice = |(place, one): (usize, &StatusRequest)| {
            requests.iter().take(place).any(|before| before.event() == one.event())
        };
        (requests.len() <= REQUESTS_MAX && !requests.iter().enumerate().any(is_twice))
            .then_some(requests)
    }

    fn show(&self, value: &Self::Value) -> String {
        value.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    fn allowed(&self) -> String {
        format!(
            "at most {REQUESTS_MAX} request=channel pairs with commas between, each request once, the channel with one {{name}} of a member of the request: get_pool_status=pool:{{pool_id}}"
        )
    }
}

/// Each unknown request is compared with all.
const REQUESTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_shown() {
        let text = "get_pool_status=pool:{pool_id}, get_x = {x} ,";
        let requests = StatusRequests.parse(text).unwrap();
        let shown = "get_pool_status=pool:{pool_id},get_x={x}";
        assert_eq!(StatusRequests.show(&requests), shown);
        assert_eq!(StatusRequests.parse(shown), Some(requests));
        assert_eq!(StatusRequests.parse(""), Some(Vec::new()));
        let many = |count| (0..count).map(|n| format!("r{n}={{x}}")).collect::<Vec<_>>().join(",");
        assert!(StatusRequests.parse(&many(64)).is_some());
        for bad in [&many(65), "get_x={x},get_x={y}", "get_x", "subscribe={channel}"] {
            assert_eq!(StatusRequests.parse(bad), None, "{bad}");
        }
    }
}
