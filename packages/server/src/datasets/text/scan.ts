import { NUMBER, RESULT_BYTES, SCAN } from './scan-code.ts'
import { stringCode, writeTables } from './string-code.ts'
import { assemble } from './wasm.ts'

const PAGE = 65536
/** Texts of a row about which results are kept at once; the first place is that of texts that come as strings. */
export const SLOTS = 256
const RESULTS = 512
/** Where bytes of a file are put, of which rows are read: as many as readers take at once. */
const CHUNK = 32768
const CHUNK_BYTES = 1024 * 1024
/** Where their texts are written: never longer than what they were written as, and each at the next sixteenth byte. */
const TEXTS = CHUNK + CHUNK_BYTES + 64
/** Where texts that come as strings are written. */
const STRING = TEXTS + CHUNK_BYTES + 32 * SLOTS + 64

const { memory, scan: scanText, take } = assemble(Math.ceil(STRING / PAGE) + 4, { scan: SCAN, take: stringCode(0) })

/** Texts, and what they are like. One for each thread; what it says holds until another text is read. */
class Scan {
  readonly #encoder = new TextEncoder()
  #numbers!: Int32Array
  #string!: Uint8Array
  /** All of the memory, and four bytes of it at a time. */
  bytes!: Buffer
  fours!: Int32Array
  /** Of the text that is spoken of, in numbers. */
  #at = 0
  /** That it came as. */
  #text: string | null = null
  /** Where the chunk ends. */
  #limit = CHUNK
  #to = TEXTS

  constructor() {
    this.#look()
    writeTables(this.bytes)
  }

  /** Reads a text. */
  read(text: string): void {
    let { read, written } = this.#encoder.encodeInto(text, this.#string)
    if (read < text.length) {
      memory.grow(Math.ceil((3 * text.length) / PAGE))
      this.#look()
      written = this.#encoder.encodeInto(text, this.#string).written
    }
    scanText(STRING, written, RESULTS)
    this.select(0)
    this.#text = text
  }

  /** Takes over bytes of a file. Returns the address of the first; 0 when they are too many. Behind the last is a 0. */
  enter(chunk: Buffer): number {
    if (chunk.length > CHUNK_BYTES) return 0
    this.bytes.set(chunk, CHUNK)
    this.#limit = CHUNK + chunk.length
    this.bytes[this.#limit] = 0
    return CHUNK
  }

  /** Room for the texts of another row. */
  beginRow(): void {
    this.#to = TEXTS
  }

  /** Reads a JSON string of the chunk, from behind its opening quote: address behind the closing one; 0: for JSON.parse. */
  take(at: number, slot: number): number {
    const end = take(at, this.#limit, this.#to, RESULTS + slot * RESULT_BYTES)
    if (end === 0) return 0
    this.select(slot)
    // A text and the blanks that fill up its last sixteen bytes.
    this.#to = (this.#to + this.length + 31) & -16
    return end
  }

  /** Speaks of the text of this slot from now on. */
  select(slot: number): void {
    this.#at = (RESULTS + slot * RESULT_BYTES) / 4
    this.#text = null
  }

  get text(): string {
    const { start, length } = this
    this.#text ??= this.bytes.toString(this.isAscii ? 'latin1' : 'utf8', start, start + length)
    return this.#text
  }
  /** Where the text begins in the memory, and how many bytes of UTF-8 it has. */
  get start(): number {
    return this.#number(NUMBER.start)
  }
  get length(): number {
    return this.#number(NUMBER.length)
  }

  /** Runs of anything but ASCII blanks. */
  get words(): number {
    return this.#number(NUMBER.words)
  }
  /** Whether blanks stand at the beginning, at the end or side by side. */
  get hasRuns(): boolean {
    return this.#number(NUMBER.runs) !== 0 || (this.bytes[this.start + this.length - 1] as number) <= 0x20
  }
  /** Whether sixteen bytes in a row have no blank among them, and digits are in or near them. */
  get hasLongWord(): boolean {
    return this.#number(NUMBER.long) !== 0
  }
  /** Whether digits come as close together as in a number of ten digits with signs between them. */
  get hasDigits(): boolean {
    return this.#number(NUMBER.digits) !== 0
  }
  get isAscii(): boolean {
    return this.#number(NUMBER.high) === 0
  }
  /** Control characters other than tab and line breaks. */
  get hasControl(): boolean {
    return this.#number(NUMBER.control) !== 0
  }
  get hasAtSign(): boolean {
    return this.#number(NUMBER.at) !== 0
  }
  /** 32 bits of the hash, lane 0 to 3. Of nothing known to be hard to find collisions of. */
  exact(lane: number): number {
    return this.#number(lane)
  }
  /** The same of the text with ASCII letters small and each blank a space. */
  folded(lane: number): number {
    return this.#number(4 + lane)
  }

  #number(i: number): number {
    return this.#numbers[this.#at + i] as number
  }

  /** At memory that has grown. */
  #look(): void {
    const { buffer } = memory
    this.bytes = Buffer.from(buffer)
    this.fours = new Int32Array(buffer)
    this.#numbers = new Int32Array(buffer, 0, CHUNK / 4)
    // The last sixteen bytes are for the blanks that fill up the text's.
    this.#string = new Uint8Array(buffer, STRING, buffer.byteLength - STRING - 16)
  }
}

export const scan = new Scan()
