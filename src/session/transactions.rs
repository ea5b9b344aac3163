//! The client's slab of outstanding transactions, and the order in which they go on the wire.

use std::collections::VecDeque;

use dst_wire::{CREDITS_MAX, Flags, HEADER_LEN, Header, Kind, Op, Status};

use crate::Violation;
use crate::mutation::{self, Mutation};

mod aborts;

/// What a transaction asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request {
    /// The operation.
    pub op: Op,
    /// The first block.
    pub start: u64,
    /// The number of blocks.
    pub count: u64,
    /// The size of the request's data in bytes.
    pub request_len: u32,
    /// The size of a successful answer's data in bytes.
    pub answer_len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SlotState {
    Free,
    ToSend,
    Sent,
    /// The request is sent, and its abort is sent or queued.
    Aborting,
    /// The target holds the transaction, which has no user any more. Its answer is still to come.
    Held,
}

impl SlotState {
    fn awaited(self) -> Awaited {
        match self {
            SlotState::Aborting => Awaited::Overdue,
            SlotState::Held => Awaited::ByNobody,
            SlotState::Free | SlotState::ToSend | SlotState::Sent => Awaited::ByUser,
        }
    }

    /// Returns whether the request is sent, and the user waits for the answer.
    fn awaits_answer(self) -> bool {
        matches!(self, SlotState::Sent | SlotState::Aborting)
    }

    /// Returns whether the user waits for the transaction.
    fn is_outstanding(self) -> bool {
        matches!(self, SlotState::ToSend | SlotState::Sent | SlotState::Aborting)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot<T> {
    state: SlotState,
    id: u64,
    header: [u8; HEADER_LEN],
    request: Request,
    begun_us: u64,
    /// The digest of the request's data, if there is data and the connection has digests.
    digest: Option<u32>,
    past: Past,
    /// The number of times that the request was sent again on this connection because data was
    /// corrupt.
    repeats: u32,
    /// The slot's neighbours in the order of beginning, while the slot is in use.
    older: u16,
    newer: u16,
    user: Option<T>,
}

/// What is known of a transaction that a connection which ended has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unanswered {
    /// The target has not executed it, and never will on that connection.
    NotExecuted,
    /// The target may have executed it.
    MayBeExecuted,
}

/// What became of a transaction on the connections before the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Past {
    /// The number of connections after the first on which the transaction was sent.
    pub resends: u32,
    /// Whether it may have been executed on one of the connections that have ended.
    pub unanswered: Unanswered,
}

impl Past {
    /// The past of a transaction that begins.
    const NONE: Past = Past { resends: 0, unanswered: Unanswered::NotExecuted };
}

/// The number of times that a transaction's data may be corrupt on one connection. A network that
/// corrupts one frame in ten does so eight times running once in 10^8 frames.
const REPEATS_MAX: u32 = 8;

/// No slot.
const NONE: u16 = u16::MAX;

/// Outstanding transactions, each with the `T` that it is for (the user's I/O).
///
/// A transaction is begun, sent, answered and finished, in this order. Its slot is the low 16 bits
/// of its id, so its answer finds it without a search. [`Transactions::new`] allocates everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transactions<T> {
    slots: Box<[Slot<T>]>,
    free: Vec<u16>,
    to_send: VecDeque<u16>,
    /// The number of bytes of the first frame in `to_send` that are sent already.
    sent_of_first: usize,
    sequence: u64,
    outstanding: usize,
    /// Whether data has digests on this connection.
    has_digests: bool,
    /// The ends of a list through the slots in the order of beginning, so that the oldest
    /// transaction, whose deadline is the next, is found without a search.
    oldest: u16,
    newest: u16,
}

/// A frame, or the rest of one, that waits to be sent.
#[derive(Debug)]
pub struct Outgoing<'a, T> {
    /// The transaction's id.
    pub id: u64,
    /// The rest of the header.
    pub header: &'a [u8],
    /// The user whose data follows.
    pub user: &'a T,
    /// The number of bytes of data that are sent already.
    pub data_from: usize,
    /// The number of bytes of data that are left.
    pub data_len: usize,
}

/// An answer that fits a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The transaction's slot.
    pub slot: u16,
    /// The status with which the transaction ended.
    pub status: Status,
    /// The number of bytes of data that follow.
    pub data_len: u32,
    /// The digest of the data, if there is one.
    pub digest: Option<u32>,
    /// Who waits for the answer.
    pub awaited: Awaited,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The transaction's user.
    ByUser,
    /// The user, but the transaction was aborted.
    Overdue,
    /// Nobody, as the transaction is held: [`Transactions::release`] ends it.
    ByNobody,
}

/// Computes the digest of the first bytes of a user's data, given their number.
pub type DigestOf<'a, T> = &'a dyn Fn(&T, usize) -> u32;

/// Returns the slot in a transaction's id.
pub fn slot_of(id: u64) -> u16 {
    (id & 0xffff) as u16
}

impl<T> Transactions<T> {
    /// Returns a slab for `credits` transactions, 1 to [`CREDITS_MAX`]. None can begin before
    /// [`Transactions::grant`].
    pub fn new(credits: u16) -> Transactions<T> {
        assert!((1..=CREDITS_MAX).contains(&credits), "{credits} credits");
        let slot = || Slot {
            state: SlotState::Free,
            id: 0,
            header: [0; HEADER_LEN],
            request: Request { op: Op::Read, start: 0, count: 0, request_len: 0, answer_len: 0 },
            begun_us: 0,
            digest: None,
            past: Past::NONE,
            repeats: 0,
            older: NONE,
            newer: NONE,
            user: None,
        };
        Transactions {
            slots: (0..credits).map(|_| slot()).collect(),
            free: Vec::with_capacity(credits.into()),
            to_send: VecDeque::with_capacity(credits.into()),
            sent_of_first: 0,
            sequence: 0,
            outstanding: 0,
            has_digests: false,
            oldest: NONE,
            newest: NONE,
        }
    }

    /// Returns the number of transactions that have begun and not finished, and are not held.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Returns whether another transaction may begin.
    pub fn has_credit(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes the target's grant of slots 0 to `credits - 1` on a new connection, and queues all
    /// outstanding transactions to be sent again, in the order in which they began. Returns false,
    /// with nothing changed, if an outstanding transaction has a slot that was not granted.
    ///
    /// With `digest`, which computes the digest of a transaction's data, data has digests in both
    /// directions.
    pub fn grant(&mut self, credits: u16, digest: Option<DigestOf<'_, T>>) -> bool {
        let credits = if mutation::is_on(Mutation::NoCredits) { CREDITS_MAX } else { credits };
        let credits = usize::from(credits).min(self.slots.len());
        self.release_all();
        if self.slots[credits..].iter().any(|slot| slot.state != SlotState::Free) {
            return false;
        }
        self.has_digests = digest.is_some();
        self.free.clear();
        self.to_send.clear();
        self.sent_of_first = 0;
        for (i, slot) in self.slots[..credits].iter_mut().enumerate().rev() {
            match slot.state {
                SlotState::Free => self.free.push(i as u16),
                SlotState::Held => unreachable!("nothing is held any more"),
                SlotState::ToSend | SlotState::Sent | SlotState::Aborting => {
                    slot.state = SlotState::ToSend;
                    slot.past.resends += 1;
                    slot.repeats = 0;
                    slot.digest = slot.digest(digest);
                    slot.header = slot.encode(Flags::RESENT);
                    self.to_send.push_back(i as u16);
                }
            }
        }
        let slots = &self.slots;
        self.to_send.make_contiguous().sort_unstable_by_key(|&i| slots[usize::from(i)].id);
        true
    }

    /// Notes that the connection is gone. Nothing begins or is sent until the next
    /// [`Transactions::grant`]. `unanswered` says what is known of what was sent on it; what was not
    /// sent completely was not executed.
    pub fn disconnected(&mut self, unanswered: Unanswered) {
        if unanswered == Unanswered::MayBeExecuted {
            for slot in self.slots.iter_mut().filter(|slot| slot.was_sent()) {
                slot.past.unanswered = Unanswered::MayBeExecuted;
            }
        }
        self.free.clear();
        self.to_send.clear();
        self.sent_of_first = 0;
    }

    /// Returns whether data has digests on this connection.
    #[inline]
    pub fn has_digests(&self) -> bool {
        self.has_digests
    }

    /// Begins a transaction, or returns `user` if all granted slots are in use. The transaction's
    /// deadline counts from `begun_us`; `digest` is that of its data, if there is one.
    pub fn begin(&mut self, request: Request, user: T, begun_us: u64, digest: Option<u32>) -> Result<u16, T> {
        let Some(index) = self.free.pop() else { return Err(user) };
        self.sequence += 1;
        let slot = &mut self.slots[usize::from(index)];
        assert!(slot.state == SlotState::Free && slot.user.is_none(), "slot {index} is in use");
        slot.id = self.sequence << 16 | u64::from(index);
        slot.request = request;
        slot.digest = digest;
        slot.header = slot.encode(Flags::NONE);
        slot.begun_us = begun_us;
        slot.past = Past::NONE;
        slot.repeats = 0;
        slot.user = Some(user);
        slot.state = SlotState::ToSend;
        slot.older = self.newest;
        slot.newer = NONE;
        let mut is_in_order = true;
        match self.newest {
            NONE => self.oldest = index,
            newest => {
                let newest = &mut self.slots[usize::from(newest)];
                newest.newer = index;
                is_in_order = newest.begun_us <= begun_us;
            }
        }
        self.newest = index;
        if !is_in_order {
            self.move_back();
        }
        self.to_send.push_back(index);
        self.outstanding += 1;
        Ok(index)
    }

    /// Moves the newest transaction before those that began later. All parts of a long I/O count as
    /// begun with the first one.
    #[cold]
    fn move_back(&mut self) {
        let index = self.newest;
        let Slot { begun_us, older: before, .. } = self.slots[usize::from(index)];
        self.newest = before;
        self.slots[usize::from(before)].newer = NONE;
        let (mut newer, mut older) = (before, self.slots[usize::from(before)].older);
        while older != NONE && self.slots[usize::from(older)].begun_us > begun_us {
            (newer, older) = (older, self.slots[usize::from(older)].older);
        }
        self.slots[usize::from(newer)].older = index;
        let slot = &mut self.slots[usize::from(index)];
        (slot.older, slot.newer) = (older, newer);
        match older {
            NONE => self.oldest = index,
            older => self.slots[usize::from(older)].newer = index,
        }
    }

    /// Returns whether the first frame to be sent is partly sent.
    pub fn is_mid_frame(&self) -> bool {
        self.sent_of_first > 0
    }

    /// Returns whether anything waits to be sent.
    pub fn wants_to_send(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// Returns the frames that wait to be sent, in order; of the first one, what is not sent
    /// already.
    pub fn outgoing(&self) -> impl Iterator<Item = Outgoing<'_, T>> {
        self.to_send.iter().enumerate().map(|(i, &index)| {
            let slot = &self.slots[usize::from(index)];
            let sent = if i == 0 { self.sent_of_first } else { 0 };
            let data_from = sent.saturating_sub(HEADER_LEN);
            Outgoing {
                id: slot.id,
                header: &slot.header[sent.min(HEADER_LEN)..],
                user: slot.user.as_ref().expect("a slot that is to be sent has a user"),
                data_from,
                data_len: slot.request.request_len as usize - data_from,
            }
        })
    }

    /// Notes that the first `bytes` bytes of [`Transactions::outgoing`] were sent. Returns the
    /// number of frames that this completes.
    pub fn sent(&mut self, mut bytes: usize) -> usize {
        let mut frames = 0;
        while bytes > 0 {
            let index = *self.to_send.front().expect("more was sent than there was");
            let slot = &mut self.slots[usize::from(index)];
            let left = HEADER_LEN + slot.request.request_len as usize - self.sent_of_first;
            if bytes < left {
                self.sent_of_first += bytes;
                break;
            }
            bytes -= left;
            slot.state = SlotState::Sent;
            self.sent_of_first = 0;
            self.to_send.pop_front();
            frames += 1;
        }
        frames
    }

    /// Checks an answer's header. The transaction stays outstanding until [`Transactions::finish`],
    /// since the answer's data may be still to come.
    ///
    /// # Errors
    /// The answer is to a request that was not sent, or has another amount of data than asked for.
    pub fn answer(&self, header: &Header) -> Result<Answer, Violation> {
        if header.kind != Kind::Answer {
            return Err(Violation::Unexpected(header.kind));
        }
        let slot = slot_of(header.id);
        let found = self
            .slots
            .get(usize::from(slot))
            .filter(|found| {
                !matches!(found.state, SlotState::Free | SlotState::ToSend) && found.id == header.id
            })
            .ok_or(Violation::Answer(header.id))?;
        let status = Status::from_code(header.code);
        let expected = if status == Status::Success { found.request.answer_len } else { 0 };
        if header.data_len != expected {
            return Err(Violation::Data { id: header.id, found: header.data_len, expected: expected.into() });
        }
        let has_digest = header.flags.contains(Flags::DIGEST);
        if header.data_len > 0 && has_digest != self.has_digests {
            return Err(Violation::Digest(header.id, has_digest));
        }
        let digest = has_digest.then_some(header.digest);
        Ok(Answer { slot, status, data_len: header.data_len, digest, awaited: found.state.awaited() })
    }

    /// Queues a transaction to be sent again, because data was corrupt in either direction.
    /// `digest` is that of its data, computed anew: the data's owner may have changed the data
    /// meanwhile, which is another reason for a digest that does not match.
    ///
    /// # Errors
    /// The transaction's data was corrupt too often: the connection is of no use.
    pub fn repeat(&mut self, slot: u16, digest: Option<u32>) -> Result<(), Violation> {
        let found = &mut self.slots[usize::from(slot)];
        assert!(found.state.awaits_answer(), "slot {slot} is not waiting for an answer");
        found.repeats += 1;
        if found.repeats >= REPEATS_MAX {
            return Err(Violation::Corrupt(found.id, found.repeats));
        }
        found.digest = digest;
        found.header = found.encode(Flags::RESENT);
        found.state = SlotState::ToSend;
        self.to_send.push_back(slot);
        Ok(())
    }

    /// Returns the id of the transaction that is in a slot, or was the last one in it.
    pub fn id(&self, slot: u16) -> u64 {
        self.slots[usize::from(slot)].id
    }

    /// Returns what a transaction asks for.
    pub fn request(&self, slot: u16) -> Request {
        self.slots[usize::from(slot)].request
    }

    /// Returns the user of an outstanding transaction.
    pub fn user_mut(&mut self, slot: u16) -> &mut T {
        self.slots[usize::from(slot)].user.as_mut().expect("the slot is in use")
    }

    /// Ends an answered transaction and frees its slot. Returns its user, what it asked for, and
    /// the time at which it began.
    pub fn finish(&mut self, slot: u16) -> (T, Request, u64) {
        let found = &mut self.slots[usize::from(slot)];
        assert!(found.state.awaits_answer(), "slot {slot} is not waiting for an answer");
        let (request, begun_us) = (found.request, found.begun_us);
        self.free.push(slot);
        (self.take_out(slot), request, begun_us)
    }

    /// Frees a slot in use, in constant time. Returns its user.
    fn take_out(&mut self, slot: u16) -> T {
        let found = &mut self.slots[usize::from(slot)];
        found.state = SlotState::Free;
        let (older, newer) = (found.older, found.newer);
        let user = found.user.take().expect("the slot is in use");
        match older {
            NONE => self.oldest = newer,
            older => self.slots[usize::from(older)].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[usize::from(newer)].older = older,
        }
        self.outstanding -= 1;
        user
    }

    /// Returns the time at which the oldest outstanding transaction began.
    pub fn oldest_us(&self) -> Option<u64> {
        (self.oldest != NONE).then(|| self.slots[usize::from(self.oldest)].begun_us)
    }

    /// Takes out the oldest outstanding transaction, sent or not, and returns its user. To be
    /// called only without a connection, on which an answer could still come.
    pub fn abandon_oldest(&mut self) -> Option<T> {
        self.assert_disconnected();
        (self.oldest != NONE).then(|| self.take_out(self.oldest))
    }

    /// Takes out all outstanding transactions for which `which` returns true, given what they ask
    /// for and what became of them before. To be called only without a connection.
    pub fn abandon(&mut self, which: impl Fn(&Request, Past) -> bool, mut each: impl FnMut(T)) {
        self.assert_disconnected();
        let mut next = self.oldest;
        while next != NONE {
            let slot = &self.slots[usize::from(next)];
            let (this, wanted) = (next, which(&slot.request, slot.past));
            next = slot.newer;
            if wanted {
                each(self.take_out(this));
            }
        }
    }

    /// Returns whether `which` returns true for any outstanding transaction.
    pub fn any(&self, which: impl Fn(&Request) -> bool) -> bool {
        self.slots.iter().any(|slot| slot.state.is_outstanding() && which(&slot.request))
    }

    fn assert_disconnected(&self) {
        assert!(self.free.is_empty() && self.to_send.is_empty(), "only without a connection");
    }
}

impl<T> Slot<T> {
    /// Returns whether the request was sent completely on this connection.
    fn was_sent(&self) -> bool {
        self.state != SlotState::ToSend || self.repeats > 0
    }

    fn digest(&self, digest: Option<DigestOf<'_, T>>) -> Option<u32> {
        let len = self.request.request_len as usize;
        let user = self.user.as_ref().filter(|_| len > 0)?;
        digest.map(|digest| digest(user, len))
    }

    fn encode(&self, flags: Flags) -> [u8; HEADER_LEN] {
        let flags = if self.digest.is_some() { Flags(flags.0 | Flags::DIGEST.0) } else { flags };
        Header {
            kind: Kind::Request,
            code: self.request.op as u8,
            flags,
            data_len: self.request.request_len,
            id: self.id,
            start: self.request.start,
            count: self.request.count,
            digest: self.digest.unwrap_or(0),
        }
        .encode()
    }
}

#[cfg(test)]
mod tests;
