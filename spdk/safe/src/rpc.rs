//! JSON-RPC methods.

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use spdk_sys as sys;

use crate::json::{self, JsonError};

/// JSON-RPC's error codes, for [`Reply::error`].
pub mod code {
    use spdk_sys as sys;

    /// A parameter is missing, unknown, of the wrong type or out of range.
    pub const INVALID_PARAMS: i32 = sys::SPDK_JSONRPC_ERROR_INVALID_PARAMS;
    /// The method failed for an internal reason.
    pub const INTERNAL_ERROR: i32 = sys::SPDK_JSONRPC_ERROR_INTERNAL_ERROR;
}

/// When a method may be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Before the subsystems are initialised.
    Startup,
    /// After that.
    Runtime,
    /// Always.
    Both,
}

/// A function that handles a call: it answers now, or keeps the [`Reply`].
pub type Handler = fn(params: Option<Value>, reply: Reply);

/// Registers a method. Call it from a [`constructor!`](crate::constructor!).
///
/// Parameters with a duplicate member are answered with an error, and the handler is not called.
///
/// # Panics
/// If more than `SLOTS` methods are registered.
pub fn register(method: &'static CStr, handler: Handler, phase: Phase) {
    let slot = {
        let mut handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = handlers.iter().position(Option::is_none);
        let slot = slot.expect("no slot left for an RPC: make SLOTS larger");
        handlers[slot] = Some(handler);
        slot
    };
    let mask = match phase {
        Phase::Startup => sys::SPDK_RPC_STARTUP,
        Phase::Runtime => sys::SPDK_RPC_RUNTIME,
        Phase::Both => sys::SPDK_RPC_STARTUP | sys::SPDK_RPC_RUNTIME,
    };
    // SAFETY: a string that lives for ever, and a function.
    unsafe { sys::spdk_rpc_register_method(method.as_ptr(), Some(ENTRIES[slot]), mask) };
}

/// Whether SPDK's RPC server is gone.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Records that SPDK stops its subsystems. It has stopped its RPC server before, so no request can
/// be answered any more.
pub(crate) fn close() {
    CLOSED.store(true, Relaxed);
}

/// The outstanding answer to a call. It may be kept, on its thread. If it is dropped unanswered,
/// the caller receives an internal error. An answer after SPDK has stopped is discarded.
pub struct Reply {
    request: Option<NonNull<sys::spdk_jsonrpc_request>>,
    _not_send: PhantomData<*mut ()>,
}

impl Reply {
    /// Returns the request, if it is not answered yet and can be answered. Before 23.09, SPDK frees
    /// the connections of requests when it stops, and answering a request would use its freed
    /// connection.
    fn take(&mut self) -> Option<NonNull<sys::spdk_jsonrpc_request>> {
        self.request.take().filter(|_| !CLOSED.load(Relaxed))
    }

    /// Answers with a result.
    pub fn ok(mut self, result: Value) {
        if let Some(request) = self.take() {
            // SAFETY: not answered yet; SPDK keeps a request until then, even when its connection
            // is lost.
            unsafe {
                let w = sys::spdk_jsonrpc_begin_result(request.as_ptr());
                json::write(w, &result);
                sys::spdk_jsonrpc_end_result(request.as_ptr(), w);
            }
        }
    }

    /// Answers with a result that is JSON text already, which SPDK takes as it is.
    pub fn ok_text(mut self, result: &str) {
        if let Some(request) = self.take() {
            // SAFETY: as in `ok`; SPDK copies the text.
            unsafe {
                let w = sys::spdk_jsonrpc_begin_result(request.as_ptr());
                sys::spdk_json_write_val_raw(w, result.as_ptr().cast(), result.len());
                sys::spdk_jsonrpc_end_result(request.as_ptr(), w);
            }
        }
    }

    /// Answers with an error: one of [`code`], or a negative errno as SPDK's own methods do.
    pub fn error(mut self, code: i32, message: &str) {
        self.fail(code, message);
    }

    fn fail(&mut self, code: i32, message: &str) {
        if let Some(request) = self.take() {
            let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
            // SAFETY: as in `ok`; SPDK copies the message.
            unsafe { sys::spdk_jsonrpc_send_error_response(request.as_ptr(), code, message.as_ptr()) };
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.fail(code::INTERNAL_ERROR, "the request was dropped without an answer");
    }
}

/// The maximum number of methods. SPDK passes a handler neither the name of its method nor a
/// context, so each method has a C function of its own.
const SLOTS: usize = 64;

static HANDLERS: Mutex<[Option<Handler>; SLOTS]> = Mutex::new([None; SLOTS]);

type Entry = unsafe extern "C" fn(*mut sys::spdk_jsonrpc_request, *const sys::spdk_json_val);

unsafe extern "C" fn entry<const SLOT: usize>(
    request: *mut sys::spdk_jsonrpc_request,
    params: *const sys::spdk_json_val,
) {
    let mut reply = Reply { request: NonNull::new(request), _not_send: PhantomData };
    let handler = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner)[SLOT];
    let Some(handler) = handler else { return };
    // SAFETY: SPDK passes null or the parsed parameters, valid during this call.
    match unsafe { json::read(params) } {
        Ok(params) => handler(params, reply),
        Err(JsonError::Duplicate(name)) => {
            reply.fail(code::INVALID_PARAMS, &format!("parameter '{name}' occurs twice"));
        }
        Err(JsonError::MalformedMember(name)) => {
            let message = format!("parameter '{name}' has a value that is malformed or out of range");
            reply.fail(code::INVALID_PARAMS, &message);
        }
        Err(JsonError::TooDeep) => reply.fail(code::INVALID_PARAMS, "parameters are nested too deeply"),
        Err(JsonError::Malformed) => reply.fail(code::INVALID_PARAMS, "parameters are malformed"),
    }
}

macro_rules! entries {
    ($($high:literal)*) => {
        [$(
            entry::<{ $high * 8 }>, entry::<{ $high * 8 + 1 }>, entry::<{ $high * 8 + 2 }>,
            entry::<{ $high * 8 + 3 }>, entry::<{ $high * 8 + 4 }>, entry::<{ $high * 8 + 5 }>,
            entry::<{ $high * 8 + 6 }>, entry::<{ $high * 8 + 7 }>,
        )*]
    };
}

static ENTRIES: [Entry; SLOTS] = entries!(0 1 2 3 4 5 6 7);
