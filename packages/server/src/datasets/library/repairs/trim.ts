import type { ReadOptions } from '../../port.ts'
import type { Repair } from './repair.ts'
import { mapTexts, textsOf } from './texts.ts'

/**
 * Blanks and line breaks off the ends of texts. Not where a prompt and its completion meet, which are continued as they
 * stand, so that a blank between them is theirs.
 */
export function trim(reading: ReadOptions): Repair {
  const texts = textsOf(reading)
  return ({ row }) => {
    const keys = new Set<string>()
    const trimmed = mapTexts(row, texts, (text, key) => {
      const shorter = key === texts.before ? text.trimStart() : key === texts.after ? text.trimEnd() : text.trim()
      if (shorter !== text) keys.add(key)
      return shorter
    })
    return trimmed && { row: trimmed, what: `Trimmed ${[...keys].join(', ')}` }
  }
}
