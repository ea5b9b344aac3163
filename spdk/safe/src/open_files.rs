//! How many files the process may have open. Each connection is one.

/// Raises the soft limit to the hard one, which needs no right, and gives what it is then; `u64::MAX`: there is none.
/// Any thread.
pub fn raise() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the structure that it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        // It can't fail for a limit that every Linux has; if it does, nobody holds us to any.
        return u64::MAX;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: reads the structure that it is given.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0;
    let now = if is_raised { wanted.rlim_cur } else { limit.rlim_cur };
    if now == libc::RLIM_INFINITY { u64::MAX } else { now }
}

/// How many it has open. Any thread; it reads a directory.
pub fn in_use() -> u64 {
    // Where that can't be read none are known of.
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> (String, String) {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }

    #[test]
    fn open_ones_are_counted() {
        let some: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(in_use() >= some.len() as u64);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = shown();
        let now = raise();
        assert_eq!(shown(), (hard.clone(), hard.clone()));
        assert_eq!(if now == u64::MAX { "unlimited".to_owned() } else { now.to_string() }, hard);
    }
}
