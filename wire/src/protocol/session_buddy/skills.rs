//! The figures of skills: a document that is made of what was published of them.

use std::{cmp::Ordering, time::Duration};

use super::{
    super::{
        json::write_string,
        options::members,
        scan::{Scanner, Value},
        timestamp::Timestamp,
    },
    ANOMALIES_MAX, ANOMALY, METRICS, NAME_BYTES_MAX, SKILLS_MAX, TOP_SKILLS_MAX, moment,
};

/// What is known of skills. As JSON it is `{"top_skills":[…],"anomalies":[…]}`, the form in which clients are sent the first of
/// it: so a service may as well publish a document of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Skills {
    /// Those with the most invocations first.
    skills: Vec<Skill>,
    /// The latest first.
    anomalies: Vec<Anomaly>,
}

/// How a skill does. The figures stay the text in which they were published.
#[derive(Clone, Debug, PartialEq)]
pub struct Skill {
    name: Box<str>,
    total_invocations: Number,
    /// `None`: null, or it was not said.
    completion_rate: Option<Number>,
    avg_duration_seconds: Option<Number>,
}

/// That a skill did unusually.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    skill_name: Box<str>,
    /// As it was published.
    detected_at: Box<str>,
    at: Duration,
    anomaly_type: Box<str>,
    deviation_score: Option<Number>,
}

impl Skills {
    /// Reads a document. What is in it that is no skill or no anomaly is left out. `None`: it is no JSON object.
    #[must_use]
    pub fn read(document: &str) -> Option<Self> {
        let [skills, anomalies] = members(document, &["top_skills", "anomalies"]).ok()?;
        let mut this = Self::default();
        for skill in items(skills).into_iter().filter_map(Skill::read) {
            this.put(skill);
        }
        // The last first, so that those of one moment stay in their order.
        let anomalies = items(anomalies).into_iter().rev();
        for anomaly in anomalies.filter_map(|item| Anomaly::read(item, None)) {
            this.add(anomaly);
        }
        Some(this)
    }

    /// Takes in an event that was published at `unix`. A skill's new figures take the place of those before; with no
    /// invocations at all it is forgotten. False, and nothing has changed, if it is not about skills, or lacks something that it
    /// has to say, or says it in another form.
    pub fn fold(&mut self, event: &str, data: &str, unix: Duration) -> bool {
        match event {
            METRICS => Skill::read(data).map(|skill| self.put(skill)).is_some(),
            ANOMALY => Anomaly::read(data, Some(unix)).map(|anomaly| self.add(anomaly)).is_some(),
            _ => false,
        }
    }

    /// Skills that clients are sent, those with the most invocations first.
    #[must_use]
    pub fn top(&self) -> &[Skill] {
        self.skills.get(..TOP_SKILLS_MAX).unwrap_or(&self.skills)
    }

    /// Anomalies of the hour before `unix`, the latest first.
    pub fn anomalies(&self, unix: Duration) -> impl Iterator<Item = &Anomaly> + Clone {
        let since = unix.saturating_sub(ANOMALIES_FOR);
        self.anomalies.iter().filter(move |anomaly| anomaly.at >= since)
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = Vec::new();
        json.extend_from_slice(b"{");
        write(&mut json, &self.skills, self.anomalies.iter());
        json.push(b'}');
        String::from_utf8(json).unwrap_or_default()
    }

    /// The document, of at most `bytes_max` bytes: if it is longer, the skills with the fewest invocations go, and then the
    /// oldest anomalies.
    #[must_use]
    pub fn to_json_within(&mut self, bytes_max: usize) -> String {
        loop {
            let json = self.to_json();
            if json.len() <= bytes_max
                || self.skills.pop().is_none() && self.anomalies.pop().is_none()
            {
                return json;
            }
        }
    }

    fn put(&mut self, skill: Skill) {
        self.skills.retain(|known| known.name != skill.name);
        if skill.total_invocations.value > 0.0 {
            let at = self.skills.partition_point(|known| known.order(&skill).is_lt());
            self.skills.insert(at, skill);
            self.skills.truncate(SKILLS_MAX);
        }
    }

    fn add(&mut self, anomaly: Anomaly) {
        let at = self.anomalies.partition_point(|known| known.at > anomaly.at);
        self.anomalies.insert(at, anomaly);
        self.anomalies.truncate(ANOMALIES_MAX);
    }
}

impl Skill {
    /// `skill_name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn read(data: &str) -> Option<Self> {
        let [name, total, rate, duration] = members(data, SKILL).ok()?;
        Some(Self {
            name: text(name)?,
            total_invocations: number(total?)?,
            completion_rate: number_if_any(rate)?,
            avg_duration_seconds: number_if_any(duration)?,
        })
    }

    /// Which one comes first.
    fn order(&self, other: &Self) -> Ordering {
        let by_invocations = other.total_invocations.value.total_cmp(&self.total_invocations.value);
        by_invocations.then_with(|| self.name.cmp(&other.name))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let [name, total, rate, duration] = *SKILL;
        member(out, b'{', name);
        write_string(out, &self.name);
        member(out, b',', total);
        Number::write(Some(&self.total_invocations), out);
        member(out, b',', rate);
        Number::write(self.completion_rate.as_ref(), out);
        member(out, b',', duration);
        Number::write(self.avg_duration_seconds.as_ref(), out);
        out.push(b'}');
    }
}

impl Anomaly {
    /// `now`: when it was detected if it does not say so itself.
    fn read(data: &str, now: Option<Duration>) -> Option<Self> {
        let [skill, detected, kind, score] = members(data, ANOMALY_MEMBERS).ok()?;
        let (detected_at, at) = match (detected, now) {
            (None, Some(now)) => {
                let stamp = Timestamp::from_unix(now);
                (stamp.as_str().into(), Timestamp::parse(stamp.as_str())?)
            }
            (detected, _) => {
                let detected = text(detected)?;
                let at = moment::parse(&detected)?;
                (detected, at)
            }
        };
        let deviation_score = number_if_any(score)?;
        Some(Self {
            skill_name: text(skill)?,
            detected_at,
            at,
            anomaly_type: text(kind)?,
            deviation_score,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let [skill, detected, kind, score] = *ANOMALY_MEMBERS;
        member(out, b'{', skill);
        write_string(out, &self.skill_name);
        member(out, b',', detected);
        write_string(out, &self.detected_at);
        member(out, b',', kind);
        write_string(out, &self.anomaly_type);
        member(out, b',', score);
        Number::write(self.deviation_score.as_ref(), out);
        out.push(b'}');
    }
}

/// The two members that a document and an update have.
pub(super) fn write<'s>(
    out: &mut Vec<u8>,
    skills: &[Skill],
    anomalies: impl Iterator<Item = &'s Anomaly>,
) {
    out.extend_from_slice(b"\"top_skills\":[");
    for (index, skill) in skills.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        skill.write(out);
    }
    out.extend_from_slice(b"],\"anomalies\":[");
    for (index, anomaly) in anomalies.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        anomaly.write(out);
    }
    out.push(b']');
}

/// A number as it was written.
#[derive(Clone, Debug, PartialEq)]
struct Number {
    text: Box<str>,
    value: f64,
}

impl Number {
    fn write(number: Option<&Self>, out: &mut Vec<u8>) {
        let text = number.map_or("null", |number| &*number.text);
        out.extend_from_slice(text.as_bytes());
    }
}

fn member(out: &mut Vec<u8>, before: u8, name: &str) {
    out.push(before);
    write_string(out, name);
    out.push(b':');
}

/// A string that is not empty and not too long.
fn text(value: Option<Value<'_>>) -> Option<Box<str>> {
    let text = value?.string()?;
    (1..=NAME_BYTES_MAX).contains(&text.len()).then(|| text.into())
}

fn number(value: Value<'_>) -> Option<Number> {
    let text = value.get();
    let begins = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let value = text.parse::<f64>().ok()?;
    let sound = begins && text.len() <= NUMBER_BYTES_MAX && value.is_finite();
    sound.then(|| Number { text: text.into(), value })
}

/// `None`: something else than a number.
#[expect(clippy::option_option, reason = "what is nothing is no fault")]
fn number_if_any(value: Option<Value<'_>>) -> Option<Option<Number>> {
    value.map_or(Some(None), |value| number(value).map(Some))
}

/// The items of an array; none of anything else.
fn items(value: Option<Value<'_>>) -> Vec<&str> {
    let mut items = Vec::new();
    if let Some(value) = value {
        let mut scanner = Scanner::new(value.get());
        if scanner.peek() == Some(b'[') {
            // It was read before, so that there is no fault in it.
            let _ = scanner.array(|scanner| {
                items.push(scanner.value()?.get());
                Ok(())
            });
        }
    }
    items
}

const SKILL: &[&str; 4] =
    &["skill_name", "total_invocations", "completion_rate", "avg_duration_seconds"];
const ANOMALY_MEMBERS: &[&str; 4] =
    &["skill_name", "detected_at", "anomaly_type", "deviation_score"];

/// How long clients are told of an anomaly.
const ANOMALIES_FOR: Duration = Duration::from_secs(3600);
/// Bytes of a number.
const NUMBER_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_770_724_800);

    fn metrics(name: &str, total: &str) -> String {
        format!(
            r#"{{"skill_name":"{name}","total_invocations":{total},"completion_rate":92.50,"avg_duration_seconds":null}}"#
        )
    }

    fn anomaly(kind: &str, at: &str) -> String {
        format!(
            r#"{{"skill_name":"a","detected_at":"{at}","anomaly_type":"{kind}","deviation_score":2.1}}"#
        )
    }

    #[test]
    fn the_skills_with_the_most_invocations_come_first() {
        let mut skills = Skills::default();
        for (name, total) in [("a", "3"), ("b", "20"), ("c", "3.0"), ("d", "1e2"), ("a", "4")] {
            assert!(skills.fold(METRICS, &metrics(name, total), NOW), "{name}");
        }
        let names =
            |skills: &Skills| skills.top().iter().map(Skill::name).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&skills), "d b a c");
        assert!(skills.fold(METRICS, &metrics("b", "0"), NOW));
        assert_eq!(names(&skills), "d a c");
        let json = skills.to_json();
        assert!(json.starts_with(
            r#"{"top_skills":[{"skill_name":"d","total_invocations":1e2,"completion_rate":92.50,"avg_duration_seconds":null},"#
        ));
        for index in 0..200 {
            assert!(skills.fold(METRICS, &metrics(&format!("x{index}"), &index.to_string()), NOW));
        }
        assert_eq!((skills.skills.len(), skills.top().len()), (SKILLS_MAX, TOP_SKILLS_MAX));
        assert_eq!(skills.top().first().map(Skill::name), Some("x199"));
        assert_eq!(Skills::read(&skills.to_json()), Some(skills));
    }

    #[test]
    fn anomalies_are_told_for_an_hour_the_latest_first() {
        let mut skills = Skills::default();
        for (kind, at) in [
            ("old", "2026-02-10T10:59:59Z"),
            ("edge", "2026-02-10 11:00:00"),
            ("new", "2026-02-10T11:59:00.5+00:00"),
            ("middle", "2026-02-10T12:30:00+01:00"),
        ] {
            assert!(skills.fold(ANOMALY, &anomaly(kind, at), NOW), "{kind}");
        }
        let without = r#"{"skill_name":"a","anomaly_type":"now","deviation_score":null}"#;
        assert!(skills.fold(ANOMALY, without, NOW));
        let kinds = |skills: &Skills, now| {
            let kinds = skills.anomalies(now).map(|anomaly| anomaly.anomaly_type.to_string());
            kinds.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(kinds(&skills, NOW), "now new middle edge");
        assert_eq!(kinds(&skills, NOW + Duration::from_secs(3600)), "now");
        assert!(skills.to_json().contains(r#""detected_at":"2026-02-10T12:00:00.000000+00:00""#));
        for index in 0..20 {
            skills.fold(ANOMALY, &anomaly("many", &format!("2026-02-10T12:00:{index}0Z")), NOW);
        }
        assert_eq!(skills.anomalies.len(), ANOMALIES_MAX);
        assert_eq!(Skills::read(&skills.to_json()), Some(skills));
    }

    #[test]
    fn what_lacks_something_changes_nothing() {
        let mut skills = Skills::default();
        let long = metrics(&"x".repeat(257), "1");
        let digits = metrics("a", &"9".repeat(33));
        for data in [
            "{}",
            r#"{"skill_name":"a","completion_rate":1}"#,
            r#"{"skill_name":"a","total_invocations":null,"completion_rate":1,"avg_duration_seconds":1}"#,
            r#"{"skill_name":"a","total_invocations":"3","completion_rate":1,"avg_duration_seconds":1}"#,
            r#"{"skill_name":"","total_invocations":3,"completion_rate":1,"avg_duration_seconds":1}"#,
            r#"{"skill_name":5,"total_invocations":3,"completion_rate":1,"avg_duration_seconds":1}"#,
            r#"{"skill_name":"a","total_invocations":1e999,"completion_rate":1,"avg_duration_seconds":1}"#,
            r#"{"skill_name":"a","total_invocations":3,"completion_rate":true,"avg_duration_seconds":1}"#,
            &long,
            &digits,
        ] {
            assert!(!skills.fold(METRICS, data, NOW), "{data}");
        }
        for data in [
            "{}",
            r#"{"skill_name":"a","anomaly_type":"drop","deviation_score":"1"}"#,
            r#"{"skill_name":"a","deviation_score":1}"#,
            r#"{"skill_name":"a","anomaly_type":"drop","deviation_score":1,"detected_at":"soon"}"#,
            r#"{"skill_name":"a","anomaly_type":"drop","deviation_score":1,"detected_at":5}"#,
        ] {
            assert!(!skills.fold(ANOMALY, data, NOW), "{data}");
        }
        assert!(!skills.fold("skill.effectiveness", &metrics("a", "1"), NOW));
        assert_eq!(skills, Skills::default());
    }

    #[test]
    fn a_document_of_a_services_own_is_read_as_far_as_it_is_one() {
        let one = metrics("a", "1");
        let document = format!(r#"{{"top_skills":[5,{{}},{one},[]],"anomalies":null,"more":1}}"#);
        let skills = Skills::read(&document).unwrap();
        assert_eq!(skills.top().iter().map(Skill::name).collect::<Vec<_>>(), ["a"]);
        assert_eq!(Skills::read("{}"), Some(Skills::default()));
        assert_eq!(Skills::read(r#"{"top_skills":{"a":[1]}}"#), Some(Skills::default()));
        for text in ["", "[]", "null", "{"] {
            assert_eq!(Skills::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_document_that_is_too_long_loses_what_matters_least() {
        let mut skills = Skills::default();
        for index in 1..=50 {
            skills.fold(METRICS, &metrics(&format!("x{index}"), &index.to_string()), NOW);
        }
        skills.fold(ANOMALY, &anomaly("drop", "2026-02-10T11:59:00Z"), NOW);
        let json = skills.to_json_within(1500);
        assert!(json.len() <= 1500 && json.contains("x50") && !json.contains("\"x1\""), "{json}");
        assert!(json.contains("drop"));
        assert_eq!(skills.to_json_within(40), Skills::default().to_json());
        assert_eq!(skills.to_json_within(0), r#"{"top_skills":[],"anomalies":[]}"#);
    }

    proptest! {
        /// However a skill's figures are published, they are read again as they are.
        #[test]
        fn documents_are_read_as_they_were_written(
            names in prop::collection::vec("[a-c\\\\\"\n\u{e9}]{1,3}", 0..8), totals in prop::collection::vec(-5_i32..50, 8),
        ) {
            let mut skills = Skills::default();
            for (name, total) in names.iter().zip(totals) {
                let data = serde_json::json!({
                    "skill_name": name, "total_invocations": total, "completion_rate": 0.5, "avg_duration_seconds": total,
                });
                prop_assert!(skills.fold(METRICS, &data.to_string(), NOW));
                let data = serde_json::json!({"skill_name": name, "anomaly_type": name, "deviation_score": total});
                prop_assert!(skills.fold(ANOMALY, &data.to_string(), NOW));
            }
            let json = skills.to_json();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
            prop_assert_eq!(Skills::read(&json), Some(skills));
        }

        #[test]
        fn noise_does_not_panic(noise: String) {
            let mut skills = Skills::read(&noise).unwrap_or_default();
            skills.fold(METRICS, &noise, NOW);
            skills.fold(ANOMALY, &noise, NOW);
        }
    }
}
