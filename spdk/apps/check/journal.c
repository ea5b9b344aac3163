#include "journal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spdk/crc32.h"
#include "spdk/log.h"

#define JOURNAL_MAGIC UINT64_C(0x314b434843545344) /* "DSTCHCK1" */
#define BLOCK_MAGIC UINT64_C(0x4b434f4c42545344)   /* "DSTBLOCK" */

/* The beginning of a block. A pattern follows, and the last four bytes are the CRC32C of everything before. */
struct block_begin {
	uint64_t magic;
	uint64_t salt;
	uint64_t block;
	uint64_t sequence;
};

static size_t
journal_bytes(uint64_t num_blocks)
{
	return sizeof(struct journal) + num_blocks * sizeof(struct journal_block);
}

struct journal *
journal_open(const char *path, uint64_t block_size, uint64_t num_blocks)
{
	size_t bytes = journal_bytes(num_blocks);
	struct journal *journal;
	struct stat st;
	int fd;

	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || fstat(fd, &st) != 0 || (st.st_size == 0 && ftruncate(fd, (off_t)bytes) != 0)) {
		SPDK_ERRLOG("%s: can't be opened or created\n", path);
		if (fd >= 0) {
			close(fd);
		}
		return NULL;
	}
	if (st.st_size != 0 && (size_t)st.st_size != bytes) {
		SPDK_ERRLOG("%s: belongs to a device of another size\n", path);
		close(fd);
		return NULL;
	}
	journal = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (journal == MAP_FAILED) {
		SPDK_ERRLOG("%s: can't be mapped\n", path);
		return NULL;
	}
	if (st.st_size == 0) {
		if (getrandom(&journal->salt, sizeof(journal->salt), 0) != (ssize_t)sizeof(journal->salt)) {
			SPDK_ERRLOG("%s: can't get a random number for it\n", path);
			munmap(journal, bytes);
			return NULL;
		}
		journal->block_size = block_size;
		journal->num_blocks = num_blocks;
		journal->next_sequence = 1;
		journal->magic = JOURNAL_MAGIC;
	}
	if (journal->magic != JOURNAL_MAGIC || journal->block_size != block_size || journal->num_blocks != num_blocks) {
		SPDK_ERRLOG("%s: is not a journal of this device\n", path);
		munmap(journal, bytes);
		return NULL;
	}
	return journal;
}

void
journal_close(struct journal *journal)
{
	munmap(journal, journal_bytes(journal->num_blocks));
}

uint64_t
journal_next_sequence(struct journal *journal)
{
	return __atomic_fetch_add(&journal->next_sequence, 1, __ATOMIC_RELAXED);
}

void
journal_acknowledge(struct journal_block *block)
{
	uint64_t sequence = block->pending & ~JOURNAL_ZEROES;

	/* The order keeps the journal consistent wherever the process is killed. */
	if (block->pending & JOURNAL_ZEROES) {
		__atomic_store_n(&block->zeroed, sequence, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&block->acked, sequence, __ATOMIC_RELEASE);
	__atomic_store_n(&block->pending, 0, __ATOMIC_RELEASE);
}

void
block_fill(const struct journal *journal, uint64_t block, uint64_t sequence, void *buf)
{
	struct block_begin begin = { BLOCK_MAGIC, journal->salt, block, sequence };
	uint64_t state = journal->salt ^ (block << 32) ^ sequence;
	char *out = buf;
	uint32_t crc;
	size_t at;

	memcpy(out, &begin, sizeof(begin));
	for (at = sizeof(begin); at < journal->block_size; at += sizeof(state)) {
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		memcpy(out + at, &state, sizeof(state));
	}
	at = journal->block_size - sizeof(crc);
	crc = spdk_crc32c_update(out, at, ~0u);
	memcpy(out + at, &crc, sizeof(crc));
}

static bool
is_zero(const char *buf, size_t len)
{
	return buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0;
}

enum block_kind
block_parse(const struct journal *journal, uint64_t block, const void *buf, uint64_t *sequence)
{
	size_t at = journal->block_size - sizeof(uint32_t);
	struct block_begin begin;
	uint32_t crc;

	if (is_zero(buf, journal->block_size)) {
		return BLOCK_ZEROES;
	}
	memcpy(&begin, buf, sizeof(begin));
	memcpy(&crc, (const char *)buf + at, sizeof(crc));
	if (spdk_crc32c_update(buf, at, ~0u) != crc) {
		return BLOCK_TORN;
	}
	if (begin.magic != BLOCK_MAGIC || begin.salt != journal->salt || begin.block != block) {
		return BLOCK_FOREIGN;
	}
	*sequence = begin.sequence;
	return BLOCK_SEQUENCE;
}

const char *
block_judge(const struct journal *journal, uint64_t block, uint64_t low, const void *buf)
{
	struct journal_block known = journal->blocks[block];
	uint64_t pending = known.pending & ~JOURNAL_ZEROES;
	uint64_t newest = pending > known.acked ? pending : known.acked;
	uint64_t sequence;

	switch (block_parse(journal, block, buf, &sequence)) {
	case BLOCK_ZEROES:
		return (known.pending & JOURNAL_ZEROES) || known.zeroed >= low ? NULL : "zeroes where data was acknowledged";
	case BLOCK_SEQUENCE:
		if (sequence < low) {
			return "older than what was acknowledged";
		}
		return sequence <= newest ? NULL : "newer than anything that was written";
	case BLOCK_TORN:
		/* No disk promises that a read during a write returns either the old or the new content. */
		return pending != 0 || known.acked != low ? NULL : "torn";
	case BLOCK_FOREIGN:
		break;
	}
	return "another block's, or another journal's";
}

const char *
block_settle(struct journal *journal, uint64_t block, const void *buf)
{
	struct journal_block *known = &journal->blocks[block];
	uint64_t sequence = 0;
	enum block_kind kind = block_parse(journal, block, buf, &sequence);
	bool old_is_zeroes = known->zeroed == known->acked;

	if (kind == BLOCK_TORN) {
		return "torn";
	}
	if (kind == BLOCK_FOREIGN) {
		return "another block's, or another journal's";
	}
	if (kind == BLOCK_ZEROES ? (known->pending & JOURNAL_ZEROES) != 0 : sequence == known->pending) {
		journal_acknowledge(known);
		return NULL;
	}
	if (kind == BLOCK_ZEROES ? old_is_zeroes : sequence == known->acked && !old_is_zeroes) {
		__atomic_store_n(&known->pending, 0, __ATOMIC_RELEASE);
		return NULL;
	}
	if (kind == BLOCK_ZEROES) {
		return "zeroes where data was acknowledged";
	}
	return sequence < known->acked ? "older than what was acknowledged" : "neither the old nor the new of an unknown outcome";
}
