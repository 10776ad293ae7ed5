import { damageOf } from '../../checks/damage.ts'
import type { ReadOptions } from '../../port.ts'
import { quote } from '../../words.ts'
import type { Repair } from './repair.ts'
import { mapTexts, textsOf } from './texts.ts'

/** Windows-1252 from 0x80 on; what it leaves free is taken as Latin-1 has it, as decoders do. */
const WINDOWS_1252 = '€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ'
const BYTES = new Map([...WINDOWS_1252].map((character, i) => [character, 0x80 + i]))

const TRAIL = `[\\x80-\\xbf${WINDOWS_1252}]`
/** Characters that are, byte for byte, one character of UTF-8. */
const SEQUENCES = new RegExp(`[Â-ß]${TRAIL}|[à-ï]${TRAIL}{2}|[ð-ô]${TRAIL}{3}`, 'g')
/** Some files were converted more than twice. */
const MAX_PASSES = 3

/** Texts that were UTF-8, read as Windows-1252 or Latin-1 and saved as UTF-8 again: "Ã¤" is "ä" once more. */
export function fixMojibake(reading: ReadOptions): Repair {
  const texts = textsOf(reading)
  return ({ row }) => {
    let example = ''
    const fixed = mapTexts(row, texts, (text) => {
      const mended = mend(text)
      if (mended !== text && example === '') example = firstChange(text)
      return mended
    })
    return fixed && { row: fixed, what: `Decoded anew: ${example}` }
  }
}

function mend(text: string): string {
  let mended = text
  for (let pass = 0; pass < MAX_PASSES && isDamaged(mended); pass++) mended = mended.replace(SEQUENCES, decoded)
  return mended
}

const isDamaged = (text: string) => damageOf(text).some(([code]) => code === 'mojibake')

/** What the bytes mean as UTF-8; the same characters when they mean nothing. */
function decoded(characters: string): string {
  const bytes = Uint8Array.from(characters, (character) => BYTES.get(character) ?? character.charCodeAt(0))
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return characters
  }
}

function firstChange(text: string): string {
  for (const [characters] of text.matchAll(SEQUENCES))
    if (decoded(characters) !== characters) return `${quote(characters)} is ${quote(mend(characters))}`
  return ''
}
