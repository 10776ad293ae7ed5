import { isAscii } from 'node:buffer'

/** Small enough that a sign beyond ASCII spoils it for few rows, large enough that asking costs nothing to speak of. */
const BLOCK = 2048
const UNKNOWN = 0
const ASCII = 1
const SPOILT = 2

/** Which rows of a chunk are ASCII: their text is made without decoding, and most are. */
export class AsciiBlocks {
  #chunk: Buffer | null = null
  #blocks = new Uint8Array(0)

  /** Of another chunk from now on, or of one whose memory has been used again. */
  begin(chunk: Buffer): void {
    this.#chunk = chunk
    const count = Math.ceil(chunk.length / BLOCK)
    if (this.#blocks.length < count) this.#blocks = new Uint8Array(count)
    else this.#blocks.fill(UNKNOWN)
  }

  covers(chunk: Buffer, start: number, end: number): boolean {
    if (chunk !== this.#chunk) return isAscii(chunk.subarray(start, end))
    const last = Math.floor((end - 1) / BLOCK)
    for (let i = Math.floor(start / BLOCK); i <= last; i++)
      if (this.#stateOf(chunk, i) === SPOILT) return isAscii(chunk.subarray(start, end))
    return true
  }

  /** Looked at when somebody asks: plain rows never do. */
  #stateOf(chunk: Buffer, block: number): number {
    if (this.#blocks[block] === UNKNOWN) {
      const bytes = chunk.subarray(block * BLOCK, Math.min(chunk.length, (block + 1) * BLOCK))
      this.#blocks[block] = isAscii(bytes) ? ASCII : SPOILT
    }
    return this.#blocks[block] as number
  }
}
