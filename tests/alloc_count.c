/*
 * An LD_PRELOAD library that counts a process's heap allocations, for tests/test_allocations.py.
 *
 * It maps the file named by COUNT_FILE, which the test has created and which holds struct record,
 * so that reading the counts does not affect the process. Memory from SPDK's own pools and
 * hugepages is not a heap allocation and is not counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* glibc's own names for what is replaced here: no dlsym(), which allocates. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

#define CALLERS 16

struct record {
	_Atomic uint64_t count;
	/* Return addresses of the latest calls, relative to where the program is loaded: for addr2line. */
	_Atomic uint64_t callers[CALLERS];
};

static struct record early;
static struct record *record = &early;
static uintptr_t base;

/* Where the program itself is: the first line of the map. */
static uintptr_t
program_base(void)
{
	char text[64] = "";
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) {
		_exit(111);
	}
	close(fd);
	return strtoull(text, NULL, 16);
}

__attribute__((constructor)) static void
start(void)
{
	const char *path = getenv("COUNT_FILE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*record), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED) {
		_exit(111);
	}
	close(fd);
	base = program_base();
	record = map;
}

static inline void
note(void *caller)
{
	uint64_t n = atomic_fetch_add_explicit(&record->count, 1, memory_order_relaxed);

	atomic_store_explicit(&record->callers[n % CALLERS], (uintptr_t)caller - base, memory_order_relaxed);
}

#define NOTE() note(__builtin_return_address(0))

void *
malloc(size_t size)
{
	NOTE();
	return __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	NOTE();
	return __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	NOTE();
	return __libc_realloc(old, size);
}

void *
reallocarray(void *old, size_t count, size_t size)
{
	size_t bytes;

	NOTE();
	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_realloc(old, bytes);
}

void *
memalign(size_t alignment, size_t size)
{
	NOTE();
	return __libc_memalign(alignment, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
	NOTE();
	return __libc_memalign(alignment, size);
}

int
posix_memalign(void **out, size_t alignment, size_t size)
{
	void *p;

	NOTE();
	if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0) {
		return EINVAL;
	}
	p = __libc_memalign(alignment, size);
	if (p == NULL) {
		return ENOMEM;
	}
	*out = p;
	return 0;
}
