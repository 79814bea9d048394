//! Channels' names with places for values: `test:{run_id}`.

/// A channel's name, or one with one value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: Box<str>,
    member: Option<Box<str>>,
    after: Box<str>,
}

impl Template {
    /// Reads one. `None`: it is empty, or has more than one pair of braces, or half of one, or something else than a name
    /// in them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let own = |text: &str| Box::from(text);
        let Some((before, rest)) = text.split_once('{') else {
            let sound = !text.is_empty() && !text.contains('}');
            return sound.then(|| Self { before: own(text), member: None, after: own("") });
        };
        let (member, after) = rest.split_once('}')?;
        let sound =
            is_name(member) && ![before, after].iter().any(|part| part.contains(['{', '}']));
        sound.then(|| Self { before: own(before), member: Some(own(member)), after: own(after) })
    }

    /// The name in braces.
    #[must_use]
    pub fn member(&self) -> Option<&str> {
        self.member.as_deref()
    }

    /// The channel with a value in its place. A template without a place is the channel itself.
    #[must_use]
    pub fn fill(&self, value: &str) -> Box<str> {
        match self.member {
            Some(_) => [&*self.before, value, &*self.after].concat().into(),
            None => self.before.clone(),
        }
    }

    /// The value that a channel has in the template's place, empty without a place. `None`: the channel is not one of these.
    #[must_use]
    pub fn value<'c>(&self, channel: &'c str) -> Option<&'c str> {
        if self.member.is_none() {
            return (*channel == *self.before).then_some("");
        }
        let value = channel.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        (!value.is_empty()).then_some(value)
    }

    /// Whether a channel is one of these.
    #[must_use]
    pub fn fits(&self, channel: &str) -> bool {
        self.value(channel).is_some()
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.before)?;
        match &self.member {
            Some(member) => write!(f, "{{{member}}}{}", self.after),
            None => Ok(()),
        }
    }
}

/// Whether a text can name a member: letters, digits and `_`.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_fill_and_find() {
        let test = Template::parse("test:{run_id}").unwrap();
        assert_eq!((test.member(), &*test.fill("7")), (Some("run_id"), "test:7"));
        assert_eq!(test.to_string(), "test:{run_id}");
        for (channel, value) in
            [("test:7", Some("7")), ("test:", None), ("tests:7", None), ("test:a:b", Some("a:b"))]
        {
            assert_eq!(test.value(channel), value, "{channel}");
        }
        let whole = Template::parse("state").unwrap();
        assert_eq!((whole.value("state"), whole.value("states")), (Some(""), None));
        assert_eq!(&*whole.fill("x"), "state");
        let behind = Template::parse("a:{b}:c").unwrap();
        assert_eq!(
            (behind.value("a:1:c"), behind.value("a::c"), behind.value("a:c")),
            (Some("1"), None, None)
        );
        for text in ["", "{", "}", "a{b", "a}b", "{a}{b}", "{}", "{a-b}", "a}{b}"] {
            assert_eq!(Template::parse(text), None, "{text}");
        }
    }
}
