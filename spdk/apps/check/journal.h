/*
 * What dst_check knows of each block, in a file mapped into memory: a checker that is killed leaves it behind, and the
 * next one goes on from it.
 *
 * A block holds zeroes, or what block_fill() makes of a sequence number. Sequence numbers are never used twice in
 * a journal, so any later state of a block has a higher one than any earlier state. At most one modifying I/O is
 * outstanding on a block.
 */
#ifndef DST_CHECK_JOURNAL_H
#define DST_CHECK_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In `pending`: what is being written is zeroes. */
#define JOURNAL_ZEROES (UINT64_C(1) << 63)

struct journal_block {
	/* The newest sequence that was acknowledged; 0: never written, so zeroes. */
	uint64_t acked;
	/* The one that is outstanding, or whose outcome is not known, with JOURNAL_ZEROES; 0: none. */
	uint64_t pending;
	/* The newest acknowledged one that made the block zeroes. The block is zeroes when it equals `acked`. */
	uint64_t zeroed;
};

struct journal {
	uint64_t magic;
	/* Tells this journal's blocks from another's. */
	uint64_t salt;
	uint64_t block_size;
	uint64_t num_blocks;
	uint64_t next_sequence;
	struct journal_block blocks[];
};

/* NULL, with the reason logged, if it can't be mapped or is of another device. */
struct journal *journal_open(const char *path, uint64_t block_size, uint64_t num_blocks);
void journal_close(struct journal *journal);

uint64_t journal_next_sequence(struct journal *journal);
/* The block's one pending I/O was acknowledged. */
void journal_acknowledge(struct journal_block *block);

/* Makes the block of that sequence. */
void block_fill(const struct journal *journal, uint64_t block, uint64_t sequence, void *buf);

enum block_kind { BLOCK_ZEROES, BLOCK_SEQUENCE, BLOCK_FOREIGN, BLOCK_TORN };
/* What this buffer, read from `block`, is; for BLOCK_SEQUENCE the sequence too. BLOCK_FOREIGN: of another block or journal. */
enum block_kind block_parse(const struct journal *journal, uint64_t block, const void *buf, uint64_t *sequence);

/*
 * Whether a read may have found that. `low`: what was acknowledged when the read was submitted.
 * NULL: yes. Else what is wrong with it.
 */
const char *block_judge(const struct journal *journal, uint64_t block, uint64_t low, const void *buf);

/*
 * Decides, from what was read, whether the pending I/O with the unknown outcome was executed. Nothing may be
 * outstanding on the block. NULL: decided. Else what is wrong with it.
 */
const char *block_settle(struct journal *journal, uint64_t block, const void *buf);

#endif
