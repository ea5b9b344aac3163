//! All connections of a stack: a slab, and an index by addresses.

use std::collections::HashMap;

use crate::connection::Connection;
use crate::event::{ConnectionId, ListenerId};
use crate::secret::{Secret, Tuple};
use crate::send_queue::Payload;

/// What a connection counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    HalfOpen(ListenerId),
    Waiting(ListenerId),
    /// The user knows of it.
    InUse,
    /// In TIME-WAIT.
    Remembered,
}

#[derive(Debug)]
pub(crate) struct Entry<F, B> {
    pub connection: Connection<F, B>,
    pub stage: Stage,
    /// It is in the list of those that may have something to send.
    pub is_ready: bool,
    /// It is in the list of those whose ACKs are delayed.
    pub has_delayed_ack: bool,
    tuple: Tuple,
}

#[derive(Debug)]
struct Slot<F, B> {
    generation: u32,
    entry: Option<Box<Entry<F, B>>>,
}

/// All connections of a stack.
#[derive(Debug)]
pub(crate) struct Table<F, B> {
    slots: Vec<Slot<F, B>>,
    free: Vec<u32>,
    index: HashMap<Tuple, u32, Secret>,
}

impl<F, B: Payload> Table<F, B> {
    pub fn new(secret: Secret) -> Table<F, B> {
        Table { slots: Vec::new(), free: Vec::new(), index: HashMap::with_hasher(secret) }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the connection with these addresses.
    pub fn find(&self, tuple: &Tuple) -> Option<ConnectionId> {
        let index = *self.index.get(tuple)?;
        Some(ConnectionId { index, generation: self.slots[index as usize].generation })
    }

    pub fn get(&self, id: ConnectionId) -> Option<&Entry<F, B>> {
        let slot = self.slots.get(id.index as usize)?;
        slot.entry.as_deref().filter(|_| slot.generation == id.generation)
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Entry<F, B>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.entry.as_deref_mut().filter(|_| slot.generation == id.generation)
    }

    /// Adds the connection that `make` returns for its id. No other one may have these addresses.
    pub fn insert(
        &mut self,
        tuple: Tuple,
        stage: Stage,
        make: impl FnOnce(ConnectionId) -> Connection<F, B>,
    ) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let id = ConnectionId { index, generation: slot.generation };
        let connection = make(id);
        let entry = Entry { connection, stage, is_ready: false, has_delayed_ack: false, tuple };
        slot.entry = Some(Box::new(entry));
        self.index.insert(tuple, index);
        id
    }

    /// Removes a connection. Returns whether there was such a one.
    pub fn remove(&mut self, id: ConnectionId) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        let slot = &mut self.slots[id.index as usize];
        if let Some(entry) = slot.entry.take() {
            slot.generation = slot.generation.wrapping_add(1);
            self.index.remove(&entry.tuple);
            self.free.push(id.index);
        }
        true
    }

    /// Calls `f` for each connection.
    pub fn for_each(&self, mut f: impl FnMut(&Connection<F, B>)) {
        self.slots.iter().filter_map(|slot| slot.entry.as_deref()).for_each(|entry| f(&entry.connection));
    }
}
