import { isAscii } from 'node:buffer'

/** Small enough that a sign beyond ASCII spoils it for few rows, large enough that asking costs nothing to speak of. */
const BLOCK = 2048

/** Which rows of a chunk are ASCII: their text is made without decoding, and most are. */
export class AsciiBlocks {
  #chunk: Buffer | null = null
  #spoilt = new Uint8Array(0)

  /** Of another chunk from now on, or of one whose memory has been used again. */
  begin(chunk: Buffer): void {
    this.#chunk = chunk
    const count = Math.ceil(chunk.length / BLOCK)
    if (this.#spoilt.length < count) this.#spoilt = new Uint8Array(count)
    for (let i = 0; i < count; i++)
      this.#spoilt[i] = isAscii(chunk.subarray(i * BLOCK, Math.min(chunk.length, (i + 1) * BLOCK))) ? 0 : 1
  }

  covers(chunk: Buffer, start: number, end: number): boolean {
    if (chunk !== this.#chunk) return isAscii(chunk.subarray(start, end))
    const last = Math.floor((end - 1) / BLOCK)
    for (let i = Math.floor(start / BLOCK); i <= last; i++)
      if (this.#spoilt[i] === 1) return isAscii(chunk.subarray(start, end))
    return true
  }
}
