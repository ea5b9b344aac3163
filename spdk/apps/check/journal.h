/*
 * The journal: what dst_check knows about each block, in a memory-mapped file. If a checker is
 * killed, the next one continues from its journal.
 *
 * A block holds zeroes, or what block_fill() makes of a sequence number. A journal never uses a
 * sequence number twice, so each state of a block has a higher number than all earlier ones. At
 * most one modifying I/O is outstanding on a block.
 */
#ifndef DST_CHECK_JOURNAL_H
#define DST_CHECK_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A flag in `pending`: zeroes are being written. */
#define JOURNAL_ZEROES (UINT64_C(1) << 63)

struct journal_block {
	/* The newest acknowledged sequence; 0: the block was never written and holds zeroes. */
	uint64_t acked;
	/* The sequence that is outstanding or has an unknown outcome, maybe with JOURNAL_ZEROES; 0: none. */
	uint64_t pending;
	/* The newest acknowledged sequence that wrote zeroes. The block holds zeroes if this equals `acked`. */
	uint64_t zeroed;
};

struct journal {
	uint64_t magic;
	/* Distinguishes the blocks of this journal from those of another one. */
	uint64_t salt;
	uint64_t block_size;
	uint64_t num_blocks;
	uint64_t next_sequence;
	struct journal_block blocks[];
};

/*
 * Opens or creates a journal. Returns NULL and logs the reason if the file cannot be mapped or
 * belongs to another device.
 */
struct journal *journal_open(const char *path, uint64_t block_size, uint64_t num_blocks);
void journal_close(struct journal *journal);

uint64_t journal_next_sequence(struct journal *journal);
/* Records that the block's pending I/O was acknowledged. */
void journal_acknowledge(struct journal_block *block);

/* Fills `buf` with the content of the block for this sequence. */
void block_fill(const struct journal *journal, uint64_t block, uint64_t sequence, void *buf);

enum block_kind { BLOCK_ZEROES, BLOCK_SEQUENCE, BLOCK_FOREIGN, BLOCK_TORN };
/*
 * Returns what a buffer that was read from `block` holds, and for BLOCK_SEQUENCE its sequence.
 * BLOCK_FOREIGN is the content of another block or journal.
 */
enum block_kind block_parse(const struct journal *journal, uint64_t block, const void *buf, uint64_t *sequence);

/*
 * Checks whether a read may return this content. `low` is the sequence that was acknowledged when
 * the read was submitted. Returns NULL, or what is wrong.
 */
const char *block_judge(const struct journal *journal, uint64_t block, uint64_t low, const void *buf);

/*
 * Decides from the content that was read whether the pending I/O with an unknown outcome was
 * executed. Nothing may be outstanding on the block. Returns NULL, or what is wrong.
 */
const char *block_settle(struct journal *journal, uint64_t block, const void *buf);

#endif
