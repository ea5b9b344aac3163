//! A received frame.

/// A received frame, as it waits to be read.
#[derive(Debug)]
pub enum Held<F> {
    /// The frame is in a buffer of the port.
    Port(F),
    /// The frame was copied, because the port had few buffers left.
    Copied(Box<[u8]>),
}

impl<F: AsRef<[u8]>> AsRef<[u8]> for Held<F> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Held::Port(frame) => frame.as_ref(),
            Held::Copied(bytes) => bytes,
        }
    }
}
