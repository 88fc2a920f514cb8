//! A path as a rule would name it: what stands for a thing and not for a place, as the number of an order, is left out, with all below it.

use super::reading;

/// Longest path that is named as a whole, in bytes.
const MOST_BYTES: usize = 256;

/// The path, or the part of it before what is variable and `/*`. None: it has no one reading, so no rule could name it.
pub fn of(path: &str) -> Option<String> {
    let path = reading::path(path).filter(|path| path.starts_with('/'))?;
    let mut named = String::new();
    for segment in path[1..].split('/') {
        if is_variable(segment) || named.len() + segment.len() > MOST_BYTES {
            named.push_str("/*");
            return Some(named);
        }
        named.push('/');
        named.push_str(segment);
    }
    Some(named)
}

/// Numbers, UUIDs, hashes and other identifiers, and what a rule cannot say literally.
fn is_variable(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let hex = segment.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let numeric = digits > 0 && segment.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':' | b'_'));
    // `v1` and `oauth2` name places; `order-20261126-0017` does not.
    let counted = digits >= 4 && digits * 3 >= segment.len();
    numeric || counted || (hex && digits > 0 && segment.len() >= 8) || segment.contains('*') || segment.len() > 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_thing_is_left_out_with_all_below_it() {
        for (path, expected) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/api/v1/users", "/api/v1/users"),
            ("/oauth2/token", "/oauth2/token"),
            ("/users/17", "/users/*"),
            ("/users/17/orders", "/users/*"),
            ("/17", "/*"),
            ("/o/0d9c0f5e-93a5-4c7e-a6bb-1c2f30b9a0d7/x", "/o/*"),
            ("/blob/deadbeef01", "/blob/*"),
            ("/facade/decade", "/facade/decade"),
            ("/order-20261126-0017/lines", "/*"),
            ("/day/2026-11-26", "/day/*"),
            ("/a%20b/c", "/a b/c"),
            ("/files/a*b", "/files/*"),
        ] {
            assert_eq!(of(path).as_deref(), Some(expected), "{path}");
        }
        let long = format!("/a/{}", "x".repeat(65));
        assert_eq!(of(&long).as_deref(), Some("/a/*"));
        let deep = "/abcdefgh".repeat(100);
        assert!(of(&deep).is_some_and(|path| path.len() <= MOST_BYTES + 40 && path.ends_with("/*")));
    }

    #[test]
    fn what_has_no_one_reading_has_no_pattern() {
        for path in ["*", "", "a", "/a//b", "/a/../b", "/a%2fb", "/a;b"] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
