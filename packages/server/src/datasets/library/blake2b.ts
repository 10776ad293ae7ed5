/**
 * BLAKE2b with a digest of 8 bytes (RFC 7693; Python's hashlib.blake2b(data, digest_size=8, key=key)), which node:crypto has
 * only with 64. 64-bit words are pairs of 32-bit ones, low half first.
 */

const IV = Uint32Array.of(
  ...[0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a],
  ...[0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19],
)
const SIGMA = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
]
/** Twelve rounds; the first two orders come again. Positions of words in arrays of halves. */
const ORDER = Uint8Array.from(
  [...SIGMA, SIGMA[0], SIGMA[1]].flatMap((row) => row ?? []),
  (word) => 2 * word,
)
const BLOCK_BYTES = 128
const DIGEST_BYTES = 8

const state = new Uint32Array(16)
const work = new Uint32Array(32)
const message = new Uint32Array(32)
/** The same memory, byte by byte: every platform that Node runs on has the low byte first, as the RFC has. */
const messageBytes = new Uint8Array(message.buffer)

/** The digest as a little-endian number: low and high 32 bits. `key`: up to 64 bytes. */
export function blake2b8(data: Buffer, key: Buffer = Buffer.alloc(0)): [low: number, high: number] {
  state.set(IV)
  state[0] = (state[0] as number) ^ (0x01010000 ^ (key.length << 8) ^ DIGEST_BYTES)
  // A key is a block of its own before the data.
  const keyed = key.length > 0 ? Buffer.concat([key, Buffer.alloc(BLOCK_BYTES - key.length), data]) : data
  const last = Math.max(0, Math.ceil(keyed.length / BLOCK_BYTES) - 1) * BLOCK_BYTES
  for (let at = 0; at < last; at += BLOCK_BYTES) {
    messageBytes.set(keyed.subarray(at, at + BLOCK_BYTES))
    compress(at + BLOCK_BYTES, false)
  }
  messageBytes.fill(0)
  messageBytes.set(keyed.subarray(last))
  compress(keyed.length, true)
  return [state[0] as number, state[1] as number]
}

/** `count`: bytes hashed so far, this block among them. */
function compress(count: number, isLast: boolean): void {
  work.set(state)
  work.set(IV, 16)
  work[24] = (work[24] as number) ^ (count >>> 0)
  work[25] = (work[25] as number) ^ Math.floor(count / 2 ** 32)
  if (isLast) {
    work[28] = ~(work[28] as number)
    work[29] = ~(work[29] as number)
  }
  for (let i = 0; i < ORDER.length; i += 16) {
    mix(0, 8, 16, 24, ORDER[i] as number, ORDER[i + 1] as number)
    mix(2, 10, 18, 26, ORDER[i + 2] as number, ORDER[i + 3] as number)
    mix(4, 12, 20, 28, ORDER[i + 4] as number, ORDER[i + 5] as number)
    mix(6, 14, 22, 30, ORDER[i + 6] as number, ORDER[i + 7] as number)
    mix(0, 10, 20, 30, ORDER[i + 8] as number, ORDER[i + 9] as number)
    mix(2, 12, 22, 24, ORDER[i + 10] as number, ORDER[i + 11] as number)
    mix(4, 14, 16, 26, ORDER[i + 12] as number, ORDER[i + 13] as number)
    mix(6, 8, 18, 28, ORDER[i + 14] as number, ORDER[i + 15] as number)
  }
  for (let i = 0; i < 16; i++) state[i] = (state[i] as number) ^ (work[i] as number) ^ (work[i + 16] as number)
}

/** The RFC's G. All are positions of low halves: a, b, c, d in `work`, x and y in `message`. */
function mix(a: number, b: number, c: number, d: number, x: number, y: number): void {
  addTo(a, work[b] as number, work[b + 1] as number)
  addTo(a, message[x] as number, message[x + 1] as number)
  rotateXor(d, a, 32)
  addTo(c, work[d] as number, work[d + 1] as number)
  rotateXor(b, c, 24)
  addTo(a, work[b] as number, work[b + 1] as number)
  addTo(a, message[y] as number, message[y + 1] as number)
  rotateXor(d, a, 16)
  addTo(c, work[d] as number, work[d + 1] as number)
  rotateXor(b, c, 63)
}

function addTo(to: number, low: number, high: number): void {
  const sum = (work[to] as number) + low
  work[to] = sum
  work[to + 1] = (work[to + 1] as number) + high + (sum > 0xffffffff ? 1 : 0)
}

/** work[to] = (work[to] ^ work[by]) rotated right by so many bits. */
function rotateXor(to: number, by: number, bits: 16 | 24 | 32 | 63): void {
  const low = (work[to] as number) ^ (work[by] as number)
  const high = (work[to + 1] as number) ^ (work[by + 1] as number)
  if (bits === 32) {
    work[to] = high
    work[to + 1] = low
  } else if (bits === 63) {
    work[to] = (low << 1) | (high >>> 31)
    work[to + 1] = (high << 1) | (low >>> 31)
  } else {
    work[to] = (low >>> bits) | (high << (32 - bits))
    work[to + 1] = (high >>> bits) | (low << (32 - bits))
  }
}
