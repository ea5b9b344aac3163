//! The key agreement that secures a connection: Noise's pattern NNpsk0, one message each way.
//!
//! ```text
//! client                                                                 target
//!   | -- Secure:  offer, in clear | psk, e                                  |  knows the key, or is refused here
//!   | <- Secured:                   e, ee, what was chosen, encrypted       |
//!   | == records in both directions, first the client's hello ============ |
//! ```
//!
//! The tag of the first message shows the target, before it has done any of the expensive
//! computation, that the message was made with the key, though it may be a replay. The second
//! message shows the client that the target has the key. Only the first record shows the target
//! that the client is present now, so the target changes nothing for the client before it. The keys
//! of the records depend on two ephemeral secrets that are forgotten at once, so stealing the key
//! later does not help to read the records.

use dst_wire::secure::{Chosen, Offer, Secure, decode_secured, encode_secure, encode_secured};
use dst_wire::{Cipher, VERSION, WireError};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::psk::{Psk, wipe_stack};
use crate::record::Keys;
use crate::secret::Secret;

/// The name of the Noise protocol. 25519 and ChaChaPoly take the same time for every key, even in
/// pure Rust.
const PROTOCOL: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";

/// The prologue: this text, then the offer as it was sent.
const PROLOGUE: &[u8] = b"DST secure connection 1";

/// The number of random bytes that each side needs, for its ephemeral secret.
pub const ENTROPY_LEN: usize = 32;

/// The size of a buffer for a Noise message, in bytes.
const MESSAGE_MAX: usize = dst_wire::secure::NOISE_MAX;

/// The result of a successful handshake.
pub struct Secured {
    /// The cipher that the target has chosen.
    pub cipher: Cipher,
    /// The keys for sending.
    pub send: Keys,
    /// The keys for receiving.
    pub receive: Keys,
}

/// The reason why a target refuses a handshake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejected {
    /// The client does not have the key, or its message was changed on the way.
    #[error("it does not have the key of its entry")]
    Key,
    /// The two ends have no cipher in common.
    #[error("it offers none of the target's ciphers")]
    Cipher,
    /// The two ends have no version in common.
    #[error("it speaks versions {0} to {1}, the target {VERSION}")]
    Version(u16, u16),
}

/// The reason why a client abandons a handshake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Untrusted {
    /// The reply could not be decoded.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The target does not have the key, or a message was changed on the way.
    #[error("the target does not have our key, or what we sent was changed on the way")]
    Key,
    /// The target chose what was not offered.
    #[error("the target chose version {0} and cipher {1}, which were not offered")]
    Chosen(u16, Cipher),
}

/// Returns the cipher of a wire code, or `None` for no cipher and for unknown codes.
fn cipher_of(code: u8) -> Option<Cipher> {
    Cipher::try_from_code(code).filter(|&cipher| cipher != Cipher::None)
}

/// A random number generator that yields the ephemeral secret once.
struct Entropy(Zeroizing<[u8; ENTROPY_LEN]>);

impl Random for Entropy {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        if dest.len() != ENTROPY_LEN || *self.0 == [0; ENTROPY_LEN] {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(&self.0[..]);
        self.0.fill(0);
        Ok(())
    }
}

/// snow's own primitives, with the caller's randomness.
struct Resolver(Zeroizing<[u8; ENTROPY_LEN]>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Entropy(self.0.clone())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn snow::types::Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Returns the handshake state of one side. It is boxed so that moving it leaves no copies.
fn state(psk: &Psk, bound: &[u8], entropy: &[u8; ENTROPY_LEN], initiates: bool) -> Box<HandshakeState> {
    let prologue = [PROLOGUE, bound].concat();
    let resolver = Resolver(Zeroizing::new(*entropy));
    let params = PROTOCOL.parse().expect("the protocol's name is right");
    let builder = Builder::with_resolver(params, Box::new(resolver))
        .psk(0, psk.bytes())
        .and_then(|builder| builder.prologue(&prologue))
        .expect("the builder has neither yet");
    let built = if initiates { builder.build_initiator() } else { builder.build_responder() };
    Box::new(built.expect("the pattern needs a key and a prologue"))
}

/// Returns the keys that both sides have now, those for what the client sends first.
fn split(state: &mut HandshakeState, cipher: Cipher) -> (Keys, Keys) {
    let (client, target) = state.dangerously_get_raw_split();
    let (client, target) = (Zeroizing::new(client), Zeroizing::new(target));
    (Keys::new(cipher, Secret::new(client)), Keys::new(cipher, Secret::new(target)))
}

/// The client's part of the handshake.
pub struct Initiator {
    state: Box<HandshakeState>,
    offered: Vec<u8>,
    versions: (u16, u16),
}

impl Initiator {
    /// Begins a handshake. Also returns the encoded attributes of the message to send. `entropy`
    /// must be fresh random bytes.
    pub fn begin(psk: &Psk, offer: &Offer, entropy: &[u8; ENTROPY_LEN]) -> (Initiator, Vec<u8>) {
        let begun = Initiator::compute(psk, offer, entropy);
        wipe_stack();
        begun
    }

    #[inline(never)]
    fn compute(psk: &Psk, offer: &Offer, entropy: &[u8; ENTROPY_LEN]) -> (Initiator, Vec<u8>) {
        let bound = offer.encode();
        let mut state = state(psk, &bound, entropy, true);
        let mut noise = [0; MESSAGE_MAX];
        let len = state.write_message(&[], &mut noise).expect("the first message has 48 bytes");
        let message = encode_secure(&bound, &noise[..len]);
        (Initiator { state, offered: offer.ciphers.clone(), versions: offer.versions }, message)
    }

    /// Completes the handshake with the encoded attributes of the target's reply.
    ///
    /// # Errors
    /// See [`Untrusted`].
    pub fn finish(self, message: &[u8]) -> Result<Secured, Untrusted> {
        let finished = self.compute_end(message);
        wipe_stack();
        finished
    }

    #[inline(never)]
    fn compute_end(mut self, message: &[u8]) -> Result<Secured, Untrusted> {
        let noise = decode_secured(message)?;
        let mut payload = [0; MESSAGE_MAX];
        let len = self.state.read_message(noise, &mut payload).map_err(|_| Untrusted::Key)?;
        let chosen = Chosen::decode(&payload[..len])?;
        let code = chosen.cipher.code();
        let cipher = cipher_of(code).filter(|_| self.offered.contains(&code));
        let is_offered = (self.versions.0..=self.versions.1).contains(&chosen.version);
        let Some(cipher) = cipher.filter(|_| is_offered) else {
            return Err(Untrusted::Chosen(chosen.version, chosen.cipher));
        };
        let (send, receive) = split(&mut self.state, cipher);
        Ok(Secured { cipher, send, receive })
    }
}

/// Performs the target's part of the handshake: checks the client's message against the keys of the
/// host's entry, and returns the encoded attributes of the reply. `entropy` must be fresh random
/// bytes.
///
/// # Errors
/// See [`Rejected`].
pub fn accept(
    psks: &[Psk],
    secure: &Secure<'_>,
    entropy: &[u8; ENTROPY_LEN],
) -> Result<(Vec<u8>, Secured), Rejected> {
    let accepted = compute_accept(psks, secure, entropy);
    wipe_stack();
    accepted
}

#[inline(never)]
fn compute_accept(
    psks: &[Psk],
    secure: &Secure<'_>,
    entropy: &[u8; ENTROPY_LEN],
) -> Result<(Vec<u8>, Secured), Rejected> {
    let mut payload = [0; MESSAGE_MAX];
    let reads = |psk: &Psk| {
        let mut state = state(psk, secure.bound, entropy, false);
        state.read_message(secure.noise, &mut payload).is_ok().then_some(state)
    };
    let mut state = psks.iter().find_map(reads).ok_or(Rejected::Key)?;
    let (min, max) = secure.offer.versions;
    if !(min..=max).contains(&VERSION) {
        return Err(Rejected::Version(min, max));
    }
    let cipher = secure.offer.ciphers.iter().find_map(|&code| cipher_of(code)).ok_or(Rejected::Cipher)?;
    let chosen = Chosen { version: VERSION, cipher }.encode();
    let mut noise = [0; MESSAGE_MAX];
    // An ephemeral key of low order, which no honest client makes, gives a shared secret of zeroes.
    // The PSK still protects the session keys.
    let len = state.write_message(&chosen, &mut noise).map_err(|_| Rejected::Key)?;
    let (receive, send) = split(&mut state, cipher);
    Ok((encode_secured(&noise[..len]), Secured { cipher, send, receive }))
}
