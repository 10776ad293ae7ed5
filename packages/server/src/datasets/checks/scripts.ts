import { scan } from '../text/scan.ts'

/** Writing systems by Unicode's blocks, as far as one character of 16 bits tells: roughly, for a report. */
const BLOCKS: readonly [name: string, first: number, last: number][] = [
  ['Latin', 0x0080, 0x02ff],
  ['Greek', 0x0380, 0x03ff],
  ['Cyrillic', 0x0400, 0x057f],
  ['Hebrew', 0x0580, 0x05ff],
  ['Arabic', 0x0600, 0x077f],
  ['Devanagari', 0x0900, 0x097f],
  ['Bengali', 0x0980, 0x09ff],
  ['Gujarati', 0x0a80, 0x0aff],
  ['Tamil', 0x0b80, 0x0bff],
  ['Telugu', 0x0c00, 0x0c7f],
  ['Thai', 0x0e00, 0x0e7f],
  ['Lao', 0x0e80, 0x0eff],
  ['Myanmar', 0x1000, 0x107f],
  ['Georgian', 0x1080, 0x10ff],
  ['Hangul', 0x1100, 0x11ff],
  ['Khmer', 0x1780, 0x17ff],
  ['Latin', 0x1e00, 0x1eff],
  ['Kana', 0x3000, 0x30ff],
  ['Han', 0x3400, 0x9fff],
  ['Hangul', 0xac00, 0xd7ff],
]
const NAMES = ['none', ...new Set(BLOCKS.map(([name]) => name))]
const LATIN = NAMES.indexOf('Latin')
const HAN = NAMES.indexOf('Han')
const KANA = NAMES.indexOf('Kana')
/** Scripts that put no blank between words. */
const UNSPACED = new Set(['Thai', 'Lao', 'Myanmar', 'Khmer', 'Kana', 'Han'].map((name) => NAMES.indexOf(name)))

/** 128 characters each. */
const SCRIPT_OF_BLOCK = new Uint8Array(512)
for (const [name, first, last] of BLOCKS) SCRIPT_OF_BLOCK.fill(NAMES.indexOf(name), first >> 7, (last >> 7) + 1)
const IS_UNSPACED = new Uint8Array(NAMES.length)
for (const script of UNSPACED) IS_UNSPACED[script] = 1

/** Blanks beyond ASCII. */
const isGap = (unit: number) => unit === 0xa0 || (unit >= 0x1680 && /\s/.test(String.fromCharCode(unit)))

/** C1 controls, the first bytes of UTF-8 taken for letters (Â Ã â), U+FFFD. */
const isSuspicious = (unit: number) =>
  unit <= 0x9f || unit === 0xc2 || unit === 0xc3 || unit === 0xe2 || unit === 0xfffd

const unitOf = (first: number, second: number, third: number) => ((first & 0x0f) << 12) | (second << 6) | (third & 0x3f)
/** Where Unicode has its blanks: U+00A0, U+1680, U+2000 to U+205F, U+3000, U+FEFF. */
const isBlankBlock = (unit: number) =>
  unit === 0xa0 || (unit >= 0x1680 && (unit <= 0x205f || unit === 0x3000 || unit === 0xfeff))

/** Characters of each script in a row. */
export class Scripts {
  readonly #counts = new Uint32Array(NAMES.length)
  #mixed = false
  /** Whether the text added last has characters that damage leaves behind: checks/damage.ts looks closer. */
  suspicious = false
  /** UTF-16 units of the text added last. */
  units = 0

  reset(): void {
    if (this.#mixed) this.#counts.fill(0)
    else this.#counts[LATIN] = 0
    this.#mixed = false
  }

  addAscii(length: number): void {
    this.#counts[LATIN] = (this.#counts[LATIN] as number) + length
  }

  /**
   * The text that the scan speaks of, which is UTF-8 with characters beyond ASCII; only these are looked at. Returns its words:
   * runs of anything between blanks, and of scripts without blanks one more for every two characters.
   */
  addScanned(): number {
    const { bytes, fours, start, length } = scan
    const end = start + length
    const counts = this.#counts
    this.#mixed = true
    this.suspicious = false
    let unspaced = 0
    let beyond = 0
    let units = 0
    let hasGaps = false
    for (let at = start; at < end; ) {
      const first = bytes[at] as number
      if (first < 0x80) {
        if ((at & 3) === 0) while (((fours[at >> 2] as number) & 0x80808080) === 0 && at < end) at += 4
        if ((bytes[at] as number) < 0x80) at++
        continue
      }
      const size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
      beyond += size
      units += size < 4 ? 1 : 2
      if (size < 4) {
        const second = (bytes[at + 1] as number) & 0x3f
        const unit = size === 2 ? ((first & 0x1f) << 6) | second : unitOf(first, second, bytes[at + 2] as number)
        if (isSuspicious(unit)) this.suspicious = true
        if (isBlankBlock(unit) && isGap(unit)) hasGaps = true
        const script = SCRIPT_OF_BLOCK[unit >> 7] as number
        counts[script] = (counts[script] as number) + 1
        unspaced += IS_UNSPACED[script] as number
      }
      at += size
    }
    counts[LATIN] = (counts[LATIN] as number) + length - beyond
    this.units = length - beyond + units
    const runs = hasGaps ? (scan.text.match(/\S+/g)?.length ?? 0) : scan.words
    return runs + (unspaced >> 1)
  }

  /** The one with most characters, marks and symbols aside; null without any. Japanese is told by its kana. */
  get main(): string | null {
    if (!this.#mixed) return (this.#counts[LATIN] as number) > 0 ? 'Latin' : null
    const kana = this.#counts[KANA] as number
    if (kana * 8 > (this.#counts[HAN] as number)) this.#counts[KANA] = kana + (this.#counts[HAN] as number)
    let best = 0
    for (let i = 1; i < NAMES.length; i++)
      if ((this.#counts[i] as number) > (best === 0 ? 0 : (this.#counts[best] as number))) best = i
    return best === 0 ? null : (NAMES[best] as string)
  }
}
