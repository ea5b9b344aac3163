/*
 * One reactor's part of a run: its own range of blocks, and slots with one outstanding I/O each.
 */
#ifndef DST_CHECK_WORKER_H
#define DST_CHECK_WORKER_H

#include "journal.h"
#include "run.h"

#include "spdk/bdev.h"
#include "spdk/thread.h"

struct slot;

struct worker {
	const struct run_options *options;
	struct journal *journal;
	struct spdk_bdev_desc *desc;
	struct spdk_thread *thread;
	struct spdk_io_channel *channel;
	/* The worker's range of blocks. */
	uint64_t first, blocks;
	/* The next block to verify. */
	uint64_t next;
	/* For each block of the range, whether a modifying or settling I/O is outstanding. */
	bool *busy;
	struct slot *slots;
	uint32_t active;
	/* Set by the first thread. */
	bool stopping;
	uint64_t random;
	struct run_stats stats;
};

/* Begins the work. Called on the worker's thread. */
void worker_begin(void *worker);

/* Called by a worker on its own thread: the worker has ended, or has found something wrong. */
void run_worker_ended(struct worker *worker);
void run_complain(const char *what, uint64_t block);

#endif
