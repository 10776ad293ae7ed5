/** JSON's strings (RFC 8259, section 7), decoded sixteen bytes at a time: assembled by hand, like the scan. */
import {
  again,
  type Body,
  type Code,
  call,
  get,
  i32,
  leave,
  load8,
  loop,
  op,
  set,
  store8,
  tee,
  v,
  when,
} from './wasm.ts'

/** Tables of 256 bytes in the memory: what stands for a sign after a backslash, 0 for none; what a hexadecimal digit is worth. */
export const ESCAPES = 0
export const DIGITS = 256
const NO_DIGIT = 0xff

export function writeTables(memory: Uint8Array): void {
  for (const [sign, meant] of ['""', '\\\\', '//', 'b\b', 'f\f', 'n\n', 'r\r', 't\t'])
    memory[ESCAPES + (sign as string).charCodeAt(0)] = (meant as string).charCodeAt(0)
  memory.fill(NO_DIGIT, DIGITS, DIGITS + 256)
  for (const digit of '0123456789abcdefABCDEF') memory[DIGITS + digit.charCodeAt(0)] = Number.parseInt(digit, 16)
}

// Locals of the function: its arguments, then numbers, then a vector.
const AT = 0
const LIMIT = 1
const TO = 2
const RESULTS = 3
const START = 4
const MASK = 5
const BYTE = 6
const CODE = 7
const BYTES = 8

const move = (local: number, by: Code): Code => [get(local), by, op.add, set(local)]
const put = (offset: number, byte: Code): Code => [get(TO), byte, store8(offset)]
const give = (value: Code): Code => [value, leave]
const bits = (shift: number, mask: number): Code => [get(CODE), i32(shift), op.shrU, i32(mask), op.and]
const digit = (offset: number): Code => [get(AT), load8(offset), load8(DIGITS)]

/** Four hexadecimal digits from the third byte on. One that is none makes a number of more than sixteen bits. */
const fourDigits: Code = [
  [digit(2), i32(12), op.shl, digit(3), i32(8), op.shl, op.or, digit(4), i32(4), op.shl, op.or, digit(5), op.or],
  [digit(2), digit(3), op.or, digit(4), op.or, digit(5), op.or, i32(0xf0), op.and, i32(16), op.shl, op.or],
]

/** \uXXXX as UTF-8; ends the function at halves of surrogate pairs, which are for JSON.parse. */
const codeUnit: Code = [
  [fourDigits, tee(CODE), i32(0xffff), op.gtU, when(give(i32(0)))],
  [get(CODE), i32(0xf800), op.and, i32(0xd800), op.eq, when(give(i32(0)))],
  move(AT, i32(6)),
  [get(CODE), i32(0x80), op.ltU],
  when(put(0, get(CODE)), move(TO, i32(1)), again(2)),
  [get(CODE), i32(0x800), op.ltU],
  when(
    put(0, [bits(6, 0x1f), i32(0xc0), op.or]),
    put(1, [bits(0, 0x3f), i32(0x80), op.or]),
    move(TO, i32(2)),
    again(2),
  ),
  put(0, [bits(12, 0x0f), i32(0xe0), op.or]),
  put(1, [bits(6, 0x3f), i32(0x80), op.or]),
  put(2, [bits(0, 0x3f), i32(0x80), op.or]),
  move(TO, i32(3)),
  again(1),
]

/**
 * (address behind an opening quote, that of the end of what may be read, where to write the text, where to write what
 * `scan` finds out about it) → address behind the closing quote; 0 for a string that JSON.parse should see: unfinished,
 * with a control character, an unknown escape or half of a surrogate pair. UTF-8 is not checked.
 */
export const stringCode = (scan: number): Body => ({
  arguments: 4,
  result: true,
  words: 4,
  vectors: 1,
  code: [
    [get(TO), set(START)],
    loop(
      [get(AT), get(LIMIT), op.geU, when(give(i32(0)))],
      [get(AT), v.load(0), set(BYTES), get(TO), get(BYTES), v.store(0)],
      [get(BYTES), v.bytes(0x22), v.byteEq, get(BYTES), v.bytes(0x5c), v.byteEq, v.or],
      [get(BYTES), v.bytes(0x1f), v.byteLeU, v.or, v.byteMask, tee(MASK), op.isZero],
      when(move(AT, i32(16)), move(TO, i32(16)), again(1)),
      [move(AT, [get(MASK), op.ctz]), move(TO, [get(MASK), op.ctz])],
      [get(AT), get(LIMIT), op.geU, when(give(i32(0)))],
      [get(AT), load8(0), tee(BYTE), i32(0x22), op.eq],
      when([get(START), get(TO), get(START), op.sub, get(RESULTS), call(scan)], give([get(AT), i32(1), op.add])),
      [get(BYTE), i32(0x5c), op.eq, op.isZero, when(give(i32(0)))],
      [get(AT), load8(1), tee(BYTE), i32(0x75), op.eq, when(codeUnit)],
      [get(BYTE), load8(ESCAPES), tee(CODE), op.isZero, when(give(i32(0)))],
      [put(0, get(CODE)), move(AT, i32(2)), move(TO, i32(1))],
      again(0),
    ),
    i32(0),
  ],
})
