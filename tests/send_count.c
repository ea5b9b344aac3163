/*
 * An LD_PRELOAD library that counts how often a process sends, for tests/test_batches.py.
 *
 * It maps the file named by COUNT_FILE, which the test has created and which begins with the count,
 * so that reading it does not affect the process. SPDK's sockets send with writev or sendmsg,
 * depending on the version.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic uint64_t early;
static _Atomic uint64_t *count = &early;

__attribute__((constructor)) static void
start(void)
{
	const char *path = getenv("COUNT_FILE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED) {
		_exit(111);
	}
	close(fd);
	count = map;
}

ssize_t
writev(int fd, const struct iovec *iov, int iovcnt)
{
	atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	return syscall(SYS_writev, fd, iov, iovcnt);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
	atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	return syscall(SYS_sendmsg, fd, message, flags);
}
