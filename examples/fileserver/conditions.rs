//! Requests that ask for a file only if it is, or is not, what the client has already.

use std::time::SystemTime;

/// Which state of a file a response is about.
#[derive(Debug)]
pub struct Version {
    /// With its quotes.
    pub tag: String,
    /// In whole seconds, since that is what a header can say.
    pub modified: SystemTime,
}

/// The conditions of a request, as their headers have them.
#[derive(Debug, Default)]
pub struct Conditions {
    pub if_match: Option<String>,
    pub if_none_match: Option<String>,
    pub if_modified_since: Option<String>,
    pub if_unmodified_since: Option<String>,
    pub if_range: Option<String>,
}

/// What a request's conditions come to.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Verdict {
    Send,
    NotModified,
    Failed,
}

impl Conditions {
    /// In the order of RFC 9110, section 13.2.2: a tag says more than a date, which is looked at
    /// only without one. A date that is none says nothing.
    pub fn judge(&self, version: &Version) -> Verdict {
        let date = |text: &Option<String>| httpdate::parse_http_date(text.as_deref()?).ok();
        let fails = match &self.if_match {
            Some(tags) => !names(tags, &version.tag, false),
            None => date(&self.if_unmodified_since).is_some_and(|date| version.modified > date),
        };
        if fails {
            return Verdict::Failed;
        }
        let is_known = match &self.if_none_match {
            Some(tags) => names(tags, &version.tag, true),
            None => date(&self.if_modified_since).is_some_and(|date| version.modified <= date),
        };
        if is_known { Verdict::NotModified } else { Verdict::Send }
    }

    /// Whether a range is of the version that the client has begun with.
    pub fn allow_range(&self, version: &Version) -> bool {
        match self.if_range.as_deref() {
            None => true,
            Some(tag) if tag.starts_with('"') => tag == version.tag,
            Some(date) => httpdate::parse_http_date(date).is_ok_and(|it| it == version.modified),
        }
    }
}

/// Whether a list of tags has this one. Weak ones are equal to none, unless that is asked for.
fn names(list: &str, tag: &str, weak: bool) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let mut rest = list.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (is_weak, begin) = match rest.strip_prefix("W/") {
            Some(begin) => (true, begin),
            None => (false, rest),
        };
        let Some(end) = begin.strip_prefix('"').and_then(|inner| inner.find('"')) else {
            return false;
        };
        let (one, others) = begin.split_at(end + 2);
        if one == tag && (weak || !is_weak) {
            return true;
        }
        rest = others.trim_start_matches([' ', '\t', ',']);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn version() -> Version {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        Version { tag: "\"a,b\"".into(), modified }
    }

    #[test]
    fn tags_are_found_in_lists() {
        for (list, weak, expected) in [
            ("*", false, true),
            ("\"a,b\"", false, true),
            ("\"x\", \"a,b\"", false, true),
            ("W/\"a,b\"", false, false),
            ("W/\"a,b\"", true, true),
            ("\"x\",, W/\"y\" ,\"a,b\"", false, true),
            ("\"a\", \"b\"", true, false),
            ("a,b", true, false),
            ("\"a,b", true, false),
            ("", true, false),
        ] {
            assert_eq!(names(list, "\"a,b\"", weak), expected, "{list}");
        }
    }

    #[test]
    fn a_tag_says_more_than_a_date() {
        let same = "Sun, 06 Nov 1994 08:49:37 GMT";
        let before = "Sun, 06 Nov 1994 08:49:36 GMT";
        let judge = |change: fn(&mut Conditions, Option<String>), text: &str| {
            let mut conditions = Conditions::default();
            change(&mut conditions, Some(text.to_owned()));
            conditions.judge(&version())
        };
        assert_eq!(judge(|it, text| it.if_modified_since = text, same), Verdict::NotModified);
        assert_eq!(judge(|it, text| it.if_modified_since = text, before), Verdict::Send);
        assert_eq!(judge(|it, text| it.if_modified_since = text, "yesterday"), Verdict::Send);
        assert_eq!(judge(|it, text| it.if_unmodified_since = text, same), Verdict::Send);
        assert_eq!(judge(|it, text| it.if_unmodified_since = text, before), Verdict::Failed);
        assert_eq!(judge(|it, text| it.if_match = text, "\"x\""), Verdict::Failed);
        let conditions = Conditions {
            if_none_match: Some("\"x\"".into()),
            if_modified_since: Some(same.into()),
            ..Conditions::default()
        };
        assert_eq!(conditions.judge(&version()), Verdict::Send);
    }
}
