//! Fields of a message that are rarely there. A message has few fields, so that looking at each of them costs a third of computing the
//! hash of a name.

use http::{HeaderMap, HeaderName, HeaderValue};

/// From so many fields on a look-up by hash is taken.
const MANY: usize = 24;

/// The first value of a field; what [`HeaderMap::get`] says.
pub fn find<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    if headers.keys_len() > MANY {
        return headers.get(name);
    }
    headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// Removes a field, if it is there.
pub fn remove(headers: &mut HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    // Without an error for who removes what is not there.
    find(headers, name)?;
    headers.remove(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_and_removed_among_few_and_among_many() {
        let name = HeaderName::from_static("leno-reason");
        for others in [0, 3, 2 * MANY] {
            let mut headers = HeaderMap::new();
            for n in 0..others {
                headers.insert(HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap(), HeaderValue::from(n));
            }
            assert_eq!(find(&headers, &name), None);
            assert_eq!(remove(&mut headers, &name), None);
            headers.append(&name, HeaderValue::from_static("first"));
            headers.append(&name, HeaderValue::from_static("second"));
            assert_eq!(find(&headers, &name), headers.get(&name));
            assert_eq!(remove(&mut headers, &name).unwrap(), "first");
            assert!(!headers.contains_key(&name) && headers.len() == others);
        }
    }
}
