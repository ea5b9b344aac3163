#![forbid(unsafe_code)]
//! DST session engine.
