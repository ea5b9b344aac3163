#include "run.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spdk/env.h"
#include "spdk/log.h"
#include "spdk/string.h"

#include "worker.h"

const char *const run_kind_names[RUN_KINDS] = { "read", "write", "write_zeroes", "compare_and_write", "flush" };

static struct {
	struct run_options options;
	struct journal *journal;
	struct spdk_bdev_desc *desc;
	struct spdk_thread *thread;
	struct worker workers[RUN_MAX_WORKERS];
	/* The number of workers that have not ended. */
	uint32_t working;
	bool active, removed;
	run_ended_fn ended;
	void *ended_arg;
	pthread_mutex_t lock;
	char *complaints[RUN_MAX_COMPLAINTS];
} g_run = { .lock = PTHREAD_MUTEX_INITIALIZER };

void
run_complain(const char *what, uint64_t block)
{
	char *text = spdk_sprintf_alloc("block %lu: %s", (unsigned long)block, what);
	int i;

	pthread_mutex_lock(&g_run.lock);
	for (i = 0; i < RUN_MAX_COMPLAINTS && g_run.complaints[i] != NULL; i++) {
	}
	if (i < RUN_MAX_COMPLAINTS) {
		SPDK_ERRLOG("%s\n", text);
		g_run.complaints[i] = text;
		text = NULL;
	}
	pthread_mutex_unlock(&g_run.lock);
	free(text);
}

const char *
run_complaint(unsigned number)
{
	const char *found;

	if (number >= RUN_MAX_COMPLAINTS) {
		return NULL;
	}
	pthread_mutex_lock(&g_run.lock);
	found = g_run.complaints[number];
	pthread_mutex_unlock(&g_run.lock);
	return found;
}

static void
close_all(void)
{
	if (g_run.desc != NULL) {
		spdk_bdev_close(g_run.desc);
		g_run.desc = NULL;
	}
	if (g_run.journal != NULL) {
		journal_close(g_run.journal);
		g_run.journal = NULL;
	}
	free(g_run.options.bdev);
	free(g_run.options.journal);
	memset(&g_run.options, 0, sizeof(g_run.options));
	g_run.active = false;
}

static void
worker_gone(void *arg)
{
	run_ended_fn ended = g_run.ended;

	(void)arg;
	if (--g_run.working > 0) {
		return;
	}
	close_all();
	g_run.ended = NULL;
	if (ended != NULL) {
		ended(g_run.ended_arg);
	}
}

void
run_worker_ended(struct worker *worker)
{
	(void)worker;
	spdk_thread_send_msg(g_run.thread, worker_gone, NULL);
	spdk_thread_exit(spdk_get_thread());
}

static void
on_bdev_event(enum spdk_bdev_event_type type, struct spdk_bdev *bdev, void *arg)
{
	(void)bdev;
	(void)arg;
	if (type == SPDK_BDEV_EVENT_REMOVE && g_run.active) {
		SPDK_NOTICELOG("the bdev is removed: the run ends\n");
		g_run.removed = true;
		run_stop();
	}
}

/* Opens the bdev and the journal, before the workers are created. Returns NULL, or what is wrong. */
static const char *
open_all(void)
{
	struct run_options *options = &g_run.options;
	struct spdk_bdev *bdev;
	uint64_t blocks;

	if (spdk_bdev_open_ext(options->bdev, true, on_bdev_event, NULL, &g_run.desc) != 0) {
		return "bdev: can't be opened";
	}
	bdev = spdk_bdev_desc_get_bdev(g_run.desc);
	blocks = spdk_bdev_get_num_blocks(bdev);
	if (options->blocks == 0) {
		options->blocks = blocks;
	}
	if (options->blocks > blocks || options->blocks < options->reactors) {
		return "blocks: more than the bdev has, or fewer than reactors";
	}
	if (options->compares > 0 && !spdk_bdev_io_type_supported(bdev, SPDK_BDEV_IO_TYPE_COMPARE_AND_WRITE)) {
		return "compares: not supported by this bdev";
	}
	g_run.journal = journal_open(options->journal, spdk_bdev_get_block_size(bdev), options->blocks);
	return g_run.journal == NULL ? "journal: can't be used, see the log" : NULL;
}

static void
make_threads(void)
{
	struct run_options *options = &g_run.options;
	uint32_t core, number = 0;
	struct spdk_cpuset mask;

	SPDK_ENV_FOREACH_CORE(core) {
		if (number == options->reactors) {
			break;
		}
		struct worker *worker = &g_run.workers[number];

		memset(worker, 0, sizeof(*worker));
		worker->options = options;
		worker->journal = g_run.journal;
		worker->desc = g_run.desc;
		worker->first = options->blocks * number / options->reactors;
		worker->blocks = options->blocks * (number + 1) / options->reactors - worker->first;
		spdk_cpuset_zero(&mask);
		spdk_cpuset_set_cpu(&mask, core, true);
		worker->thread = spdk_thread_create("check", &mask);
		if (worker->thread == NULL) {
			abort();
		}
		number++;
	}
}

static uint32_t
count_cores(void)
{
	uint32_t core, number = 0;

	SPDK_ENV_FOREACH_CORE(core) {
		number++;
	}
	return number;
}

const char *
run_start(struct run_options *options)
{
	const char *wrong;
	uint32_t i;

	if (g_run.active) {
		return "a run is active";
	}
	if (options->bdev == NULL || options->journal == NULL) {
		return "bdev, journal: required";
	}
	if (options->depth == 0 || options->depth > 4096 || options->io_blocks == 0 || options->io_blocks > 4096) {
		return "depth, io_blocks: 1 to 4096";
	}
	if (options->reactors == 0 || options->reactors > RUN_MAX_WORKERS || options->reactors > count_cores()) {
		return "reactors: from 1 to the application's number of reactors";
	}
	if (options->reads + options->zeroes + options->compares + options->flushes > 100) {
		return "reads, zeroes, compares, flushes: at most 100 together";
	}
	for (i = 0; i < RUN_MAX_COMPLAINTS; i++) {
		free(g_run.complaints[i]);
		g_run.complaints[i] = NULL;
	}
	memset(g_run.workers, 0, sizeof(g_run.workers));
	g_run.options = *options;
	memset(options, 0, sizeof(*options));
	g_run.thread = spdk_get_thread();
	g_run.removed = false;
	wrong = open_all();
	if (wrong != NULL) {
		close_all();
		return wrong;
	}
	make_threads();
	g_run.active = true;
	g_run.working = g_run.options.reactors;
	for (i = 0; i < g_run.options.reactors; i++) {
		spdk_thread_send_msg(g_run.workers[i].thread, worker_begin, &g_run.workers[i]);
	}
	return NULL;
}

bool
run_is_active(void)
{
	return g_run.active;
}

bool
run_was_removed(void)
{
	return g_run.removed;
}

void
run_stop(void)
{
	uint32_t i;

	for (i = 0; i < RUN_MAX_WORKERS; i++) {
		__atomic_store_n(&g_run.workers[i].stopping, true, __ATOMIC_RELAXED);
	}
}

void
run_on_end(run_ended_fn fn, void *arg)
{
	if (!g_run.active) {
		fn(arg);
		return;
	}
	g_run.ended = fn;
	g_run.ended_arg = arg;
}

static uint64_t
get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

struct run_stats
run_stats(bool again)
{
	struct run_stats sum = { .slowest = 0 };
	int i, kind;

	for (i = 0; i < RUN_MAX_WORKERS; i++) {
		struct run_stats *stats = &g_run.workers[i].stats;
		uint64_t slowest = again ? __atomic_exchange_n(&stats->slowest, 0, __ATOMIC_RELAXED) : get(&stats->slowest);
		uint64_t fastest = get(&stats->failed_fastest);
		uint64_t failed_slowest = get(&stats->failed_slowest);
		bool has_failed = false;

		for (kind = 0; kind < RUN_KINDS; kind++) {
			sum.done[kind] += get(&stats->done[kind]);
			sum.failed[kind] += get(&stats->failed[kind]);
			has_failed |= get(&stats->failed[kind]) != 0;
		}
		sum.failed_reactors += has_failed;
		sum.slowest = slowest > sum.slowest ? slowest : sum.slowest;
		sum.failed_slowest = failed_slowest > sum.failed_slowest ? failed_slowest : sum.failed_slowest;
		if (fastest != 0 && (sum.failed_fastest == 0 || fastest < sum.failed_fastest)) {
			sum.failed_fastest = fastest;
		}
		sum.bad_blocks += get(&stats->bad_blocks);
		sum.compared += get(&stats->compared);
		sum.settled += get(&stats->settled);
	}
	return sum;
}
