//! Several calls of which all are done, or none.

use serde_json::Value;

use crate::failure::Failure;
use crate::rpc::Calls;

/// Calls that are taken back, the last one first, when a later one fails.
pub struct Steps<'a, C> {
    rpc: &'a mut C,
    done: Vec<(&'static str, Value)>,
}

impl<'a, C: Calls> Steps<'a, C> {
    pub fn new(rpc: &'a mut C) -> Steps<'a, C> {
        Steps { rpc, done: Vec::new() }
    }

    /// Calls a method that changes nothing.
    ///
    /// # Errors
    /// The call has failed; everything before it is taken back.
    pub fn look(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        self.rpc.call(method, params).map_err(|failure| self.take_back(failure))
    }

    /// Calls a method that `undo` takes back.
    ///
    /// # Errors
    /// The call has failed; everything before it is taken back.
    pub fn step(
        &mut self,
        method: &str,
        params: Value,
        undo: (&'static str, Value),
    ) -> Result<Value, Failure> {
        let result = self.look(method, params)?;
        self.done.push(undo);
        Ok(result)
    }

    /// Takes back what was done so far, and returns what to report.
    pub fn take_back(&mut self, first: Failure) -> Failure {
        let mut failure = first;
        while let Some((method, params)) = self.done.pop() {
            if let Err(second) = self.rpc.call(method, params) {
                let left = format!("what {method} removes");
                failure = Failure::LeftBehind { first: Box::new(failure), left, second: Box::new(second) };
            }
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rpc::tests::{Script, refusal};

    #[test]
    fn what_was_done_is_taken_back_the_last_one_first() {
        let ok = || Ok(json!(true));
        let mut script = Script::new([ok(), ok(), refusal("no room"), ok(), ok()]);
        let mut steps = Steps::new(&mut script);
        steps.step("a", json!({}), ("undo_a", json!({"x": 1}))).unwrap();
        steps.step("b", json!({}), ("undo_b", json!({}))).unwrap();
        let failure = steps.step("c", json!({}), ("undo_c", json!({}))).unwrap_err();
        assert_eq!(failure.to_string(), "c: no room");
        assert_eq!(script.methods(), ["a", "b", "c", "undo_b", "undo_a"]);
        assert_eq!(script.calls[4].1, json!({"x": 1}));
    }

    #[test]
    fn what_cannot_be_taken_back_is_said() {
        let mut script = Script::new([Ok(json!(true)), refusal("no room"), refusal("busy")]);
        let mut steps = Steps::new(&mut script);
        steps.step("a", json!({}), ("undo_a", json!({}))).unwrap();
        let failure = steps.step("b", json!({}), ("undo_b", json!({}))).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "b: no room; what undo_a removes could not be taken back: undo_a: busy"
        );
        assert_eq!(failure.exit_status(), 1);
    }
}
