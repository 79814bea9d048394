//! The setting that says what client certificates permit.

use mahavishnu_core::tls::Grant;

use super::kind::Kind;

/// `pattern=permission|permission` with semicolons between.
pub(crate) struct Grants;

impl Kind for Grants {
    type Value = Vec<Grant>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty());
        let grant = |rule: &str| {
            // A permission has no equals sign, a name may.
            let (pattern, list) = rule.rsplit_once('=')?;
            let permissions: Vec<Box<str>> = list.split('|').map(|one| one.trim().into()).collect();
            let sound =
                !permissions.iter().any(|one| one.is_empty() || one.contains(char::is_whitespace));
            sound.then(|| Grant::new(pattern.trim(), permissions).ok())?
        };
        rules.map(grant).collect()
    }

    fn show(&self, value: &Self::Value) -> String {
        let rules: Vec<_> = value.iter().map(ToString::to_string).collect();
        rules.join(";")
    }

    fn allowed(&self) -> String {
        "field:name=permission|permission rules with semicolons between; a field is dns, ip, uri, email, cn, o or ou".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_shown() {
        let text = "cn:ops=admin; DNS:*.Agents.example = pool:read|workflow:read;";
        let grants = Grants.parse(text).unwrap();
        let shown = "cn:ops=admin;dns:*.agents.example=pool:read|workflow:read";
        assert_eq!(Grants.show(&grants), shown);
        assert_eq!(Grants.parse(shown), Some(grants));
        assert_eq!(Grants.parse(""), Some(Vec::new()));
        assert_eq!(Grants.show(&Grants.parse("uri:x://a?b=c=read").unwrap()), "uri:x://a?b=c=read");
        for bad in
            ["ops=admin", "cn:ops", "cn:ops=", "cn:ops=a|", "cn:=admin", "cn:ops=a b", "cn:**=a"]
        {
            assert_eq!(Grants.parse(bad), None, "{bad}");
        }
    }
}
