//! Whose turn it is, and what happens in the turn.

use crate::net;
use crate::state::Event;
use crate::state::process::Thread;
use crate::store::operations;
use crate::world::{NAP_MIN_US, World, empty_trash, with};

/// The maximum number of messages that a thread takes in one turn. Real run loops take batches of
/// about this size.
const MESSAGES_A_TURN: usize = 8;

/// The longest time for which no thread gets a turn although one could, in µs. Shorter than the
/// pause from which a process concludes that it was stopped.
const NAP_MAX_US: u64 = 20_000;

/// Handles all events that are due. Then one thread has a turn, or time passes.
pub fn step() {
    loop {
        let due = with(|w| {
            let first = w.events.first_entry()?;
            if first.key().0 > w.now {
                return None;
            }
            let event = first.remove();
            w.steps += 1;
            if let Event::Timer(key) = event {
                w.timers.push_back(key);
                return None;
            }
            w.nap_us = NAP_MIN_US;
            Some(event)
        });
        let Some(event) = due else { break };
        with(|w| match event {
            Event::Deliver(sock) => net::deliver(w, sock),
            Event::Connect(attempt) => net::connecting::arrive(w, attempt),
            Event::Execute(operation) => operations::execute(w, operation),
            Event::Done(operation) => operations::done(w, operation),
            Event::Timer(_) => {}
        });
        empty_trash();
    }
    let next = with(|w| {
        w.steps += 1;
        w.now += w.rng.below(4);
        let mut ready = std::mem::take(&mut w.ready);
        ready.clear();
        let now = w.now;
        let runs = |t: &&Thread| !t.idle && t.runs && t.away_until_us <= now;
        ready.extend(w.threads.iter().filter(runs).map(|t| t.id));
        let next = if ready.is_empty() { None } else { Some(w.rng.pick(&ready)) };
        w.ready = ready;
        match next {
            Some(_) => w.nap_until_us = 0,
            None => nap(w),
        }
        next
    });
    if let Some(thread) = next {
        turn(thread);
    }
    empty_trash();
}

/// Lets time pass when no thread has anything to do: until the next event, or for a while that
/// grows each time. The driver's timers do not end that while, unless they give a thread something
/// to do: they are many, and most do nothing.
fn nap(w: &mut World) {
    if w.nap_until_us <= w.now {
        w.nap_us = (w.nap_us * 3 + w.rng.below(16)).min(1 + w.rng.below(NAP_MAX_US));
        w.nap_until_us = w.now + w.nap_us.max(1);
    }
    match w.events.first_key_value() {
        Some(((at, _), event)) if *at < w.nap_until_us => {
            w.now = w.now.max(*at);
            if matches!(event, Event::Timer(_)) {
                return;
            }
        }
        _ => w.now = w.nap_until_us,
    }
    w.nap_until_us = 0;
    w.threads.iter_mut().for_each(|thread| thread.idle = false);
}

/// Gives a thread a turn: its messages, then the closures that it calls repeatedly.
pub(crate) fn turn(thread: u64) {
    let before = with(|w| {
        w.current = Some(thread);
        w.activity
    });
    for _ in 0..MESSAGES_A_TURN {
        let message = with(|w| {
            let message = w.threads.get_mut(thread)?.messages.pop_front()?;
            w.active();
            Some(message)
        });
        match message {
            Some(message) => message(),
            None => break,
        }
    }
    let mut due = with(|w| {
        let mut due = std::mem::take(&mut w.due);
        let Some(found) = w.threads.get(thread) else { return due };
        let now = w.processes[&found.process].clock(w.now);
        due.extend(found.periodics.iter().filter(|p| p.period_us == 0 || p.due <= now).map(|p| p.id));
        due
    });
    for id in due.drain(..) {
        let call = with(|w| {
            let found = w.threads.get_mut(thread)?;
            let now = w.processes[&found.process].clock(w.now);
            let periodic = found.periodics.iter_mut().find(|p| p.id == id)?;
            periodic.due = now + periodic.period_us;
            periodic.call.take()
        });
        let Some(mut call) = call else { continue };
        call();
        // A closure that removed itself meanwhile is dropped below, while nothing is borrowed.
        let mut call = Some(call);
        with(|w| {
            let periodics = w.threads.get_mut(thread).map(|found| &mut found.periodics);
            if let Some(periodic) = periodics.and_then(|all| all.iter_mut().find(|p| p.id == id)) {
                periodic.call = call.take();
            }
        });
        drop(call);
    }
    with(|w| {
        w.due = due;
        w.current = None;
        let did_nothing = w.activity == before;
        let mut ended = false;
        if let Some(found) = w.threads.get_mut(thread) {
            found.idle = did_nothing && found.messages.is_empty();
            ended = found.exiting && found.messages.is_empty();
        }
        if ended {
            w.threads.remove(thread);
        }
        w.digest(thread << 1 | u64::from(did_nothing));
        let now = w.now;
        w.digest(now);
    });
}
