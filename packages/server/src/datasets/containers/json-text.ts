/** Rows as text are handed on in pieces of about this many characters. */
const PIECE = 256 * 1024

/** Collects lines and hands them on as bytes when there are enough. */
export class Lines {
  #parts: string[] = []
  #length = 0

  add(text: string): void {
    this.#parts.push(text)
    this.#length += text.length
  }

  /** What has been collected once it is worth a chunk, or at the end; null otherwise. */
  take(end = false): Buffer | null {
    if (this.#length === 0 || (!end && this.#length < PIECE)) return null
    const bytes = Buffer.from(this.#parts.join(''))
    this.#parts = []
    this.#length = 0
    return bytes
  }
}
