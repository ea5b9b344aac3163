//! Once connections are warm, sockets allocate nothing: neither for reading, nor for writing, nor
//! for telling which are ready.

mod ring;

use ring::{Pair, Work};

#[test]
fn io_allocates_nothing() {
    for (connections, depth) in [(1, 128), (100, 2)] {
        let mut pair =
            Pair::new(Work { connections, depth, request: 48, answer: 4144, mtu: 9000, offloads: false });
        pair.run(1_500);
        let count = allocation_counter::measure(|| pair.run(500));
        assert_eq!(count.count_total, 0, "{connections} connections");
    }
}
