/*
 * One run of the checker on a bdev: random I/O on one or more reactors, or reading everything back.
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
	/* The number of blocks to use, from the first one; 0: all. */
	uint64_t blocks;
	/* The number of I/Os outstanding on each reactor. */
	uint32_t depth;
	/* The number of blocks in the largest I/O. */
	uint32_t io_blocks;
	uint32_t reactors;
	uint64_t seed;
	/* Percentages of I/Os; the rest are writes. */
	uint32_t reads, zeroes, compares, flushes;
	/* Whether the run reads everything once and ends. */
	bool verify;
};

enum run_kind { RUN_READ, RUN_WRITE, RUN_ZEROES, RUN_COMPARE, RUN_FLUSH, RUN_KINDS };
extern const char *const run_kind_names[RUN_KINDS];

/* Written by one worker, read by the RPC. */
struct run_stats {
	uint64_t done[RUN_KINDS];
	uint64_t failed[RUN_KINDS];
	/* In ticks: the slowest successful I/O since the last reset, and the extremes of all failed I/O. */
	uint64_t slowest;
	uint64_t failed_fastest, failed_slowest;
	/* The number of workers with failed I/O. Set only in the sum. */
	uint64_t failed_reactors;
	uint64_t bad_blocks;
	/* The number of blocks that were read and compared. */
	uint64_t compared;
	/* The number of unknown outcomes that a read decided. */
	uint64_t settled;
};

typedef void (*run_ended_fn)(void *arg);

/*
 * Starts a run. Returns NULL, or what is wrong. If it starts, it takes the ownership of the
 * options' strings. All functions here are for the application's first thread.
 */
const char *run_start(struct run_options *options);
bool run_is_active(void);
/* Returns whether the bdev was removed during the run, which ends the run. */
bool run_was_removed(void);
/* Submits no more I/O. The run ends when the last I/O has completed. */
void run_stop(void);
/* Calls `fn` once when the run has ended, or at once if there is none. */
void run_on_end(run_ended_fn fn, void *arg);
/* Returns the statistics of the current or the last run. With `again`, resets the slowest I/O. */
struct run_stats run_stats(bool again);
/* Returns one of the first complaints of the newest run, or NULL after the last one. */
const char *run_complaint(unsigned number);

#endif
