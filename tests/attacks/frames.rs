//! HTTP/2 frames, made by hand: what no well-behaved library would send.

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and empty settings.
pub fn greeting() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[])].concat()
}

/// A name and a value that no table keeps.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0, name.len() as u8];
    field.extend(name.as_bytes());
    field.push(value.len() as u8);
    field.extend(value.as_bytes());
    field
}

/// The head of a call of `Join`, as a block of fields.
pub fn head() -> Vec<u8> {
    // POST and http are in the static table.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", "/lockstep.v1.Lockstep/Join"),
        (":authority", "a"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ] {
        block.extend(literal(name, value));
    }
    block
}

/// A call of `Join` that says nothing yet.
pub fn headers(stream: u32) -> Vec<u8> {
    frame(1, END_HEADERS, stream, &head())
}

/// A call whose head never ends, with a piece more of it.
pub fn continuation(stream: u32, first: bool) -> Vec<u8> {
    if first { frame(1, 0, stream, &head()) } else { frame(9, 0, stream, &literal("x", "y")) }
}

/// A message of a call, with gRPC's prefix.
pub fn message(stream: u32, message: &[u8], last: bool) -> Vec<u8> {
    let mut data = vec![0];
    data.extend((message.len() as u32).to_be_bytes());
    data.extend(message);
    frame(0, if last { END_STREAM } else { 0 }, stream, &data)
}

/// More credit for the connection.
pub fn window_update() -> Vec<u8> {
    frame(8, 0, 0, &1_u32.to_be_bytes())
}

/// A priority of a stream.
pub fn priority(stream: u32) -> Vec<u8> {
    frame(2, 0, stream, &[0, 0, 0, 0, 1])
}

/// The end of a stream.
pub fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8_u32.to_be_bytes())
}
