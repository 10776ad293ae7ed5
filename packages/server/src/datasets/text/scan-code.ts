/**
 * What a text is like, read sixteen bytes at a time: assembled by hand. It takes 0.3 ns a byte; in JavaScript, four bytes at
 * a time, the hash and the words alone take 0.44, and JSON.parse of the whole row 1.0.
 */
import { type Body, type Code, get, i32, op, repeat, set, store32, tee, v } from './wasm.ts'

/** What is found out about a text: two hashes of 16 bytes, then numbers of 4. */
export const RESULT_BYTES = 80
export const NUMBER = { words: 8, runs: 9, long: 10, digits: 11, high: 12, control: 13, at: 14, start: 15, length: 16 }

// Locals of the function: its arguments, then numbers, then vectors.
const TEXT = 0
const LENGTH = 1
const RESULTS = 2
const AT = 3
const LEFT = 4
const VALID = 5
const BLANKS = 6
const SOLID = 7
const WORDS = 8
const BEFORE = 9
const RUNS = 10
const LONG = 11
const DIGITS = 12
const LAST = 13
const RUN = 14
const FIGURES = 15
const LAST_FIGURES = 16
const BYTES = 17
const BLANK = 18
const HIGH = 19
const CONTROL = 20
const AT_SIGN = 21
const HASH = 22
const FOLDED = 23

/** MurmurHash3's first multiplier; odd, so that a step loses nothing. */
const MULTIPLIER = 0xcc9e2d51

/** state = rotate((state ^ bytes) × multiplier, 15), in four lanes of 32 bits. */
const hashStep = (state: number, bytes: Code): Code => [
  [get(state), bytes, v.xor, v.words(MULTIPLIER), v.wordMul, set(state)],
  [get(state), i32(15), v.wordShl, get(state), i32(17), v.wordShrU, v.or, set(state)],
]
const is = (byte: number): Code => [get(BYTES), v.bytes(byte), v.byteEq]
const keep = (number: keyof typeof NUMBER, value: Code): Code => [get(RESULTS), value, store32(4 * NUMBER[number])]

/** (address of a text, its length, address of what is found out): sixteen bytes behind the text are written over. */
export const SCAN: Body = {
  arguments: 3,
  result: false,
  words: 14,
  vectors: 7,
  code: [
    // Blanks fill up the last sixteen bytes.
    [get(TEXT), get(LENGTH), op.add, v.bytes(0x20), v.store(0)],
    [get(TEXT), set(AT), get(LENGTH), set(LEFT), i32(1), set(BEFORE)],
    repeat(
      [get(AT), v.load(0), set(BYTES)],
      // Which of the sixteen bits belong to the text.
      [i32(0xffff), i32(1), get(LEFT), op.shl, i32(1), op.sub, get(LEFT), i32(15), op.gtS, op.select, set(VALID)],
      [get(BYTES), v.bytes(0x20), v.byteLeU, tee(BLANK), v.byteMask, get(VALID), op.and, set(BLANKS)],
      [get(BLANKS), get(VALID), op.xor, set(SOLID)],
      // A word begins where the byte before is blank; two blanks in a row are a run.
      [get(BLANKS), i32(1), op.shl, get(BEFORE), op.or, set(BEFORE)],
      [get(WORDS), get(SOLID), get(BEFORE), op.and, op.popcnt, op.add, set(WORDS)],
      [get(RUNS), get(BLANKS), get(BEFORE), op.and, op.or, set(RUNS)],
      [get(BEFORE), i32(16), op.shrU, set(BEFORE)],
      // Sixteen in a row without a blank, of this piece and the one before, and digits: keys have some.
      [get(LAST), get(SOLID), tee(LAST), i32(16), op.shl, op.or, set(RUN)],
      [1, 2, 4, 8].map((by) => [get(RUN), get(RUN), i32(by), op.shrU, op.and, set(RUN)]),
      [get(LAST_FIGURES), get(BYTES), v.bytes(0x30), v.byteSub, v.bytes(9), v.byteLeU, v.byteMask, op.popcnt],
      [tee(FIGURES), op.or, i32(0), get(RUN), op.select, set(RUN)],
      [get(LONG), get(RUN), op.or, set(LONG)],
      // Ten digits here and in the piece before: a number of ten with signs between them is not longer.
      [get(LAST_FIGURES), get(FIGURES), op.add, i32(10), op.geS, get(DIGITS), op.or, set(DIGITS)],
      [get(FIGURES), set(LAST_FIGURES)],
      [get(HIGH), get(BYTES), v.or, set(HIGH)],
      [get(BLANK), is(0x20), v.andNot, is(0x0a), v.andNot, is(0x09), v.andNot, is(0x0d), v.andNot, is(0x7f), v.or],
      [get(CONTROL), v.or, set(CONTROL)],
      [get(AT_SIGN), is(0x40), v.or, set(AT_SIGN)],
      hashStep(HASH, get(BYTES)),
      // Letters small (an ASCII letter's case is the bit 0x20), every blank the same.
      hashStep(FOLDED, [
        v.bytes(0x20),
        [get(BYTES), v.bytes(0x41), v.byteSub, v.bytes(25), v.byteLeU, v.bytes(0x20), v.and, get(BYTES), v.or],
        [get(BLANK), v.pick],
      ]),
      [get(AT), i32(16), op.add, set(AT)],
      [get(LEFT), i32(16), op.sub, tee(LEFT), i32(0), op.gtS],
    ),
    [get(RESULTS), get(HASH), v.store(0), get(RESULTS), get(FOLDED), v.store(16)],
    [keep('words', get(WORDS)), keep('runs', get(RUNS)), keep('long', get(LONG)), keep('digits', get(DIGITS))],
    [keep('high', [get(HIGH), v.byteMask]), keep('control', [get(CONTROL), v.byteMask])],
    [keep('at', [get(AT_SIGN), v.byteMask]), keep('start', get(TEXT)), keep('length', get(LENGTH))],
  ],
}
