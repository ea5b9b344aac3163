//! Where users' I/O arrives: the mirrors of this process, by number, on the control thread.

use std::cell::RefCell;
use std::rc::Rc;

use spdk::forwarded_io::{Executor, ForwardedIo};

/// The receiver of the I/O of one bdev.
pub trait Arrivals {
    /// Takes an I/O. HOT.
    fn arrived(self: Rc<Self>, io: ForwardedIo);
}

spdk::thread_local! {
    static TABLE: RefCell<Vec<Option<Rc<dyn Arrivals>>>> = const { RefCell::new(Vec::new()) };
}

/// Gives the receiver of a bdev's I/O a number, by which [`Arriving`] finds it.
pub fn add(arrivals: Rc<dyn Arrivals>) -> usize {
    TABLE.with_borrow_mut(|table| {
        let free = table.iter().position(Option::is_none).unwrap_or(table.len());
        if free == table.len() {
            table.push(None);
        }
        table[free] = Some(arrivals);
        free
    })
}

/// Forgets the receiver of a bdev's I/O. There is no such I/O any more.
pub fn remove(number: usize) {
    drop(TABLE.with_borrow_mut(|table| table.get_mut(number).and_then(Option::take)));
}

/// Takes the I/O of all mirrors. The stamp of an I/O is the number of its mirror.
pub struct Arriving;

impl Executor for Arriving {
    fn arrived(io: ForwardedIo) {
        let number = usize::try_from(io.stamp()).unwrap_or(usize::MAX);
        let arrivals = TABLE.with_borrow(|table| table.get(number).and_then(Clone::clone));
        // Without a mirror the I/O fails, as it is dropped.
        if let Some(arrivals) = arrivals {
            arrivals.arrived(io);
        }
    }
}
