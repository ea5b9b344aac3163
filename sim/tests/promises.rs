//! The labels of the simulator's checkers and the list in docs/failures.md name the same promises
//! under the same numbers.

use std::collections::BTreeMap;

use dst_sim::promises;

/// Returns the promises that the document lists: each number, with its title in lower case.
fn listed() -> BTreeMap<u32, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/failures.md");
    let text = std::fs::read_to_string(path).unwrap();
    let list =
        text.split("## The promises").nth(2).unwrap_or_else(|| text.split("## The promises").nth(1).unwrap());
    let list = list.split("\n## ").next().unwrap();
    let title = |line: &str| {
        let (number, rest) = line.split_once(". **")?;
        let (title, _) = rest.split_once(".**")?;
        Some((number.parse().ok()?, title.to_lowercase()))
    };
    list.lines().filter_map(title).collect()
}

#[test]
fn each_label_is_a_promise_and_each_promise_has_a_label() {
    let listed = listed();
    let mut labelled = BTreeMap::new();
    for label in promises::ALL {
        let (number, rest) = label.split_once(" (").unwrap();
        let title = rest.trim_end_matches(')').split(": ").next().unwrap();
        labelled.insert(number.parse().unwrap(), title.to_owned());
        assert_eq!(listed.get(&number.parse().unwrap()).map(String::as_str), Some(title), "{label}");
    }
    assert_eq!(labelled, listed);
    assert_eq!(listed.keys().copied().collect::<Vec<u32>>(), (1..=11).collect::<Vec<u32>>());
}
