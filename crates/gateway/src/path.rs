//! Where a path leads. Pure. Names are taken as they stand, never decoded: what is not a plain name
//! is no service, so no spelling of one path reaches another service.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

#[derive(Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Not below `/s/`: the API's.
    Api,
    /// Below `/s/`, but no service can have such a path.
    Nowhere,
    /// The rest of the path steps up with `..`, plainly or encoded.
    Climbing,
    Service(ServicePath<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct ServicePath<'a> {
    pub project: &'a str,
    /// `PROJECT/SERVICE`, as the table's keys are.
    pub key: &'a str,
    /// `/s/PROJECT/SERVICE`
    pub prefix: &'a str,
}

const ROOT: &str = "/s/";

pub fn parse(path: &str) -> Target<'_> {
    let Some(below) = path.strip_prefix(ROOT) else {
        return Target::Api;
    };
    let Some((project, after)) = below.split_once('/') else {
        return Target::Nowhere;
    };
    let service = after.split_once('/').map_or(after, |(service, _)| service);
    if !is_name(project) || !is_name(service) {
        return Target::Nowhere;
    }
    let key = &below[..project.len() + 1 + service.len()];
    let (prefix, rest) = path.split_at(ROOT.len() + key.len());
    if climbs(rest) {
        return Target::Climbing;
    }
    Target::Service(ServicePath { project, key, prefix })
}

/// The path and query that the replica sees.
pub fn below_prefix<'a>(path_and_query: &'a str, prefix: &str) -> Cow<'a, str> {
    let rest = &path_and_query[prefix.len()..];
    if rest.starts_with('/') { Cow::Borrowed(rest) } else { Cow::Owned(format!("/{rest}")) }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Servers differ in what they take for a separator (`\`, `%2f`) and in parameters (`..;a=b`), so all
/// of them count.
fn climbs(rest: &str) -> bool {
    if !rest.bytes().any(|byte| byte == b'.' || byte == b'%') {
        return false;
    }
    let decoded: Cow<'_, [u8]> = percent_decode_str(rest).into();
    decoded
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .any(|segment| segment.split(|byte| *byte == b';').next() == Some(b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_is_a_service() {
        let service = |project, key, prefix| Target::Service(ServicePath { project, key, prefix });
        for (path, target) in [
            ("/s/default/digits", service("default", "default/digits", "/s/default/digits")),
            ("/s/default/digits/", service("default", "default/digits", "/s/default/digits")),
            ("/s/a/b/predict/x.y", service("a", "a/b", "/s/a/b")),
            ("/s/a/b//c", service("a", "a/b", "/s/a/b")),
            ("/s/a/b/v1...2", service("a", "a/b", "/s/a/b")),
            ("/s/a/b/%252e%252e/c", service("a", "a/b", "/s/a/b")),
            ("/", Target::Api),
            ("/s", Target::Api),
            ("/api/v1/runs", Target::Api),
            ("/%73/a/b", Target::Api),
            ("//s/a/b", Target::Api),
            ("/S/a/b", Target::Api),
            ("/x/../s/a/b", Target::Api),
            ("*", Target::Api),
            ("", Target::Api),
            ("/s/", Target::Nowhere),
            ("/s/a", Target::Nowhere),
            ("/s/a/", Target::Nowhere),
            ("/s//a/b", Target::Nowhere),
            ("/s/../a/b", Target::Nowhere),
            ("/s/a/../b/c", Target::Nowhere),
            ("/s/a/%62/c", Target::Nowhere),
            ("/s/a%2fb/c", Target::Nowhere),
            ("/s/a/b%2f..%2fc", Target::Nowhere),
            ("/s/a/b;x/c", Target::Nowhere),
            ("/s/A/b", Target::Nowhere),
            ("/s/a/b\\..\\c", Target::Nowhere),
            ("/s/a/b/../c", Target::Climbing),
            ("/s/a/b/..", Target::Climbing),
            ("/s/a/b/x/%2e%2E/c", Target::Climbing),
            ("/s/a/b/.%2e/.%2e/c", Target::Climbing),
            ("/s/a/b/x%2f..%2f..%2fc", Target::Climbing),
            ("/s/a/b/x%5c..%5cc", Target::Climbing),
            ("/s/a/b/..;p=1/c", Target::Climbing),
        ] {
            assert_eq!(parse(path), target, "{path}");
        }
    }

    #[test]
    fn the_replica_sees_the_path_below_the_service() {
        for (given, seen) in [
            ("/s/a/b", "/"),
            ("/s/a/b?x=/s/c/d", "/?x=/s/c/d"),
            ("/s/a/b/", "/"),
            ("/s/a/b//c?d", "//c?d"),
            ("/s/a/b/s/a/b/c", "/s/a/b/c"),
        ] {
            assert_eq!(below_prefix(given, "/s/a/b"), seen);
        }
    }
}
