//! Records for tests.

use proptest::prelude::*;

use super::layout::{Layout, Slot};
use super::record::Record;
use super::superblock::Trees;
use super::tree::{TREE_EXTENTS_MAX, TreeRef};
use crate::configuration::{
    Configuration, MEMBERS_MAX, MemberRecord, MemberState, WitnessRecord, WitnessState,
};
use crate::generation::{Generation, Generations, HISTORY_MAX};
use crate::ids::{MemberId, MirrorId};
use crate::regions::{HOT_MAX, RegionSize};

/// The members 1 and 2 of 4 GiB and some, of which the second one is out of date, and the witness 99.
pub fn example() -> (Layout, Record) {
    let layout = Layout::member((1 << 20) + 10_000, 4096).expect("there is room");
    let member = |id, state| MemberRecord {
        id: MemberId(id),
        name: format!("Disk{id}"),
        device_blocks: layout.device_blocks(),
        state,
    };
    let since = Generation(8);
    let witness = WitnessRecord {
        id: MemberId(99),
        name: "W".into(),
        device_blocks: 2048,
        state: WitnessState::Current,
    };
    let blocks = 1 << 20;
    let configuration = Configuration {
        number: 0x0109,
        accepted: 0x0107,
        generations: Generations::from_kept(Generation(9), vec![since]),
        members: vec![member(1, MemberState::InSync), member(2, MemberState::OutOfDate { since })],
        witness: Some(witness),
    };
    let record = Record {
        mirror: MirrorId(77),
        block_size: 4096,
        blocks,
        configuration,
        region_size: RegionSize::for_device(blocks, 4096),
        hot: vec![3, 0x0201],
    };
    (layout, record)
}

fn any_generation() -> impl Strategy<Value = Generation> {
    (1..=u128::MAX).prop_map(Generation)
}

fn any_state() -> impl Strategy<Value = MemberState> {
    prop_oneof![
        Just(MemberState::InSync),
        any_generation().prop_map(|since| MemberState::OutOfDate { since }),
        any_generation().prop_map(|since| MemberState::Resyncing { since }),
        Just(MemberState::Detached),
    ]
}

/// Generates a record with the layout and the id of its first member.
pub fn any_record() -> impl Strategy<Value = (Layout, MemberId, Record)> {
    let name = || "[^\\p{Cc}]{0,16}";
    let member = (1..=u128::MAX, name(), any::<u64>(), any_state());
    let members = proptest::collection::vec(member, 1..=MEMBERS_MAX);
    let witness =
        proptest::option::of((1..=u128::MAX, name(), any::<u64>(), proptest::option::of(any_generation())));
    let history = proptest::collection::vec(any_generation(), 0..=HISTORY_MAX);
    let hot = proptest::collection::btree_set(any::<u16>(), 0..=HOT_MAX);
    let device = (9u32..=16, 0u64..1 << 30, any::<u64>());
    (any::<(u64, u64, u64)>(), (any_generation(), history), members, witness, hot, device).prop_map(
        |((mirror, number, accepted), (current, history), members, witness, hot, (shift, bytes, blocks))| {
            let layout = Layout::member((bytes + (9 << 20)) >> shift, 1 << shift).expect("there is room");
            let mut members: Vec<MemberRecord> = members
                .into_iter()
                .map(|(id, name, device_blocks, state)| MemberRecord {
                    id: MemberId(id),
                    name,
                    device_blocks,
                    state,
                })
                .collect();
            members.sort_by_key(|member| member.id);
            members.dedup_by_key(|member| member.id);
            members[0].device_blocks = layout.device_blocks();
            let witness = witness.map(|(id, name, device_blocks, since)| {
                let state = since.map_or(WitnessState::Current, |since| WitnessState::Away { since });
                WitnessRecord { id: MemberId(id), name, device_blocks, state }
            });
            let witness = witness.filter(|witness| members.iter().all(|member| member.id != witness.id));
            let blocks = 1 + blocks % layout.data_blocks();
            let region_size = RegionSize::for_device(blocks, 1 << shift);
            let count = region_size.count(blocks);
            let hot = hot.into_iter().filter(|&region| u64::from(region) < count).collect();
            let own = members[0].id;
            let configuration = Configuration {
                number,
                accepted: accepted.min(number),
                generations: Generations::from_kept(current, history),
                members,
                witness,
            };
            let mirror = MirrorId(u128::from(mirror) + 1);
            (layout, own, Record { mirror, block_size: 1 << shift, blocks, configuration, region_size, hot })
        },
    )
}

/// Generates what a superblock says about trees.
pub fn any_trees() -> impl Strategy<Value = Trees> {
    let tree = any::<(bool, u64, u32, u32)>().prop_map(|(is_first, number, count, crc)| {
        let slot = if is_first { Slot::First } else { Slot::Second };
        match count % (TREE_EXTENTS_MAX as u32 + 1) {
            0..1000 => TreeRef::empty(slot),
            count => TreeRef { slot, number, count, crc },
        }
    });
    proptest::array::uniform8(tree)
}
