import { scan } from './scan.ts'

/**
 * 64 bits of a row, text by text, from the hashes that the scan made of each. For finding duplicates, where a collision costs
 * a wrong warning: among 3 million rows that has a chance of 1 in 4 million. (Two texts that differ in several of every
 * fourth four bytes and nowhere else collide with 1 in 4 thousand million.)
 */
export class Hash {
  low = 0
  high = 0

  reset(): void {
    this.low = 0x811c9dc5 | 0
    this.high = 0x9747b28c | 0
  }

  /** The text that the scan speaks of. `length` and `part` tell apart what only reads the same: ("ab", "c") and ("a", "bc"),
   *  a question and an answer. */
  addExact(length: number, part: number): void {
    this.#add(scan.exact(0), scan.exact(1), scan.exact(2), scan.exact(3), Math.imul(length, 31) + part)
  }

  addFolded(part: number): void {
    this.#add(scan.folded(0), scan.folded(1), scan.folded(2), scan.folded(3), part)
  }

  #add(a: number, b: number, c: number, d: number, end: number): void {
    const x = (Math.imul(a, 0x9e3779b1) + Math.imul(b, 0x85ebca77)) | 0
    const y = (Math.imul(c, 0xc2b2ae3d) + Math.imul(d, 0x27d4eb2f)) | 0
    this.low = mix(this.low ^ x ^ Math.imul(y, 0x165667b1) ^ end)
    this.high = mix(this.high + y + Math.imul(x, 0x9e3779b1) + end)
  }
}

/** MurmurHash3's finaliser: every bit of the input moves every bit of the output. */
function mix(lane: number): number {
  let bits = Math.imul(lane ^ (lane >>> 16), 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return bits ^ (bits >>> 16)
}
