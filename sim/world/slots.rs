//! Data that the layers above keep in the world: one value of each of their types.

use std::any::{Any, TypeId};

/// A value that a layer above keeps in the world and in which processes may own parts.
pub trait Slot: Any {
    /// Returns whether a dead process still owns something here that only its own code can take
    /// apart. The process is given turns for that.
    fn is_in_use(&self, _process: u32) -> bool {
        false
    }

    /// Removes and returns what belongs to a process that has ended, for the caller to drop.
    fn take(&mut self, _process: u32) -> Option<Box<dyn Any>> {
        None
    }
}

/// All slots.
#[derive(Default)]
pub struct Slots(Vec<(TypeId, Box<dyn Slot>)>);

impl Slots {
    /// Returns the value of type `T`, at first its default.
    pub fn get<T: Slot + Default>(&mut self) -> &mut T {
        let wanted = TypeId::of::<T>();
        let at = self.0.iter().position(|(id, _)| *id == wanted).unwrap_or_else(|| {
            self.0.push((wanted, Box::new(T::default())));
            self.0.len() - 1
        });
        let slot: &mut dyn Any = &mut *self.0[at].1;
        slot.downcast_mut().expect("its type was just looked at")
    }

    /// Returns the value of type `T` if it was ever created.
    pub fn peek<T: Slot>(&self) -> Option<&T> {
        self.0.iter().find_map(|(_, slot)| (&**slot as &dyn Any).downcast_ref())
    }

    pub(crate) fn is_in_use(&self, process: u32) -> bool {
        self.0.iter().any(|(_, slot)| slot.is_in_use(process))
    }

    pub(crate) fn take(&mut self, process: u32) -> Vec<Box<dyn Any>> {
        self.0.iter_mut().filter_map(|(_, slot)| slot.take(process)).collect()
    }
}
