//! Everything a session may be asked for, at one moment.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::table::Table;
use super::{Resource, ResourceType};

/// How many changes back a session may be and still look only at what changed. Past that it compares all it subscribed to.
const REMEMBERED: usize = 64;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Where its workload is.
    pub namespace: String,
    /// The SPIFFE ID that it has proven.
    pub identity: String,
}

/// A name that changed, whoever may see it.
pub type Touched = (ResourceType, Arc<str>);

type Overrides = HashMap<Arc<str>, Arc<Resource>>;

/// All resources at one moment. Immutable once published; a clone costs some pointers.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The revision of the store that this shows.
    pub revision: u64,
    /// Counts the worlds, since the registry changes without a revision.
    sequence: u64,
    tables: [Table; ResourceType::ALL.len()],
    /// What the clients of one namespace see differently: Services, when consumer routes replace the producer's, and what
    /// sidecars are told about themselves. The names of the two kinds cannot be mistaken for each other.
    consumers: Arc<HashMap<String, Arc<Overrides>>>,
    /// What the last worlds changed, oldest first; the last one belongs to `sequence`.
    deltas: VecDeque<Arc<[Touched]>>,
}

impl World {
    /// A resource as a client sees it.
    pub fn get(&self, kind: ResourceType, name: &str, client: &Client) -> Option<&Arc<Resource>> {
        // It carries private keys: for the others there is no such Gateway.
        if kind == ResourceType::Gateway && name.split('/').next() != Some(&client.namespace) {
            return None;
        }
        if matches!(kind, ResourceType::Service | ResourceType::SidecarConfig)
            && let Some(own) = self.consumers.get(&client.namespace).and_then(|services| services.get(name))
        {
            return Some(own);
        }
        let resource = self.table(kind).get(name)?;
        let instead = resource.readers.as_ref().and_then(|readers| readers.instead(&client.identity));
        Some(instead.unwrap_or(resource))
    }

    /// Counts the worlds of this life of the control plane.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The names that may have changed since a world; none when that is too long ago to know.
    pub fn changed_since(&self, sequence: u64) -> Option<impl Iterator<Item = &Touched>> {
        let behind = usize::try_from(self.sequence.checked_sub(sequence)?).ok()?;
        let skip = self.deltas.len().checked_sub(behind)?;
        Some(self.deltas.range(skip..).flat_map(|delta| delta.iter()))
    }

    /// How many resources of a type there are, without the consumers' own views.
    pub fn count(&self, kind: ResourceType) -> usize {
        self.table(kind).len()
    }

    fn table(&self, kind: ResourceType) -> &Table {
        &self.tables[kind as usize]
    }

    /// Starts the next world after this one.
    pub(super) fn edit(&self) -> Edit {
        Edit { world: self.clone(), touched: Vec::new() }
    }
}

/// A world in the making.
pub(super) struct Edit {
    world: World,
    touched: Vec<Touched>,
}

impl Edit {
    pub(super) fn set(&mut self, kind: ResourceType, name: &str, resource: Option<Resource>) {
        if let Some(name) = self.world.tables[kind as usize].set(name, resource) {
            self.touched.push((kind, name));
        }
    }

    /// Replaces the views that the clients of some namespaces have of one resource.
    pub(super) fn set_consumers(&mut self, kind: ResourceType, service: &str, views: &HashMap<String, Resource>) {
        let stale: Vec<String> = self
            .world
            .consumers
            .iter()
            .filter(|(namespace, services)| services.contains_key(service) && !views.contains_key(*namespace))
            .map(|(namespace, _)| namespace.clone())
            .collect();
        if stale.is_empty() && views.is_empty() {
            return;
        }
        let name: Arc<str> = Arc::from(service);
        let consumers = Arc::make_mut(&mut self.world.consumers);
        for namespace in stale {
            if let Some(services) = consumers.get_mut(&namespace) {
                Arc::make_mut(services).remove(service);
            }
        }
        for (namespace, view) in views {
            let services = Arc::make_mut(consumers.entry(namespace.clone()).or_default());
            services.insert(name.clone(), Arc::new(view.clone()));
        }
        consumers.retain(|_, services| !services.is_empty());
        self.touched.push((kind, name));
    }

    /// The finished world, or none when nothing is new in it.
    pub(super) fn finish(mut self, revision: u64) -> Option<World> {
        if self.touched.is_empty() && self.world.revision == revision && self.world.sequence > 0 {
            return None;
        }
        self.world.revision = revision;
        self.world.sequence += 1;
        if self.world.deltas.len() == REMEMBERED {
            self.world.deltas.pop_front();
        }
        self.world.deltas.push_back(self.touched.into());
        Some(self.world)
    }
}

/// Makes worlds by hand, for the tests of those who read them.
#[cfg(test)]
pub(crate) struct WorldBuilder(Edit);

#[cfg(test)]
impl WorldBuilder {
    pub(crate) fn after(world: &World) -> Self {
        Self(world.edit())
    }

    pub(crate) fn set(&mut self, kind: ResourceType, name: &str, resource: Option<Resource>) {
        self.0.set(kind, name, resource);
    }

    pub(crate) fn finish(self, revision: u64) -> Arc<World> {
        Arc::new(self.0.finish(revision).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leno_proto::v1::SidecarConfig;

    fn config(n: u64) -> SidecarConfig {
        SidecarConfig { renew_generation: n, ..SidecarConfig::default() }
    }

    fn next(world: &World, name: &str, n: u64) -> World {
        let mut edit = world.edit();
        edit.set(ResourceType::Service, name, Some(Resource::encode(&config(n))));
        edit.finish(0).unwrap()
    }

    #[test]
    fn a_session_that_is_a_few_worlds_behind_sees_what_they_changed_and_one_far_behind_is_told_so() {
        let mut world = World::default();
        for n in 1..=100 {
            world = next(&world, &n.to_string(), n);
        }
        let names: Vec<&str> = world.changed_since(97).unwrap().map(|(_, name)| &**name).collect();
        assert_eq!(names, ["98", "99", "100"]);
        assert_eq!(world.changed_since(100).unwrap().count(), 0);
        assert_eq!(world.changed_since(100 - REMEMBERED as u64).unwrap().count(), REMEMBERED);
        assert!(world.changed_since(99 - REMEMBERED as u64).is_none());
    }

    #[test]
    fn an_edit_that_changes_nothing_makes_no_world() {
        let world = next(&World::default(), "a", 1);
        let mut edit = world.edit();
        edit.set(ResourceType::Service, "a", Some(Resource::encode(&config(1))));
        assert!(edit.finish(0).is_none());
        assert_eq!(world.edit().finish(1).unwrap().revision, 1, "a new revision is a new world");
    }
}
