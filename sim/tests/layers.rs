//! The simulated world does not know what runs in it: neither SPDK nor DST.

use std::path::{Path, PathBuf};

/// Words that belong to the layers above.
const WORDS: [&str; 8] = ["spdk", "bdev", "poller", "reactor", "channel", "dst", "export", "session"];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn the_world_has_no_word_of_the_layers_above() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("world");
    let files = files(&folder);
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
        for (number, line) in text.lines().enumerate() {
            let word = WORDS.into_iter().find(|word| line.contains(word));
            assert_eq!(word, None, "{}:{}: {line}", file.display(), number + 1);
        }
    }
}
