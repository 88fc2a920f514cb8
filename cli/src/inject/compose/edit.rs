//! The edit itself: which lines are taken out of force, and what is put where.

use std::collections::BTreeSet;

use super::findings::{At, Findings};
use super::layout::{begins_line, is_editable};
use super::marks::Edits;
use super::node::{Field, Node};
use super::service::Service;
use super::yaml::Document;
use super::{Options, check, generate, render};

/// A file that is to be edited.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Without anything that was injected.
    pub text: &'a str,
    pub document: &'a Document,
    /// The top-level field `services`.
    pub services_field: &'a Field,
    pub services: &'a [Service<'a>],
    pub options: &'a Options,
}

impl Draft<'_> {
    /// The edited file. Services are edited in place, with their comments, where that is right; a service for which it is not
    /// (it is in flow style or an alias, or merges one that is edited) is kept as a comment and written anew below it.
    pub fn finish(self, findings: &mut Findings) -> Option<String> {
        let meshed = self.services.iter().enumerate().filter(|(_, service)| service.injected);
        let mut rewritten: BTreeSet<usize> =
            meshed.filter(|(_, service)| !is_editable(self.text, service.field)).map(|(index, _)| index).collect();
        let expected = self.expected();
        // Each round rewrites one service more, or ends.
        loop {
            let edits = self.edits(&rewritten);
            if let Some((place, anchor)) = self.dangling(&edits) {
                match self.service_at(place.line) {
                    Some(index) if rewritten.insert(index) => continue,
                    _ => {
                        let at = At { service: "", field: "", place };
                        let message = format!("the anchor of line {anchor} is in a part that moves to another service");
                        findings.refuse(
                            at,
                            message,
                            "write the value out here, or define the anchor in a field x-… at the top",
                        );
                        return None;
                    }
                }
            }
            let text = edits.apply(self.text);
            match check::compare(&text, self.text, &expected, self.services) {
                Ok(()) => return Some(text),
                Err(check::Wrong::Service(index)) if rewritten.insert(index) => {}
                Err(wrong) => {
                    self.refuse(&wrong, findings);
                    return None;
                }
            }
        }
    }

    fn refuse(&self, wrong: &check::Wrong, findings: &mut Findings) {
        let (service, place, what) = match wrong {
            check::Wrong::Service(index) => {
                let service = &self.services[*index];
                (service.name(), service.field.place, "this service".to_owned())
            }
            check::Wrong::Other(what) => ("", self.services_field.place, what.clone()),
        };
        let hint = "write it plainly: block style, without anchors, aliases and merge keys";
        findings.refuse(
            At { service, field: "", place },
            format!("the sidecar cannot be put in without changing more than it should: {what}"),
            hint,
        );
    }

    /// The first alias that stays while its anchor is taken out.
    fn dangling(&self, edits: &Edits) -> Option<(super::node::Place, u32)> {
        let aliases = self.document.aliases.iter();
        aliases.copied().find(|(place, anchor)| !edits.replaces(place.line) && edits.replaces(*anchor))
    }

    fn service_at(&self, line: u32) -> Option<usize> {
        self.services.iter().position(|s| (s.field.place.line..=s.field.last()).contains(&line))
    }

    fn edits(&self, rewritten: &BTreeSet<usize>) -> Edits {
        let mut edits = Edits::default();
        for (index, service) in self.services.iter().enumerate() {
            if rewritten.contains(&index) {
                self.rewrite(service, &mut edits);
            } else if service.injected {
                self.edit(service, &mut edits);
            }
        }
        let (indent, step) = self.indents();
        let mut added = Vec::new();
        for field in self.generated() {
            added.extend(render::field(&field.key, &field.value, indent, step));
        }
        edits.add(self.services_field.last() + 1, added);
        self.secrets(&mut edits);
        edits
    }

    /// How far services are indented, and how much further their fields are.
    fn indents(&self) -> (usize, usize) {
        let column = |field: &Field| field.place.column.saturating_sub(1) as usize;
        let services = self.services.first().map_or(2, |service| column(service.field));
        let inner = self.services.iter().find(|service| is_editable(self.text, service.field));
        let inner = inner.and_then(|service| service.field.value.written().first()).map(column);
        (
            services,
            inner.and_then(|inner| inner.checked_sub(services)).filter(|step| (1..=8).contains(step)).unwrap_or(2),
        )
    }

    fn edit(&self, service: &Service<'_>, edits: &mut Edits) {
        let (_, step) = self.indents();
        let written = service.field.value.written();
        let Some(first) = written.first() else { return };
        let indent = first.place.column.saturating_sub(1) as usize;
        let added = generate::app(service, self.services);
        edits.add(
            first.place.line,
            added.iter().flat_map(|field| render::field(&field.key, &field.value, indent, step)).collect(),
        );
        for field in written.iter().filter(|field| generate::replaces(service, &field.key.text)) {
            edits.replace(field.place.line, field.last(), indent);
        }
    }

    fn rewrite(&self, service: &Service<'_>, edits: &mut Edits) {
        let (indent, step) = self.indents();
        let (first, last) = (service.field.place.line, service.field.last());
        edits.replace(first, last, indent);
        edits.add(last + 1, render::field(&service.field.key, &self.service(service), indent, step));
    }

    /// What becomes of a service of the user's.
    fn service(&self, service: &Service<'_>) -> Node {
        let own = service.field.value.fields().into_iter();
        if !service.injected {
            return generate::map(own.cloned().collect());
        }
        let mut fields = generate::app(service, self.services);
        fields.extend(own.filter(|field| !generate::replaces(service, &field.key.text)).cloned());
        generate::map(fields)
    }

    /// The services that are ours.
    fn generated(&self) -> Vec<Field> {
        let mut fields = vec![generate::control_plane(self.services, &self.document.root, self.options)];
        for service in self.services.iter().filter(|service| service.injected) {
            fields.push(generate::pod(service, self.services));
            fields.push(generate::sidecar(service, self.options));
        }
        fields
    }

    fn our_secrets(&self) -> Vec<Field> {
        generate::secrets(self.services, self.options).iter().map(|name| generate::secret(name)).collect()
    }

    /// Adds to the top-level secrets, or makes them.
    fn secrets(&self, edits: &mut Edits) {
        let (_, step) = self.indents();
        let written = self.document.root.written().iter().find(|field| field.key.text == "secrets");
        let render = |fields: &[Field], indent| -> Vec<String> {
            fields.iter().flat_map(|field| render::field(&field.key, &field.value, indent, step)).collect()
        };
        let column = |field: &Field| field.place.column.saturating_sub(1) as usize;
        match written {
            Some(field) if is_editable(self.text, field) => {
                let indent = field.value.written().first().map_or(step, column);
                edits.add(field.last() + 1, render(&self.our_secrets(), indent));
            }
            Some(field) if begins_line(self.text, field.place) => {
                edits.replace(field.place.line, field.last(), column(field));
                edits.add(field.last() + 1, render(&[self.all_secrets()], column(field)));
            }
            // What is written in any other way, the comparison refuses.
            _ => {
                let indent = column(self.services_field);
                edits.add(self.services_field.last() + 1, render(&[self.all_secrets()], indent));
            }
        }
    }

    fn all_secrets(&self) -> Field {
        let mut fields: Vec<Field> =
            self.document.root.get("secrets").iter().flat_map(|node| node.fields()).cloned().collect();
        fields.extend(self.our_secrets());
        generate::field("secrets", generate::map(fields))
    }

    /// The whole file as it is meant to be.
    fn expected(&self) -> Node {
        let mut services: Vec<Field> = self
            .services
            .iter()
            .map(|service| Field { value: self.service(service), ..service.field.clone() })
            .collect();
        services.extend(self.generated());
        let own = self.document.root.fields().into_iter();
        let own = own.filter(|field| !matches!(field.key.text.as_str(), "services" | "secrets"));
        let mut fields: Vec<Field> = own.cloned().collect();
        fields.push(generate::field("services", generate::map(services)));
        fields.push(self.all_secrets());
        generate::map(fields)
    }
}
