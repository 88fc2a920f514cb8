//! What is in force against what is wanted. Each difference is one line for people.

use super::expr;
use super::nft::{FoundChain, FoundTable};
use super::rules::{Chain, TABLE, Table};

/// Every difference; none when it is as wanted.
pub fn differences(wanted: &Table, found: Option<&FoundTable>) -> Vec<String> {
    let Some(found) = found else { return vec![format!("the table inet {TABLE} is missing")] };
    let mut lines = Vec::new();
    if found.dormant {
        lines.push(format!("the table inet {TABLE} is dormant: it is there and does nothing"));
    }
    for chain in &wanted.chains {
        match found.chains.iter().find(|other| other.name == chain.name) {
            Some(other) => chain_differences(chain, other, &mut lines),
            None => lines.push(format!("the chain {} is missing", chain.name)),
        }
    }
    for other in &found.chains {
        if wanted.chains.iter().all(|chain| chain.name != other.name) {
            lines.push(format!("the chain {} is not one that was asked for", other.name));
        }
    }
    lines
}

fn chain_differences(wanted: &Chain, found: &FoundChain, lines: &mut Vec<String>) {
    let name = &wanted.name;
    if wanted.base.map(Ok).as_ref() != found.base.as_ref() {
        let text = match &found.base {
            None => "attached nowhere".to_owned(),
            Some(Ok(base)) => format!("`{base}`"),
            Some(Err(words)) => format!("`{words}`"),
        };
        let want = wanted.base.map_or("attached nowhere".to_owned(), |base| format!("`{base}`"));
        lines.push(format!("the chain {name} is {text} instead of {want}"));
    } else if !found.accepts {
        lines.push(format!("the chain {name} drops what no rule matches, instead of accepting it"));
    }
    let lowered: Vec<_> = wanted.rules.iter().map(expr::lower).collect();
    if lowered == found.rules {
        return;
    }
    let before = lines.len();
    for (rule, expressions) in wanted.rules.iter().zip(&lowered) {
        let count = |rules: &[Vec<expr::Expr>]| rules.iter().filter(|other| *other == expressions).count();
        if count(&found.rules) < count(&lowered) {
            lines.push(format!("the chain {name} lacks the rule `{rule}`"));
        }
    }
    for (n, rule) in found.rules.iter().enumerate() {
        let same = lowered.iter().filter(|other| *other == rule).count();
        if found.rules[..=n].iter().filter(|other| *other == rule).count() > same {
            lines.push(format!("the chain {name} has a rule that was not asked for, its number {}", n + 1));
        }
    }
    if lines.len() == before {
        lines.push(format!("the rules of the chain {name} are in another order"));
    }
}
