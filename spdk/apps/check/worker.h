/*
 * One reactor's part of a run: a range of blocks of its own, and slots that each have one I/O outstanding.
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
	/* Its range. */
	uint64_t first, blocks;
	/* Where verification has got to. */
	uint64_t next;
	/* For each block of the range: a modifying or settling I/O is outstanding. */
	bool *busy;
	struct slot *slots;
	uint32_t active;
	/* Set by the first thread. */
	bool stopping;
	uint64_t random;
	struct run_stats stats;
};

/* On the worker's thread. */
void worker_begin(void *worker);

/* For the worker to call: it has ended (on its own thread), and what it found. */
void run_worker_ended(struct worker *worker);
void run_complain(const char *what, uint64_t block);

#endif
