const NEWLINE = 0x0a
const RETURN = 0x0d

/** Lines of a text that is read by positions in bytes which only grow. Holds the line breaks not passed yet. */
export class LineCounter {
  /** On which the position stands, from 1. */
  line = 1
  #seen = 0
  #breaks: number[] = []
  #passed = 0
  #afterReturn = false

  /** More of the text. A line ends with LF, CR LF or a single CR. */
  add(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]
      if (byte === NEWLINE) {
        // The second half of CR LF: the line ends after it.
        if (this.#afterReturn) this.#breaks[this.#breaks.length - 1] = this.#seen + at + 1
        else this.#breaks.push(this.#seen + at + 1)
      } else if (byte === RETURN) this.#breaks.push(this.#seen + at + 1)
      this.#afterReturn = byte === RETURN
    }
    this.#seen += chunk.length
  }

  advance(position: number): void {
    const breaks = this.#breaks
    while (this.#passed < breaks.length && (breaks[this.#passed] as number) <= position) {
      this.#passed++
      this.line++
    }
    if (this.#passed > 1024) {
      this.#breaks = breaks.slice(this.#passed)
      this.#passed = 0
    }
  }
}
