//! The limit on the process's open files, of which each connection is one.

use std::os::fd::AsRawFd;

/// Raises the soft limit to the hard limit, which needs no privilege, and returns the resulting
/// limit; `u64::MAX` means none. Any thread may call it.
pub fn raise() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the structure that it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        // The call cannot fail for a limit that every Linux has. If it does, assume that there is
        // no limit.
        return u64::MAX;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: reads the structure that it is given.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0;
    let now = if is_raised { wanted.rlim_cur } else { limit.rlim_cur };
    if now == libc::RLIM_INFINITY { u64::MAX } else { now }
}

/// Returns whether more than `spare` files may still be opened, or a few less where numbers of files
/// are free in between. Any thread may call it. Opens a file for a moment.
pub fn has_more_than(spare: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the structure that it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return true;
    }
    // The kernel gives out the lowest free number (open(2)).
    let lowest = std::fs::File::open("/dev/null").map(|file| file.as_raw_fd() as u64);
    lowest.is_ok_and(|lowest| lowest.saturating_add(spare) < limit.rlim_cur)
}

/// Returns the number of open files. Any thread may call it. Reads a directory.
pub fn in_use() -> u64 {
    // If the directory can't be read, no files are known.
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
    fn the_numbers_that_are_left_are_known() {
        let (soft, _) = shown();
        let soft: u64 = soft.parse().unwrap_or(u64::MAX);
        assert!(has_more_than(10) && !has_more_than(soft));
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = shown();
        let now = raise();
        assert_eq!(shown(), (hard.clone(), hard.clone()));
        assert_eq!(if now == u64::MAX { "unlimited".to_owned() } else { now.to_string() }, hard);
    }
}
