//! Raw bindings to the parts of SPDK that DST uses, generated from the headers of the tree in
//! `SPDK_DIR`.
//!
//! Names, types and rules are SPDK's own; the crate `spdk` has the safe wrappers. Functions named
//! `dst_spdk_*` are this crate's shim for what C has only as macros, static inlines or variadic
//! functions.

#![no_std]
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unused_qualifications,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    clippy::all
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
