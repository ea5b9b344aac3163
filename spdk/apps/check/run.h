/*
 * One run of the checker on a bdev: I/O on up to a few reactors, or the reading back of everything.
 */
#ifndef DST_CHECK_RUN_H
#define DST_CHECK_RUN_H

#include <stdbool.h>
#include <stdint.h>

#define RUN_MAX_WORKERS 8
#define RUN_MAX_COMPLAINTS 8

struct run_options {
	char *bdev;
	char *journal;
	/* How many of the device's blocks are used, from the first one; 0: all. */
	uint64_t blocks;
	/* I/Os outstanding on each reactor. */
	uint32_t depth;
	/* Blocks in the largest I/O. */
	uint32_t io_blocks;
	uint32_t reactors;
	uint64_t seed;
	/* Of 100 I/Os, so many are reads, ...; the rest are writes. */
	uint32_t reads, zeroes, compares, flushes;
	/* Reads everything once, and ends. */
	bool verify;
};

enum run_kind { RUN_READ, RUN_WRITE, RUN_ZEROES, RUN_COMPARE, RUN_FLUSH, RUN_KINDS };
extern const char *const run_kind_names[RUN_KINDS];

/* Written by one worker, read by the RPC. */
struct run_stats {
	uint64_t done[RUN_KINDS];
	uint64_t failed[RUN_KINDS];
	/* Ticks. Of I/O that succeeded, since it was last asked for; and of I/O that failed, of all time. */
	uint64_t slowest;
	uint64_t failed_fastest, failed_slowest;
	/* Workers of which an I/O failed. Only in the sum. */
	uint64_t failed_reactors;
	uint64_t bad_blocks;
	/* Blocks that were read and compared. */
	uint64_t compared;
	/* Unknown outcomes that a read decided. */
	uint64_t settled;
};

typedef void (*run_ended_fn)(void *arg);

/*
 * All on the application's first thread. NULL: started, and `run_on_end` may be called. Else what is wrong. Takes
 * the strings of the options when it starts.
 */
const char *run_start(struct run_options *options);
bool run_is_active(void);
/* Whether the bdev was taken away under the run, which ends it. */
bool run_was_removed(void);
/* No new I/O; the run ends when the last one has completed. */
void run_stop(void);
/* Called once, when the run has ended; at once when there is none. */
void run_on_end(run_ended_fn fn, void *arg);
/* Of this run, or the last one. `again`: the slowest I/O counts from here on. */
struct run_stats run_stats(bool again);
/* The first ones that were found, newest run only. NULL behind the last. */
const char *run_complaint(unsigned number);

#endif
