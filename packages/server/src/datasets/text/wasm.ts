/** A few words of WebAssembly's binary format (https://webassembly.github.io/spec/core/binary), enough for small modules. */

const I32 = 0x7f
const I64 = 0x7e
const V128 = 0x7b

/** Code: opcodes and their immediates, flattened. */
export type Code = readonly (number | Code)[]

/** Unsigned and signed LEB128. */
export function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)]
}
function signed(value: bigint): number[] {
  const low = Number(value & 0x7fn)
  return value >= -0x40n && value < 0x40n ? [low] : [low | 0x80, ...signed(value >> 7n)]
}

const simd = (opcode: number): number[] => [0xfd, ...unsigned(opcode)]

/** Sixteen times the same byte, or four times the same word: a constant operand. */
const bytes16 = (byte: number): Code => [simd(0x0c), Array.from({ length: 16 }, () => byte)]
const words4 = (word: number): Code => [
  simd(0x0c),
  Array.from({ length: 16 }, (_, i) => (word >>> (8 * (i & 3))) & 0xff),
]

export const get = (local: number): Code => [0x20, local]
export const set = (local: number): Code => [0x21, local]
export const tee = (local: number): Code => [0x22, local]
export const i32 = (value: number): Code => [0x41, signed(BigInt(value))]
/** `body` again and again while it leaves a number that is not 0. */
export const repeat = (...body: Code): Code => [0x03, 0x40, body, 0x0d, 0, 0x0b]
/** `body` from its beginning whenever it says `again`; whoever comes to its end goes on behind it. */
export const loop = (...body: Code): Code => [0x03, 0x40, body, 0x0b]
/** `body` if the number before is not 0. */
export const when = (...body: Code): Code => [0x04, 0x40, body, 0x0b]
/** Back to the beginning of the loop that is so many `when` or `loop` further out. */
export const again = (depth: number): Code => [0x0c, depth]
/** The function with this number of the module. */
export const call = (index: number): Code => [0x10, index]
/** Ends the function with the number before, if it has a result. */
export const leave: Code = [0x0f]

export const op = {
  isZero: 0x45,
  eq: 0x46,
  ltU: 0x49,
  gtS: 0x4a,
  gtU: 0x4b,
  geS: 0x4e,
  geU: 0x4f,
  ctz: 0x68,
  popcnt: 0x69,
  add: 0x6a,
  sub: 0x6b,
  and: 0x71,
  or: 0x72,
  xor: 0x73,
  shl: 0x74,
  shrU: 0x76,
  select: 0x1b,
} as const

export const v = {
  load: (offset: number): Code => [simd(0x00), 0, unsigned(offset)],
  store: (offset: number): Code => [simd(0x0b), 0, unsigned(offset)],
  bytes: bytes16,
  words: words4,
  byteEq: simd(0x23),
  byteLeU: simd(0x2a),
  byteSub: simd(0x71),
  byteMask: simd(0x64),
  andNot: simd(0x4f),
  and: simd(0x4e),
  or: simd(0x50),
  xor: simd(0x51),
  /** Of two vectors and a mask: the first where the mask has ones. */
  pick: simd(0x52),
  wordShl: simd(0xab),
  wordShrU: simd(0xad),
  wordMul: simd(0xb5),
} as const

export const i64 = {
  const: (value: bigint): Code => [0x42, signed(BigInt.asIntN(64, value))],
  load: (offset: number): Code => [0x29, 3, unsigned(offset)],
  store: (offset: number): Code => [0x37, 3, unsigned(offset)],
  add: 0x7c,
  xor: 0x85,
  rotr: 0x8a,
} as const

export const load8 = (offset: number): Code => [0x2d, 0, unsigned(offset)]
export const store8 = (offset: number): Code => [0x3a, 0, unsigned(offset)]
export const store32 = (offset: number): Code => [0x36, 2, unsigned(offset)]

export interface Memory {
  readonly buffer: ArrayBuffer
  /** By so many pages of 64 KiB; buffers from before are no longer good. */
  grow(pages: number): number
}

/** TypeScript has it among the types for browsers only. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object) => { exports: object }
}

export interface Body {
  /** Arguments, which are the first locals; a function gives back one number or, with `result: false`, none. */
  arguments: number
  result: boolean
  /** Further locals: numbers of 32 bits, then vectors, then numbers of 64. */
  words: number
  vectors: number
  longs?: number
  code: Code
}

/** A module of functions on numbers of 32 bits, in their order, under their names; and its memory, of so many pages. */
export function assemble<Names extends string>(
  pages: number,
  functions: Readonly<Record<Names, Body>>,
): Readonly<Record<Names, (...numbers: number[]) => number>> & { memory: Memory } {
  const bodies = Object.values<Body>(functions)
  const section = (id: number, content: Code) => {
    const flat = flatten(content)
    return [id, unsigned(flat.length), flat]
  }
  const name = (text: string) => [text.length, [...text].map((letter) => letter.charCodeAt(0))]
  const code = bodies.map(({ words, vectors, longs = 0, code }) => {
    const locals = [3, unsigned(words), I32, unsigned(vectors), V128, unsigned(longs), I64]
    const flat = flatten([locals, code, 0x0b])
    return [unsigned(flat.length), flat]
  })
  const types = bodies.map((body) => [
    0x60,
    body.arguments,
    Array(body.arguments).fill(I32),
    body.result ? [1, I32] : 0,
  ])
  const exported = Object.keys(functions).map((each, i) => [name(each), 0, i])
  const module = new WebAssembly.Module(
    new Uint8Array(
      flatten([
        [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
        section(1, [bodies.length, types]),
        section(3, [bodies.length, bodies.map((_, i) => i)]),
        section(5, [1, 0, unsigned(pages)]),
        section(7, [bodies.length + 1, name('memory'), 2, 0, exported]),
        section(10, [bodies.length, code]),
      ]),
    ),
  )
  return new WebAssembly.Instance(module).exports as ReturnType<typeof assemble<Names>>
}

function flatten(code: Code): number[] {
  return (code as readonly unknown[]).flat(Number.POSITIVE_INFINITY) as number[]
}
