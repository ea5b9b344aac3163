//! CPUs of the machine: for OS threads that are not SPDK's, and their caches.

use std::fs;
use std::mem::{size_of, zeroed};
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

use crate::errno::{Errno, Result};

/// The file in which Linux lists the online CPUs, as `0-3,8`.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Pins an OS thread to one CPU. The thread is moved there at once, even while it does not run.
///
/// `EINVAL`: the CPU does not exist, or this process may not use it (outside a container's set of
/// CPUs, for one).
pub fn pin_thread<T>(thread: &JoinHandle<T>, cpu: u32) -> Result<()> {
    let cpu = cpu as usize;
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the set is plain data for which all zero is valid, and it has a bit for `cpu`; the
    // call reads the set, of the given size. The thread's id is valid, even if the thread has
    // ended, until its handle is joined or dropped.
    let rc = unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::pthread_setaffinity_np(thread.as_pthread_t(), size_of::<libc::cpu_set_t>(), &set)
    };
    // The function returns a positive error number.
    if rc == 0 { Ok(()) } else { Err(Errno(rc)) }
}

/// Has the CPU load the cache line at an address, as a hint: any address will do. HOT.
#[inline]
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction reads nothing that the program sees, and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Returns whether the CPU exists and is online. The calling thread's own affinity does not tell,
/// since a reactor is pinned to its core. Reads a file.
pub fn may_use(cpu: u32) -> bool {
    match fs::read_to_string(ONLINE) {
        Ok(list) => lists(&list, cpu),
        Err(_) => {
            // SAFETY: asks for a number.
            let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
            i64::from(cpu) < count
        }
    }
}

/// Returns whether a list such as `0-3,8` contains this number.
fn lists(list: &str, cpu: u32) -> bool {
    list.trim().split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(first), Ok(last)) if (first..=last).contains(&cpu))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_linux_writes_them() {
        let of = |list: &str| (0..12).filter(|cpu| lists(list, *cpu)).collect::<Vec<_>>();
        assert_eq!(of("0-1\n"), [0, 1]);
        assert_eq!(of("0\n"), [0]);
        assert_eq!(of("0-2,4,7-8,1023\n"), [0, 1, 2, 4, 7, 8]);
        assert!(of("").is_empty());
    }

    #[test]
    fn a_thread_runs_where_it_is_pinned() {
        let cpus: Vec<u32> = (0..1024).filter(|cpu| may_use(*cpu)).collect();
        assert!(!cpus.is_empty());
        let mut pinned = 0;
        for cpu in cpus {
            let (go, wait) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                wait.recv().unwrap();
                // SAFETY: asks for a number.
                unsafe { libc::sched_getcpu() }
            });
            let result = pin_thread(&thread, cpu);
            go.send(()).unwrap();
            let ran_on = thread.join().unwrap();
            // The test may not be allowed to use all CPUs of the machine.
            if result.is_ok() {
                assert_eq!(ran_on, cpu as i32);
                pinned += 1;
            }
        }
        assert!(pinned > 0);
    }

    #[test]
    fn a_cpu_that_is_not_there() {
        assert!(!may_use(1023) && !may_use(u32::MAX));
        let thread = std::thread::spawn(|| ());
        assert_eq!(pin_thread(&thread, 1023), Err(Errno::EINVAL));
        assert_eq!(pin_thread(&thread, u32::MAX), Err(Errno::EINVAL));
        thread.join().unwrap();
    }
}
