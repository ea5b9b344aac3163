"""The harness of the tests: processes, JSON-RPC, SPDK's applications, and the transports of a
bdev."""
