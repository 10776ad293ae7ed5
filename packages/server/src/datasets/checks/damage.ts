import type { Code } from '../codes.ts'
import { quote } from '../words.ts'

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/
/** What the bytes 0x80–0xBF of UTF-8 become when read as Windows-1252 or Latin-1. */
const TRAIL = '[\\x80-\\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]'
/** Latin letters (Ã©), signs (Â°) and typographic marks (â€™) that were UTF-8 once and have been decoded as something else. */
const MOJIBAKE = new RegExp(`Ã${TRAIL}|Â[\\xa0-\\xbf]|â€${TRAIL}`)

/** What a text shows of a wrong conversion; messages go on after the field's name. Only for texts with signs of it. */
export function damageOf(text: string): [code: Code, what: string][] {
  const found: [Code, string][] = []
  if (/\p{Cs}/u.test(text))
    found.push(['invalid_unicode', 'holds half of a surrogate pair (\\ud800–\\udfff), which is no character'])
  if (text.includes('\ufffd'))
    found.push(['replacement_character', 'holds U+FFFD (�): characters were lost when the file was made'])
  const mojibake = MOJIBAKE.exec(text)
  if (mojibake)
    found.push([
      'mojibake',
      `looks wrongly decoded (${quote(mojibake[0])}): the file was probably converted to UTF-8 twice`,
    ])
  const control = CONTROL.exec(text)
  // A C1 character that belongs to mojibake has been told already.
  if (control && !(mojibake && control[0] >= '\x80')) {
    const name = control[0] === '\0' ? 'NUL bytes' : `control characters (U+${hex(control[0])})`
    found.push(['control_characters', `holds ${name}`])
  }
  return found
}

const hex = (character: string) => character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')
