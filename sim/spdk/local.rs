//! `spdk::thread_local!`: values that belong to a reactor. The world runs many reactors on one OS
//! thread.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use world::slots::Slot;
use world::with;

/// The values, by process, core, and the address of the static.
#[derive(Default)]
struct Locals(BTreeMap<(u32, u32, usize), Rc<dyn Any>>);

impl Slot for Locals {
    fn take(&mut self, process: u32) -> Option<Box<dyn Any>> {
        let gone: Vec<Rc<dyn Any>> =
            self.0.extract_if(.., |(owner, ..), _| *owner == process).map(|(_, value)| value).collect();
        Some(Box::new(gone))
    }
}

/// Like `std::thread::LocalKey`, but for one core of one simulated process.
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    /// Without this, two statics of size zero could share an address.
    _unique: u8,
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { init, _unique: 0 }
    }

    /// Calls `f` with this reactor's value.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let address = std::ptr::from_ref(self).addr();
        let (key, found) = with(|w| {
            let (process, core) = w.current_core().expect("a reactor's value is used on a thread of it");
            let key = (process, core, address);
            (key, w.slots.get::<Locals>().0.get(&key).cloned())
        });
        let value = found.unwrap_or_else(|| {
            let value: Rc<dyn Any> = Rc::new((self.init)());
            with(|w| w.slots.get::<Locals>().0.insert(key, Rc::clone(&value)));
            value
        });
        f(value.downcast_ref().expect("a static has one type"))
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value.
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    /// Returns a copy of the value.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value and leaves the default.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value, borrowed.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the value, borrowed mutably.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }
}

/// Declares values that belong to a reactor's OS thread, as the macro of `spdk/safe` does.
#[macro_export]
macro_rules! thread_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = const $init:block; $($rest:tt)*) => {
        $(#[$attr])* $vis static $name: $crate::local::LocalKey<$t> = $crate::local::LocalKey::new(|| $init);
        $crate::thread_local!($($rest)*);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = const $init:block) => {
        $crate::thread_local!($(#[$attr])* $vis static $name: $t = const $init;);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr; $($rest:tt)*) => {
        $(#[$attr])* $vis static $name: $crate::local::LocalKey<$t> = $crate::local::LocalKey::new(|| $init);
        $crate::thread_local!($($rest)*);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr) => {
        $crate::thread_local!($(#[$attr])* $vis static $name: $t = $init;);
    };
}
