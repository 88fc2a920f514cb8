//! Where in the text the changes go: lines for what is written in lines, JSON within brackets.

use std::ops::Range;

use super::added::Added;
use super::check::Pod;
use super::edits::Edits;
use super::item::Item;
use super::probes::Rewritten;
use super::report::Report;
use super::tree::{Field, Node};

/// Plans every change of one pod.
pub(super) fn plan(pod: &Pod<'_>, added: &Added, probes: &[Rewritten<'_>], edits: &mut Edits<'_>, report: &mut Report) {
    let mut planner = Planner { pod, edits, report };
    planner.lists(&[("initContainers", &added.init_containers), ("volumes", &added.volumes)]);
    for probe in probes {
        planner.probe(probe);
    }
}

struct Planner<'p, 'a, 'e> {
    pod: &'p Pod<'a>,
    edits: &'p mut Edits<'e>,
    report: &'p mut Report,
}

impl Planner<'_, '_, '_> {
    /// The items go before those that are there.
    fn lists(&mut self, lists: &[(&str, &[Item])]) {
        let spec = self.pod.spec;
        if self.refuse_shared(spec, "spec") {
            return;
        }
        let (present, absent): (Vec<_>, Vec<_>) = lists.iter().partition(|(key, _)| spec.field(key).is_some());
        for (key, items) in present {
            if let Some(field) = spec.field(key) {
                self.extend_list(spec, field, key, items);
            }
        }
        if absent.is_empty() {
            return;
        }
        if spec.is_flow() {
            let fields: Vec<String> = absent
                .iter()
                .map(|(key, items)| format!("\"{key}\": {}, ", Item::List(items.to_vec()).flow()))
                .collect();
            let at = spec.span.start + 1;
            return self.within(at..at, fields.concat());
        }
        // Before the containers, where a reader looks for them.
        let Some(containers) = spec.field("containers") else { return };
        match self.edits.indent(containers.span.start) {
            Some(indent) => {
                let field = |(key, items): &(&str, &[Item])| Item::field(key, &Item::List(items.to_vec()), indent);
                let lines = absent.iter().flat_map(field).collect();
                self.edits.add(containers.span.start, indent, lines);
            }
            None => self.unreadable(containers),
        }
    }

    fn extend_list(&mut self, spec: &Node, field: &Field, key: &str, items: &[Item]) {
        let list = &field.value;
        if self.refuse_shared(list, key) {
            return;
        }
        let whole = Item::List(items.to_vec());
        match list.items() {
            [] if spec.is_flow() => {
                self.within(field.whole(), format!("\"{key}\": {}", whole.flow()));
            }
            [] => match self.edits.indent(field.span.start) {
                Some(indent) => self.edits.replace(&field.whole(), indent, Item::field(key, &whole, indent)),
                None => self.unreadable(field),
            },
            _ if list.is_flow() => {
                let at = list.span.start + 1;
                let items: Vec<String> = items.iter().map(|item| item.flow() + ", ").collect();
                self.within(at..at, items.concat());
            }
            [first, ..] => {
                let dash = self.edits.dash(first.span.start);
                match dash.and_then(|dash| Some((dash, self.edits.indent(dash)?))) {
                    Some((dash, indent)) => {
                        let lines = items.iter().flat_map(|item| item.entry(indent)).collect();
                        self.edits.add(dash, indent, lines);
                    }
                    None => self.unreadable(field),
                }
            }
        }
    }

    fn probe(&mut self, probe: &Rewritten<'_>) {
        let handler = probe.handler;
        let path = format!("{}.{}", probe.container, probe.key);
        if self.refuse_shared(probe.probe, &path) || self.refuse_shared(&handler.value, &path) {
            return;
        }
        if probe.probe.is_flow() {
            return self.within(handler.whole(), format!("\"httpGet\": {}", probe.http_get().flow()));
        }
        match self.edits.indent(handler.span.start) {
            Some(indent) => {
                self.edits.replace(&handler.whole(), indent, Item::field("httpGet", &probe.http_get(), indent));
            }
            None => self.unreadable(handler),
        }
    }

    fn within(&mut self, bytes: Range<usize>, text: String) {
        let outermost = self.pod.document.outermost_flow(&bytes);
        let all = self.pod.document.is_flow();
        self.edits.within(outermost.filter(|_| !all), bytes, text);
    }

    /// A change of what aliases refer to would change all places at once.
    fn refuse_shared(&mut self, node: &Node, path: &str) -> bool {
        if node.shared {
            let message = "this is written with an anchor and aliases, and has to become different in each place";
            self.report.error(node.place, path, message, "write it out in each place");
        }
        node.shared
    }

    fn unreadable(&mut self, field: &Field) {
        let written = self.edits.slice(field.span.clone());
        let message = format!("{written} does not begin its line, so nothing can be added before it");
        self.report.error(field.place, &field.key, message, "write each field on a line of its own");
    }
}
