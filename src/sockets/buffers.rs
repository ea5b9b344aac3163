//! The memory of data to be sent that was copied: buffers of three sizes, which are kept for the next
//! use.

/// The sizes of buffers in bytes. Answers without data and requests of few bytes take a small one,
/// and a block of 4 KiB with its header takes one of the second size: with many connections that
/// have one each, larger ones would share few sets of the caches. The large ones hold a quarter of
/// a transfer of 128 KiB, so that little of the last one is wasted.
const SIZES: [usize; 3] = [2 << 10, 8 << 10, 32 << 10];

/// The memory of all buffers of an interface in bytes: 64 connections with as much as each may
/// have.
const TOTAL: usize = 256 << 20;

/// Data to be sent.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
}

impl Buffer {
    /// Returns the memory that the buffer takes, in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Appends bytes, as many as fit. Returns their number.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&bytes[..count]);
        self.len += count;
        count
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Returns the index in [`SIZES`] of the size for `len` bytes, of which the largest may hold only a
/// part.
fn class(len: usize) -> usize {
    SIZES.iter().position(|size| len <= *size).unwrap_or(SIZES.len() - 1)
}

/// The buffers of an interface. A buffer is allocated when none is free, and freed with the
/// interface.
#[derive(Debug, Default)]
pub struct Buffers {
    /// By [`SIZES`].
    free: [Vec<Box<[u8]>>; SIZES.len()],
    /// The memory of all buffers, free or not, in bytes.
    allocated: usize,
    /// The memory of the buffers that were taken out, in bytes.
    used: usize,
}

impl Buffers {
    /// Takes an empty buffer that suits `len` bytes, or one of another size if no more may be
    /// allocated. Returns `None` if all memory is in use.
    pub fn take(&mut self, len: usize) -> Option<Buffer> {
        let class = class(len);
        let size = SIZES[class];
        let bytes = match self.free[class].pop() {
            Some(bytes) => bytes,
            None if self.allocated + size <= TOTAL => {
                self.allocated += size;
                vec![0; size].into_boxed_slice()
            }
            None => self.take_other(class)?,
        };
        self.used += bytes.len();
        Some(Buffer { bytes, len: 0 })
    }

    /// Takes a free buffer of another size, if possible a larger one. Without this, a load whose
    /// buffers have one size would leave none for those that need another one, for ever.
    #[cold]
    fn take_other(&mut self, class: usize) -> Option<Box<[u8]>> {
        let (smaller, larger) = self.free.split_at_mut(class);
        larger.iter_mut().chain(smaller.iter_mut().rev()).find_map(Vec::pop)
    }

    /// Takes a buffer back.
    pub fn put(&mut self, buffer: Buffer) {
        self.used -= buffer.capacity();
        self.free[class(buffer.capacity())].push(buffer.bytes);
    }

    /// Returns the memory of the buffers that are in use, in bytes.
    pub fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = SIZES[2];

    #[test]
    fn buffers_are_used_again_and_limited() {
        let mut buffers = Buffers::default();
        let all: Vec<Buffer> = std::iter::from_fn(|| buffers.take(LARGE + 1)).collect();
        assert_eq!((all.len(), buffers.used()), (TOTAL / LARGE, TOTAL));
        assert!(buffers.take(1).is_none(), "small ones count, too");
        let block = Buffers::default().take(4096 + 48).expect("all are free");
        assert_eq!(block.capacity(), 8 << 10);
        all.into_iter().for_each(|buffer| buffers.put(buffer));
        assert_eq!(buffers.used(), 0);
        let mut again = buffers.take(LARGE).expect("all are free");
        assert_eq!(buffers.allocated, TOTAL, "nothing is allocated twice");
        let other = buffers.take(1).expect("large ones are free");
        assert_eq!((other.capacity(), buffers.used()), (LARGE, 2 * LARGE));
        buffers.put(other);
        assert_eq!(again.append(&[7; LARGE - 1]), LARGE - 1);
        assert_eq!(again.append(&[8; 2]), 1);
        assert_eq!((again.as_ref().len(), again.as_ref()[LARGE - 1]), (LARGE, 8));
    }

    #[test]
    fn small_buffers_serve_large_data_if_no_others_are_free() {
        let mut buffers = Buffers::default();
        let all: Vec<Buffer> = std::iter::from_fn(|| buffers.take(1)).collect();
        assert_eq!(buffers.used(), TOTAL);
        all.into_iter().for_each(|buffer| buffers.put(buffer));
        assert_eq!(buffers.take(LARGE).expect("all are free").capacity(), SIZES[0]);
        assert_eq!((buffers.used(), buffers.allocated), (SIZES[0], TOTAL));
    }
}
