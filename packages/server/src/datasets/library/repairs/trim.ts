import type { Repair } from './repair.ts'
import { mapTexts } from './texts.ts'

/**
 * Blanks and line breaks off the ends of texts. Not where a prompt and its completion meet, which are continued as they
 * stand, so that a blank between them is theirs.
 */
export const trim: Repair = ({ row }) => {
  const keys = new Set<string>()
  const trimmed = mapTexts(row, (text, key) => {
    const shorter = key === 'prompt' ? text.trimStart() : key === 'completion' ? text.trimEnd() : text.trim()
    if (shorter !== text) keys.add(key)
    return shorter
  })
  return trimmed && { row: trimmed, what: `Trimmed ${[...keys].join(', ')}` }
}
