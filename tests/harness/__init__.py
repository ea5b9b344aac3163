"""What the tests stand on: processes, JSON-RPC, SPDK's applications, and the ways to carry a bdev."""
