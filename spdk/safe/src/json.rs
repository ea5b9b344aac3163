//! Conversion between SPDK's JSON values and writers and `serde_json`.

use std::slice;

use serde_json::{Map, Number, Value};
use spdk_sys as sys;

/// The maximum depth of nesting. SPDK's own parser stops at 64.
const DEPTH_MAX: usize = 32;

/// The reason why parsed JSON was rejected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// A member occurs twice.
    Duplicate(String),
    /// The value is nested more deeply than [`DEPTH_MAX`].
    TooDeep,
    /// A number is out of range, or SPDK should not have passed the value.
    Malformed,
    /// The value of this member is malformed.
    MalformedMember(String),
}

/// Converts a parsed value. Returns `None` for a null pointer.
///
/// # Safety
/// `values` is null or points to a complete value as `spdk_json_parse` leaves it.
pub(crate) unsafe fn read(values: *const sys::spdk_json_val) -> Result<Option<Value>, JsonError> {
    if values.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller guarantees this; the values inside a value follow it, and SPDK returns
    // their number.
    let all = unsafe { slice::from_raw_parts(values, sys::spdk_json_val_len(values)) };
    Reader { left: all }.value(0).map(Some)
}

struct Reader<'a> {
    left: &'a [sys::spdk_json_val],
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<&'a sys::spdk_json_val, JsonError> {
        let (first, rest) = self.left.split_first().ok_or(JsonError::Malformed)?;
        self.left = rest;
        Ok(first)
    }

    fn at_end(&self, end: sys::spdk_json_val_type) -> bool {
        self.left.first().is_none_or(|v| v.type_ == end)
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        let val = self.next()?;
        Ok(match val.type_ {
            sys::SPDK_JSON_VAL_NULL => Value::Null,
            sys::SPDK_JSON_VAL_TRUE => Value::Bool(true),
            sys::SPDK_JSON_VAL_FALSE => Value::Bool(false),
            sys::SPDK_JSON_VAL_NUMBER => Value::Number(number(val)?),
            sys::SPDK_JSON_VAL_STRING => Value::String(text(val)?),
            sys::SPDK_JSON_VAL_ARRAY_BEGIN => {
                let mut items = Vec::new();
                while !self.at_end(sys::SPDK_JSON_VAL_ARRAY_END) {
                    items.push(self.value(depth + 1)?);
                }
                self.next()?;
                Value::Array(items)
            }
            sys::SPDK_JSON_VAL_OBJECT_BEGIN => {
                let mut members = Map::new();
                while !self.at_end(sys::SPDK_JSON_VAL_OBJECT_END) {
                    let name = text(self.next()?)?;
                    let value = self.value(depth + 1).map_err(|error| match error {
                        JsonError::Malformed => JsonError::MalformedMember(name.clone()),
                        other => other,
                    })?;
                    if members.contains_key(&name) {
                        return Err(JsonError::Duplicate(name));
                    }
                    members.insert(name, value);
                }
                self.next()?;
                Value::Object(members)
            }
            _ => return Err(JsonError::Malformed),
        })
    }
}

fn bytes(val: &sys::spdk_json_val) -> &[u8] {
    if val.start.is_null() {
        return &[];
    }
    // SAFETY: for strings, names and numbers SPDK points to their bytes, in a buffer that lives as
    // long as the values.
    unsafe { slice::from_raw_parts(val.start.cast::<u8>(), val.len as usize) }
}

fn text(val: &sys::spdk_json_val) -> Result<String, JsonError> {
    String::from_utf8(bytes(val).to_vec()).map_err(|_| JsonError::Malformed)
}

fn number(val: &sys::spdk_json_val) -> Result<Number, JsonError> {
    serde_json::from_slice(bytes(val)).map_err(|_| JsonError::Malformed)
}

/// Writes a value at the writer's position.
///
/// # Safety
/// `w` is a writer that SPDK handed out and has not ended, where a value may follow.
pub(crate) unsafe fn write(w: *mut sys::spdk_json_write_ctx, value: &Value) {
    // The writer records errors and reports them when its owner ends it.
    // SAFETY: the caller guarantees this; strings are passed with their lengths.
    unsafe {
        match value {
            Value::Null => sys::spdk_json_write_null(w),
            Value::Bool(b) => sys::spdk_json_write_bool(w, *b),
            Value::Number(n) => {
                // The text has all digits, whatever the number's type.
                let text = n.to_string();
                sys::spdk_json_write_val_raw(w, text.as_ptr().cast(), text.len())
            }
            Value::String(s) => sys::spdk_json_write_string_raw(w, s.as_ptr().cast(), s.len()),
            Value::Array(items) => {
                sys::spdk_json_write_array_begin(w);
                for item in items {
                    write(w, item);
                }
                sys::spdk_json_write_array_end(w)
            }
            Value::Object(members) => {
                sys::spdk_json_write_object_begin(w);
                for (name, value) in members {
                    write_member(w, name, value);
                }
                sys::spdk_json_write_object_end(w)
            }
        };
    }
}

/// Writes a member of the object that the writer is in.
///
/// # Safety
/// As [`write`], inside an object.
pub(crate) unsafe fn write_member(w: *mut sys::spdk_json_write_ctx, name: &str, value: &Value) {
    // SAFETY: the caller guarantees this; the name is passed with its length.
    unsafe {
        sys::spdk_json_write_name_raw(w, name.as_ptr().cast(), name.len());
        write(w, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn val(type_: sys::spdk_json_val_type, text: &'static str) -> sys::spdk_json_val {
        let start = text.as_ptr().cast_mut().cast();
        sys::spdk_json_val { start, len: text.len() as u32, type_ }
    }

    fn begin(type_: sys::spdk_json_val_type) -> sys::spdk_json_val {
        sys::spdk_json_val { start: std::ptr::null_mut(), len: 0, type_ }
    }

    fn convert(values: &[sys::spdk_json_val]) -> Result<Value, JsonError> {
        Reader { left: values }.value(0)
    }

    const OBJECT: u32 = sys::SPDK_JSON_VAL_OBJECT_BEGIN;
    const OBJECT_END: u32 = sys::SPDK_JSON_VAL_OBJECT_END;
    const ARRAY: u32 = sys::SPDK_JSON_VAL_ARRAY_BEGIN;
    const NAME: u32 = sys::SPDK_JSON_VAL_NAME;
    const NUMBER: u32 = sys::SPDK_JSON_VAL_NUMBER;

    #[test]
    fn reads_members() {
        let values = [
            begin(OBJECT),
            val(NAME, "a"),
            val(NUMBER, "18446744073709551615"),
            val(NAME, "b"),
            val(sys::SPDK_JSON_VAL_STRING, ""),
            begin(OBJECT_END),
        ];
        assert_eq!(convert(&values), Ok(serde_json::json!({"a": u64::MAX, "b": ""})));
    }

    #[test]
    fn names_what_is_there_twice() {
        let values = [
            begin(OBJECT),
            val(NAME, "a"),
            val(NUMBER, "1"),
            val(NAME, "a"),
            val(NUMBER, "2"),
            begin(OBJECT_END),
        ];
        assert_eq!(convert(&values), Err(JsonError::Duplicate("a".to_owned())));
    }

    #[test]
    fn refuses_what_is_deep_cut_off_or_no_value() {
        let deep: Vec<_> = (0..=DEPTH_MAX + 1).map(|_| begin(ARRAY)).collect();
        assert_eq!(convert(&deep), Err(JsonError::TooDeep));
        let cut_off = [begin(OBJECT), val(NAME, "a")];
        assert_eq!(convert(&cut_off), Err(JsonError::MalformedMember("a".to_owned())));
        assert_eq!(convert(&[begin(OBJECT_END)]), Err(JsonError::Malformed));
        assert_eq!(convert(&[val(NUMBER, "1x")]), Err(JsonError::Malformed));
    }
}
