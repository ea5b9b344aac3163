/*
 * An LD_PRELOAD library that slows down the copies to and from the memory of a memif, for
 * tests/test_dpdk_peer.py: a process under load is in a burst nearly all the time then, and so it is
 * when its peer goes.
 *
 * DPDK's driver maps that memory from a memfd with "memif_region" in its name.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* How long a copy is delayed in ns, at least: the kernel rounds it up to about twice as much. */
#define DELAY_NS 50000

/* The memory of the memif, of which a process has one. */
static _Atomic uintptr_t memory;
static _Atomic size_t size;

void *
mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	void *map = (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
	char path[32], name[64];
	ssize_t count;

	if (map != MAP_FAILED && (flags & MAP_SHARED) != 0 && fd >= 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		count = readlink(path, name, sizeof(name) - 1);
		name[count < 0 ? 0 : count] = '\0';
		if (strstr(name, "memif_region") != NULL) {
			size = length;
			memory = (uintptr_t)map;
		}
	}
	return map;
}

void *
memcpy(void *restrict to, const void *restrict from, size_t length)
{
	static const struct timespec delay = {.tv_nsec = DELAY_NS};
	void *end = to;

	if ((uintptr_t)to - memory < size || (uintptr_t)from - memory < size) {
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &delay, NULL);
	}
	/* Not memcpy() again. */
	__asm__ volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(length) : : "memory");
	return to;
}
