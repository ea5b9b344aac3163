#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "spdk/env.h"
#include "spdk/log.h"
#include "spdk/nvme_spec.h"

struct slot {
	struct worker *worker;
	enum run_kind kind;
	uint64_t start, count;
	/* Whether the I/O has marked its blocks busy. Plain reads and flushes do not. */
	bool holds;
	/* Whether the I/O is a read that decides unknown outcomes. */
	bool settles;
	/* Whether the I/O is a compare-and-write that must miscompare. */
	bool must_miscompare;
	char *buf, *expected;
	/* The acknowledged sequence of each block when the read was submitted. */
	uint64_t *low;
	uint64_t began;
	struct iovec iov, expected_iov;
	struct spdk_bdev_io_wait_entry wait;
};

static void slot_next(struct slot *slot);

static void
count(uint64_t *counter, uint64_t by)
{
	__atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

static uint64_t
random_below(struct worker *worker, uint64_t limit)
{
	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	return worker->random % limit;
}

static struct journal_block *
block_of(struct slot *slot, uint64_t i)
{
	return &slot->worker->journal->blocks[slot->start + i];
}

static void *
buffer_of(struct slot *slot, uint64_t i)
{
	return slot->buf + i * slot->worker->journal->block_size;
}

static void
complain(struct slot *slot, const char *what, uint64_t block)
{
	count(&slot->worker->stats.bad_blocks, 1);
	run_complain(what, block);
}

static void
hold(struct slot *slot, bool held)
{
	memset(slot->worker->busy + (slot->start - slot->worker->first), held, slot->count);
	slot->holds = held;
}

static bool
any_busy(struct slot *slot)
{
	return memchr(slot->worker->busy + (slot->start - slot->worker->first), true, slot->count) != NULL;
}

static bool
any_pending(struct slot *slot)
{
	uint64_t i;

	for (i = 0; i < slot->count; i++) {
		if (block_of(slot, i)->pending != 0) {
			return true;
		}
	}
	return false;
}

/* Completions. */

static void
read_done(struct slot *slot)
{
	struct worker *worker = slot->worker;
	const char *wrong;
	uint64_t i;

	for (i = 0; i < slot->count; i++) {
		wrong = block_judge(worker->journal, slot->start + i, slot->low[i], buffer_of(slot, i));
		if (wrong == NULL && slot->settles && block_of(slot, i)->pending != 0) {
			wrong = block_settle(worker->journal, slot->start + i, buffer_of(slot, i));
			count(&worker->stats.settled, 1);
		}
		if (wrong != NULL) {
			complain(slot, wrong, slot->start + i);
		}
	}
	count(&worker->stats.compared, slot->count);
}

static void
modification_done(struct slot *slot)
{
	uint64_t i;

	if (slot->must_miscompare) {
		complain(slot, "compare-and-write found what is not there", slot->start);
		return;
	}
	for (i = 0; i < slot->count; i++) {
		journal_acknowledge(block_of(slot, i));
	}
}

static bool
is_miscompare(struct spdk_bdev_io *io)
{
	uint32_t cdw0;
	int sct, sc, write_sct, write_sc;

	/* In 20.07, the plain status does not show a miscompare. */
	spdk_bdev_io_get_nvme_fused_status(io, &cdw0, &sct, &sc, &write_sct, &write_sc);
	return sct == SPDK_NVME_SCT_MEDIA_ERROR && sc == SPDK_NVME_SC_COMPARE_FAILURE;
}

static void
note_failure(struct slot *slot, uint64_t ticks)
{
	struct run_stats *stats = &slot->worker->stats;

	count(&stats->failed[slot->kind], 1);
	if (stats->failed_fastest == 0 || ticks < stats->failed_fastest) {
		__atomic_store_n(&stats->failed_fastest, ticks, __ATOMIC_RELAXED);
	}
	if (ticks > stats->failed_slowest) {
		__atomic_store_n(&stats->failed_slowest, ticks, __ATOMIC_RELAXED);
	}
}

static void
io_done(struct spdk_bdev_io *io, bool success, void *arg)
{
	struct slot *slot = arg;
	struct run_stats *stats = &slot->worker->stats;
	uint64_t ticks = spdk_get_ticks() - slot->began;
	bool miscompare = !success && slot->kind == RUN_COMPARE && is_miscompare(io);

	spdk_bdev_free_io(io);
	if (success || miscompare) {
		count(&stats->done[slot->kind], 1);
		if (ticks > __atomic_load_n(&stats->slowest, __ATOMIC_RELAXED)) {
			__atomic_store_n(&stats->slowest, ticks, __ATOMIC_RELAXED);
		}
	} else {
		note_failure(slot, ticks);
	}
	if (miscompare && !slot->must_miscompare) {
		/* It was executed twice, or the block does not hold what was acknowledged. */
		complain(slot, "compare-and-write did not find what was acknowledged", slot->start);
	}
	if (success && slot->kind == RUN_READ) {
		read_done(slot);
	} else if (success && slot->kind != RUN_FLUSH) {
		modification_done(slot);
	}
	/* After a failure, the blocks stay pending with an unknown outcome, which the next I/O to them settles. */
	if (slot->holds) {
		hold(slot, false);
	}
	slot_next(slot);
}

/* The choice of the next I/O. */

static void
choose_range(struct slot *slot, uint64_t most)
{
	struct worker *worker = slot->worker;

	most = most < worker->blocks ? most : worker->blocks;
	slot->count = 1 + random_below(worker, most);
	slot->start = worker->first + random_below(worker, worker->blocks - slot->count + 1);
}

/*
 * Chooses and holds a range without outstanding modifications. If it has unknown outcomes, the I/O
 * becomes a read that settles them. Returns false if a few attempts found no such range.
 */
static bool
choose_free_range(struct slot *slot, uint64_t most)
{
	int attempt;

	for (attempt = 0; attempt < 16; attempt++) {
		choose_range(slot, most);
		if (!any_busy(slot)) {
			if (any_pending(slot)) {
				slot->kind = RUN_READ;
				slot->settles = true;
			}
			hold(slot, true);
			return true;
		}
	}
	return false;
}

static enum run_kind
choose_kind(struct worker *worker)
{
	const struct run_options *options = worker->options;
	uint64_t dice = random_below(worker, 100);

	if (dice < options->reads) {
		return RUN_READ;
	}
	dice -= options->reads;
	if (dice < options->zeroes) {
		return RUN_ZEROES;
	}
	dice -= options->zeroes;
	if (dice < options->compares) {
		return RUN_COMPARE;
	}
	dice -= options->compares;
	return dice < options->flushes ? RUN_FLUSH : RUN_WRITE;
}

static void
prepare_compare(struct slot *slot)
{
	struct journal *journal = slot->worker->journal;
	struct journal_block *known = block_of(slot, 0);

	slot->must_miscompare = random_below(slot->worker, 4) == 0;
	if (slot->must_miscompare) {
		block_fill(journal, slot->start, journal_next_sequence(journal), slot->expected);
	} else if (known->acked == known->zeroed) {
		memset(slot->expected, 0, journal->block_size);
	} else {
		block_fill(journal, slot->start, known->acked, slot->expected);
	}
}

/* Records what will be written, before it is submitted. */
static void
prepare_modification(struct slot *slot)
{
	struct journal *journal = slot->worker->journal;
	uint64_t sequence, i;

	for (i = 0; i < slot->count; i++) {
		sequence = journal_next_sequence(journal);
		if (slot->kind == RUN_ZEROES) {
			block_of(slot, i)->pending = sequence | JOURNAL_ZEROES;
			continue;
		}
		block_fill(journal, slot->start + i, sequence, buffer_of(slot, i));
		if (!slot->must_miscompare) {
			block_of(slot, i)->pending = sequence;
		}
	}
}

static void
prepare_read(struct slot *slot)
{
	uint64_t i;

	for (i = 0; i < slot->count; i++) {
		slot->low[i] = block_of(slot, i)->acked;
	}
}

static void
choose(struct slot *slot)
{
	struct worker *worker = slot->worker;

	slot->settles = slot->must_miscompare = false;
	slot->kind = choose_kind(worker);
	if (slot->kind == RUN_FLUSH) {
		slot->start = 0;
		slot->count = spdk_bdev_get_num_blocks(spdk_bdev_desc_get_bdev(worker->desc));
	} else if (slot->kind == RUN_READ ||
		   !choose_free_range(slot, slot->kind == RUN_COMPARE ? 1 : worker->options->io_blocks)) {
		slot->kind = RUN_READ;
		choose_range(slot, worker->options->io_blocks);
	}
	if (slot->kind == RUN_READ) {
		prepare_read(slot);
	} else if (slot->kind != RUN_FLUSH) {
		if (slot->kind == RUN_COMPARE) {
			prepare_compare(slot);
		}
		prepare_modification(slot);
	}
}

/* Chooses the next part of the worker's range to read back. Returns false if there is none left. */
static bool
choose_verification(struct slot *slot)
{
	struct worker *worker = slot->worker;
	uint64_t left = worker->first + worker->blocks - worker->next;

	if (left == 0) {
		return false;
	}
	slot->kind = RUN_READ;
	slot->settles = true;
	slot->start = worker->next;
	slot->count = left < worker->options->io_blocks ? left : worker->options->io_blocks;
	worker->next += slot->count;
	hold(slot, true);
	prepare_read(slot);
	return true;
}

static int
submit_once(struct slot *slot)
{
	struct worker *worker = slot->worker;

	switch (slot->kind) {
	case RUN_READ:
		return spdk_bdev_read_blocks(worker->desc, worker->channel, slot->buf, slot->start, slot->count, io_done,
					     slot);
	case RUN_WRITE:
		return spdk_bdev_write_blocks(worker->desc, worker->channel, slot->buf, slot->start, slot->count, io_done,
					      slot);
	case RUN_ZEROES:
		return spdk_bdev_write_zeroes_blocks(worker->desc, worker->channel, slot->start, slot->count, io_done,
						     slot);
	case RUN_FLUSH:
		return spdk_bdev_flush_blocks(worker->desc, worker->channel, slot->start, slot->count, io_done, slot);
	case RUN_COMPARE:
		slot->iov.iov_base = slot->buf;
		slot->expected_iov.iov_base = slot->expected;
		slot->iov.iov_len = slot->expected_iov.iov_len = worker->journal->block_size;
		return spdk_bdev_comparev_and_writev_blocks(worker->desc, worker->channel, &slot->expected_iov, 1,
							    &slot->iov, 1, slot->start, slot->count, io_done, slot);
	case RUN_KINDS:
		break;
	}
	return -EINVAL;
}

static void
submit(void *arg)
{
	struct slot *slot = arg;
	int rc = submit_once(slot);

	if (rc == -ENOMEM) {
		slot->wait.bdev = spdk_bdev_desc_get_bdev(slot->worker->desc);
		slot->wait.cb_fn = submit;
		slot->wait.cb_arg = slot;
		rc = spdk_bdev_queue_io_wait(slot->wait.bdev, slot->worker->channel, &slot->wait);
	}
	if (rc != 0) {
		SPDK_ERRLOG("can't submit a %s: %s\n", run_kind_names[slot->kind], strerror(-rc));
		note_failure(slot, 0);
		if (slot->holds) {
			hold(slot, false);
		}
		/* Another attempt would fail, too. */
		slot->worker->stopping = true;
		slot_next(slot);
	}
}

static void
worker_end(struct worker *worker)
{
	uint32_t i;

	for (i = 0; worker->slots != NULL && i < worker->options->depth; i++) {
		spdk_dma_free(worker->slots[i].buf);
		spdk_dma_free(worker->slots[i].expected);
		free(worker->slots[i].low);
	}
	free(worker->slots);
	free(worker->busy);
	worker->slots = NULL;
	worker->busy = NULL;
	if (worker->channel != NULL) {
		spdk_put_io_channel(worker->channel);
	}
	run_worker_ended(worker);
}

static void
slot_next(struct slot *slot)
{
	struct worker *worker = slot->worker;

	if (__atomic_load_n(&worker->stopping, __ATOMIC_RELAXED) ||
	    (worker->options->verify && !choose_verification(slot))) {
		if (--worker->active == 0) {
			worker_end(worker);
		}
		return;
	}
	if (!worker->options->verify) {
		choose(slot);
	}
	slot->began = spdk_get_ticks();
	submit(slot);
}

static bool
prepare_slots(struct worker *worker)
{
	size_t bytes = worker->options->io_blocks * worker->journal->block_size;
	struct slot *slot;
	uint32_t i;

	worker->busy = calloc(worker->blocks, sizeof(*worker->busy));
	worker->slots = calloc(worker->options->depth, sizeof(*worker->slots));
	if (worker->busy == NULL || worker->slots == NULL) {
		return false;
	}
	for (i = 0; i < worker->options->depth; i++) {
		slot = &worker->slots[i];
		slot->worker = worker;
		slot->buf = spdk_dma_malloc(bytes, 4096, NULL);
		slot->expected = spdk_dma_malloc(worker->journal->block_size, 4096, NULL);
		slot->low = calloc(worker->options->io_blocks, sizeof(*slot->low));
		if (slot->buf == NULL || slot->expected == NULL || slot->low == NULL) {
			return false;
		}
	}
	return true;
}

void
worker_begin(void *arg)
{
	struct worker *worker = arg;
	uint32_t depth = worker->options->depth;
	uint32_t i;

	worker->random = (worker->options->seed + worker->first + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
	worker->next = worker->first;
	worker->channel = spdk_bdev_get_io_channel(worker->desc);
	if (worker->channel == NULL || !prepare_slots(worker)) {
		SPDK_ERRLOG("can't begin: out of memory, or the bdev gives no channel\n");
		count(&worker->stats.failed[RUN_READ], 1);
		worker_end(worker);
		return;
	}
	worker->active = depth;
	/* The last slot may end the worker, which must not be accessed afterwards. */
	for (i = 0; i < depth; i++) {
		slot_next(&worker->slots[i]);
	}
}
