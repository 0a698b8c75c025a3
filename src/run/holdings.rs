//! What the store holds with its containers, and what nothing needs of it.

use super::{CONTAINERS, Error, container, containers};
use crate::image::layer;
use crate::image::session::Session;
use crate::image::store::{Kind, Pruned, Purpose, Reach, Removed, Usage};
use crate::io::archive;

/// Removes what `reach` covers, or tells what it would remove: containers that ended, and what neither images nor
/// containers need.
///
/// # Errors
/// When the disk says no.
pub fn prune(session: &Session, reach: Reach, purpose: Purpose) -> Result<Pruned, Error> {
    let containers = containers(session)?;
    let mut of_containers = Pruned::default();
    if purpose == Purpose::Remove {
        containers.sweep()?;
    }
    for (name, bytes) in containers.ended()? {
        let removed = match purpose {
            Purpose::Remove => containers.get(&name).and_then(|mut container| container.remove()),
            Purpose::Tell => Ok(()),
        };
        match removed {
            Ok(()) => of_containers.add(Removed { kind: Kind::Containers, name, bytes }),
            // Somebody else was faster.
            Err(container::Error::NoContainer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let in_use = || containers.in_use().map_err(std::io::Error::other);
    let mut pruned = session.store.prune(reach, &in_use, purpose, &session.progress).map_err(layer::Error::from)?;
    of_containers.removed.into_iter().for_each(|removed| pruned.add(removed));
    Ok(pruned)
}

/// What the store holds, by kind.
///
/// # Errors
/// When the disk says no.
pub fn usage(session: &Session) -> Result<Vec<Usage>, Error> {
    let containers = containers(session)?;
    let mut of_containers = Usage::none(Kind::Containers);
    for state in containers.all()? {
        of_containers.items += 1;
        of_containers.bytes += archive::size(&session.store.root().join(CONTAINERS).join(&state.name));
    }
    of_containers.unused = containers.ended()?.iter().map(|(_, bytes)| bytes).sum();
    of_containers.caches = of_containers.unused;
    let mut usages = session.store.usage(&containers.in_use()?).map_err(layer::Error::from)?;
    usages.push(of_containers);
    Ok(usages)
}
