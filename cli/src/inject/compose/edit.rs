//! The edit itself: which lines are taken out of force, and what is put where.

use std::collections::BTreeSet;

use super::findings::{At, Findings};
use super::layout::{begins_line, is_editable};
use super::marks::Edits;
use super::node::{Field, Node, Place};
use super::service::Service;
use super::yaml::Document;
use super::{Options, check, generate, render};

/// A file that is to be edited.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Without anything that was injected.
    pub text: &'a str,
    pub document: &'a Document<'a>,
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
            meshed.filter(|(_, service)| !is_editable(self.document, service.field)).map(|(index, _)| index).collect();
        let expected = self.expected();
        // Each round rewrites more services, or ends.
        loop {
            let edits = self.edits(&rewritten);
            let dangling = self.dangling(&edits);
            if !dangling.is_empty() {
                let users: Vec<Option<usize>> = dangling.iter().map(|(place, _)| self.service_at(place.line)).collect();
                let before = rewritten.len();
                rewritten.extend(users.iter().flatten());
                if users.contains(&None) || rewritten.len() == before {
                    self.refuse_aliases(&dangling, findings);
                    return None;
                }
                continue;
            }
            let text = edits.apply(self.text);
            match check::compare(&text, self.text, &expected, self.services) {
                Ok(()) => return Some(text),
                Err(check::Wrong::Services(indices)) if indices.iter().any(|index| !rewritten.contains(index)) => {
                    rewritten.extend(indices);
                }
                Err(wrong) => {
                    self.refuse(&wrong, findings);
                    return None;
                }
            }
        }
    }

    fn refuse_aliases(&self, aliases: &[(Place, u32)], findings: &mut Findings) {
        for (place, anchor) in aliases {
            let message = format!("the anchor of line {anchor} is in a part that moves to another service");
            let hint = "write the value out here, or define the anchor in a field x-… at the top";
            findings.refuse(At { service: "", field: "", place: *place }, message, hint);
        }
    }

    fn refuse(&self, wrong: &check::Wrong, findings: &mut Findings) {
        let (service, place, what) = match wrong {
            check::Wrong::Services(indices) => {
                let service = indices.first().and_then(|index| self.services.get(*index));
                let place = service.map_or(self.services_field.place, |service| service.field.place);
                (service.map_or("", |service| service.name()), place, "this service".to_owned())
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

    /// The aliases that stay while their anchors are taken out.
    fn dangling(&self, edits: &Edits) -> Vec<(Place, u32)> {
        let aliases = self.document.aliases.iter().copied();
        aliases.filter(|(place, anchor)| !edits.replaces(place.line) && edits.replaces(*anchor)).collect()
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
        let inner = self.services.iter().find(|service| is_editable(self.document, service.field));
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
            Some(field) if is_editable(self.document, field) => {
                let indent = field.value.written().first().map_or(step, column);
                edits.add(field.last() + 1, render(&self.our_secrets(), indent));
            }
            Some(field) if begins_line(self.document, field.place) => {
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
