//! Which of many rules can match a path: those that name it, or a part of it and all below, are found by a look-up for each of its
//! segments, and the rest is tried one by one. What is found is a superset; whether a rule matches is said by the rule alone.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{AuthorizationRule, Pattern};

/// So many rules are tried one by one in less time than a look-up takes.
const FEW: usize = 8;

/// Rules in their order, of which the first that matches counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Indexed {
    rules: Vec<Arc<AuthorizationRule>>,
    /// None: there are few.
    paths: Option<Paths>,
}

#[derive(Debug, Clone, Default)]
struct Paths {
    /// Numbers of rules, by path in lower case without a `/` at the end.
    by_path: HashMap<Box<[u8]>, Vec<usize>>,
    /// Of those that match other paths, too.
    rest: Vec<usize>,
    /// Most segments of a path in there.
    depth: usize,
}

impl PartialEq for Indexed {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Indexed {}

impl Indexed {
    pub(super) fn new(rules: Vec<Arc<AuthorizationRule>>) -> Self {
        let paths = (rules.len() > FEW).then(|| Paths::of(&rules));
        Self { rules, paths }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<AuthorizationRule>> {
        self.rules.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first rule that matches; `path` is None where nobody knows it.
    pub(super) fn first(
        &self,
        path: Option<&[u8]>,
        matches: impl Fn(&AuthorizationRule) -> bool,
    ) -> Option<&AuthorizationRule> {
        let (Some(paths), Some(path)) = (&self.paths, path) else {
            return self.rules.iter().find(|rule| matches(rule)).map(Arc::as_ref);
        };
        let first = |numbers: &[usize]| numbers.iter().copied().find(|n| matches(&self.rules[*n]));
        let found = paths.naming(path).filter_map(first).chain(first(&paths.rest)).min();
        found.map(|n| self.rules[n].as_ref())
    }
}

impl Paths {
    fn of(rules: &[Arc<AuthorizationRule>]) -> Self {
        let mut paths = Self::default();
        for (n, rule) in rules.iter().enumerate() {
            let Some(keys) = keys(rule) else {
                paths.rest.push(n);
                continue;
            };
            for key in keys {
                paths.depth = paths.depth.max(key.iter().filter(|b| **b == b'/').count());
                let numbers = paths.by_path.entry(key.into_boxed_slice()).or_default();
                if numbers.last() != Some(&n) {
                    numbers.push(n);
                }
            }
        }
        paths
    }

    /// Of the path itself and of each that it is below of, as deep as any rule goes.
    fn naming<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = &'a [usize]> {
        let lower = key(path);
        let ends: Vec<usize> = lower
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at)
            .chain([lower.len()])
            .take(self.depth + 1)
            .collect();
        ends.into_iter().filter_map(move |end| self.by_path.get(&lower[..end])).map(Vec::as_slice)
    }
}

/// The paths that a rule names; None: it may match others, too.
fn keys(rule: &AuthorizationRule) -> Option<Vec<Vec<u8>>> {
    let patterns = || rule.to.iter().flat_map(|to| &to.paths.one_of);
    if rule.to.is_empty() || rule.to.iter().any(|to| to.paths.one_of.is_empty()) {
        return None;
    }
    patterns()
        .map(|pattern| match pattern {
            Pattern::Exact(path) | Pattern::Below(path) => Some(key(path.as_bytes())),
            Pattern::Begins(_) | Pattern::Ends(_) => None,
        })
        .collect()
}

/// Rules differ in whether case and a `/` at the end matter; for all of them what is the same here may match.
fn key(path: &[u8]) -> Vec<u8> {
    path.strip_suffix(b"/").unwrap_or(path).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Among, RequestMatch};

    fn rule(patterns: &[&str]) -> Arc<AuthorizationRule> {
        let pattern = |text: &&str| match text.strip_suffix("/*") {
            Some(path) => Pattern::Below(path.to_owned()),
            None => Pattern::Exact((*text).to_owned()),
        };
        let any = || Among { one_of: vec![], none_of: vec![] };
        let to = RequestMatch {
            methods: any(),
            paths: Among { one_of: patterns.iter().map(pattern).collect(), none_of: vec![] },
            hosts: Among { one_of: vec![], none_of: vec![] },
            ports: Among { one_of: vec![], none_of: vec![] },
            headers: vec![],
            claims: vec![],
        };
        let name = patterns.join(",");
        Arc::new(AuthorizationRule { policy: String::new(), name, from: vec![], to: vec![to] })
    }

    const SEGMENTS: [&str; 5] = ["a", "B", "b", "c%20d", "é"];

    fn path(random: &mut fastrand::Rng) -> String {
        let mut path: String =
            (0..random.usize(0..4)).map(|_| format!("/{}", random.choice(SEGMENTS).unwrap())).collect();
        if path.is_empty() || random.bool() {
            path.push('/');
        }
        path
    }

    #[test]
    fn what_the_index_finds_is_what_trying_each_rule_finds() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let rules: Vec<_> = (0..random.usize(FEW + 1..40))
                .map(|_| {
                    let mut patterns: Vec<String> = (0..random.usize(0..3)).map(|_| path(&mut random)).collect();
                    for pattern in &mut patterns {
                        if random.bool() {
                            *pattern = format!("{}/*", pattern.trim_end_matches('/'));
                        }
                    }
                    rule(&patterns.iter().map(String::as_str).collect::<Vec<_>>())
                })
                .collect();
            let indexed = Indexed::new(rules.clone());
            assert!(indexed.paths.is_some());
            for broad in [true, false] {
                let asked = path(&mut random);
                let matches = |rule: &AuthorizationRule| {
                    let patterns = &rule.to[0].paths.one_of;
                    patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_path(asked.as_bytes(), broad))
                };
                let expected = rules.iter().find(|rule| matches(rule)).map(|rule| &rule.name);
                let found = indexed.first(Some(asked.as_bytes()), matches).map(|rule| &rule.name);
                assert_eq!(found, expected, "{asked}");
            }
        }
    }

    #[test]
    fn of_many_rules_only_those_that_name_the_path_are_tried() {
        let rules = (0..1_000).map(|n| rule(&[&format!("/api/v1/things-{n}/*")])).collect();
        let indexed = Indexed::new(rules);
        let tried = std::cell::Cell::new(0);
        let found = indexed.first(Some(b"/api/v1/things-700/x/y/z"), |_| {
            tried.set(tried.get() + 1);
            true
        });
        assert_eq!((found.map(|rule| rule.name.as_str()), tried.get()), (Some("/api/v1/things-700/*"), 1));
        assert!(indexed.first(Some(b"/api/v1/other"), |_| panic!("no rule names it")).is_none());
        // Without a path each may be meant.
        assert!(indexed.first(None, |_| true).is_some());
    }
}
