//! Encodes and decodes the examples of `docs/protocol.md`, byte for byte.

use dst_wire::{
    Cipher, Device, Digest, Event, Flags, HEADER_LEN, Header, Hello, Kind, Op, Refusal, RefusalReason,
    SessionRef, Welcome,
};

const SPECIFICATION: &str = include_str!("../../../docs/protocol.md");

/// Returns the header and the data of the specification's example `name`.
fn example(name: &str) -> (Header, Vec<u8>) {
    let (_, rest) = SPECIFICATION.split_once(&format!("\n```hex {name}\n")).expect(name);
    let (block, _) = rest.split_once("\n```\n").expect("the block ends");
    let bytes: Vec<u8> = block
        .lines()
        .flat_map(|line| line.split(';').next().unwrap_or_default().split_whitespace())
        .map(|hex| u8::from_str_radix(hex, 16).expect("hex"))
        .collect();
    let (header, data) = bytes.split_first_chunk::<HEADER_LEN>().expect("a header");
    let decoded = Header::decode(header).expect("the header is right");
    assert_eq!(&decoded.encode(), header, "{name}");
    (decoded, data.to_vec())
}

/// Returns the attributes of the example `name`, after checking its header.
fn attributes(name: &str, kind: Kind, code: u8) -> Vec<u8> {
    let (header, data) = example(name);
    assert_eq!(header, Header { code, data_len: data.len() as u32, ..Header::new(kind) });
    data
}

fn session(queue: u16, epoch: u32) -> SessionRef {
    SessionRef { id: std::array::from_fn(|i| 0xa0 + i as u8), queue, epoch }
}

fn hello() -> Hello {
    Hello {
        versions: (1, 1),
        export: "vol0".into(),
        host: "alpha".into(),
        session: None,
        previous: None,
        claim: None,
        credits: 128,
        digests: vec![0],
        ciphers: vec![0],
        keep_alive_ms: 10_000,
        aborts: false,
    }
}

#[test]
fn hellos() {
    for (name, hello) in [("hello", hello()), ("join", Hello { session: Some(session(1, 1)), ..hello() })] {
        let data = attributes(name, Kind::Hello, 0);
        assert_eq!(hello.encode(), data, "{name}");
        assert_eq!(Hello::decode(&data), Ok(hello));
    }
}

#[test]
fn welcome() {
    let data = attributes("welcome", Kind::Welcome, 0);
    let welcome = Welcome {
        version: 1,
        instance: std::array::from_fn(|i| 0xe0 + i as u8),
        session: session(0, 0),
        device: Device {
            uuid: std::array::from_fn(|i| 0xc0 + i as u8),
            num_blocks: 25_600,
            block_size: 4096,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 1,
            write_cache: true,
            read_only: false,
            ops: Op::ALL.into_iter().collect(),
        },
        previous_ended: false,
        cache_kept: false,
        ownership: None,
        credits: 128,
        max_transfer: 1 << 20,
        digest: Digest::None,
        cipher: Cipher::None,
        keep_alive_ms: 10_000,
        aborts: false,
    };
    assert_eq!(welcome.encode(), data);
    assert_eq!(Welcome::decode(&data), Ok(welcome));
}

#[test]
fn refusal() {
    let data = attributes("refusal", Kind::Refusal, 0);
    let refusal = Refusal { reason: RefusalReason::NotAllowed, text: "not allowed".into(), ownership: None };
    assert_eq!(refusal.encode(), data);
    assert_eq!(Refusal::decode(&data), Ok(refusal));
}

#[test]
fn event() {
    let event = Event::Resized(51_200);
    let data = attributes("resized", Kind::Event, event.code());
    assert_eq!(event.encode(), data);
    assert_eq!(Event::decode(event.code(), &data), Ok(Some(event)));
}

#[test]
fn headers_alone() {
    let (write, read) = (1 << 16 | 3, 2 << 16 | 4);
    let request = |op, id, data_len| Header {
        code: op as u8,
        id,
        start: 256,
        count: 2,
        data_len,
        ..Header::new(Kind::Request)
    };
    let answer = |id, data_len| Header { id, data_len, ..Header::new(Kind::Answer) };
    for (name, header) in [
        ("write", request(Op::Write, write, 8192)),
        ("write-answer", answer(write, 0)),
        ("read", request(Op::Read, read, 0)),
        ("read-answer", answer(read, 8192)),
        ("keep-alive", Header { id: 7, ..Header::new(Kind::KeepAlive) }),
        ("last-goodbye", Header { flags: Flags::NOT_EXECUTED, ..Header::new(Kind::Goodbye) }),
    ] {
        assert_eq!(example(name), (header, vec![]), "{name}");
    }
}

#[test]
fn every_example_is_checked() {
    // src/security checks five more examples, of secured connections.
    assert_eq!(SPECIFICATION.matches("\n```hex ").count(), 16);
}
