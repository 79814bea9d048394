//! Tokens and permissions.

use std::{hint::black_box, time::Duration};

use criterion::Criterion;
use mahavishnu_core::auth::{self, KeySet, Policy, TokenRules, Verb};
use mahavishnu_microbenches::stage::{SECRET, START_UNIX, token};

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("auth");
    let mut keys = KeySet::new();
    keys.add_secret(None, SECRET).expect("a good secret");
    let (token, rules) = (token(&["workflow:read", "workflow:write"]), TokenRules::default());
    let now = START_UNIX + Duration::from_secs(1);
    group.bench_function("verify HS256", |bencher| {
        bencher.iter(|| keys.verify(black_box(&token), now, &rules).expect("a good token"));
    });
    let forged = format!("{}x", &token.get(..token.len() - 1).unwrap_or_default());
    group.bench_function("refuse a forged one", |bencher| {
        bencher.iter(|| keys.verify(black_box(&forged), now, &rules).is_err());
    });
    let spec = auth::TokenSpec { user: Some("ada"), issued_at: now, ..auth::TokenSpec::default() };
    group.bench_function("issue", |bencher| {
        bencher.iter(|| auth::issue(SECRET, black_box(&spec)).expect("a token"));
    });
    let policy = Policy::mahavishnu();
    let access = policy.access(&["workflow:read"]);
    for (name, channel) in [("first rule", "workflow:42"), ("no rule", "elsewhere:42")] {
        group.bench_function(format!("decide, {name}"), |bencher| {
            bencher.iter(|| policy.decide(&access, Verb::Subscribe, black_box(channel)));
        });
    }
    group.finish();
}
