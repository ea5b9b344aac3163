/*
 * bdevperf -w verify reads back into a NULL buffer, for which SPDK takes a buffer from a pool. The
 * pool's buffers have a fixed size of SPDK_BDEV_LARGE_BUF_MAX_SIZE (64 KiB in 20.07), so bdevperf
 * cannot verify I/O of 1 MiB at all. Linked into bdevperf with -Wl,--wrap=spdk_bdev_read_blocks,
 * this function gives such a read a buffer of its own, and passes all other reads on unchanged.
 */
#include <errno.h>
#include <stdlib.h>

#include "spdk/bdev.h"
#include "spdk/env.h"

struct large_read {
	spdk_bdev_io_completion_cb cb;
	void *cb_arg;
	void *buf;
};

int __real_spdk_bdev_read_blocks(struct spdk_bdev_desc *desc, struct spdk_io_channel *ch, void *buf,
				 uint64_t offset_blocks, uint64_t num_blocks, spdk_bdev_io_completion_cb cb,
				 void *cb_arg);
int __wrap_spdk_bdev_read_blocks(struct spdk_bdev_desc *desc, struct spdk_io_channel *ch, void *buf,
				 uint64_t offset_blocks, uint64_t num_blocks, spdk_bdev_io_completion_cb cb,
				 void *cb_arg);

static void
large_read_done(struct spdk_bdev_io *bdev_io, bool success, void *arg)
{
	struct large_read read = *(struct large_read *)arg;

	free(arg);
	/* The application compares the data and frees the bdev_io in this call, so the buffer must outlive it. */
	read.cb(bdev_io, success, read.cb_arg);
	spdk_dma_free(read.buf);
}

int
__wrap_spdk_bdev_read_blocks(struct spdk_bdev_desc *desc, struct spdk_io_channel *ch, void *buf,
			     uint64_t offset_blocks, uint64_t num_blocks, spdk_bdev_io_completion_cb cb, void *cb_arg)
{
	struct spdk_bdev *bdev = spdk_bdev_desc_get_bdev(desc);
	uint64_t bytes = num_blocks * spdk_bdev_get_block_size(bdev);
	struct large_read *read;
	int rc;

	if (buf != NULL || bytes <= SPDK_BDEV_LARGE_BUF_MAX_SIZE) {
		return __real_spdk_bdev_read_blocks(desc, ch, buf, offset_blocks, num_blocks, cb, cb_arg);
	}

	read = malloc(sizeof(*read));
	if (read == NULL) {
		return -ENOTSUP;
	}
	read->cb = cb;
	read->cb_arg = cb_arg;
	read->buf = spdk_dma_malloc(bytes, spdk_bdev_get_buf_align(bdev), NULL);
	/* Not -ENOMEM: bdevperf would then wait for another I/O to complete, and there may be none. */
	rc = read->buf == NULL ? -ENOTSUP
			       : __real_spdk_bdev_read_blocks(desc, ch, read->buf, offset_blocks, num_blocks,
							      large_read_done, read);
	if (rc != 0) {
		spdk_dma_free(read->buf);
		free(read);
	}
	return rc;
}
