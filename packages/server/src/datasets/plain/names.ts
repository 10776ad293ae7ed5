export const QUOTE = 0x22

/** Which of a few ASCII names stands in quotes somewhere: compared byte by byte, so that no string is made. */
export class Names {
  readonly #names: readonly Uint8Array[]

  constructor(names: readonly string[]) {
    this.#names = names.map((name) => Uint8Array.from(Buffer.from(`${name}"`)))
  }

  /** The index of the name that begins at `at` and is followed by a quote; −1 for any other. */
  at(bytes: Uint8Array, at: number): number {
    for (let i = 0; i < this.#names.length; i++) {
      const name = this.#names[i] as Uint8Array
      let length = 0
      while (length < name.length && bytes[at + length] === name[length]) length++
      if (length === name.length) return i
    }
    return -1
  }

  /** Bytes of a name with its closing quote. */
  length(index: number): number {
    return (this.#names[index] as Uint8Array).length
  }
}
